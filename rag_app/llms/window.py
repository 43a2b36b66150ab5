"""How many tokens prompt and answer may have: the model's real window, which the user may lower."""

from rag_app.errors import ConfigError


def choose_window(asked: int | None, max_tokens: int, real: int, whose: str) -> int:
    """Return the window to pack for, in tokens.

    Parameters
    ----------
    asked
        ``llm.context_window``, which may lower the real one; None: it does not.
    max_tokens
        ``llm.max_tokens``, the longest answer.
    real
        What the engine or the server has.
    whose
        For messages, e.g. "the server at http://127.0.0.1:8000".

    Raises
    ------
    ConfigError
        If ``llm.context_window`` is more than the real one, or ``llm.max_tokens`` leaves no room.
    """
    if asked is not None and asked > real:
        raise ConfigError(
            f"llm.context_window is {asked}, and {whose} has a window of {real} tokens",
            f"set llm.context_window to at most {real}, or leave it out",
        )
    window = asked or real
    if max_tokens >= window:
        raise ConfigError(
            f"llm.max_tokens is {max_tokens}, which leaves no room for a prompt in the "
            f"window of {window} tokens of {whose}",
            f"set llm.max_tokens to at most {window // 2}",
        )
    return window
