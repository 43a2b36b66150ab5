"""Nodes follow the document: sections, tables, code and lists; each knows its headings and span."""

import pytest
from llama_index.core.schema import Document, MetadataMode, TextNode

from rag_app.config.sections import ChunkingSection
from rag_app.documents.blocks import Outline, header_of
from rag_app.documents.node_parser import NodeParser
from tests.conftest import words

WORDS = "Words that fill this section, so that it takes a node for itself and no other. "
TABLE = "| name | type |\n| --- | --- |\n" + "\n".join(f"| key {n} | kind {n} |" for n in range(30))
CODE = "```python\n" + "\n".join(f"first_{n} = call({n})" for n in range(6)) + "\n```"
ITEMS = "\n".join(
    f"- Item {n} says what it says in words, and\n  goes on with {n}." for n in range(9)
)
GUIDE = f"""Before any heading.

# Index

{WORDS * 2}

## HNSW

{WORDS}

### Parameters

{TABLE}

## Example {{#example}}

{WORDS}

{CODE}

Lists
-----

{ITEMS}

# [Small](other.md) `things`

A line.

## One

Of one.

## Two

Of two.
"""


def split(text: str, kind: str = "markdown", size: int = 40) -> list[TextNode]:
    section = ChunkingSection(size=size, overlap=0)
    document = Document(id_="d" * 32, text=text, metadata={"type": kind})
    return NodeParser(section, words, reads=100).split(document)


@pytest.fixture(scope="module")
def nodes() -> list[TextNode]:
    return split(GUIDE)


def path_of(node: TextNode) -> str:
    return str(node.metadata.get("headings", ""))


def below(nodes: list[TextNode], path: str) -> list[str]:
    return [node.text for node in nodes if path_of(node) == path]


def test_each_node_knows_the_headings_above_it(nodes: list[TextNode]) -> None:
    assert list(dict.fromkeys(map(path_of, nodes))) == [
        "",
        "Index",
        "Index › HNSW",
        "Index › HNSW › Parameters",
        "Index › Example",
        "Index › Lists",
        "Small things",
    ]
    assert "headings" not in nodes[0].metadata


def test_a_node_is_of_one_section_or_of_all_below_a_heading(nodes: list[TextNode]) -> None:
    assert below(nodes, "") == ["Before any heading."]
    assert below(nodes, "Index › HNSW") == [f"## HNSW\n\n{WORDS.strip()}"]
    (together,) = below(nodes, "Small things")
    assert together.startswith("# [Small]")
    assert together.endswith("## Two\n\nOf two.")


def test_a_heading_is_no_node_of_its_own() -> None:
    (first, *_) = split(f"# Alone\n\n## Below\n\n{WORDS * 3}")
    assert first.text.startswith("# Alone\n\n## Below\n\nWords")
    assert path_of(first) == "Alone › Below"


def test_code_and_list_items_are_not_cut(nodes: list[TextNode]) -> None:
    assert sum(CODE in node.text for node in nodes) == 1
    items = below(nodes, "Index › Lists")
    assert len(items) > 2
    for number in range(9):
        whole = f"- Item {number} says what it says in words, and\n  goes on with {number}."
        assert sum(whole in text for text in items) == 1


def test_a_long_table_repeats_its_header_and_cuts_no_row(nodes: list[TextNode]) -> None:
    parts = below(nodes, "Index › HNSW › Parameters")
    assert len(parts) > 2
    header = "| name | type |\n| --- | --- |\n"
    assert all(header in text for text in parts)
    rows = [line for text in parts for line in text.splitlines() if "kind" in line]
    assert rows == [f"| key {n} | kind {n} |" for n in range(30)]


def test_the_headings_are_embedded_with_the_text_and_shown_to_no_llm(
    nodes: list[TextNode],
) -> None:
    (node,) = (node for node in nodes if path_of(node) == "Index › HNSW")
    read = node.get_content(MetadataMode.EMBED)
    assert read == f"Index › HNSW\n\n{node.text}"
    assert node.get_content(MetadataMode.LLM) == node.text


def test_headings_are_not_embedded_where_they_are_not_asked_for_or_have_no_room() -> None:
    deep = f"# {'Long heading ' * 8}\n\n{WORDS * 9}"
    document = Document(text=deep, metadata={"type": "markdown"})
    for section, reads in (
        (ChunkingSection(size=40, overlap=0, contextualize="none"), 100),
        (ChunkingSection(size=40, overlap=0), 42),
    ):
        nodes = NodeParser(section, words, reads=reads).split(document)
        assert all(node.metadata["headings"] for node in nodes)
        read = [node.get_content(MetadataMode.EMBED) for node in nodes]
        assert max(len(words(text)) for text in read) <= reads
        assert nodes[1].text in read


@pytest.mark.parametrize("kind", ["markdown", "text", "code"])
@pytest.mark.parametrize("text", [GUIDE, TABLE, CODE * 9, WORDS * 30, "\f".join([GUIDE, TABLE])])
def test_the_span_in_the_source_holds_the_passage(kind: str, text: str) -> None:
    for node in split(text, kind):
        start, end = node.start_char_idx, node.end_char_idx
        assert start is not None
        assert end is not None
        passage = text[start:end].replace("\f", "\n")
        header = node.text.removesuffix(passage)
        assert node.text == header + passage
        assert not header or header == header_of(TABLE)
        assert len(words(node.text)) <= 40


@pytest.mark.parametrize("text", [GUIDE, TABLE, CODE * 9])
def test_nothing_of_a_structured_text_is_lost(text: str) -> None:
    covered = set()
    for node in split(text):
        covered |= set(range(node.start_char_idx or 0, node.end_char_idx or 0))
    assert not "".join(text[at] for at in range(len(text)) if at not in covered).strip()


def test_comments_of_code_and_of_plain_text_are_no_headings() -> None:
    source = "# A comment.\nx = 1\n\n# Another.\ny = 2\n"
    for kind in ("code", "text"):
        assert not any(path_of(node) for node in split(source, kind))


def test_functions_that_fit_are_not_cut() -> None:
    functions = [
        f"def function_{n}(value):\n    # {n}\n    return value + {n} * len(value)"
        for n in range(20)
    ]
    nodes = split("\n\n\n".join(functions), "code")
    assert all(sum(function in node.text for node in nodes) == 1 for function in functions)


def test_paragraphs_of_plain_text_that_are_cut_are_not_mixed() -> None:
    long = [f"One sentence of paragraph{n} has these words. " * 8 for n in range(4)]
    nodes = split("\n\n".join(long), "text")
    assert len(nodes) == 8
    assert all(sum(f"paragraph{n} " in node.text for n in range(4)) == 1 for node in nodes)


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("# A\n\n```\n# no\n```\n\n~~~\n# no\n", [("A",)]),
        ("A\n===\n\nB\n---\n\nText\nof two\n---\n", [("A",), ("A", "B")]),
        ("### C\n\n# A\n\n### D\n", [("C",), ("A",), ("A", "D")]),
        ("#no heading\n\n#\n\n# A ##\n", [(), ("A",)]),
        (f"# {'long ' * 90}\n", [(f"{'long ' * 23}long…",)]),
        ("# a › b **c**\n", [("a > b c",)]),
    ],
)
def test_headings_are_told_as_markdown_tells_them(text: str, paths: list[tuple[str, ...]]) -> None:
    found = [section.path for section in Outline().sections(text)]
    assert list(dict.fromkeys(found)) == paths


def test_headings_go_on_in_the_next_part_of_a_text() -> None:
    outline = Outline()
    outline.sections("# A\n\n## B\n\nText.\n")
    assert [section.path for section in outline.sections("More.\n\n# C\n")] == [("A", "B"), ("C",)]


def letters(text: str) -> list[str]:
    """A tokenizer that knows no word of a language."""
    return list("".join(text.split()))


def split_by_letters(text: str, kind: str) -> list[TextNode]:
    document = Document(text=text, metadata={"type": kind})
    return NodeParser(ChunkingSection(size=60, overlap=0), letters, reads=100).split(document)


def test_pieces_of_one_paragraph_know_each_other() -> None:
    paragraphs = [f"A sentence about subject{n} has its words. " * 5 for n in range(2)]
    nodes = split_by_letters("\n\n".join(paragraphs), "text")
    parents = [node.metadata["parent"] for node in nodes]
    assert parents[0][0] == 0
    assert parents[-1][1] == len(nodes) - 1
    assert len({tuple(parent) for parent in parents}) == 2
    for first, last in parents:
        together = {"subject0" in node.text for node in nodes[first : last + 1]}
        assert len(together) == 1


def test_pieces_of_one_section_know_each_other_and_those_of_others_do_not() -> None:
    lines = [f"Some words that are in line {n} of it, and of no other one." for n in range(3)]
    text = "# A\n\n" + "\n\n".join(lines) + "\n\n# B\n\nShort."
    nodes = split_by_letters(text, "markdown")
    assert [path_of(node) for node in nodes] == ["A", "A", "A", "B"]
    assert [node.metadata.get("parent") for node in nodes] == [[0, 2], [0, 2], [0, 2], None]
    assert not any("parent" in node.metadata for node in split_by_letters(text, "text"))


def test_no_parent_is_longer_than_a_node_of_english() -> None:
    for node in split_by_letters(WORDS * 20, "text"):
        if parent := node.metadata.get("parent"):
            assert parent[1] - parent[0] < 60 * 4.5 / 40
