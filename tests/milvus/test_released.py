"""Collections as each released version left them are opened and searched.

The files are databases that `rag-app ingest` of that version made of `tests.conftest`'s documents,
embedded by its fake, and packed. Whoever raises `SCHEMA_VERSION` adds one.
"""

import tarfile
from pathlib import Path

import pytest

from rag_app.config.sections import Config
from rag_app.errors import CollectionMismatchError
from rag_app.load import load_config
from rag_app.migration.migrate import migrate
from rag_app.migration.plan import plan
from rag_app.milvus import made_by
from rag_app.milvus.store import open_store
from rag_app.search.modes import Asked
from tests.conftest import FakeEmbedder

RELEASED = sorted(Path(__file__).parent.glob("released/*.tar.xz"))


@pytest.fixture(params=RELEASED, ids=lambda file: file.name.removesuffix(".tar.xz"))
def released(request: pytest.FixtureRequest, here: Path) -> Config:
    with tarfile.open(request.param) as packed:
        packed.extractall(here, filter="data")
    return load_config(
        overrides={
            "vector_store.uri": str(here / "milvus.db"),
            "chunking.size": 40,
            "chunking.overlap": 0,
        }
    )


def best(config: Config, embedder: FakeEmbedder) -> str:
    question = "What is the maximum degree of a node in the graph?"
    asked = Asked([question], embedder.embed_queries([question]))
    (found,) = open_store(config).find(asked, config.retrieval)
    return found[0].node.get_content()


def test_it_is_searched_and_written_to_no_more(
    released: Config, fake_embedder: FakeEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "M is the maximum degree" in best(released, fake_embedder)
    assert len(open_store(released).documents()) == 3
    monkeypatch.setattr(made_by, "SCHEMA_VERSION", 99)  # as rows are written one day
    assert "M is the maximum degree" in best(released, fake_embedder)
    with pytest.raises(CollectionMismatchError) as refused:
        open_store(released, exact=True)
    assert "rag-app migrate" in refused.value.remedy
    found = plan(released, measure=False)
    assert ("schema_version", "rag-app migrate") in [
        (each.key, found.command) for each in found.changes
    ]


def test_it_is_brought_up_to_date(
    released: Config, fake_embedder: FakeEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made_by, "SCHEMA_VERSION", 99)
    monkeypatch.setattr("rag_app.migration.migrate.build_embedder", lambda _: fake_embedder)
    migrate(released)
    assert "M is the maximum degree" in best(released, fake_embedder)
    assert len(open_store(released, exact=True).documents()) == 3
    assert plan(released, measure=False).changes == ()
