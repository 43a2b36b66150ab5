"""What a second process does to a collection that another one has open."""

from typing import Any

from rag_app.index.apply import apply_index
from rag_app.load import load_config
from rag_app.milvus.store import connect, create_store
from tests.milvus.sharing import CONTEXT, DIMENSION, batch

OTHER_INDEX = {
    "index.type": "HNSW",
    "index.metric": "L2",
    "index.params": {"M": 8, "efConstruction": 40},
}


def swap_index(overrides: dict[str, Any]) -> None:
    apply_index(load_config(overrides={**overrides, **OTHER_INDEX}))


def release(overrides: dict[str, Any]) -> None:
    section = load_config(overrides=overrides).vector_store
    connect(section).release_collection(section.collection)


def drop(overrides: dict[str, Any]) -> None:
    section = load_config(overrides=overrides).vector_store
    connect(section).drop_collection(section.collection)


def make_anew(overrides: dict[str, Any]) -> None:
    drop(overrides)
    store = create_store(load_config(overrides=overrides), DIMENSION)
    store.add(batch(1))
    store.flush()


def make_anew_otherwise(overrides: dict[str, Any]) -> None:
    make_anew({**overrides, "embedding.normalize": False})


def in_another_process(what: Any, overrides: dict[str, Any]) -> None:
    """Let a second process do it, and end."""
    process = CONTEXT.Process(target=what, args=(overrides,))
    process.start()
    process.join(120)
    assert process.exitcode == 0, process.exitcode
