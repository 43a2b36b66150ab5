"""An open collection is searched on, whatever other processes do to it, or says what they did."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rag_app.config.sections import Config
from rag_app.errors import CollectionChangedError, CollectionMismatchError, VectorStoreError
from rag_app.load import load_config
from rag_app.milvus import noticing
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.holders import holding
from rag_app.milvus.store import create_store, open_store
from rag_app.search.modes import Asked
from tests.milvus.others import (
    drop,
    in_another_process,
    make_anew,
    make_anew_otherwise,
    release,
    swap_index,
)
from tests.milvus.sharing import DIMENSION, batch


@pytest.fixture
def overrides(store_overrides: dict[str, Any]) -> dict[str, Any]:
    return {**store_overrides, "retrieval.mode": "dense", "index.type": "FLAT"}


@pytest.fixture
def opened(
    overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Config, CollectionStore]]:
    monkeypatch.setattr(noticing, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(noticing, "ABANDONED", 0.5)
    config = load_config(overrides=overrides)
    with holding(config.vector_store.uri):
        made = create_store(config, DIMENSION)
        made.add(batch(0))
        made.flush()
        yield config, open_store(config)


def nearest(opened: tuple[Config, CollectionStore], number: int) -> tuple[str, float]:
    config, store = opened
    wanted = batch(number)[3]
    (found,) = store.find(Asked([wanted.text], [wanted.get_embedding()]), config.retrieval)
    return found[0].node.get_content(), found[0].score or 0.0


def test_another_index_is_searched_as_it_wants(
    opened: tuple[Config, CollectionStore], overrides: dict[str, Any]
) -> None:
    text, cosine = nearest(opened, 0)
    in_another_process(swap_index, overrides)
    again, distance = nearest(opened, 0)
    assert (text, again) == ("row 3 of batch 0", "row 3 of batch 0")
    assert cosine == pytest.approx(1.0, abs=1e-4)
    assert distance == pytest.approx(0.0, abs=1e-4)
    assert (opened[1].built_index.type, opened[1].built_index.metric) == ("HNSW", "L2")


def test_searches_go_on_while_another_process_changes_the_index(
    opened: tuple[Config, CollectionStore], overrides: dict[str, Any]
) -> None:
    with ThreadPoolExecutor(1) as threads:
        swapping = threads.submit(in_another_process, swap_index, overrides)
        while not swapping.done():
            assert nearest(opened, 0)[0] == "row 3 of batch 0"
        swapping.result()


def test_a_released_collection_is_loaded_again(
    opened: tuple[Config, CollectionStore], overrides: dict[str, Any]
) -> None:
    in_another_process(release, overrides)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: nearest(opened, 0)[0], range(4)))
    assert found == ["row 3 of batch 0"] * 4


def test_documents_and_neighbours_are_read_after_a_release_and_missed_after_a_drop(
    ingested: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = ingested.vector_store
    monkeypatch.setattr(noticing, "LOOK_SECONDS", 0.0)
    other = {"vector_store.uri": section.uri, "vector_store.collection": section.collection}
    with holding(section.uri):
        store = open_store(ingested)
        documents = store.documents()
        spans = [(id_, 0, 0) for id_ in documents]
        first = store.nodes_in(spans)
        in_another_process(release, other)
        assert store.documents() == documents
        in_another_process(release, other)
        assert store.nodes_in(spans) == first
        in_another_process(drop, other)
        for read in (store.documents, lambda: store.nodes_in(spans)):
            with pytest.raises(CollectionChangedError, match=r"is gone: another process dropped"):
                read()


def test_a_collection_that_is_gone_is_said_to_be(
    opened: tuple[Config, CollectionStore], overrides: dict[str, Any]
) -> None:
    in_another_process(drop, overrides)
    for _ in range(2):
        with pytest.raises(CollectionChangedError, match=r"is gone: another process dropped"):
            nearest(opened, 0)


def test_a_collection_that_was_made_anew_is_searched(
    opened: tuple[Config, CollectionStore], overrides: dict[str, Any]
) -> None:
    in_another_process(make_anew, overrides)
    assert nearest(opened, 1)[0] == "row 3 of batch 1"


def test_a_collection_that_another_configuration_made_anew_is_refused(
    opened: tuple[Config, CollectionStore], overrides: dict[str, Any]
) -> None:
    in_another_process(make_anew_otherwise, overrides)
    with pytest.raises(CollectionMismatchError, match=r"embedding\.normalize"):
        nearest(opened, 0)


def test_looking_costs_nothing_between_two_looks(
    opened: tuple[Config, CollectionStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noticing, "LOOK_SECONDS", 3600.0)
    nearest(opened, 0)
    monkeypatch.setattr(
        noticing.Noticing, "_look", lambda _: pytest.fail("looked at the collection")
    )
    nearest(opened, 0)


def test_a_failure_that_has_another_cause_is_told_as_it_is(
    opened: tuple[Config, CollectionStore],
) -> None:
    config, store = opened
    with pytest.raises(VectorStoreError) as raised:
        store.find(Asked(["short"], [[0.5] * (DIMENSION - 1)]), config.retrieval)
    assert not isinstance(raised.value, CollectionChangedError)
