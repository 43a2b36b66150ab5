"""`rag-app index`: show, apply, bench and tune, on a real Milvus Lite and a real server."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from pymilvus import DataType, Function, FunctionType, MilvusClient

from rag_app.collection import VECTOR_FIELD, CollectionStore
from rag_app.config import Config
from rag_app.errors import ConfigError, VectorStoreError
from rag_app.index_apply import apply_index, show_index
from rag_app.index_build import DenseIndex
from rag_app.indexes import INDEX_TYPES, Index
from rag_app.milvus_lite_files import index_files, read_index_file, release
from rag_app.vector_store import create_store, find_store, open_store

from .conftest import MakeConfig, json_of
from .test_vector_store import ID, TEXTS, node, search, vectors

Run = Callable[..., Result]


@pytest.fixture
def store(make_config: MakeConfig, store_overrides: dict[str, str]) -> CollectionStore:
    """A collection of three rows, on each backend."""
    made = create_store(make_config(**store_overrides), dimension=64)
    made.add([node(text, number) for number, text in enumerate(TEXTS)])
    made.flush()
    return made


# --- apply and show ------------------------------------------------------------------------------

LITE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("FLAT", {}, {"kind": "FLAT"}),
    ("IVF_FLAT", {"nlist": 2}, {"kind": "IndexIVFFlat", "nlist": 2}),
    ("IVF_SQ8", {"nlist": 3}, {"kind": "IndexIVFScalarQuantizer", "nlist": 3}),
    ("HNSW", {"M": 7, "efConstruction": 33}, {"M": 7, "efConstruction": 33}),
    ("HNSW_SQ", {"M": 9, "efConstruction": 44}, {"M": 9, "efConstruction": 44}),
]


@pytest.mark.parametrize(("type_", "params", "really"), LITE)
def test_every_type_that_lite_builds_is_applied_and_read_back_from_its_files(
    type_: str,
    params: dict[str, Any],
    really: dict[str, Any],
    ingested: Config,
    make_config: MakeConfig,
    run: Run,
) -> None:
    before = rows_of(ingested)
    arguments = [
        *("--set", "chunking.size=40", "--set", "chunking.overlap=0"),
        *("--set", f"index.type={type_}", "--set", f"index.params={json.dumps(params)}"),
    ]
    arguments[-1] = "index.params={" + ", ".join(f"{k} = {v}" for k, v in params.items()) + "}"
    dry = json_of(run("index", "apply", "--dry-run", "--json", *arguments))
    assert dry["dry_run"] is True
    assert "type AUTOINDEX → " + type_ in dry["changes"]
    assert open_store(ingested).built_index.type == "AUTOINDEX"

    applied = json_of(run("index", "apply", "--json", *arguments))
    assert applied["changes"] == dry["changes"]
    assert applied["rows"] == len(before)
    assert set(applied["seconds"]) == {"release", "drop", "create", "load", "probe", "total"}

    release(ingested.vector_store.uri)
    shown = json_of(run("index", "show", "--json", *arguments))
    assert shown["built"] == {"type": type_, "metric": "COSINE", "params": params}
    assert shown["differs"] == []
    assert (shown["rows"], shown["indexed_rows"]) == (len(before), len(before))
    assert shown["state"] == "Finished"
    assert shown["read_back"]
    for file in shown["read_back"]:
        assert file.items() >= really.items()
    assert shown["size"] == sum(
        file.stat().st_size
        for file in index_files(ingested.vector_store.uri, "rag_app", VECTOR_FIELD)
    )
    assert rows_of(ingested) == before
    assert json_of(run("index", "apply", "--json", *arguments))["changes"] == []


def rows_of(config: Config) -> dict[str, Any]:
    store = find_store(config)
    assert store is not None
    return {row["id"]: row for row in store._rows('id != ""', ["id", "text", VECTOR_FIELD])}


SERVER: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("FLAT", {}, {}),
    ("IVF_FLAT", {"nlist": 2}, {"nprobe": 2}),
    ("IVF_SQ8", {"nlist": 2}, {"nprobe": 2}),
    ("IVF_PQ", {"nlist": 2, "m": 4, "nbits": 8}, {"nprobe": 2}),
    ("HNSW", {"M": 7, "efConstruction": 33}, {"ef": 10}),
    ("SCANN", {"nlist": 2, "with_raw_data": True}, {"nprobe": 2, "reorder_k": 8}),
    ("AUTOINDEX", {}, {"ef": 10}),
]


@pytest.mark.server
def test_every_type_that_the_server_builds_is_applied_and_described(
    make_config: MakeConfig, store_overrides: dict[str, str]
) -> None:
    if "://" not in store_overrides["vector_store.uri"]:
        pytest.skip("Milvus Lite has a test of its own")
    made = create_store(make_config(**store_overrides, index__type="HNSW"), dimension=64)
    made.add([node(text, number) for number, text in enumerate(TEXTS)])
    made.flush()
    before = vectors(made)
    for type_, params, search_params in SERVER:
        config = make_config(
            **store_overrides,
            index__type=type_,
            index__params=params,
            index__search_params=search_params,
        )
        assert apply_index(config).changes
        shown = show_index(config)
        assert shown.built == {"type": type_, "metric": "COSINE", "params": params}
        assert not shown.differs
        assert shown.rows == 3
        reopened = open_store(config)
        assert vectors(reopened) == before
        assert search(reopened, "yeast bread", top_k=1) == [TEXTS[2]]
    for type_ in set(INDEX_TYPES) - {type_ for type_, *_ in SERVER}:
        metric = INDEX_TYPES[type_].metrics[0]
        config = make_config(**store_overrides, index__type=type_, index__metric=metric)
        with pytest.raises(ConfigError, match=rf"index\.type = {type_} .*2\.3\.5-lite"):
            apply_index(config)
    config = make_config(**store_overrides, index__type="IVF_PQ", index__params={"m": 7})
    with pytest.raises(ConfigError, match="m = 7, which does not divide the vectors' dimension"):
        apply_index(config)
    assert open_store(make_config(**store_overrides)).built_index.type == "AUTOINDEX"


@pytest.mark.parametrize("metric", ["L2", "IP"])
def test_metric_is_changed_in_place(
    metric: str, store: CollectionStore, make_config: MakeConfig, store_overrides: dict[str, str]
) -> None:
    long = node("graphs and edges and bread", 7)
    long.embedding = [value * 9 for value in long.embedding or []]
    store.add([long])
    store.flush()
    before = vectors(store)
    config = make_config(**store_overrides, index__metric=metric)
    assert apply_index(config, store=store).changes == (f"metric COSINE → {metric}",)
    assert search(store, "graphs and edges and bread", top_k=4)[0] == (
        TEXTS[0] if metric == "L2" else long.text
    )
    reopened = open_store(config)
    assert vectors(reopened) == before
    assert np.isclose(np.linalg.norm(vectors(reopened)[long.node_id]), 9)


def test_an_index_of_another_metric_is_searched_by_its_own(
    store: CollectionStore, make_config: MakeConfig, store_overrides: dict[str, str]
) -> None:
    reopened = open_store(make_config(**store_overrides, index__metric="L2"))
    assert search(reopened, "yeast bread", top_k=1) == [TEXTS[2]]


def test_show_says_what_differs_and_how_to_apply(ingested: Config, run: Run) -> None:
    shown = run(
        *("index", "show", "--set", "chunking.size=40", "--set", "chunking.overlap=0"),
        *("--set", "index.type=HNSW", "--set", "index.params={M = 8}"),
    )
    assert shown.exit_code == 0
    assert "type AUTOINDEX → HNSW; M none → 8" in shown.stdout
    assert "rag-app index apply" in shown.stderr


def test_nothing_ingested_is_an_error_with_the_remedy(run: Run) -> None:
    for command in ("show", "apply"):
        result = run("index", command)
        assert result.exit_code == 2
        assert "rag-app ingest" in result.stderr


def test_index_that_cannot_be_built_leaves_the_former_one(
    ingested: Config, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = DenseIndex.build

    def fails(self: DenseIndex, wanted: Index) -> None:
        if wanted.type == "HNSW":
            wanted = Index("IVF_PQ", "COSINE", {})  # Lite takes the name, and fails to load it
        build(self, wanted)

    monkeypatch.setattr(DenseIndex, "build", fails)
    changed = make_config(chunking__size=40, chunking__overlap=0, index__type="HNSW")
    with pytest.raises(VectorStoreError, match=r"could not build HNSW.* is AUTOINDEX\(\).* again"):
        apply_index(changed)
    assert search(open_store(ingested), "yeast bread", top_k=1)


def test_other_indexes_of_the_collection_stay(here: Path) -> None:
    client = MilvusClient(str(here / "two.db"))
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("text", DataType.VARCHAR, max_length=100, enable_analyzer=True)
    schema.add_field(VECTOR_FIELD, DataType.FLOAT_VECTOR, dim=4)
    schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(
        Function(
            name="bm25",
            function_type=FunctionType.BM25,
            input_field_names=["text"],
            output_field_names=["sparse"],
        )
    )
    client.create_collection("two", schema=schema)
    params = client.prepare_index_params()
    params.add_index(
        "sparse", index_type="SPARSE_INVERTED_INDEX", index_name="sparse", metric_type="BM25"
    )
    client.create_index("two", params)
    index = DenseIndex(client, "two", lite=True, timeout=30)
    assert index.read() is None, "the other field's index is not ours"
    index.complete(Index("HNSW", "COSINE", {"M": 8, "efConstruction": 20}))
    rows = [
        {"id": number, "text": text, VECTOR_FIELD: [1.0, number, 0.0, 1.0]}
        for number, text in enumerate(TEXTS)
    ]
    client.insert("two", rows)
    client.flush("two")
    index.replace(Index("IVF_FLAT", "L2", {"nlist": 2}))
    assert sorted(client.list_indexes("two")) == [VECTOR_FIELD, "sparse"]
    assert index.read() == Index("IVF_FLAT", "L2", {"nlist": 2})
    found = client.search("two", data=["yeast"], anns_field="sparse", limit=1)
    assert found[0][0]["id"] == 2


# --- killed --------------------------------------------------------------------------------------

KILLED = """
import os, sys
import faiss
from pymilvus import MilvusClient

where = sys.argv.pop(1)

def die(*_args, **_kwargs):
    os.kill(os.getpid(), 9)

def half(index, path, *_):
    whole = faiss.serialize_index(index).tobytes()
    with open(path, "wb") as file:
        file.write(whole[: len(whole) // 2])
        file.flush()
        os.fsync(file.fileno())
    die()

if where == "writing":
    faiss.write_index = half
else:
    when, method = where.split()
    call = getattr(MilvusClient, method)
    def killed(self, *args, **kwargs):
        if when == "before":
            die()
        call(self, *args, **kwargs)
        die()
    setattr(MilvusClient, method, killed)

from rag_app.cli import main
main()
"""


QUICK = [("after drop_index", "open"), ("writing", "open"), ("after create_index", "apply")]


@pytest.mark.parametrize("with_", ["open", "apply"])
@pytest.mark.parametrize(
    "where",
    [
        "before release_collection",
        "after release_collection",
        "after drop_index",
        "after create_index",
        "writing",
        "after load_collection",
    ],
)
def test_apply_that_is_killed_is_completed(
    where: str,
    with_: str,
    ingested: Config,
    make_config: MakeConfig,
    request: pytest.FixtureRequest,
) -> None:
    if (where, with_) not in QUICK and not request.config.getoption("--slow"):
        pytest.skip("with ./scripts/test.sh --slow: a process each")
    before = rows_of(ingested)
    release(ingested.vector_store.uri)
    overrides = {"chunking.size": "40", "chunking.overlap": "0", "index.type": "HNSW"}
    settings = [part for key, value in overrides.items() for part in ("--set", f"{key}={value}")]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, where, "index", "apply", *settings],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    config = make_config(**overrides)
    if with_ == "apply":
        apply_index(config)
    assert rows_of(config) == before
    reopened = open_store(config)
    assert search(reopened, "yeast bread", top_k=1)
    if with_ == "open" and where in {"before release_collection", "after release_collection"}:
        assert reopened.built_index.type == "AUTOINDEX", "nothing was touched yet"
        return
    assert reopened.built_index.type == "HNSW"
    files = index_files(config.vector_store.uri, "rag_app", VECTOR_FIELD)
    assert {read_index_file(file)["M"] for file in files} == {16}
