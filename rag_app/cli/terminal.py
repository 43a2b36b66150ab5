"""What a terminal is shown: text from documents and servers, made harmless.

File names, titles, texts and messages are of unknown origin. A terminal obeys the control
characters in them: it changes its title, clears its screen, turns lines round, shows lines that we
never wrote.
"""

import re

_CONTROL = r"\x00-\x1f\x7f-\x9f"
_LINES = r"\u2028\u2029"
_BIDIRECTIONAL = r"\u202a-\u202e\u2066-\u2069"
"""Embeddings, overrides and isolates; the marks that Hebrew and Arabic texts need are left."""
_SURROGATES = r"\ud800-\udfff"
"""No characters: what Python makes of a file name's bytes that are no UTF-8."""
_UNSAFE = re.compile(f"[{_CONTROL}{_LINES}{_BIDIRECTIONAL}{_SURROGATES}]")
_UNSAFE_IN_TEXT = re.compile(rf"(?![\n\t])[{_CONTROL}{_LINES}{_BIDIRECTIONAL}{_SURROGATES}]")
# Without those below 0x20, which JSON escapes itself.
_UNSAFE_IN_JSON = re.compile(rf"[\x7f-\x9f{_LINES}{_BIDIRECTIONAL}{_SURROGATES}]")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def one_line(text: str) -> str:
    r"""Write what a terminal would obey as an escape: ``ESC`` as ``\x1b``, a line break as ``\n``.

    For names, titles and messages.
    """
    return _UNSAFE.sub(_escape, text)


def many_lines(text: str) -> str:
    """Do as `one_line`, but leave line breaks and tabs: for the texts of documents."""
    # Line ends of Windows are line ends; a carriage return alone would write over its line.
    return _UNSAFE_IN_TEXT.sub(_escape, text.replace("\r\n", "\n"))


def json_text(text: str) -> str:
    """Escape what JSON may have as it is and a terminal may not; it is read as the same text."""
    return _UNSAFE_IN_JSON.sub(lambda unsafe: f"\\u{ord(unsafe[0]):04x}", text)


def _escape(unsafe: re.Match[str]) -> str:
    code = ord(unsafe[0])
    return _SHORT.get(unsafe[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
