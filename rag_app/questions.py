"""What can be asked: one question, or a file of them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_app.errors import InputError
from rag_app.schema import Record

_JSON_SUFFIXES = {".jsonl", ".ndjson", ".json"}


@dataclass(frozen=True)
class Question:
    """A line of the input.

    Attributes
    ----------
    line
        Its number, from 1.
    id
        As the input gives it, or None.
    attempt
        How often it is asked, this time included.
    """

    line: int
    id: str | None
    text: str
    attempt: int = 1


@dataclass(frozen=True)
class BadLine(Record):
    """A line that cannot be answered, and why."""

    line: int
    reason: str


def check_question(text: str) -> str:
    """Return a question without the white space around it.

    Raises
    ------
    InputError
        If it is empty, or no valid text: Python reads bytes of an argument or of a file that are no
        UTF-8 as surrogates, which no model and no database takes.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the question is not UTF-8 from character {error.start + 1} on: {text[:80]!r}",
            "write it in UTF-8 (iconv -f latin1 -t utf-8 turns a file into it)",
        ) from None
    if not text.strip():
        raise InputError("the question is empty", 'ask something: rag-app query "What is HNSW?"')
    return text.strip()


def read_questions(lines: Iterable[str], name: str) -> Iterator[Question | BadLine]:
    """Read JSON Lines (``{"question": …, "id": …}`` or a text), or a question a line.

    Parameters
    ----------
    name
        Of the file. If it does not end in ".jsonl" or the like, the first line that is not empty
        decides: JSON Lines begin with "{".
    """
    is_json = True if Path(name).suffix in _JSON_SUFFIXES else None
    for number, line in enumerate(lines, start=1):
        text = line.strip().removeprefix("\ufeff")  # a byte order mark
        if not text:
            continue
        if is_json is None:
            is_json = text.startswith("{")
        try:
            question = _from_json(number, text) if is_json else Question(number, None, text)
            check_question(question.text)
        except ValueError as error:
            yield BadLine(number, str(error))
        except InputError as error:
            yield BadLine(number, error.message)
        else:
            yield question


def _from_json(number: int, text: str) -> Question:
    try:
        found: Any = json.loads(text)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if isinstance(found, str):
        found = {"question": found}
    question = found.get("question") if isinstance(found, dict) else None
    if not isinstance(question, str) or not question.strip():
        raise ValueError('there is no text under "question"')
    id_ = None if found.get("id") is None else str(found["id"])
    try:
        # The output repeats it, and is UTF-8. JSON can spell halves of characters ("\ud83d").
        (id_ or "").encode()
    except UnicodeEncodeError:
        raise ValueError(f'"id" is {id_!r}, which is no valid text') from None
    return Question(number, id_, question.strip())


_PHRASES = (
    "hi, hello, hey, hello there, hi there, hey there, good morning, good afternoon, good evening, "
    "good night, how are you, thanks, thanks a lot, many thanks, thank you, thank you very much, "
    "thank you so much, thx, cheers, bye, goodbye, see you, ok, okay, great, hallo, guten morgen, "
    "guten tag, guten abend, danke, danke schön, danke sehr, vielen dank, tschüss, servus, moin, "
    "bonjour, salut, merci, merci beaucoup, hola, buenos días, gracias, ciao, grazie, olá, "
    "obrigado, obrigada, 안녕, 안녕하세요, 감사합니다, 고마워, 고마워요, 你好, 您好, 谢谢, 謝謝, "
    "再见, こんにちは, ありがとう, ありがとうございます, привет, здравствуйте, спасибо"
)
_SMALL_TALK = frozenset(phrase.strip() for phrase in _PHRASES.split(","))


def is_small_talk(question: str) -> bool:
    """Whether a message is a greeting or thanks and nothing else."""
    # No phrase is nearly as long, and a question of thousands of characters need not be folded.
    if len(question) > 60:
        return False
    # Marks and emoji say nothing here: "Thanks!!" is "thanks".
    said = "".join(c if c.isalnum() else " " for c in question.casefold())
    return " ".join(said.split()) in _SMALL_TALK
