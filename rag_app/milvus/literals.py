"""Texts and ids in a Milvus expression: the one place where a text enters one."""

from collections.abc import Sequence

from rag_app.errors import InputError

_ESCAPES = {"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
"""The backslash first. Milvus Lite knows these (and ``\\'``) and takes all else as it stands."""


def quoted(text: str) -> str:
    """Return a literal of which Milvus Lite and a Milvus server read exactly this text.

    Raises
    ------
    InputError
        If it is no Unicode text.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{text!r} is not Unicode text (half of a surrogate pair) and cannot be sent to Milvus",
            "mend the text",
        ) from None
    for raw, escaped in _ESCAPES.items():
        text = text.replace(raw, escaped)
    return f'"{text}"'


def among(field: str, texts: Sequence[str]) -> str:
    """Return the expression that a field is one of these texts."""
    return f"{field} in [{', '.join(map(quoted, texts))}]"
