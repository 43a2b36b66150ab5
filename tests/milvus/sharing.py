"""Processes that share a Milvus Lite database, forked from one that has the imports behind it.

Each writes what it did, a line at a time, into a file of its own: a killed one leaves no lock.
"""

import hashlib
import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery
from pymilvus import MilvusClient

from rag_app.config.sections import Config
from rag_app.index.apply import apply_index
from rag_app.load import load_config
from rag_app.milvus import lite_shared
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.store import create_store, open_store
from rag_app.milvus.writing import writing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])

DIMENSION = 16
ROWS = 8
"""In a batch that the writer writes at once."""

KEPT = 3
"""Of each batch the writer deletes the rows after these, two batches later."""


def config_of(database: Path | str, **overrides: Any) -> Config:
    return load_config(overrides={"vector_store.uri": str(database), **overrides})


def node(text: str) -> TextNode:
    digest = hashlib.sha256(text.encode()).digest()
    vector = [byte / 255 for byte in digest[:DIMENSION]]
    return TextNode(text=text, id_=digest.hex()[:32], embedding=vector)


def batch(number: int) -> list[TextNode]:
    return [node(f"row {row} of batch {number}") for row in range(ROWS)]


def ids(nodes: list[TextNode]) -> set[str]:
    return {each.node_id for each in nodes}


def make(database: Path) -> Config:
    """Make a database with a first batch, and let go of it."""
    config = config_of(database)
    store = create_store(config, DIMENSION)
    store.add(batch(0))
    store.flush()
    lite_shared.release(database)
    return config


def rows(store: CollectionStore) -> list[str]:
    return [row["id"] for row in store._rows('id != ""', ["id"])]


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def say(log: Path, line: str) -> None:
    with log.open("a") as file:
        file.write(f"{line}\n")


def start(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    process = CONTEXT.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def wait_until(what: Callable[[], Any], seconds: float = 60) -> Any:
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return found


def holder_of(database: Path) -> int:
    """Return the pid of the process that serves a database."""
    return int(wait_until(lambda: lite_shared._read(database / lite_shared.HOLDER))["pid"])


# --- what the processes do -----------------------------------------------------------------------


def hold(database: Path, log: Path, stop: Path) -> None:
    """Open the database, and do nothing."""
    store = open_store(config_of(database))
    say(log, f"open {store.count()}")
    wait_until(stop.exists, 300)
    lite_shared.release(database)
    say(log, "closed")


def read(database: Path, log: Path, stop: Path, written: Path) -> None:
    """Search and count without end: what was acknowledged is there, and nothing is twice."""
    store = open_store(config_of(database))
    wanted = batch(0)[0]
    while not stop.exists():
        told = [line.split() for line in lines(written)]
        there = [int(number) for what, number in told if what == "written"]
        found = rows(store)
        kept = {id_ for number in there for id_ in ids(batch(number)[:KEPT])}
        assert len(found) == len(set(found)), "rows are there twice"
        assert kept <= set(found), f"{len(kept - set(found))} rows are lost"
        (nearest,) = store.query(
            VectorStoreQuery(query_embedding=wanted.embedding, similarity_top_k=1)
        ).ids or [""]
        assert nearest == wanted.node_id
        say(log, "read")
    say(log, "ended")


def write(database: Path, log: Path, stop: Path) -> None:
    """Write batch after batch, some of them twice, and delete rows; say what is acknowledged."""
    store = open_store(config_of(database))
    done = [int(line.split()[1]) for line in lines(log) if line.startswith("written")]
    number = max(done, default=0)

    def thin_out(first: int, last: int) -> None:
        for late in range(max(first, 1), last + 1):
            store.delete_ids(sorted(ids(batch(late)[KEPT:])))

    thin_out(number - 4, number - 2)  # where a killed writer stopped
    while not stop.exists():
        number += 1
        store.add(batch(number))
        say(log, f"written {number}")
        if number % 3 == 0:
            store.add(batch(number))
        thin_out(number - 2, number - 2)
        if number % 5 == 0:
            store.flush()
    thin_out(number - 2, number)
    say(log, f"ended {number}")


def change_index(database: Path, log: Path, stop: Path) -> None:
    """Build one index after the other."""
    types = itertools.cycle(["FLAT", "HNSW"])
    while not stop.exists():
        config = config_of(database, **{"index.type": next(types)})
        say(log, str(apply_index(config).changes))
    lite_shared.release(database)


def open_alone(database: Path, log: Path) -> None:
    """Use a database that this process opened without rag_app."""
    client = MilvusClient(str(database))
    store = open_store(config_of(database))
    store.add(batch(1))
    counted = client.query("rag_app", filter="", output_fields=["count(*)"])
    say(log, f"{store.count()} {counted[0]['count(*)']}")


def be_writing(database: Path, log: Path, stop: Path) -> None:
    """Write to the collection for as long as nobody says stop."""
    with writing(config_of(database).vector_store):
        say(log, "in")
        wait_until(stop.exists, 300)


def fork(database: Path, log: Path) -> None:
    """Open the database, and leave a child behind."""
    open_store(config_of(database))
    if child := os.fork():
        say(log, str(child))
    time.sleep(300)


def die_before_log_is_deleted(database: Path) -> None:
    """Write rows to a file, and be killed before their log is deleted."""
    from milvus_lite.storage.wal import WAL

    store = open_store(config_of(database))
    store.add(batch(1))
    WAL.close_and_delete = lambda _self: kill(os.getpid())
    store.flush()


def die_before_manifest_is_replaced(database: Path) -> None:
    """Write rows to a file, and be killed before the manifest names it."""
    store = open_store(config_of(database))
    store.add(batch(1))
    replace = os.replace

    def dying(source: str, target: str) -> None:
        if target.endswith("manifest.json"):
            kill(os.getpid())
        replace(source, target)

    os.replace = dying  # type: ignore[assignment]
    store.flush()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
