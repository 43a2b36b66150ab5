"""``rag-app query`` and ``rag-app retrieve``: answers, and the contexts they would rest on."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from rag_app.cli.common import (
    common_options,
    echo,
    echo_text,
    filter_option,
    load,
    print_json,
    quick_start,
    say,
    wants_json,
)
from rag_app.questions import check_question

if TYPE_CHECKING:
    from rag_app.schema import LedgerEntry, SentenceSupport, Source

_MARKS = {
    "unsupported": "not in the passages",
    "number": "another number",
    "name": "another name",
    "negation": "negated on one side only",
}
_ORDERS = {
    "best_last": "best last",
    "best_first": "in this order",
    "canonical": "as they stand in the documents",
}


@click.command(
    "query",
    epilog="\b\nExamples:\n"
    '  rag-app query "Which index types does Milvus Lite build?"\n'
    "  echo 'What is an index?' | rag-app query - --json\n"
    '  rag-app query "What is an index?" --explain --set retrieval.similarity_top_k=10\n'
    """  rag-app query "What is new?" --filter 'type = "html" and modified >= "2026-01-01"'""",
)
@click.argument("words", nargs=-1, required=True, metavar="QUESTION...")
@click.option("--explain", is_flag=True, help="Print what was kept, trimmed and dropped, and why.")
@click.option("--strict", is_flag=True, help="Leave out sentences that no passage bears out.")
@filter_option
@common_options
def query_command(words: tuple[str, ...], explain: bool, strict: bool) -> None:
    """Answer QUESTION from the documents, with sources; "-" reads it from standard input.

    Quotes round it may be left out, unless it has signs that the shell reads, like ? and *.
    """
    # Before the imports: what is no question is told at once.
    question = _read(words)
    streams = not wants_json() and sys.stdout.isatty()
    with quick_start():
        config = load()
        from rag_app.answering.metadata import ledger_of, sources_of, support_of
        from rag_app.build import build_query_engine  # LlamaIndex, torch, Milvus: 8 s

        strict = strict or config.prompt.strict
        engine = build_query_engine(config, streaming=streams, strict=strict)
    response = engine.query(question)
    about: dict[str, Any] = response.metadata or {}
    if wants_json():
        print_json(
            {
                "question": question,
                "answer": str(response),
                "support": about["support"],
                "reasoning": about["reasoning"],
                "backend": config.llm.backend,
                "sources": about["sources"],
                "ledger": about["ledger"],
                "prompt_tokens": about["prompt_tokens"],
                "budget": about["budget"],
                "confidence": about["confidence"],
                "answered": about["answered"],
                "certain": about["certain"],
                "why": about["why"],
            }
        )
        return
    pieces = []
    for piece in getattr(response, "response_gen", None) or [str(response)]:
        echo_text(piece, nl=False)
        pieces.append(piece)
    echo("")
    if about["reasoning"]:
        lines = about["reasoning"].strip().split("\n")
        say("", "The model's reasoning, no part of its answer:", *(f"  {line}" for line in lines))
    answer = "".join(pieces)  # a stream that was read to its end has no text any more
    _print_unsupported(support_of(about), answer)
    if about["answered"]:
        print_sources(sources_of(about), answer)
        if not about["certain"]:
            sure = f"confidence {about['confidence']:.2f}"
            say(f"not certain ({sure}): look at the sources before you rely on it")
    else:
        print_nearest(sources_of(about))
    if explain:
        order = config.prompt.order if about["budget"] else "best_last"
        say("", f"Contexts, best first (the prompt has them {_ORDERS[order]}):")
        _print_ledger(ledger_of(about), about["prompt_tokens"], about["budget"])
        _print_why(about)


@click.command(
    "retrieve",
    epilog="\b\nExamples:\n"
    '  rag-app retrieve "What is an index?"\n'
    '  rag-app retrieve "What is an index?" --json --set retrieval.similarity_top_k=20\n'
    """  rag-app retrieve "What is an index?" --filter 'path contains "guide/" and not page > 9'""",
)
@click.argument("words", nargs=-1, required=True, metavar="QUESTION...")
@filter_option
@common_options
def retrieve_command(words: tuple[str, ...]) -> None:
    """Print the contexts nearest to QUESTION, best first, without asking an LLM."""
    question = _read(words)
    with quick_start():
        config = load()
        from llama_index.core.schema import MetadataMode

        from rag_app.build import build_retriever

        retriever = build_retriever(config)
    nodes = retriever.retrieve(question)
    if wants_json():
        fields = (
            "path",
            "url",
            "file_name",
            "title",
            "type",
            "headings",
            "page",
            "boxes",
            "copies",
        )
        print_json(
            [
                {
                    "id": node.node.node_id,
                    "score": node.score,
                    **{name: node.metadata.get(name) for name in fields},
                    "text": node.node.get_content(MetadataMode.NONE),
                }
                for node in nodes
            ]
        )
        return
    if not nodes:
        say("nothing relevant was found")
    for rank, node in enumerate(nodes, start=1):
        page = f", page {node.metadata['page']}" if node.metadata.get("page") else ""
        source = node.metadata.get("url") or node.metadata.get("path")
        echo(f"{rank}. {source}{page}  ({node.score:.3f})", bold=True)
        if headings := node.metadata.get("headings"):
            echo(f"   {headings}")
        if copies := node.metadata.get("copies"):
            echo(f"   near-copies: {', '.join(copies)}")
        echo_text(f"{node.node.get_content(MetadataMode.NONE)}\n")


def _read(words: Sequence[str]) -> str:
    if list(words) != ["-"]:
        return check_question(" ".join(words))
    # As surrogates, what is not UTF-8 gets as far as `check_question`, which says so.
    return check_question(sys.stdin.buffer.read().decode("utf-8", "surrogateescape"))


def print_sources(sources: Sequence["Source"], answer: str) -> None:
    """Print the passages that an answer cites, and apart from them those that were only read."""
    from rag_app.answering.citations import cited_numbers

    cited = set(cited_numbers(answer))
    for heading, wanted in (("Sources:", True), ("Also read:", False)):
        listed = [source for source in sources if (source.number in cited) is wanted]
        if listed:
            echo("", heading)
        for source in listed:
            echo(f"  [{source.number}] {_place(source)}")


def _place(source: "Source") -> str:
    page = f", page {source.page}" if source.page else ""
    return f"{source.path}{page} — {source.name}"


def _print_unsupported(support: Sequence["SentenceSupport"] | None, answer: str) -> None:
    """Say which sentences the passages that they cite do not bear out, and why."""
    marked = [each for each in support or () if not each.is_supported]
    if marked:
        say("", "Not borne out by the passages:")
    for each in marked:
        about = ", ".join(_MARKS[mark] for mark in each.marks)
        say(f"  {' '.join(answer[each.start : each.end].split())}  ({about})")


def print_nearest(sources: Sequence["Source"]) -> None:
    """Print the passages nearest to a question that they do not answer, best first."""
    if sources:
        echo("", "Nearest passages:")
    for source in sorted(sources, key=lambda each: -(each.score or 0.0)):
        echo(f"  {_place(source)}")


def _print_why(about: Mapping[str, Any]) -> None:
    if about["confidence"] is None:
        return
    say("", f"Confidence {about['confidence']:.2f} that the contexts hold the answer, by:")
    for reason in about["why"]:
        say(f"  {reason['contribution']:+6.2f}  {reason['value']:6.2f}  {reason['meaning']}")


def _print_ledger(ledger: Sequence["LedgerEntry"], prompt_tokens: int, budget: int) -> None:
    for entry in ledger:
        score = "-" if entry.score is None else f"{entry.score:.3f}"
        tokens = "" if entry.tokens is None else f"{entry.tokens:>5} tokens  "
        line = f"{entry.rank:>3}. {entry.fate:<8} {score}  {tokens}{entry.path}  {entry.reason}"
        say(f"  {line.rstrip()}")
    if budget:
        say(f"  the prompt has {prompt_tokens} of {budget} tokens")
