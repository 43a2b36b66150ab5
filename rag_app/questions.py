"""What can be asked."""

from rag_app.errors import InputError


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
