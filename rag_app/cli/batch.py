"""``rag-app batch``: a file of questions into a file of answers."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from rag_app.cli.common import (
    common_options,
    filter_option,
    load,
    print_json,
    progress_bar,
    say,
    wants_json,
)
from rag_app.errors import InputError, UserError


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
@filter_option
@common_options
def batch_command(questions: str, output: str) -> None:
    """Answer all QUESTIONS: a question a line, or JSON Lines of {"question": …, "id": …}.

    "-" reads them from standard input. Each answer has its question's line number, its sources and
    its token counts. If FILE is there, the questions that it answers are not asked again.
    """
    from rag_app.answering.batch import (  # LlamaIndex: 1.3 s
        BadLine,
        Question,
        answered_before,
        read_questions,
        still_to_ask,
    )

    with _opened(questions) as lines:
        read = list(read_questions(lines, questions))
    bad = [line for line in read if isinstance(line, BadLine)]
    asked = [line for line in read if isinstance(line, Question)]
    to_file = output != "-"
    todo = still_to_ask(asked, answered_before(Path(output))) if to_file else asked
    for line in bad:
        say(f"line {line.line}: {line.reason}")
    config = load()
    from rag_app.app import build_batch  # torch, Milvus: 8 s

    done = 0
    batch = build_batch(config)
    with _written(output) as file, progress_bar("answering") as progress:
        for result in batch.run(todo):
            done += 1
            progress(done, len(todo))
            if isinstance(result, BadLine):
                say(f"line {result.line}: {result.reason}")
                bad.append(result)
                continue
            file.write(json.dumps(result.to_dict(), ensure_ascii=False) + "\n")
            file.flush()
    summary = batch.summary.to_dict()
    summary["done_before"] = len(asked) - len(todo)
    summary["bad_lines"] = [line.to_dict() for line in sorted(bad, key=lambda line: line.line)]
    if wants_json() and to_file:
        print_json(summary)
    say(_told(summary))
    if bad:
        raise UserError(
            f"{len(bad)} of {len(read)} lines could not be answered: "
            + ", ".join(str(line.line) for line in bad[:20]),
            "mend these lines and run the same again: the answers that are there are kept",
        )


def _told(summary: dict[str, Any]) -> str:
    told = (
        "{answered} answers in {seconds:.1f} s: {questions_per_second:.2f} questions/s, "
        "{tokens_per_second:.0f} tokens/s ({prompt_tokens} of prompts, {completion_tokens} of "
        "answers)"
    ).format(**summary)
    if summary["done_before"]:
        told += f"; {summary['done_before']} were answered before"
    rate = summary["cache_hit_rate"]
    return told + (f"; prefix cache hit rate {rate:.1%}" if isinstance(rate, float) else "")


@contextmanager
def _opened(name: str) -> Iterator[IO[str]]:
    if name == "-":
        yield sys.stdin
        return
    try:
        with Path(name).open(encoding="utf-8") as file:
            yield file
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name} cannot be read: {error}", "name a UTF-8 file") from error


@contextmanager
def _written(name: str) -> Iterator[IO[str]]:
    if name == "-":
        yield sys.stdout
        return
    try:
        file = Path(name).open("a", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InputError(f"{name} cannot be written: {error}", "name another file") from error
    with file:
        yield file
