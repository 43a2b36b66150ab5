r"""A filter as text → LlamaIndex `MetadataFilters`: ``type = "html" and modified >= "2026-01-01"``.

::

    filter      any of them:   either or either or …
    either      all of them:   one and one and …
    one         not one  |  ( filter )  |  comparison
    comparison  NAME = VALUE          also ==  !=  <>  <  <=  >  >=
                NAME [not] in [VALUE, …]
                NAME [not] contains TEXT
                NAME is [not] empty
    VALUE       "text", 'text' (with \" \' \\ \n \t \r \uXXXX) or a number

Words may be written in capitals. Names are those of rag_app's own rows, `filters.FIELDS`.
"""

import difflib
import re
from dataclasses import dataclass
from typing import NoReturn

from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)

from rag_app.errors import InputError, shortened
from rag_app.milvus.expression import FIELDS, MOST_NESTED, Scalar, check_filter, to_expression

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<word>[A-Za-z_]\w*)
      | (?P<sign><=|>=|==|!=|<>|[=<>()\[\],])
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\"}
_SIGNS = {
    "=": FilterOperator.EQ,
    "==": FilterOperator.EQ,
    "!=": FilterOperator.NE,
    "<>": FilterOperator.NE,
    "<": FilterOperator.LT,
    "<=": FilterOperator.LTE,
    ">": FilterOperator.GT,
    ">=": FilterOperator.GTE,
}
_WORDS = {"and", "or", "not", "in", "contains", "is", "empty"}
_LONGEST_NUMBER = 100
"""Digits; numbers of more than 19 are beyond 64 bits, and Python reads none of more than 4,300."""
_EXAMPLE = 'write for example: type = "html" and modified >= "2026-01-01"'


def parse_filter(text: str) -> MetadataFilters | None:
    """Read a filter; None if the text is empty.

    Raises
    ------
    InputError
        With the place in the text: for what is no filter, a name that rows do not have, and a value
        of another type than the field's.
    """
    if not text.strip():
        return None
    found = _Parser(text).parse()
    filters = found if isinstance(found, MetadataFilters) else MetadataFilters(filters=[found])
    # For what it refuses of the whole: each comparison alone was checked where it was read.
    to_expression(filters, lite=True)
    return filters


@dataclass(frozen=True)
class _Token:
    kind: str
    raw: str
    at: int

    @property
    def word(self) -> str:
        """The keyword or sign that it is, else an empty string."""
        word = self.raw.lower() if self.kind == "word" else self.raw
        return word if self.kind == "sign" or word in _WORDS else ""


class _Parser:
    """Recursive descent over the tokens of one filter."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._tokenize()
        self._next = 0
        self._depth = 0

    def parse(self) -> MetadataFilter | MetadataFilters:
        found = self._either()
        if self._peek.kind != "end":
            self._fail("here it could only go on with and, or")
        return found

    def _tokenize(self) -> list[_Token]:
        tokens = []
        at = 0
        while True:
            match = _TOKEN.match(self._text, at)
            if match is None:
                # Past the white space, to the place that the message names.
                at += len(self._text[at:]) - len(self._text[at:].lstrip())
                rest = self._text[at:].split()[0]
                why = "a quote that is not closed" if rest[0] in "\"'" else "nothing known"
                self._fail(why, _Token("", rest, at))
            kind = str(match.lastgroup)
            tokens.append(_Token(kind, match.group(kind), match.start(kind)))
            if kind == "end":
                return tokens
            at = match.end()

    @property
    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, *words: str) -> _Token | None:
        """Take the next token if it is one of these words or signs."""
        token = self._peek
        if token.word not in words:
            return None
        self._next += 1
        return token

    def _expect(self, word: str) -> None:
        if not self._take(word):
            self._fail(f"{word!r} is missing")

    def _either(self) -> MetadataFilter | MetadataFilters:
        return self._chain("or", FilterCondition.OR)

    def _all(self) -> MetadataFilter | MetadataFilters:
        return self._chain("and", FilterCondition.AND)

    def _chain(self, word: str, condition: FilterCondition) -> MetadataFilter | MetadataFilters:
        inner = self._all if word == "or" else self._one
        parts = [inner()]
        while self._take(word):
            parts.append(inner())
        return parts[0] if len(parts) == 1 else MetadataFilters(filters=parts, condition=condition)

    def _one(self) -> MetadataFilter | MetadataFilters:
        self._depth += 1
        if self._depth > MOST_NESTED:
            self._fail(f"nested deeper than {MOST_NESTED}")
        found: MetadataFilter | MetadataFilters
        if self._take("not"):
            found = _not(self._one())
        elif self._take("("):
            found = self._either()
            self._expect(")")
        else:
            found = self._comparison()
        self._depth -= 1
        return found

    def _comparison(self) -> MetadataFilter | MetadataFilters:
        name = self._name()
        at = self._peek
        negated = bool(self._take("not"))
        if self._take("in"):
            operator = FilterOperator.NIN if negated else FilterOperator.IN
            return self._checked(at, name, operator, self._list())
        if self._take("contains"):
            found = self._checked(at, name, FilterOperator.TEXT_MATCH, self._value())
            return _not(found) if negated else found
        if not negated and self._take("is"):
            negated = bool(self._take("not"))
            self._expect("empty")
            found = self._checked(at, name, FilterOperator.IS_EMPTY, None)
            return _not(found) if negated else found
        sign = None if negated else self._take(*_SIGNS)
        if sign is None:
            self._fail(f"after {name} comes = != < <= > >= in, contains, is empty")
        return self._checked(at, name, _SIGNS[sign.raw], self._value())

    def _name(self) -> str:
        token = self._peek
        if token.kind != "word" or token.word:
            self._fail("here comes the name of a field")
        if token.raw not in FIELDS:
            near = difflib.get_close_matches(token.raw, FIELDS, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            self._fail(f"the fields are {', '.join(FIELDS)}{hint}")
        self._next += 1
        return token.raw

    def _value(self) -> Scalar:
        token = self._peek
        if token.kind == "number":
            self._next += 1
            digits = token.raw.lstrip("+-").isdigit()
            if digits and len(token.raw) > _LONGEST_NUMBER:
                self._fail(f"a number of more than {_LONGEST_NUMBER} digits", token)
            # Not all as floats, which beyond 2**53 are other numbers.
            return int(token.raw) if digits else float(token.raw)
        if token.kind != "text":
            quote = f': "{token.raw}"' if token.kind == "word" else ""
            self._fail(f"here comes a number, or a text in quotes{quote}")
        self._next += 1
        return self._unescape(token)

    def _list(self) -> list[Scalar]:
        self._expect("[")
        values: list[Scalar] = []
        while not self._take("]"):
            values.append(self._value())
            if self._peek.word != "]":
                self._expect(",")
        return values

    def _unescape(self, token: _Token) -> str:
        def read(match: re.Match[str]) -> str:
            code, letter = match.groups()
            if code:
                return chr(int(code, 16))
            if letter not in _ESCAPED:
                self._fail(
                    rf"\{letter} is no escape; a backslash is written \\",
                    _Token("", match.group(), token.at + 1 + match.start()),
                )
            return _ESCAPED[letter]

        read_text = _ESCAPE.sub(read, token.raw[1:-1])
        # \ud83d\ude00 is one character, written as JSON writes it.
        return read_text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")

    def _checked(
        self, at: _Token, name: str, operator: FilterOperator, value: Scalar | list[Scalar] | None
    ) -> MetadataFilter:
        if isinstance(value, list) and len({isinstance(each, str) for each in value}) > 1:
            self._fail("texts and numbers in one list", at)
        one = MetadataFilter.model_validate({"key": name, "operator": operator, "value": value})
        try:
            check_filter(one)
        except InputError as error:
            raise InputError(f"{self._where(at)}: {error.message}", error.remedy) from None
        return one

    def _where(self, token: _Token) -> str:
        return f"the filter {shortened(repr(self._text))} is wrong at character {token.at + 1}"

    def _fail(self, why: str, token: _Token | None = None) -> NoReturn:
        token = token or self._peek
        what = f" ({shortened(repr(token.raw))})" if token.raw else " (its end)"
        raise InputError(f"{self._where(token)}{what}: {why}", _EXAMPLE)


def _not(part: MetadataFilter | MetadataFilters) -> MetadataFilters:
    return MetadataFilters(filters=[part], condition=FilterCondition.NOT)
