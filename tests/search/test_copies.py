"""Near-copies take no place, and are named."""

from collections.abc import Sequence

from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, TextNode

from rag_app.search.copies import choose
from rag_app.search.modes import Hit

REST = (
    "With the strong one all searches see all writes; with the bounded one they may see those of "
    "some seconds ago, and answer sooner. The level is chosen when a collection is made."
)
TEXTS = {
    "one": f"Consistency levels decide how soon a search sees what was written before. {REST}",
    "same": f"# Consistency levels decide how soon a search sees what was written before! {REST}",
    "like": f"Consistency levels decide how soon a query sees what was written before. {REST}",
    "other": "An index over the vectors is built when the collection is loaded into memory.",
    "v1": "The timeout of a request to the server is 10 seconds unless it is configured.",
    "v2": "The timeout of a request to the server is 60 seconds unless it is configured.",
    "中文一": "强一致性让每次搜索都看到所有写入的数据、有界一致性则允许一定的延迟。",
    "中文二": "强一致性让每次搜索都看到所有写入的数据、有界一致性则允许一定的延迟。。",
}


class Shelf:
    """Returns nodes by id, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def fetch(self, ids: Sequence[str]) -> dict[str, BaseNode]:
        self.asked.append(list(ids))
        return {
            id_: TextNode(id_=id_, text=TEXTS[id_], metadata={"path": f"{id_}.md"})
            for id_ in ids
            if id_ in TEXTS
        }


def hits(*ids: str) -> list[Hit]:
    return [Hit(id_, 1.0 - at / 10) for at, id_ in enumerate(ids)]


def names(found: Sequence[NodeWithScore]) -> list[str]:
    return [node.node_id for node in found]


def test_a_copy_takes_no_place_and_is_named() -> None:
    (found,) = choose([hits("one", "same", "like", "other")], 2, Shelf().fetch, each_once=True)
    assert names(found) == ["one", "other"]
    assert found[0].metadata["copies"] == ["same.md", "like.md"]
    assert "copies" not in found[1].metadata
    assert "same.md" not in found[0].node.get_content(MetadataMode.LLM)
    assert "same.md" not in found[0].node.get_content(MetadataMode.EMBED)


def test_what_differs_in_a_number_is_no_copy() -> None:
    (found,) = choose([hits("v1", "v2")], 2, Shelf().fetch, each_once=True)
    assert names(found) == ["v1", "v2"]


def test_copies_without_spaces_between_words_are_copies() -> None:
    (found,) = choose([hits("中文一", "中文二", "other")], 3, Shelf().fetch, each_once=True)
    assert names(found) == ["中文一", "other"]


def test_copies_stay_where_they_are_wanted() -> None:
    (found,) = choose([hits("one", "same")], 2, Shelf().fetch, each_once=False)
    assert names(found) == ["one", "same"]


def test_no_more_is_fetched_than_is_missing_and_a_node_once_for_all_questions() -> None:
    shelf = Shelf()
    asked = [hits("one", "same", "like", "other"), hits("other", "one", "v1")]
    first, second = choose(asked, 2, shelf.fetch, each_once=True)
    assert (names(first), names(second)) == (["one", "other"], ["other", "one"])
    assert shelf.asked == [["one", "same", "other"], ["like"], ["other"]]
    assert second[1].metadata == {"path": "one.md"}  # without the first question's copies


def test_rows_that_were_deleted_meanwhile_are_passed_over() -> None:
    (found,) = choose([hits("gone", "one", "other")], 2, Shelf().fetch, each_once=True)
    assert names(found) == ["one", "other"]


def test_no_questions_and_no_hits() -> None:
    assert choose([], 2, Shelf().fetch, each_once=True) == []
    assert choose([[]], 2, Shelf().fetch, each_once=True) == [[]]
