"""`rag-app index`: show, apply, bench and tune, on a real Milvus Lite and a real server."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from pymilvus import DataType, Function, FunctionType, MilvusClient

from rag_app.config.index_types import INDEX_TYPES, Index
from rag_app.config.sections import Config
from rag_app.errors import ConfigError, InputError, VectorStoreError
from rag_app.index.apply import apply_index, show_index
from rag_app.index.bench import bench, report, scratch
from rag_app.index.bench.bench import measure_indexes
from rag_app.index.bench.recall import Exact
from rag_app.index.bench.tune import choose, write_choice
from rag_app.index.bench.vectors import clustered_vectors
from rag_app.index.schema import IndexBenchmark, IndexMeasurement
from rag_app.ingestion.run import ingest
from rag_app.load import check_file_text, load_config
from rag_app.milvus.backend import Backend
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.dense_index import DenseIndex
from rag_app.milvus.lite_files import index_files, read_index_file, release
from rag_app.milvus.search import VECTOR_FIELD
from rag_app.milvus.store import create_store, find_store, open_store
from tests.conftest import FakeEmbedder, MakeConfig, json_of, make_files
from tests.milvus.test_store import TEXTS, node, search, vectors

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
    steps = {"release", "drop", "create", "load", "probe", "measure", "total"}
    assert set(applied["seconds"]) == steps

    release(ingested.vector_store.uri)
    shown = json_of(run("index", "show", "--json", *arguments))
    assert shown["built"].items() >= {"type": type_, "metric": "COSINE", "params": params}.items()
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


def test_apply_says_what_the_index_finds_of_an_exact_search(
    fake_embedder: FakeEmbedder, make_config: MakeConfig
) -> None:
    made = create_store(make_config(), dimension=64)
    vectors = clustered_vectors(300, 64)
    nodes = [node(f"text {number}", number) for number in range(len(vectors))]
    for one, vector in zip(nodes, vectors, strict=True):
        one.embedding = vector.tolist()
    made.add(nodes)
    made.flush()
    recalls = []
    for type_, params, searched in (
        ("FLAT", {}, {}),
        ("IVF_FLAT", {"nlist": 64}, {"nprobe": 64}),
        ("IVF_FLAT", {"nlist": 32}, {"nprobe": 1}),
    ):
        index = {"type": type_, "params": params, "search_params": searched}
        config = make_config(**{f"index__{key}": value for key, value in index.items()})
        assert apply_index(config, dry_run=True).recall is None
        recalls.append(apply_index(config).recall)
        assert apply_index(config).recall is None
    assert recalls[:2] == [1.0, 1.0]
    assert recalls[2] is not None
    assert recalls[2] < 0.7


def rows_of(config: Config) -> dict[str, Any]:
    store = find_store(config)
    assert store is not None
    return {row["id"]: row for row in store._rows('id != ""', ["id", "text", VECTOR_FIELD])}


SERVER: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("FLAT", {}, {}),
    ("IVF_FLAT", {"nlist": 2}, {"nprobe": 2}),
    ("IVF_SQ8", {"nlist": 2}, {"nprobe": 2}),
    ("IVF_PQ", {"nlist": 2, "m": 4, "nbits": 8}, {"nprobe": 2}),
    ("SCANN", {"nlist": 2, "with_raw_data": True}, {"nprobe": 2, "reorder_k": 8}),
    ("AUTOINDEX", {}, {"ef": 10}),
    ("HNSW", {"M": 7, "efConstruction": 33}, {"ef": 10}),
]


@pytest.mark.server
def test_every_type_that_the_server_builds_is_applied_and_described(
    make_config: MakeConfig, store_overrides: dict[str, str], request: pytest.FixtureRequest
) -> None:
    if "://" not in store_overrides["vector_store.uri"]:
        pytest.skip("Milvus Lite has a test of its own")
    is_slow = request.config.getoption("--slow")  # a change of the index takes the server 6 s
    made = create_store(make_config(**store_overrides, index__type="HNSW"), dimension=64)
    made.add([node(text, number) for number, text in enumerate(TEXTS)])
    made.flush()
    before = vectors(made)
    for type_, params, search_params in SERVER if is_slow else SERVER[-1:]:
        config = make_config(
            **store_overrides,
            index__type=type_,
            index__params=params,
            index__search_params=search_params,
        )
        assert apply_index(config).changes
        shown = show_index(config)
        assert (shown.built["type"], shown.built["metric"]) == (type_, "COSINE")
        assert shown.built["params"] == params
        assert shown.built["search_params"].items() >= search_params.items()
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
    assert open_store(make_config(**store_overrides)).built_index.type == "HNSW"


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
    index = DenseIndex(client, "two", backend=Backend("two.db", "milvus_lite-3.2.2"), timeout=30)
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

write = faiss.write_index

def half(index, path, *_):
    write(index, path)
    os.truncate(path, os.path.getsize(path) // 2)
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


# --- bench and tune ------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Few searches, and a folder of its own for temporary files."""
    monkeypatch.setattr(bench, "ALONE", 3)
    monkeypatch.setattr(bench, "BATCHES", 1)
    monkeypatch.setattr(bench, "SWEEP", {"ef": (8, 64), "nprobe": (1, 64)})
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_bench_measures_every_type_that_the_backend_builds(
    quick: Path, run: Run, here: Path
) -> None:
    result = run(*shlex.split("index bench --synthetic 600 --dim 16 --picture recall.png --json"))
    assert "600 vectors are too few to tell index types apart" in result.stderr
    told = json_of(result)
    assert (told["rows"], told["dimension"], told["questions"]) == (600, 16, 120)
    by_type: dict[str, list[dict[str, Any]]] = {}
    for found in told["measurements"]:
        by_type.setdefault(found["type"], []).append(found)
    assert list(by_type) == ["FLAT", "IVF_FLAT", "IVF_SQ8", "HNSW", "HNSW_SQ", "AUTOINDEX"]
    assert [found["recall"] for found in by_type["FLAT"]] == [1.0]
    few, many = by_type["IVF_FLAT"]
    assert (few["search_params"], many["search_params"]) == ({"nprobe": 1}, {"nprobe": 64})
    assert few["recall"] < 0.8 < 0.99 < many["recall"]
    assert by_type["IVF_SQ8"][0]["size"] < few["size"]
    for found in told["measurements"]:
        assert found["p95_ms"] >= found["p50_ms"] > 0
        assert found["batch_p95_ms"] >= found["batch_p50_ms"] > 0
    assert (here / "recall.png").read_bytes().startswith(b"\x89PNG")
    assert not list(quick.iterdir()), "the scratch database is gone"
    assert not (here / "storage").exists(), "made-up vectors need no collection"


def test_bench_reads_the_collection_and_leaves_it_alone(
    quick: Path,
    fake_embedder: FakeEmbedder,
    make_config: MakeConfig,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = make_files(tmp_path / "many", {"a.txt": " ".join(f"word{i}." for i in range(900))})
    config = make_config(chunking__size=16, chunking__overlap=0)
    ingest(config, [folder])
    before = rows_of(config)
    files = {path: path.stat().st_mtime_ns for path in Path(config.vector_store.uri).rglob("*.idx")}
    arguments = ["--set", "chunking.size=16", "--set", "chunking.overlap=0", "--json"]
    told = json_of(run("index", "bench", "--types", "flat,HNSW", *arguments))
    count = min(1000, len(before) // 5)
    assert (told["questions"], told["rows"]) == (count, len(before) - count)
    assert {found["type"] for found in told["measurements"]} == {"FLAT", "HNSW"}
    assert rows_of(config) == before
    assert open_store(config).built_index.type == "AUTOINDEX"
    assert {path: path.stat().st_mtime_ns for path in files} == files

    monkeypatch.setattr(
        "rag_app.embedding.factory.build_embedder",
        lambda _section: SimpleNamespace(
            embed_queries=lambda texts: [fake_embedder.get_query_embedding(text) for text in texts]
        ),
    )
    Path("asked.jsonl").write_text('{"question": "word1"}\n{"question": "word2 word3"}\n')
    asked = ("--questions", "asked.jsonl", "--types", "FLAT", "--sample", "50")
    told = json_of(run("index", "bench", *asked, *arguments))
    assert (told["questions"], told["rows"]) == (2, 50)
    assert told["measurements"][0]["recall"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--types HSNW", "'HSNW' in --types is no index type"),
        ("--synthetic 100 --types IVF_PQ", "index.type = IVF_PQ (--types) is not built by"),
        ("--synthetic 100 --picture no/such/x.png", "no folder for the picture"),
        ("--synthetic 100 --questions x.jsonl", "made-up vectors have no questions"),
        ("", "there is no collection"),
    ],
)
def test_what_cannot_be_measured_is_said_before(arguments: str, said: str, run: Run) -> None:
    result = run("index", "bench", *arguments.split())
    assert result.exit_code == 2
    assert said in result.stderr


def test_few_vectors_cannot_be_measured(ingested: Config, run: Run) -> None:
    result = run("index", "bench", "--set", "chunking.size=40", "--set", "chunking.overlap=0")
    assert result.exit_code == 2
    assert "too few" in result.stderr


def test_interrupted_bench_leaves_no_scratch(
    quick: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        assert list(quick.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "_measure", interrupt)
    result = run("index", "bench", "--synthetic", "100", "--dim", "8")
    assert result.exit_code == 130
    assert not list(quick.iterdir())


def test_scratch_of_a_killed_process_is_dropped(quick: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    now = int(time.time())
    left = quick / f"rag_app_scratch_{scratch._MACHINE}_{ended.pid}_{now}_x1"
    running = quick / f"rag_app_scratch_{scratch._MACHINE}_{os.getpid()}_{now}_x2"
    elsewhere = quick / f"rag_app_scratch_ffffffff_{ended.pid}_{now}_x3"
    forgotten = quick / f"rag_app_scratch_ffffffff_{ended.pid}_{now - 90_000}_x4"
    other = quick / "rag_app_scratch_of_mine"
    for folder in (left, running, elsewhere, forgotten, other):
        folder.mkdir()
    scratch.drop_leftover_folders()
    assert sorted(quick.iterdir()) == sorted([running, elsewhere, other])


def test_scratch_on_a_server_is_dropped(
    quick: Path, make_config: MakeConfig, store_overrides: dict[str, str]
) -> None:
    config = make_config(**store_overrides)
    if config.vector_store.is_file:
        pytest.skip("Milvus Lite has a test of its own")
    client = MilvusClient(config.vector_store.uri, timeout=30)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = f"rag_app_scratch_{scratch._MACHINE}_{ended.pid}_{int(time.time())}"
    client.create_collection(left, dimension=4, timeout=30)
    data = clustered_vectors(100, 8)
    told = measure_indexes(config, data, data[:10], "vectors", types=["FLAT"])
    assert told.measurements[0].recall == 1.0
    assert told.measurements[0].size is None
    assert not [name for name in client.list_collections() if name.startswith("rag_app_scratch")]


def test_server_that_cannot_build_an_index_is_found_out_before(
    make_config: MakeConfig, store_overrides: dict[str, str]
) -> None:
    config = make_config(**store_overrides, vector_store__timeout=10.0)
    if config.vector_store.is_file:
        pytest.skip("what Milvus Lite builds is known")
    with pytest.raises(VectorStoreError, match=r"cannot build DISKANN.*nothing was changed"):
        scratch.prove_buildable(config, Index("DISKANN", "COSINE"), 16)
    scratch.prove_buildable(config, Index("IVF_FLAT", "COSINE", {"nlist": 4}), 16)


def measured(type_: str, recall: float, p50: float, size: int) -> IndexMeasurement:
    return IndexMeasurement(
        type_, {"M": 8}, {"ef": 32}, recall, p50, p50, p50, p50, build_seconds=1.0, size=size
    )


def benchmark(*found: IndexMeasurement) -> IndexBenchmark:
    return IndexBenchmark("vectors", 10, 4, 2, 5, "COSINE", "Milvus Lite", found)


def test_what_no_other_beats_in_both() -> None:
    points = [(5.0, 0.9), (1.0, 0.5), (2.0, 0.5), (4.0, 0.9), (3.0, 0.7), (9.0, 0.99), (8.0, 0.8)]
    assert report.pareto(points) == [1, 4, 3, 5]
    assert report.pareto([(1.0, 0.5)]) == [0]


def test_few_rows_are_said() -> None:
    enough = replace(benchmark(measured("FLAT", 1.0, 9.0, 1)), rows=5000)
    assert report.few_rows(enough) == ""
    assert "4,999 vectors are too few" in report.few_rows(replace(enough, rows=4999))


def test_tune_takes_the_cheapest_that_finds_enough() -> None:
    found = benchmark(
        measured("FLAT", 1.0, 9.0, 1),
        measured("HNSW", 0.99, 4.1, 9),
        measured("HNSW_SQ", 0.98, 4.2, 3),  # as fast, and smaller
        measured("IVF_FLAT", 0.97, 1.0, 1),
    )
    assert choose(found, 0.98).type == "HNSW_SQ"
    assert choose(found, 0.985).type == "HNSW"
    assert choose(found, 1.0).type == "FLAT"
    with pytest.raises(InputError, match=r"best was HNSW with 0\.990"):
        choose(benchmark(found.measurements[1]), 0.995)


OWN = """# mine
profile = "{profile}"  # keep me

[index]
# the index of all profiles
type = "FLAT"  # exact
metric = "COSINE"

[profiles.small.chunking]
size = 64

[profiles.other.index]
type = "IVF_FLAT" # why
params = {{ nlist = 4 }}
"""


@pytest.mark.parametrize(
    ("profile", "table"), [("small", "index"), ("other", "profiles.other.index")]
)
def test_tune_writes_where_the_index_is_set_and_keeps_comments(
    profile: str, table: str, here: Path
) -> None:
    text = OWN.format(profile=profile)
    file = make_files(here, {"config.toml": text}) / "config.toml"
    file.chmod(0o640)
    wrote = write_choice(load_config(), measured("HNSW", 0.99, 1.0, 1), check_file_text)
    assert f"[{table}] of {file}" in wrote
    config = load_config()
    assert (config.index.type, config.index.params) == ("HNSW", {"M": 8})
    assert config.index.search_params == {"ef": 32}
    after = file.read_text()
    for comment in ("# mine", "# keep me", "# the index of all profiles"):
        assert comment in after
    other = {"small": 'type = "IVF_FLAT" # why', "other": 'type = "FLAT"  # exact'}[profile]
    assert other in after
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in here.iterdir()] == ["config.toml"]


def test_tune_leaves_a_file_alone_that_would_not_load_any_more(here: Path) -> None:
    file = make_files(here, {"config.toml": OWN.format(profile="small")}) / "config.toml"
    impossible = replace(measured("HNSW", 0.99, 1.0, 1), params={"M": 10**6})
    with pytest.raises(ConfigError, match=r"index\.params \(config\.toml\)"):
        write_choice(load_config(), impossible, check_file_text)
    assert file.read_text() == OWN.format(profile="small")
    assert [path.name for path in here.iterdir()] == ["config.toml"]


def test_tune_refuses_to_write_what_would_be_overridden(
    quick: Path, here: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune = shlex.split("index tune --recall 0.9 --write --synthetic 200 --dim 8 --types HNSW")
    nowhere = run(*tune)
    assert nowhere.exit_code == 2
    assert "cp " in nowhere.stderr
    make_files(here, {"config.toml": OWN.format(profile="small")})
    overridden = run(*tune, "--set", "index.type=HNSW")
    assert overridden.exit_code == 2
    assert "index.type is set by the command line" in overridden.stderr
    blog = run("--profile", "blog", *tune)
    assert blog.exit_code == 2
    assert "it comes with rag_app" in " ".join(blog.stderr.split())
    done = run(*tune)
    assert done.exit_code == 0, done.output
    assert "wrote to [index]" in done.stderr
    config = load_config()
    assert config.index.type == "HNSW"
    assert config.index.params == {"M": 16, "efConstruction": 200}


def test_exact_search_counts_equal_vectors_as_found() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 2], [0.9, 0.1]], dtype=np.float32)
    asked = np.array([[2, 0]], dtype=np.float32)
    for metric, nearest in (("COSINE", [0, 1]), ("L2", [0, 1]), ("IP", [0, 1])):
        exact = Exact(asked, metric, top_k=1)
        exact.add(vectors[:2])
        exact.add(vectors[2:])
        assert [exact.recall([vectors[[row]]]) for row in range(4)] == [
            float(row in nearest) for row in range(4)
        ]


def test_milvus_lite_behind_a_server_gets_its_parameters_too(
    here: Path, make_config: MakeConfig, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--slow"):
        pytest.skip("with ./scripts/test.sh --slow: a process")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    database = here / "shared"
    serve = f"server --data-dir {database} --host 127.0.0.1 --port {port}"
    command = [sys.executable, "-m", "milvus_lite.cmdline", *serve.split()]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            uri = {"vector_store__uri": f"http://127.0.0.1:{port}"}
            until = time.monotonic() + 60
            while is_free(port):
                assert time.monotonic() < until
                time.sleep(0.1)
            made = create_store(make_config(**uri), dimension=64)
            made.add([node(text, number) for number, text in enumerate(TEXTS)])
            made.flush()
            with pytest.raises(ConfigError, match=r"IVF_PQ .*not built by Milvus Lite"):
                apply_index(make_config(**uri, index__type="IVF_PQ"))
            config = make_config(**uri, index__type="HNSW", index__params={"M": 7})
            assert apply_index(config).changes
            (file,) = index_files(str(database), "rag_app", VECTOR_FIELD)
            assert read_index_file(file)["M"] == 7
        finally:
            server.terminate()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
