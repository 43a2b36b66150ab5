"""One entry put into a JSON file of someone else's: comments, order and everything else stay.

VS Code's files are JSON with comments and trailing commas, so no parser can write them back.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(
    r'(?P<skip>\s+|//[^\n]*|/\*.*?\*/)|(?P<text>"(?:[^"\\\n]|\\.)*")'
    r"|(?P<mark>[{}\[\],:])|(?P<plain>[^\s{}\[\],:\"/]+)",
    re.DOTALL,
)


@dataclass
class _Token:
    kind: str
    text: str
    start: int
    end: int


@dataclass
class _Value:
    """A value, and where it stands; of an object also its members."""

    value: Any
    start: int
    end: int
    members: dict[str, "_Value"] = field(default_factory=dict)
    has_comma: bool = False
    """Whether there is one after the last member."""


def with_entry(text: str, section: str, name: str, entry: dict[str, Any]) -> str:
    """Return a file's text with an entry in one of its sections, in place of one of this name.

    Raises
    ------
    ValueError
        If the text is no object with such a section, or could not be changed safely.
    """
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    body = text.removeprefix(mark)
    if not any(token.kind != "skip" for token in _tokens(body)):
        # Empty, or nothing but comments, which stay.
        body = f"{body}{{}}\n"
    before = _parse(body)
    changed = _put(body, before, section, name, entry)
    # Read again: whatever was there has to be there still.
    expected = {**before.value, section: {**before.value.get(section, {}), name: entry}}
    if _parse(changed).value != expected:
        raise ValueError("it could not be changed without touching other entries")
    return mark + changed


def _put(body: str, root: _Value, section: str, name: str, entry: dict[str, Any]) -> str:
    if not isinstance(root.value, dict):
        raise ValueError("it is no JSON object")
    step = _indent(body, root)
    line = "\r\n" if "\r\n" in body else "\n"
    found = root.members.get(section)
    if found is None:
        return _add(body, root, section, {name: entry}, ("", step), line)
    if not isinstance(found.value, dict):
        raise ValueError(f"{section!r} in it is no object")
    if (old := found.members.get(name)) is not None:
        written = _written(entry, step * 2, step, line)
        return body[: old.start] + written + body[old.end :]
    return _add(body, found, name, entry, (step, step), line)


def _add(body: str, into: _Value, name: str, value: Any, indent: tuple[str, str], line: str) -> str:
    """Add a last member to an object."""
    outer, step = indent
    inner = outer + step
    member = f"{json.dumps(name)}: {_written(value, inner, step, line)}"
    closing = into.end - 1
    # Behind what stands before the brace, comments included.
    place = closing - (len(body[:closing]) - len(body[:closing].rstrip()))
    head, tail = body[:place], f"{line}{outer}{body[closing:]}"
    if into.members and not into.has_comma:
        last = max(each.end for each in into.members.values())
        head = f"{head[:last]},{head[last:]}"
    return f"{head}{line}{inner}{member}{',' if into.has_comma else ''}{tail}"


def _written(value: Any, indent: str, step: str, line: str) -> str:
    lines = json.dumps(value, indent=step, ensure_ascii=False).split("\n")
    return f"{line}{indent}".join(lines)


def _indent(body: str, root: _Value) -> str:
    """Return what one level is indented by: as the first member is, or two blanks."""
    for member in root.members.values():
        before = body[: member.start].rpartition("\n")[2]
        if blank := before[: len(before) - len(before.lstrip())]:
            return blank
        break
    return "  "


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            line = text.count("\n", 0, place) + 1
            raise ValueError(f"line {line} of it is no JSON")
        yield _Token(str(match.lastgroup), match[0], match.start(), match.end())
        place = match.end()


def _parse(text: str) -> _Value:
    tokens = [token for token in _tokens(text) if token.kind != "skip"]
    value, rest = _value(tokens, 0)
    if rest != len(tokens):
        raise ValueError("there is something behind its end")
    return value


def _value(tokens: list[_Token], at: int) -> tuple[_Value, int]:
    token = _token(tokens, at)
    if token.text == "{":
        return _object(tokens, at)
    if token.text == "[":
        return _array(tokens, at)
    if token.kind == "mark":
        raise ValueError(f"{token.text!r} stands in it where a value should")
    return _Value(json.loads(token.text), token.start, token.end), at + 1


def _object(tokens: list[_Token], at: int) -> tuple[_Value, int]:
    made = _Value({}, tokens[at].start, 0)
    at += 1
    while (token := _token(tokens, at)).text != "}":
        if token.kind != "text" or _token(tokens, at + 1).text != ":":
            raise ValueError(f"{token.text!r} stands in it where a name should")
        name = json.loads(token.text)
        if name in made.members:
            raise ValueError(f"{name!r} is twice in it")
        made.members[name], at = _value(tokens, at + 2)
        made.value[name] = made.members[name].value
        made.has_comma = _token(tokens, at).text == ","
        if not made.has_comma and _token(tokens, at).text != "}":
            raise ValueError(f"a comma is missing in it behind {name!r}")
        at += made.has_comma
    made.end = token.end
    return made, at + 1


def _array(tokens: list[_Token], at: int) -> tuple[_Value, int]:
    made = _Value([], tokens[at].start, 0)
    at += 1
    while (token := _token(tokens, at)).text != "]":
        each, at = _value(tokens, at)
        made.value.append(each.value)
        if _token(tokens, at).text == ",":
            at += 1
        elif _token(tokens, at).text != "]":
            raise ValueError("a comma is missing in a list in it")
    made.end = token.end
    return made, at + 1


def _token(tokens: list[_Token], at: int) -> _Token:
    if at >= len(tokens):
        raise ValueError("its end is missing")
    return tokens[at]
