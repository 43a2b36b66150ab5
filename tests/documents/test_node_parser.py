"""Nodes: no longer than the embedder reads, the same ids each time, found again in the text."""

import pickle
import subprocess
import sys
from itertools import pairwise
from typing import Literal

import pytest
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document, MetadataMode, TextNode

from rag_app.config.sections import ChunkingSection
from rag_app.documents.file_types import PAGE_BREAK
from rag_app.documents.node_parser import NodeParser
from rag_app.embedding.base import Embedder
from rag_app.errors import ConfigError
from tests.conftest import words

PROSE = " ".join(
    f"Sentence number {number} says something about index {number % 7}." for number in range(200)
)
CODE = "\n".join(f"x{n} = call_{n}(a_{n}, b_{n})  # {n:032x}" for n in range(200))
UNBROKEN = "Donaudampfschifffahrt" * 200
HYPHENS = "-".join(f"part{n}" for n in range(400))
CHINESE = "向量数据库为大规模的非结构化数据提供检索。" * 100
EMOJI = "🙂🚀👩‍👩‍👧‍👦" * 300
URLS = " ".join(f"https://example.org/{n:064x}?q=%F0%9F%98%80" for n in range(40))


def split(
    text: str, size: int = 20, overlap: int = 0, unit: Literal["tokens", "characters"] = "tokens"
) -> list[TextNode]:
    section = ChunkingSection(size=size, overlap=overlap, unit=unit)
    document = Document(id_="d" * 32, text=text, metadata={"path": "a.md"})
    return NodeParser(section, words, reads=100).split(document)


@pytest.mark.parametrize("unit", ["tokens", "characters"])
@pytest.mark.parametrize(
    "text",
    [PROSE, CODE, UNBROKEN, HYPHENS, CHINESE, EMOJI, URLS],
    ids=["prose", "code", "unbroken", "hyphens", "Chinese", "emoji", "URLs"],
)
def test_no_node_is_longer_than_the_embedder_reads(
    unit: Literal["tokens", "characters"], text: str, embedder: Embedder
) -> None:
    size = embedder.content_tokens if unit == "tokens" else 4 * embedder.content_tokens
    parser = NodeParser(
        ChunkingSection(unit=unit, size=size, overlap=25),
        embedder.tokenize,
        embedder.content_tokens,
    )
    nodes = parser.split(Document(text=text, metadata={"path": "a.md"}))
    for node in nodes:
        read = node.get_content(MetadataMode.EMBED)
        assert len(embedder.tokenize(read)) <= embedder.content_tokens
        if unit == "characters":
            assert len(read) <= size


@pytest.mark.parametrize("text", ["A" * 100_000, "🙂" * 50_000], ids=["letters", "emoji"])
def test_no_node_is_longer_than_a_row_holds(text: str, embedder: Embedder) -> None:
    """MiniLM's tokenizer takes a word without end for one token, "unknown"."""
    parser = NodeParser(ChunkingSection(), embedder.tokenize, embedder.content_tokens)
    nodes = parser.split(Document(text=text))
    assert max(len(node.text.encode()) for node in nodes) < 65_535
    assert "".join(node.text for node in nodes) == text


@pytest.mark.parametrize("text", [PROSE, CODE, CHINESE], ids=["prose", "code", "Chinese"])
def test_nothing_of_the_text_is_lost(text: str, embedder: Embedder) -> None:
    parser = NodeParser(
        ChunkingSection(size=50, overlap=0), embedder.tokenize, embedder.content_tokens
    )
    joined = "".join(node.text for node in parser.split(Document(text=text)))
    assert "".join(joined.split()) == "".join(text.split())


def test_a_pickled_parser_splits_as_before(embedder: Embedder) -> None:
    """LlamaIndex's pipeline hands its transformations to worker processes."""
    section = ChunkingSection(size=50, overlap=5)
    parser = NodeParser(
        section, embedder.tokenize, embedder.content_tokens, include_prev_next_rel=False
    )
    document = Document(text=PROSE, id_="d")
    again = pickle.loads(pickle.dumps(parser))
    assert again([document]) == parser([document])


def test_size_is_counted_in_characters() -> None:
    nodes = split(PROSE, size=120, unit="characters")
    assert max(len(node.text) for node in nodes) <= 120
    assert sum(len(node.text) > 60 for node in nodes) > len(nodes) / 2


def test_size_is_counted_in_tokens() -> None:
    lengths = [len(words(node.text)) for node in split(PROSE, size=32)]
    assert max(lengths) <= 32
    assert min(lengths[:-1]) > 20


def test_short_text_is_one_node() -> None:
    (node,) = split("Short.")
    assert node.text == "Short."
    assert node.metadata["node_count"] == 1


def test_overlap_repeats_whole_sentences() -> None:
    nodes = split(PROSE, size=32, overlap=16)
    for before, after in pairwise(nodes):
        first_sentence = after.text.split(". ")[0]
        assert first_sentence in before.text
    apart = split(PROSE, size=32, overlap=0)
    assert len(apart) < len(nodes)


@pytest.mark.parametrize("overlap", [0, 16])
@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "Same.\n\n" * 50,
        CODE,
        "  \n indented\n\n\n  more  \n" * 20,
        PAGE_BREAK.join(["One page.", " Two. ", f"Three\n\n{PROSE}"]),
    ],
    ids=["prose", "repeated", "code", "white space", "pages"],
)
def test_offsets_point_into_the_text(text: str, overlap: int) -> None:
    for node in split(text, size=32, overlap=overlap):
        start, end = node.start_char_idx, node.end_char_idx
        assert start is not None
        assert end is not None
        assert text[start:end].replace(PAGE_BREAK, "\n") == node.text


def test_offsets_go_forward() -> None:
    starts = [node.start_char_idx or 0 for node in split("Same.\n\n" * 50)]
    assert starts == sorted(set(starts))


def test_ids_are_the_same_each_time_and_all_different() -> None:
    ids = [node.node_id for node in split(PROSE)]
    assert ids == [node.node_id for node in split(PROSE)]
    assert len(set(ids)) == len(ids)
    assert all(len(id_) == 32 and int(id_, 16) >= 0 for id_ in ids)


def test_repeated_text_has_ids_of_its_own() -> None:
    nodes = split("The very same paragraph, again and again and again.\n\n" * 30, size=16)
    assert len({node.text for node in nodes}) < len(nodes)
    assert len({node.node_id for node in nodes}) == len(nodes)


def test_ids_of_unchanged_text_survive_a_change_elsewhere() -> None:
    paragraphs = [
        f"Paragraph {n} is long enough to fill one node with its words {n}." for n in range(9)
    ]
    before = split("\n\n".join(paragraphs), size=16)
    paragraphs[4] = "This one is another paragraph that has other words than it had before."
    after = split("\n\n".join(paragraphs), size=16)
    kept = {node.node_id for node in before} & {node.node_id for node in after}
    assert len(kept) == 8


def test_ids_differ_between_documents() -> None:
    parser = NodeParser(ChunkingSection(size=20, overlap=0), words, reads=100)
    one, two = (parser.split(Document(id_=id_, text="Same."))[0] for id_ in ("1", "2"))
    assert one.node_id != two.node_id


def test_pages_are_counted_from_one() -> None:
    text = PAGE_BREAK.join(
        f"Page {n} has its own words, which fill about one node each." for n in (1, 2, 3)
    )
    nodes = split(text, size=16)
    assert [(node.metadata["page"], node.text[:6]) for node in nodes] == [
        (1, "Page 1"),
        (2, "Page 2"),
        (3, "Page 3"),
    ]
    assert all(PAGE_BREAK not in node.text for node in nodes)


def test_empty_pages_are_counted() -> None:
    nodes = split(f"{PAGE_BREAK}{PAGE_BREAK}Third page.", size=16)
    assert [node.metadata["page"] for node in nodes] == [3]


def test_documents_without_pages_have_no_page() -> None:
    assert "page" not in split("Text.")[0].metadata


def test_metadata_is_the_documents_and_hidden_from_the_models() -> None:
    (node,) = split("Text.")
    assert node.metadata == {"path": "a.md", "node_count": 1, "position": 0}
    assert node.ref_doc_id == "d" * 32
    assert node.get_content(MetadataMode.EMBED) == node.get_content(MetadataMode.LLM) == "Text."


def test_nodes_longer_than_the_embedder_reads_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"chunking\.size is 101 tokens.*reads 100") as caught:
        NodeParser(ChunkingSection(size=101), words, reads=100)
    assert "at most 100" in caught.value.remedy


def test_a_long_text_is_not_tokenized_whole_to_learn_that_it_is_long() -> None:
    asked: list[int] = []

    def tokenize(text: str) -> list[str]:
        asked.append(len(text))
        return words(text)

    section = ChunkingSection(size=20, overlap=3)
    for text in (PROSE * 3, CODE * 3, "word " * 5000):
        nodes = NodeParser(section, tokenize, reads=100).split(Document(id_="d" * 32, text=text))
        splitter = SentenceSplitter(
            chunk_size=20, chunk_overlap=3, tokenizer=words, paragraph_separator="\n\n"
        )
        assert [node.text for node in nodes][:20] == [
            piece.strip() for piece in splitter.split_text(text) if piece.strip()
        ][:20]
    asked.clear()
    NodeParser(section, tokenize, reads=100).split(Document(id_="d" * 32, text=PROSE * 3))
    assert max(asked) < len(PROSE)


def test_splitting_imports_neither_scipys_statistics_nor_scikit_learn() -> None:
    code = (
        "import sys\n"
        "from llama_index.core.schema import Document\n"
        "from rag_app.config.sections import ChunkingSection\n"
        "from rag_app.documents.node_parser import NodeParser\n"
        "parser = NodeParser(ChunkingSection(size=16, overlap=0), str.split, 100)\n"
        "print(len(parser.split(Document(text='One is here. Two is there. ' * 9))))\n"
        "print({'scipy.stats', 'sklearn'} & set(sys.modules))\n"
        "import scipy.stats, sklearn\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["4", "set()"]
