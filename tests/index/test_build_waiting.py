"""Waiting for a Milvus server to build or load: as long as it goes on, and no longer."""

from collections.abc import Iterator
from threading import Event
from typing import Any

import grpc
import pytest
from pymilvus import MilvusClient
from pymilvus.client.types import LoadState
from pymilvus.exceptions import MilvusException

from rag_app.config.index_types import Index
from rag_app.errors import VectorStoreError
from rag_app.index.apply import apply_index
from rag_app.milvus import dense_index
from rag_app.milvus.backend import Backend
from rag_app.milvus.dense_index import DenseIndex
from rag_app.milvus.errors import as_store_error
from rag_app.milvus.store import create_store, find_index, open_store
from tests.conftest import MakeConfig
from tests.milvus.test_store import TEXTS, node


class SlowServer:
    """Says one state after the other, the last one for ever."""

    def __init__(self, *told: dict[str, Any]) -> None:
        self._told: Iterator[dict[str, Any]] = iter(told)
        self._last: dict[str, Any] = {}

    def _tell(self, **_: Any) -> dict[str, Any]:
        self._last = next(self._told, self._last)
        return self._last

    describe_index = get_load_state = _tell

    def list_indexes(self, **_: Any) -> list[str]:
        return ["embedding"]

    def create_index(self, **_: Any) -> None: ...

    def load_collection(self, **_: Any) -> None: ...

    prepare_index_params = staticmethod(MilvusClient.prepare_index_params)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_index, "PATIENCE", 0.5)
    monkeypatch.setattr(dense_index, "BEGIN", 0.5)


def index_on(*told: dict[str, Any]) -> DenseIndex:
    return DenseIndex(
        SlowServer(*told), "rag_app", backend=Backend("http://slow", "v2.3.5"), timeout=1
    )


BUILDING = [{"state": "InProgress", "indexed_rows": rows} for rows in range(9)]
BUILT = {"state": "Finished", "indexed_rows": 9}
LOADING = [{"state": LoadState.Loading, "progress": share} for share in range(9)]
LOADED = {"state": LoadState.Loaded}


def test_what_goes_on_is_waited_for() -> None:
    index_on(*BUILDING, BUILT).build(Index("FLAT", "COSINE"), patience=0.5)
    index_on({"state": LoadState.NotLoad}, *LOADING, LOADED).load()


def test_an_index_that_is_not_built_any_further_is_given_up() -> None:
    with pytest.raises(MilvusException) as caught:
        index_on(*BUILDING[:3]).build(Index("FLAT", "COSINE"), patience=0.5)
    assert "no progress for 0.5 s: InProgress, 2 rows indexed" in caught.value.message


def test_an_index_that_failed_says_why() -> None:
    failed = {"state": "Failed", "index_state_fail_reason": "out of memory"}
    with pytest.raises(MilvusException) as caught:
        index_on(BUILDING[0], failed).build(Index("FLAT", "COSINE"))
    assert "building the index failed: out of memory" in caught.value.message


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (LOADING[:3], "no progress for 0.5 s: Loading, 2%"),
        ([{"state": LoadState.NotLoad}], "beginning to load the collection made no progress"),
        ([*LOADING[:2], {"state": LoadState.NotLoad}], "loading failed: the collection is NotLoad"),
    ],
)
def test_a_collection_that_is_not_loaded_any_further_is_given_up(
    told: list[dict[str, Any]], says: str
) -> None:
    with pytest.raises(MilvusException) as caught:
        index_on(*told).load()
    assert says in caught.value.message


# --- what a failure means ------------------------------------------------------------------------


class Refusal(grpc.RpcError):  # type: ignore[misc]
    """As gRPC raises it, and pymilvus lets it pass."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


def caused_by(cause: Exception) -> MilvusException:
    error = MilvusException(2, "Fail connecting: illegal connection params or server unavailable")
    error.__cause__ = cause
    return error


CODE = grpc.StatusCode


@pytest.mark.parametrize(
    ("error", "says", "remedy"),
    [
        (Refusal(CODE.UNAUTHENTICATED, "auth check failure"), "refuses the token", "TOKEN="),
        (
            caused_by(Refusal(CODE.UNAUTHENTICATED, "missing authorization")),
            "refuses the token: missing authorization",
            "TOKEN=",
        ),
        (MilvusException(1400, "not authenticated"), "refuses the token", "TOKEN="),
        (Refusal(CODE.PERMISSION_DENIED, "deny to author"), "does not allow this user", "grant"),
        (
            caused_by(Refusal(CODE.UNAVAILABLE, "failed to connect")),
            "cannot be reached: failed to connect",
            "start it",
        ),
        (MilvusException(CODE.UNAVAILABLE, "retry run out"), "cannot be reached", "start it"),
        (Refusal(CODE.DEADLINE_EXCEEDED, ""), "did not answer in time", "vector_store.timeout"),
        (MilvusException(1, "the author field is unknown"), "failed: the author", "doctor"),
        (MilvusException(65535, "no authority UNAVAILABLE"), "failed: no authority", "doctor"),
    ],
)
def test_a_failure_is_known_by_its_code(error: Exception, says: str, remedy: str) -> None:
    told = as_store_error(error, "http://milvus:19530")
    assert says in told.message
    assert remedy in told.remedy


def test_storage_of_milvus_lite_is_named() -> None:
    error = MilvusException(1, "write error in x.idx: 0 != 42 (No space left on device)")
    told = as_store_error(error, "storage/milvus.db")
    assert told.message == (
        "the Milvus Lite database storage/milvus.db could not be written: No space left on device"
    )
    assert "make room" in told.remedy


# --- Milvus Lite, which builds within a call -----------------------------------------------------


def test_a_build_that_milvus_lite_is_never_done_with_is_given_up(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from milvus_lite.storage.segment import Segment

    store = create_store(make_config(), dimension=64)
    store.add([node(text, number) for number, text in enumerate(TEXTS)])
    store.flush()
    go_on = Event()
    bare = Segment.build_or_load_index

    def hang(self: Any, spec: Any, index_dir: str) -> None:
        if spec.index_type == "HNSW":
            go_on.wait(60)
        bare(self, spec, index_dir)

    monkeypatch.setattr(Segment, "build_or_load_index", hang)
    monkeypatch.setattr(dense_index, "PATIENCE", 0.5)
    config = make_config(index__type="HNSW")
    index = find_index(config)
    assert index is not None
    index.release()
    index.drop()
    index.build(Index("HNSW", "COSINE", {"M": 8, "efConstruction": 20}))
    try:
        with pytest.raises(MilvusException, match=r"is not done after 1 s, and Milvus Lite cannot"):
            index.load()
    finally:
        go_on.set()
    index.load()
    assert open_store(config).count() == 3


def test_what_milvus_lite_cannot_build_is_told(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from milvus_lite.storage.segment import Segment

    def fail(*_: Any) -> None:
        raise RuntimeError("no memory for that")

    store = create_store(make_config(), dimension=64)
    store.add([node(TEXTS[0], 0)])
    store.flush()
    monkeypatch.setattr(Segment, "build_or_load_index", fail)
    with pytest.raises(VectorStoreError, match="no memory for that"):
        apply_index(make_config(index__type="HNSW"))
