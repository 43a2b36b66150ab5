"""A name that means another collection by now: in one step, under those who search by it."""

import time
from pathlib import Path
from typing import Any

import pytest

from rag_app.config.sections import Config
from rag_app.load import load_config
from rag_app.milvus import lite_shared, noticing
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.lite_server import HeldDatabase
from rag_app.milvus.names import at_real_name, leave_alias, lite_target, point, real_name
from rag_app.milvus.store import connect, create_store, open_store
from rag_app.milvus.writing import writing
from rag_app.search.modes import Asked
from tests.milvus.sharing import DIMENSION, batch

pytestmark = pytest.mark.server


@pytest.fixture
def config(store_overrides: dict[str, Any]) -> Config:
    overrides = {**store_overrides, "retrieval.mode": "dense", "index.type": "FLAT"}
    return load_config(overrides=overrides)


def fill(config: Config, name: str, number: int) -> None:
    made = create_store(at_real_name(config, name), DIMENSION)
    made.add(batch(number))
    made.flush()


def nearest(config: Config, store: CollectionStore, number: int = 0) -> str:
    wanted = batch(number)[3]
    asked = Asked([wanted.text], [wanted.get_embedding()])
    (found,) = store.find(asked, config.retrieval)
    return found[0].node.get_content()


def test_a_name_means_another_collection_in_one_step(config: Config) -> None:
    name = config.vector_store.collection
    fill(config, name, 0)
    fill(config, f"{name}_2", 1)
    opened = open_store(config)
    client = connect(config.vector_store)
    assert real_name(client, config.vector_store) == name
    leave_alias(client, config.vector_store, f"{name}_1")
    leave_alias(client, config.vector_store, f"{name}_1")  # again: there is nothing left to do
    assert sorted(client.list_collections()) == [f"{name}_1", f"{name}_2"]
    assert open_store(config).collection_name == f"{name}_1"
    time.sleep(noticing.LOOK_SECONDS)
    assert nearest(config, opened) == "row 3 of batch 0"

    point(client, config.vector_store, f"{name}_2")
    switched = time.monotonic()
    while opened.now().collection_name != f"{name}_2":
        assert nearest(config, opened) == "row 3 of batch 0"
        assert time.monotonic() < switched + 10
        time.sleep(0.02)
    assert time.monotonic() < switched + noticing.LOOK_SECONDS + 1.5
    assert nearest(config, opened.now(), 1) == "row 3 of batch 1"
    client.drop_collection(f"{name}_1")
    assert nearest(config, opened, 1) == "row 3 of batch 1"
    client.drop_alias(name)
    client.drop_collection(f"{name}_2")


def test_who_writes_by_an_alias_and_by_the_name_take_turns(here: Path) -> None:
    config = load_config(overrides={"vector_store.uri": str(here / "a.db")})
    fill(config, "rag_app", 0)
    leave_alias(connect(config.vector_store), config.vector_store, "rag_app_1")
    assert lite_target(config.vector_store.uri, "rag_app") == "rag_app_1"
    with writing(config.vector_store):
        locks = {file.name for file in (here / "a.db" / "locks").iterdir()}
    assert {"rag_app.write", "rag_app_1.write"} <= locks


def test_a_rename_that_was_killed_is_completed(here: Path) -> None:
    config = load_config(overrides={"vector_store.uri": str(here / "a.db")})
    fill(config, "rag_app", 0)
    lite_shared.release(here / "a.db")
    # As it is after the alias is written, before the folder is renamed.
    (here / "a.db" / "aliases.json").write_text('{"rag_app": "rag_app_1"}')
    database = HeldDatabase(here / "a.db")
    assert database.list_collections() == ["rag_app_1"]
    assert database.get_collection("rag_app").name == "rag_app_1"
    database.close()
    assert open_store(config).count() == len(batch(0))
