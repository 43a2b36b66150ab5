"""Index parameters that nobody configured follow the rows: chosen, kept, chosen again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from pymilvus.exceptions import MilvusException

from rag_app.config.index_types import Index
from rag_app.config.sections import Config
from rag_app.index.apply import apply_index, show_index
from rag_app.index.bench.vectors import clustered_vectors
from rag_app.index.choose import ENOUGH
from rag_app.ingestion.run import ingest
from rag_app.milvus.chosen import CHOSEN, Chosen, read_chosen
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.dense_index import DenseIndex
from rag_app.milvus.lite_files import index_files, read_index_file, release
from rag_app.milvus.search import VECTOR_FIELD
from rag_app.milvus.store import create_store, open_store
from tests.conftest import FakeEmbedder, MakeConfig, json_of, make_files
from tests.milvus.test_store import node

Run = Callable[..., Result]

ROWS = 300
CLUSTERS = 69  # 4 times the root of it


def fill(config: Config, rows: int = ROWS) -> CollectionStore:
    """Make a collection of made-up vectors, which are far from each other."""
    made = create_store(config, dimension=64)
    add(made, 0, rows)
    return made


def add(store: CollectionStore, first: int, rows: int) -> None:
    nodes = [node(f"text {number}", number) for number in range(first, first + rows)]
    for one, vector in zip(nodes, clustered_vectors(rows, 64, seed=first), strict=True):
        one.embedding = vector.tolist()
    store.add(nodes)
    store.flush()


def test_a_choice_finds_enough_and_survives_reopening(make_config: MakeConfig) -> None:
    config = make_config(index__type="IVF_FLAT")
    fill(config)
    assert open_store(config).built_index.params == {"nlist": 128}, "as Milvus has it, so far"
    dry = apply_index(config, dry_run=True)
    assert dry.changes == (f"nlist 128 → {CLUSTERS}",)
    assert dry.chosen == {}

    change = apply_index(config)
    assert change.changes == dry.changes
    assert change.recall is not None
    assert change.recall >= ENOUGH
    nprobe = change.chosen["search_params"]["nprobe"]
    assert 1 < nprobe <= CLUSTERS
    assert change.chosen["params"] == {"nlist": CLUSTERS}
    assert change.chosen["rows"] == ROWS
    before = 1 << ((nprobe - 1).bit_length() - 1)
    assert found_of(config, before) < ENOUGH, "the least that will do"

    release(config.vector_store.uri)
    store = open_store(config)
    assert store.built_index.params == {"nlist": CLUSTERS}
    assert store._search.given == {"nprobe": nprobe}
    shown = show_index(config)
    assert shown.differs == ()
    assert shown.built["search_params"] == {"nprobe": nprobe}
    assert shown.chosen == change.chosen
    assert apply_index(config).changes == ()


@pytest.mark.parametrize("type_", ["IVF_FLAT", "IVF_SQ8"])
def test_few_rows_in_a_cluster_are_nothing_to_warn_of(
    type_: str, make_config: MakeConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    config = make_config(index__type=type_)
    fill(config, rows=30)
    apply_index(config)
    files = index_files(config.vector_store.uri, "rag_app", VECTOR_FIELD)
    assert [read_index_file(file)["nlist"] for file in files] == [22]
    assert "clustering" not in "".join(capfd.readouterr())


def found_of(config: Config, nprobe: int) -> float:
    """Measure what a search with so many clusters finds of an exact one."""
    from rag_app.index.bench.recall import measure_recall
    from rag_app.milvus.store import find_index

    index = find_index(config)
    assert index is not None
    built = index.read()
    assert built is not None
    return next(measure_recall(index, built, [{"nprobe": nprobe}]))


def test_what_is_configured_is_left_as_it_is(make_config: MakeConfig) -> None:
    fill(make_config())
    config = make_config(
        index__type="IVF_FLAT", index__params={"nlist": 7}, index__search_params={"nprobe": 2}
    )
    change = apply_index(config)
    assert change.chosen == {}
    assert change.recall is not None, "measured all the same"
    store = open_store(config)
    assert store.built_index.params == {"nlist": 7}
    assert store._search.given == {"nprobe": 2}
    assert apply_index(config).recall is None, "there is nothing to choose, and nothing was built"

    half = make_config(index__type="IVF_FLAT", index__search_params={"nprobe": 2})
    change = apply_index(half)
    assert (change.changes, change.chosen["search_params"]) == ((f"nlist 7 → {CLUSTERS}",), {})
    assert open_store(half)._search.given == {"nprobe": 2}


def test_a_graph_is_chosen_how_much_to_look_at(make_config: MakeConfig) -> None:
    config = make_config(index__type="HNSW")
    fill(config)
    change = apply_index(config)
    assert change.changes == ()
    assert change.chosen["params"] == {}
    assert change.chosen["search_params"] == {"ef": 64}
    assert open_store(config)._search.given == {"ef": 64}
    exact = make_config(index__type="FLAT")
    apply_index(exact)
    assert open_store(exact)._search.given == {}, "the choice was for another index"


def test_an_ingest_chooses_when_rows_have_doubled(
    fake_embedder: FakeEmbedder, make_config: MakeConfig, tmp_path: Path
) -> None:
    def write(name: str, sentences: int) -> Path:
        text = " ".join(f"{name}{number}." for number in range(sentences))
        return make_files(tmp_path / "texts", {f"{name}.txt": text})

    config = make_config(chunking__size=16, chunking__overlap=0, index__type="IVF_FLAT")
    rows = ingest(config, [write("apple", 200)]).rows
    first = show_index(config).chosen
    assert first["rows"] == rows
    assert open_store(config).built_index == Index("IVF_FLAT", "COSINE", first["params"])

    report = ingest(config, [write("pear", 100)])
    assert rows < report.rows < 2 * rows
    assert not [note for note in report.notes if "index" in note]
    assert show_index(config).chosen == first

    report = ingest(config, [write("plum", 200)])
    assert report.rows > 2 * rows
    after = show_index(config).chosen
    assert after["rows"] == report.rows
    assert after["params"]["nlist"] > first["params"]["nlist"]
    nlist = f"nlist {first['params']['nlist']} → {after['params']['nlist']}"
    assert f"rebuilt the index: {nlist}" in report.notes


def test_so_few_rows_are_all_looked_at(make_config: MakeConfig) -> None:
    config = make_config(index__type="IVF_FLAT")
    fill(config, rows=5)
    change = apply_index(config)
    assert change.recall is None
    assert change.chosen["params"] == {"nlist": 5}
    assert change.chosen["search_params"] == {"nprobe": 5}


def test_show_says_what_was_chosen_and_what_is_configured(
    make_config: MakeConfig, run: Run
) -> None:
    arguments = ["--set", "index.type=IVF_FLAT"]
    fill(make_config(index__type="IVF_FLAT"))
    applied = run("index", "apply", *arguments)
    assert f"nlist 128 → {CLUSTERS}" in applied.stdout
    assert f"chosen: nlist = {CLUSTERS}, nprobe = " in applied.stdout
    again = run("index", "apply", *arguments)
    assert "nothing to build: the index is IVF_FLAT" in again.stdout

    shown = run("index", "show", *arguments).stdout
    assert "configured  IVF_FLAT by COSINE\n" in shown
    assert f"chosen      nlist = {CLUSTERS}, nprobe = " in shown
    assert "for 300 rows: a search finds " in shown
    assert f"built with nlist = {CLUSTERS}, searched with nprobe = " in shown
    shown = run("index", "show", *arguments, "--set", "index.search_params={nprobe = 3}").stdout
    assert "configured  IVF_FLAT by COSINE, searched with nprobe = 3\n" in shown
    assert shown.count("searched with nprobe = 3") == 2

    details = run("collections", "show", *arguments).stdout
    assert f"index: IVF_FLAT(nlist={CLUSTERS}), COSINE; chosen for 300 rows: nlist=" in details
    told = json_of(run("collections", "show", "--json", *arguments))
    assert told["index"]["chosen"]["rows"] == ROWS


def test_a_choice_that_cannot_be_kept_is_used_all_the_same(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise MilvusException(message="privilege AlterCollection denied")

    config = make_config(index__type="HNSW")
    store = fill(config)
    monkeypatch.setattr(DenseIndex, "keep", refuse)
    assert apply_index(config, store=store).chosen["search_params"] == {"ef": 64}
    assert store._search.given == {"ef": 64}
    assert "cannot be kept: privilege AlterCollection denied" in caplog.text


@pytest.mark.server
def test_a_server_keeps_a_choice(make_config: MakeConfig, store_overrides: dict[str, str]) -> None:
    if "://" not in store_overrides["vector_store.uri"]:
        pytest.skip("Milvus Lite has tests of its own")
    config = make_config(**store_overrides, index__type="HNSW")
    fill(config)
    assert apply_index(config).chosen["search_params"] == {"ef": 64}
    assert open_store(config)._search.given == {"ef": 64}


@pytest.mark.parametrize(
    ("rows", "outgrown"), [(158, False), (316, False), (317, True), (79, False), (78, True)]
)
def test_a_choice_is_outgrown_by_twice_the_rows_or_half(rows: int, outgrown: bool) -> None:
    built = Index("IVF_FLAT", "COSINE", {"nlist": 50})
    chosen = Chosen(built, 158, {"nlist": 50}, {"nprobe": 4}, 0.96)
    assert chosen.is_outgrown(rows) is outgrown
    kept: dict[str, Any] = chosen.as_property()
    assert read_chosen(kept, built) == chosen
    assert read_chosen(kept, Index("IVF_FLAT", "COSINE", {"nlist": 8})) is None
    assert json.loads(kept[CHOSEN])["rows"] == 158
