"""Dense, text, hybrid and varied search over a real Milvus Lite, and what comes after it."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import (
    MetadataFilter,
    MetadataFilters,
    VectorStoreQueryMode,
)

from rag_app import RagApp, build_index, build_query_engine, build_retriever, ingest
from rag_app.answering.extractive import NOTHING_RELEVANT
from rag_app.config.sections import Config
from rag_app.doctor import examine
from rag_app.errors import CollectionMismatchError, ConfigError
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.lite_files import release
from rag_app.milvus.store import create_store, open_store
from rag_app.retrieval.expansion import Passage
from rag_app.retrieval.retriever import Retriever, make_retriever
from rag_app.search.modes import MODES, Asked, Hit, _with_variety
from tests.conftest import FakeEmbedder, MakeConfig, make_files

FILES = {
    "hnsw.md": "# Graphs\n\nHNSW connects vectors. Its parameter efConstruction is a width.",
    "ivf.md": "# Clusters\n\nIVF divides vectors into clusters, nlist of them.",
    "chinese.md": "# 一致性\n\n强一致性让每次搜索都看到所有写入的数据。",
    "korean.md": "# 색인\n\n벡터 색인은 검색을 빠르게 합니다.",
    "bread.txt": "Bakers kneaded the dough and baked bread.",
}

Build = Callable[..., Retriever]


@pytest.fixture
def build(
    fake_embedder: FakeEmbedder, tmp_path: Path, make_config: MakeConfig
) -> Callable[..., Retriever]:
    """A function of ``[retrieval]`` that builds a retriever over `FILES`."""
    ingest(make_config(), [make_files(tmp_path / "docs", dict(FILES))])

    def make(**retrieval: object) -> Retriever:
        settings = {f"retrieval__{key}": value for key, value in retrieval.items()}
        return build_retriever(make_config(**settings))

    return make


def wait_for_one_segment(collection: str) -> None:
    folder = Path("storage/milvus.db/collections", collection)
    deadline = time.monotonic() + 30
    while len(list(folder.rglob("*.parquet"))) != 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def paths(nodes: list[NodeWithScore]) -> list[str]:
    return [node.metadata["path"] for node in nodes]


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "path"),
    [
        ("What does baking take?", "bread.txt"),  # another form of the word
        ("construction", "hnsw.md"),  # a part of an identifier
        ("EFCONSTRUCTION", "hnsw.md"),
        ("什么是强一致性", "chinese.md"),
        ("색인이 무엇인가요?", "korean.md"),  # another particle
        ("clusters", "ivf.md"),
    ],
)
def test_words_are_found_in_any_form_and_script(build: Build, question: str, path: str) -> None:
    found = build(mode="text").retrieve(question)
    assert found[0].metadata["path"] == path
    assert (found[0].score or 0.0) > 0


def test_text_scores_are_higher_for_better_ones(build: Build) -> None:
    found = build(mode="text").retrieve("vectors in clusters")
    assert paths(found) == ["ivf.md", "hnsw.md"]
    assert (found[0].score or 0.0) > (found[1].score or 0.0) > 0


@pytest.mark.parametrize("question", ["the of and", "?!", "zebra"])
def test_a_question_without_known_words_finds_nothing_by_text(build: Build, question: str) -> None:
    assert build(mode="text").retrieve(question) == []


def test_titles_are_words_too(build: Build) -> None:
    assert paths(build(mode="text").retrieve("Graphs"))[0] == "hnsw.md"


def test_text_search_loads_no_embedding_model(
    build: Build, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag_app import app as query_engine

    monkeypatch.setattr(query_engine, "build_embedder", lambda _: pytest.fail("loaded the model"))
    assert build(mode="text").retrieve("clusters")


def test_words_of_a_reopened_collection_are_found(build: Build, make_config: MakeConfig) -> None:
    release(make_config().vector_store.uri)
    assert paths(build(mode="text").retrieve("dough")) == ["bread.txt"]


def test_the_language_is_part_of_what_made_a_collection(build: Build) -> None:
    with pytest.raises(CollectionMismatchError, match=r"retrieval\.language"):
        build(language="german")


def test_a_collection_keeps_the_language_that_it_was_made_with(
    fake_embedder: FakeEmbedder, tmp_path: Path, make_config: MakeConfig
) -> None:
    """One of an earlier version counts English words, and the configuration has a new default."""
    files = {"stadt.md": "Die Häuser sind in der Stadt gebaut worden, und nicht auf dem Land."}
    folder = make_files(tmp_path / "docs", dict(files))
    for collection, language, found in ("old", "english", []), ("new", "auto", ["stadt.md"]):
        made = {"vector_store__collection": collection, "retrieval__mode": "text"}
        ingest(make_config(**made, retrieval__language=language), [folder])
        assert paths(build_retriever(make_config(**made)).retrieve("Haus")) == found


def test_words_of_a_file_that_was_added_later_count_as_much(
    fake_embedder: FakeEmbedder, tmp_path: Path, make_config: MakeConfig
) -> None:
    """Milvus Lite weighs words within a segment, and a later file would have one of its own."""
    files = {f"{n}.txt": f"Common words of file number {n}, and term{n}." for n in range(40)}
    added = {"added.txt": "Common words about zebras; zebras are striped."}
    found = []
    for collection, steps in ("once", [files | added]), ("later", [files, added]):
        config = make_config(vector_store__collection=collection, retrieval__mode="text")
        for step in steps:
            ingest(config, [make_files(tmp_path / collection, dict(step))])
        wait_for_one_segment(collection)
        nodes = build_retriever(config).retrieve("common words about zebras in files")
        found.append([(node.metadata["path"], round(node.score or 0.0, 3)) for node in nodes])
    assert found[0] == found[1]
    assert found[0][0][0] == "added.txt"


@pytest.mark.parametrize("params", [{}, {"type": "HNSW"}])
def test_another_index_over_the_vectors_leaves_the_words_alone(
    build: Build, make_config: MakeConfig, tmp_path: Path, params: dict[str, str]
) -> None:
    config = make_config(**{f"index__{key}": value for key, value in params.items()})
    ingest(config, [tmp_path / "docs"])
    release(config.vector_store.uri)
    assert paths(build(mode="text").retrieve("dough")) == ["bread.txt"]
    assert paths(build(mode="hybrid").retrieve("dough"))[0] == "bread.txt"


def test_an_index_over_the_words_that_a_killed_process_did_not_make_is_made(
    fake_embedder: FakeEmbedder, tmp_path: Path, make_config: MakeConfig
) -> None:
    config = make_config()
    store = create_store(config, dimension=64)
    store.client.release_collection("rag_app")
    store.client.drop_index("rag_app", "words_idx")
    release(config.vector_store.uri)
    ingest(config, [make_files(tmp_path / "docs", dict(FILES))])
    found = make_retriever(
        open_store(config), None, config.retrieval.model_copy(update={"mode": "text"})
    ).retrieve("dough")
    assert paths(found) == ["bread.txt"]


@pytest.mark.server
@pytest.mark.parametrize("mode", ["text", "hybrid"])
def test_a_server_before_2_5_says_that_it_has_no_words(
    mode: str,
    fake_embedder: FakeEmbedder,
    tmp_path: Path,
    make_config: MakeConfig,
    request: pytest.FixtureRequest,
) -> None:
    server = request.getfixturevalue("milvus_server")
    config = make_config(
        vector_store__uri=server.uri,
        vector_store__collection=f"words_{mode}",
        retrieval__mode=mode,
    )
    ingest(config, [make_files(tmp_path / "docs", {"a.md": "one"})])
    with pytest.raises(ConfigError, match=r"from version 2\.5 on") as caught:
        build_retriever(config).retrieve("one")
    assert 'retrieval.mode = "dense"' in caught.value.remedy
    (check,) = (check for check in examine(config) if check.name == "milvus")
    assert not check.ok
    assert 'retrieval.mode = "dense"' in check.remedy


# --- both, and variety ---------------------------------------------------------------------------


def test_hybrid_finds_what_either_search_finds(build: Build) -> None:
    hybrid = build(mode="hybrid")
    assert paths(hybrid.retrieve("什么是强一致性"))[0] == "chinese.md"
    assert paths(hybrid.retrieve("nlist clusters"))[0] == "ivf.md"
    scores = [node.score or 0.0 for node in hybrid.retrieve("vectors and clusters")]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] >= 0


@pytest.mark.parametrize("fusion", ["weighted", "rrf"])
def test_both_searches_fetch_candidates_and_as_many_as_asked_for_stay(
    build: Build, fusion: str
) -> None:
    assert len(build(fusion=fusion, similarity_top_k=2).retrieve("vectors")) == 2
    assert len(build(fusion=fusion, similarity_top_k=50).retrieve("vectors")) == len(FILES)


def test_many_questions_find_what_each_finds_alone(build: Build) -> None:
    questions = ["dough", "the of", "强一致性", "nlist"]
    for mode in MODES:
        retriever = build(mode=mode)
        together = [paths(nodes) for nodes in retriever.retrieve_each(questions)]
        assert together == [paths(retriever.retrieve(question)) for question in questions]
    assert list(build().retrieve_each([])) == []


def waiting(app: RagApp) -> int:
    return sum(map(len, list(app._together._waiting.values())))


async def test_questions_asked_together_are_one_search_but_for_their_filters(
    build: Build, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    build()  # ingests
    asked: list[tuple[str, int]] = []
    may_go = threading.Event()
    find = CollectionStore.find

    def seen(self: CollectionStore, questions: Asked, *args: Any, **kwargs: Any) -> Any:
        asked.append((str(kwargs["filters"] or ""), len(questions.questions)))
        assert may_go.wait(30)
        return find(self, questions, *args, **kwargs)

    texts = ["efConstruction", "clusters", "the dough"]
    with RagApp(make_config()) as app:
        filters = [
            MetadataFilters(filters=[MetadataFilter(key="type", value=kind)])
            for kind in ("markdown", "text")
        ]
        expected = [
            [node.node_id for node in app.retriever(filters=each).retrieve(text)]
            for each in (None, *filters)
            for text in texts
        ]
        monkeypatch.setattr(CollectionStore, "find", seen)
        first = asyncio.ensure_future(app.retriever().aretrieve("first"))
        async with asyncio.timeout(30):
            while not asked:
                await asyncio.sleep(0.01)
        # A retriever each, as a server makes them.
        others = asyncio.gather(
            *(
                app.retriever(filters=each).aretrieve(text)
                for each in (None, *filters)
                for text in texts
            )
        )
        async with asyncio.timeout(30):
            while sum(number for _, number in asked) + waiting(app) < 10:
                await asyncio.sleep(0.01)
        may_go.set()
        await first
        found = [[node.node_id for node in nodes] for nodes in await others]
    assert found == expected
    assert asked[0] == ("", 1)
    assert ("", 3) in asked
    assert sum(number for _, number in asked) == 10
    assert len(asked) <= 6


def test_many_questions_are_held_a_few_at_a_time(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag_app.retrieval.retriever.TOGETHER", 2)
    retriever = build()
    asked: list[int] = []
    find = CollectionStore.find

    def spy(self: CollectionStore, among: Asked, *rest: Any, **more: Any) -> Any:
        asked.append(len(among.questions))
        return find(self, among, *rest, **more)

    monkeypatch.setattr(CollectionStore, "find", spy)
    found = retriever.retrieve_each(["dough", "nlist", "efConstruction"])
    assert paths(next(found))[0] == "bread.txt"
    assert asked == [2]  # the third question waits until it is its turn
    assert [paths(nodes)[0] for nodes in found] == ["ivf.md", "hnsw.md"]
    assert asked == [2, 1]


def test_texts_are_fetched_of_the_nodes_that_are_kept(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    retriever = build(similarity_top_k=2)
    fetched: list[Sequence[str]] = []
    fetch = CollectionStore._fetch

    def spy(self: CollectionStore, ids: Sequence[str]) -> Any:
        fetched.append(ids)
        return fetch(self, ids)

    monkeypatch.setattr(CollectionStore, "_fetch", spy)
    found = retriever.retrieve("vectors in clusters")
    assert [list(ids) for ids in fetched] == [[node.node_id for node in found]]


def test_near_copies_do_not_take_all_places(
    build: Build, tmp_path: Path, make_config: MakeConfig
) -> None:
    build()
    text = FILES["ivf.md"]
    more = {f"copy{n}.md": text.replace("Clusters", f"Clusters{'!' * n}") for n in range(1, 5)}
    ingest(make_config(), [make_files(tmp_path / "docs", dict(more))])
    for mode in ("dense", "text", "hybrid"):
        settings = {"retrieval__mode": mode, "retrieval__similarity_top_k": 2}
        first, second = build_retriever(make_config(**settings)).retrieve("vectors in clusters")
        there = {first.metadata["path"], *first.metadata["copies"]}
        assert there == {"ivf.md", *more}
        assert second.metadata["path"] not in there


@pytest.mark.parametrize("mode", MODES)
def test_async_finds_the_same_from_any_event_loop(build: Build, mode: str) -> None:
    retriever = build(mode=mode)
    expected = paths(retriever.retrieve("clusters of vectors"))
    for _ in range(2):
        assert paths(asyncio.run(retriever.aretrieve("clusters of vectors"))) == expected


def test_a_vector_that_is_given_is_used(build: Build) -> None:
    vector = FakeEmbedder()._get_query_embedding(FILES["ivf.md"])
    found = build(mode="dense").retrieve(QueryBundle("bread", embedding=vector))
    assert paths(found)[0] == "ivf.md"


def test_variety_by_hand() -> None:
    """The second best says the same as the best; the third is farther away and says another."""
    hits = [
        Hit("best", 0.9, [1.0, 0.0]),
        Hit("same", 0.89, [0.999, 0.01]),
        Hit("other", 0.5, [0.0, 1.0]),
    ]
    order = [hit.id for hit in _with_variety(hits, [0.9, 0.5], 3, 0.5)]
    assert order == ["best", "other", "same"]
    assert [hit.id for hit in _with_variety(hits, [0.9, 0.5], 2, 1.0)] == ["best", "same"]
    assert _with_variety([], [0.9, 0.5], 3, 0.5) == []


def test_variety_looks_at_all_that_were_chosen() -> None:
    hits = [
        Hit("a", 0.9, [1.0, 0.0, 0.0]),
        Hit("b", 0.8, [0.0, 1.0, 0.0]),
        Hit("like a", 0.79, [1.0, 0.01, 0.0]),
        Hit("c", 0.4, [0.0, 0.0, 1.0]),
    ]
    assert [hit.id for hit in _with_variety(hits, [0.7, 0.6, 0.4], 3, 0.5)] == ["a", "b", "c"]


def test_llamaindex_retrievers_know_the_modes(build: Build, make_config: MakeConfig) -> None:
    index = build_index(make_config())
    for mode in VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.HYBRID:
        retriever = index.as_retriever(vector_store_query_mode=mode, similarity_top_k=1)
        assert paths(retriever.retrieve("dough")) == ["bread.txt"]
    worded = index.as_retriever(vector_store_query_mode="hybrid", alpha=0.0, similarity_top_k=1)
    assert paths(worded.retrieve("강 색인")) == ["korean.md"]


# --- after the search ----------------------------------------------------------------------------


def test_nodes_below_the_lowest_score_are_left_out(build: Build) -> None:
    everything = build(mode="dense").retrieve("HNSW connects vectors")
    middle = (everything[0].score or 0.0) - 0.01
    found = build(mode="dense", min_score=middle).retrieve("HNSW connects vectors")
    assert paths(found) == [everything[0].metadata["path"]]


def test_nothing_relevant_is_an_answer(build: Build, make_config: MakeConfig) -> None:
    build()
    config = make_config(retrieval__mode="dense", retrieval__min_score=0.99)
    assert str(build_query_engine(config).query("zebra")) == NOTHING_RELEVANT


@pytest.mark.parametrize("mode", [name for name in MODES if not MODES[name].is_comparable])
def test_a_lowest_score_needs_comparable_ones(mode: str, make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"retrieval\.min_score = 0\.5") as caught:
        make_config(retrieval__mode=mode, retrieval__min_score=0.5)
    assert "retrieval.reranker" in caught.value.remedy


def test_fewer_candidates_than_results_are_refused(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"retrieval\.candidates = 3"):
        make_config(retrieval__candidates=3)


def test_an_unknown_language_is_refused_with_those_there_are(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="klingon") as caught:
        make_config(retrieval__language="klingon")
    assert "english" in str(caught.value)


def long_document(config: Config, folder: Path) -> None:
    sections = [f"Part {n} is about subject{n} and nothing else at all here." for n in range(12)]
    ingest(config, [make_files(folder, {"long.md": "\n\n".join(sections)})])


def test_hits_are_joined_with_their_neighbours(
    fake_embedder: FakeEmbedder, tmp_path: Path, make_config: MakeConfig
) -> None:
    settings = {"chunking__size": 16, "chunking__overlap": 0, "retrieval__similarity_top_k": 1}
    long_document(make_config(**settings), tmp_path / "docs")
    (passage,) = build_retriever(make_config(**settings, retrieval__expand=2)).retrieve("subject5")
    assert isinstance(passage.node, Passage)
    parts = [f"Part {n} is about subject{n} and nothing else at all here." for n in range(3, 8)]
    assert passage.text.split("\n\n") == parts, "as they stand in the document"
    assert [hit.text for hit in passage.node.hits] == [parts[2]]
    response = build_query_engine(make_config(**settings, retrieval__expand=2)).query("subject5")
    assert parts[0] in response.source_nodes[0].text
