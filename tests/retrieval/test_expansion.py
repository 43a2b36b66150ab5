"""Passages: hits joined with their neighbours."""

from collections.abc import Sequence

from llama_index.core.schema import NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode

from rag_app.answering.packing import pack
from rag_app.milvus.rows import Span
from rag_app.retrieval.expansion import Passage, _continuation, expand, join_parents, shrink


def document(name: str, number: int = 10) -> list[TextNode]:
    return [
        TextNode(
            id_=f"{name}{at}",
            text=f"[{name}{at}]",
            metadata={"position": at, "path": name, "page": at // 3 + 1},
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=name)},
        )
        for at in range(number)
    ]


DOCUMENTS = {"a": document("a"), "b": document("b")}


def fetch(spans: Sequence[Span]) -> list[TextNode]:
    return [
        node
        for name, first, last in spans
        for node in reversed(DOCUMENTS[name])
        if first <= node.metadata["position"] <= last
    ]


def hits(*names: str) -> list[NodeWithScore]:
    nodes = {node.node_id: node for each in DOCUMENTS.values() for node in each}
    return [NodeWithScore(node=nodes[name], score=1 - at / 10) for at, name in enumerate(names)]


def texts(nodes: Sequence[NodeWithScore]) -> list[str]:
    return [node.text.replace("\n", "") for node in nodes]


def test_neighbours_are_added_in_document_order() -> None:
    (passage,) = expand(hits("a4"), 2, fetch)
    assert texts([passage]) == ["[a2][a3][a4][a5][a6]"]
    assert passage.score == 1.0
    assert passage.node_id == "a4"
    assert passage.metadata["page"] == 2
    assert passage.node.ref_doc_id == "a"


def test_the_ends_of_a_document_are_its_ends() -> None:
    assert texts(expand(hits("a0", "b9"), 2, fetch)) == ["[a0][a1][a2]", "[b7][b8][b9]"]


def test_hits_that_touch_become_one_passage_at_the_best_ones_place() -> None:
    found = expand(hits("b5", "a6", "a2", "a4"), 1, fetch)
    assert texts(found) == ["[b4][b5][b6]", "[a1][a2][a3][a4][a5][a6][a7]"]
    assert isinstance(found[1].node, Passage)
    assert [hit.node_id for hit in found[1].node.hits] == ["a6", "a2", "a4"]
    assert found[1].score == 0.9


def test_hits_far_apart_in_one_document_stay_two() -> None:
    assert texts(expand(hits("a1", "a7"), 1, fetch)) == ["[a0][a1][a2]", "[a6][a7][a8]"]


def test_what_neighbours_repeat_stands_once(monkeypatch: object) -> None:
    first, second = document("a", 2)
    first.text, second.text = "one two three", "two three four"
    joined = expand([NodeWithScore(node=first, score=1.0)], 1, lambda _spans: [first, second])
    assert joined[0].text == "one two three four"


def test_a_header_that_the_parts_of_a_table_repeat_stands_once() -> None:
    rows = [TextNode(text=f"|h|\n|-|\n|{n}|", start_char_idx=8 + 4 * n) for n in range(2)]
    for node, row in zip(rows, ("|0|", "|1|"), strict=True):
        node.end_char_idx = (node.start_char_idx or 0) + len(row)
    assert _continuation(*rows) == "\n|1|"


def test_paragraphs_stay_apart() -> None:
    one = TextNode(text="One.", start_char_idx=0, end_char_idx=4)
    other = TextNode(text="Two.", start_char_idx=6, end_char_idx=10)
    assert _continuation(one, other) == "\n\nTwo."


def test_a_node_without_position_stays_as_it_is() -> None:
    own = NodeWithScore(node=TextNode(id_="own", text="inserted by an app"), score=0.95)
    found = expand([*hits("a4"), own], 1, fetch)
    assert texts(found) == ["[a3][a4][a5]", "inserted by an app"]


def test_no_hits_are_no_passages() -> None:
    assert expand([], 3, fetch) == []


def test_shrinking_gives_the_hits_back() -> None:
    found = expand(hits("b5", "a6", "a2", "a4"), 1, fetch)
    assert texts(shrink(found, 1)) == ["[b4][b5][b6]", "[a6]", "[a2]", "[a4]"]
    assert texts(shrink(found, 0)) == ["[b5]", "[a6]", "[a2]", "[a4]"]
    assert texts(shrink(found, 2)) == texts(found)


def fit(budget: int) -> list[str]:
    """Pack two passages of three nodes each into a window that is counted in nodes."""

    def render(nodes: Sequence[NodeWithScore]) -> str:
        return "".join(texts(nodes))

    def count(text: str) -> int:
        return text.count("[")

    packed = pack(expand(hits("b5", "a6"), 1, fetch), render, count, count, budget)
    return texts(packed.nodes)


def test_neighbours_are_kept_where_the_window_has_room_the_best_hits_first() -> None:
    assert fit(6) == ["[a5][a6][a7]", "[b4][b5][b6]"]
    assert fit(5) == ["[a6]", "[b4][b5][b6]"]
    assert fit(3) == ["[a6]", "[b5]"]
    assert fit(1) == ["[b5]"]


def test_equal_letters_are_no_overlap() -> None:
    one = TextNode(text="The cats", start_char_idx=0, end_char_idx=8)
    other = TextNode(text="some dogs", start_char_idx=9, end_char_idx=18)
    assert _continuation(one, other) == "\nsome dogs"
    overlapping = TextNode(text="cats sleep", start_char_idx=4, end_char_idx=14)
    assert _continuation(one, overlapping) == " sleep"


def cut(name: str, first: int, last: int) -> None:
    for node in DOCUMENTS[name][first : last + 1]:
        node.metadata["parent"] = [first, last]


def test_pieces_are_handed_over_as_the_whole_that_they_were() -> None:
    cut("a", 2, 4)
    try:
        found = join_parents(hits("b5", "a4", "a7", "a2", "b1"), 3, fetch)
    finally:
        for node in DOCUMENTS["a"]:
            node.metadata.pop("parent", None)
    assert texts(found) == ["[b5]", "[a2][a3][a4]", "[a7]"]
    assert [node.node_id for node in found] == ["b5", "a4", "a7"]
    passage = found[1].node
    assert isinstance(passage, Passage)
    assert [hit.node_id for hit in passage.hits] == ["a4", "a2"]


def test_a_whole_that_is_not_there_any_more_stays_as_it_was_found() -> None:
    lost = hits("a4")
    lost[0].node.metadata["parent"] = [3, 5]
    try:
        assert texts(join_parents(lost, 5, lambda _: [])) == ["[a4]"]
    finally:
        lost[0].node.metadata.pop("parent")


def test_a_passage_has_the_boxes_of_all_its_pieces() -> None:
    for at, node in enumerate(DOCUMENTS["b"]):
        node.metadata["boxes"] = [[1, 0.0, at, 9.0, at + 1.0]]
    try:
        (passage,) = expand(hits("b4"), 1, fetch)
        assert [box[2] for box in passage.metadata["boxes"]] == [3, 4, 5]
        assert DOCUMENTS["b"][4].metadata["boxes"] == [[1, 0.0, 4, 9.0, 5.0]]
    finally:
        for node in DOCUMENTS["b"]:
            node.metadata.pop("boxes")
