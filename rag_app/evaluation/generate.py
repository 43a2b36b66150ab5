"""Questions out of the documents themselves: written by the LLM, kept if their node answers them.

LlamaIndex's `DatasetGenerator` writes a question about a node and answers it from that node alone.
The answer it is asked for is a quotation: if that stands in the node word for word, the question is
answerable from there, and where the answer stands is known.
"""

import asyncio
import random
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from llama_index.core.evaluation import DatasetGenerator
from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import TextNode

from rag_app.answering.fencing import Neutralizer
from rag_app.callbacks import own_callbacks
from rag_app.evaluation.relevance import fold
from rag_app.llms import PackableLLM
from rag_app.milvus.collection import CollectionStore
from rag_app.schema import Record

SHORTEST_NODE = 200
"""Characters: a shorter node is a heading or a fragment."""
TRIES = 4
"""Nodes asked for each question that is wanted, at most."""
SAME = 0.8
"""Share of words in common (Jaccard) from which two questions are duplicates."""
LONGEST_ANSWER = 200
"""Characters: a longer quotation is a passage, not an answer."""

_ASK = (
    "Write one question that a reader of these documents could ask, and that the context above "
    "answers. It must make sense without the context: name what it is about, do not say "
    '"the text" or "the context". Write the question alone, on one line.'
)
_QUOTE = PromptTemplate(
    "Context information is below.\n---------------------\n{context_str}\n---------------------\n"
    "Answer the question with the shortest quotation from the context that answers it, copied "
    "word for word and without quotation marks. If the context does not answer it, write NONE.\n"
    "Question: {query_str}\nQuotation: "
)
_AROUND = "\"'`“”‘’«».:*- \n\t"  # noqa: RUF001 - what models put around a quotation
_QUESTION_MARKS = ("?", "\uff1f", "\u061f")
_LEANS = re.compile(
    r"\b(?:the|this|that) (?:given |above |provided )?(?:text|context|passage|document|excerpt)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Generated(Record):
    """A question in the format that `rag-app eval` reads."""

    id: str
    question: str
    answers: tuple[str, ...]
    file: str
    paragraph: str


@dataclass
class Tally(Record):
    """What became of the nodes that were asked about.

    Attributes
    ----------
    asked
        Nodes.
    no_question
        Replies without a question that makes sense alone.
    unanswerable
        Questions whose answer is no quotation from their node.
    duplicates
        Questions that are there already, in other words at most.
    """

    asked: int = 0
    kept: int = 0
    no_question: int = 0
    unanswerable: int = 0
    duplicates: int = 0


def generate(
    store: CollectionStore,
    llm: PackableLLM,
    number: int,
    *,
    seed: int = 0,
    together: int = 8,
    tally: Tally | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[Generated]:
    """Write questions about nodes of all documents in turn, until there are enough of them.

    Parameters
    ----------
    number
        Questions wanted; fewer come if `TRIES` times as many nodes give no more.
    seed
        Of the choice of nodes.
    together
        Nodes asked about at a time.
    tally
        Counted up meanwhile.

    Raises
    ------
    LLMError
        If the LLM fails; what was yielded before stays.
    """
    tally = tally if tally is not None else Tally()
    taken: list[frozenset[str]] = []
    nodes = _spread(store, random.Random(seed))  # noqa: S311 - no secret
    while tally.kept < number and tally.asked < TRIES * number:
        room = min(together, TRIES * number - tally.asked)
        some = list(islice(nodes, room))
        if not some:
            return
        tally.asked += len(some)
        for node, pairs in zip(some, _ask(some, llm), strict=True):
            made = _check(node, pairs, taken, tally)
            # What is too many is checked as well, so that the tally is right.
            if made is None or tally.kept == number:
                continue
            tally.kept += 1
            progress(tally.kept, number)
            yield made


def _spread(store: CollectionStore, chance: random.Random) -> Iterator[TextNode]:
    """Yield a node of each document in turn, documents and nodes in random order."""
    documents = list(store.documents().values())
    chance.shuffle(documents)
    left = {document.id: document.nodes for document in documents}
    picked: dict[str, set[str]] = {document.id: set() for document in documents}
    while left:
        for id_ in list(left):
            # Read again for each round: a corpus is larger than memory, a document is not.
            long = [
                node
                for node in store.nodes_of(id_)
                if node.node_id not in picked[id_] and len(node.text) >= SHORTEST_NODE
            ]
            if not long:
                del left[id_]
                continue
            node = chance.choice(long)
            picked[id_].add(node.node_id)
            yield node


def _ask(nodes: Sequence[TextNode], llm: PackableLLM) -> list[list[tuple[str, str]]]:
    """Return questions and quotations for each node."""

    async def ask_all() -> list[list[tuple[str, str]]]:
        return await asyncio.gather(*(_ask_one(node, llm) for node in nodes))

    with warnings.catch_warnings(record=True) as told:
        found = asyncio.run(ask_all())
    for warning in told:
        # Deprecated in favour of a class that llama-index-core does not have any more; its
        # decorator overrides filters.
        if not issubclass(warning.category, DeprecationWarning):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return found


async def _ask_one(node: TextNode, llm: PackableLLM) -> list[tuple[str, str]]:
    neutralize = Neutralizer(llm.special_tokens())  # documents are of unknown origin
    generator: Any = DatasetGenerator(
        [TextNode(text=neutralize(node.text))],
        llm=llm,
        callback_manager=own_callbacks(),
        num_questions_per_chunk=1,
        text_qa_template=_QUOTE,
        question_gen_query=_ASK,
    )
    dataset = await generator.agenerate_dataset_from_nodes()
    return list(dataset.qr_pairs)


def _check(
    node: TextNode, pairs: Sequence[tuple[str, str]], taken: list[frozenset[str]], tally: Tally
) -> Generated | None:
    """Return the first question that stands alone, is answered by its node, and is new."""
    asked = [(question, quotation) for question, quotation in pairs if _stands_alone(question)]
    if not asked:
        tally.no_question += 1
        return None
    question, quotation = asked[0]
    answer = _quoted(node.text, quotation)
    if answer is None:
        tally.unanswerable += 1
        return None
    said = frozenset(re.findall(r"\w+", fold(question)))
    if any(len(said & other) >= SAME * len(said | other) for other in taken):
        tally.duplicates += 1
        return None
    taken.append(said)
    return Generated(
        id=f"generated-{len(taken)}",
        question=question.strip(),
        answers=(answer,),
        file=str(node.metadata.get("path", "")),
        paragraph=node.text,
    )


def _stands_alone(question: str) -> bool:
    text = question.strip()
    return text.endswith(_QUESTION_MARKS) and len(text.split()) > 2 and not _LEANS.search(text)


def _quoted(text: str, quotation: str) -> str | None:
    """Return the quotation if it stands in the text and is no longer than an answer."""
    answer = quotation.strip(_AROUND)
    if not 0 < len(answer) <= LONGEST_ANSWER or fold(answer) not in fold(text):
        return None
    return None if answer == "NONE" else answer
