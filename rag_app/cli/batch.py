"""``rag-app batch``: a file of questions into a file of answers."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from rag_app.cli.common import (
    common_options,
    filter_option,
    is_same_file,
    load,
    print_json,
    progress_bar,
    say,
    wants_json,
)
from rag_app.errors import InputError, LLMError, UserError

if TYPE_CHECKING:
    from rag_app.answering.batch import Batch
    from rag_app.questions import BadLine, Question


@click.command(
    "batch",
    epilog="\b\nExamples:\n"
    "  rag-app batch questions.jsonl -o answers.jsonl\n"
    "  rag-app batch questions.txt -o answers.jsonl --json\n"
    """  rag-app batch questions.txt -o answers.jsonl --filter 'type in ["pdf", "docx"]'\n"""
    "  echo 'What is an index?' | rag-app batch -",
)
@click.argument("questions")
@click.option(
    "-o",
    "--output",
    default="-",
    metavar="FILE",
    help="Answers, a JSON object a line, as they are finished; default: standard output.",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="How often later runs ask a question again that failed.",
)
@filter_option
@common_options
def batch_command(questions: str, output: str, retries: int) -> None:
    """Answer all QUESTIONS: a question a line, or JSON Lines of {"question": …, "id": …}.

    "-" reads them from standard input. Each answer has its question's line number, its sources and
    its token counts. If FILE is there, the questions that it answers are not asked again.

    A question that the language model fails on becomes a line with "error", and the rest goes on.
    The same command asks it again, as often as --retries says.
    """
    # Answers would be appended to the questions. Told before the imports, which take seconds.
    if is_same_file(questions, output):
        raise InputError(
            f"{'standard output' if output == '-' else output} is the file of the questions",
            "name another one after -o",
        )
    from rag_app.answering.answers_file import Kept, read_answers, still_to_ask  # LlamaIndex: 1.3 s
    from rag_app.questions import BadLine, Question, read_questions

    with _opened(questions) as lines:
        read = list(read_questions(lines, questions))
    bad = [line for line in read if isinstance(line, BadLine)]
    asked = [line for line in read if isinstance(line, Question)]
    kept = read_answers(Path(output)) if output != "-" else Kept()
    todo, given_up = still_to_ask(asked, kept, retries)
    for line in bad:
        say(f"line {line.line}: {line.reason}")
    config = load()
    from rag_app.build import build_batch  # torch, Milvus: 8 s

    batch = build_batch(config)
    with _written(output) as file:
        try:
            bad += _ask(batch, todo, file)
        except KeyboardInterrupt:
            if output != "-":
                say(f"what is answered is in {output}; the same command goes on from there")
            raise
    summary = batch.summary.to_dict()
    summary["done_before"] = len(asked) - len(todo) - len(given_up)
    summary["given_up"] = [question.line for question in given_up]
    summary["bad_lines"] = [line.to_dict() for line in sorted(bad, key=lambda line: line.line)]
    if wants_json() and output != "-":
        print_json(summary)
    say(_told(summary))
    if given_up:
        say(f"failed too often to be asked again (see --retries): lines {_lines(given_up)}")
    if summary["failed"] or given_up:
        raise LLMError(
            f"{summary['failed'] + len(given_up)} of {len(asked)} questions have no answer: the "
            "language model fails on them",
            'read their "error"; run the same again to ask them again',
        )
    if bad:
        raise UserError(
            f"{len(bad)} of {len(read)} lines could not be answered: {_lines(bad)}",
            "mend these lines and run the same again: the answers that are there are kept",
        )


def _ask(batch: "Batch", todo: Sequence["Question"], file: IO[str]) -> list["BadLine"]:
    """Write answers and failures as they come, and return the lines that cannot be asked."""
    from rag_app.answering.batch import Failure
    from rag_app.questions import BadLine

    bad = []
    # Closed at once when interrupted: calls under way would keep the process.
    with closing(batch.run(todo)) as results, progress_bar("answering") as progress:
        for done, result in enumerate(results, start=1):
            progress(done, len(todo))
            if isinstance(result, BadLine):
                say(f"line {result.line}: {result.reason}")
                bad.append(result)
                continue
            if isinstance(result, Failure):
                say(f"line {result.line}: {result.error}")
            file.write(json.dumps(result.to_dict(), ensure_ascii=False) + "\n")
            # Each at once: whatever ends the run, what is answered need not be asked again.
            file.flush()
    return bad


def _lines(some: "Sequence[BadLine | Question]") -> str:
    """Name the first few lines."""
    named = ", ".join(str(each.line) for each in some[:20])
    return named if len(some) <= 20 else f"{named}, …"


def _told(summary: dict[str, Any]) -> str:
    told = (
        "{answered} answers in {seconds:.1f} s: {questions_per_second:.2f} questions/s, "
        "{tokens_per_second:.0f} tokens/s ({prompt_tokens} of prompts, {completion_tokens} of "
        "answers)"
    ).format(**summary)
    if summary["failed"]:
        told += f"; {summary['failed']} failed"
    if summary["done_before"]:
        told += f"; {summary['done_before']} were answered before"
    rate = summary["cache_hit_rate"]
    return told + (f"; prefix cache hit rate {rate:.1%}" if isinstance(rate, float) else "")


@contextmanager
def _opened(name: str) -> Iterator[Iterable[str]]:
    """Yield the lines; what is no UTF-8 in one is that line's own error."""
    if name == "-":
        yield (line.decode("utf-8", "surrogateescape") for line in sys.stdin.buffer)
        return
    try:
        with Path(name).open(encoding="utf-8", errors="surrogateescape") as file:
            yield file
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error}", "name a UTF-8 file") from error


@contextmanager
def _written(name: str) -> Iterator[IO[str]]:
    if name == "-":
        yield sys.stdout
        return
    try:
        # Appended: what earlier runs answered stays.
        file = Path(name).open("a", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InputError(f"{name} cannot be written: {error}", "name another file") from error
    with file:
        yield file
