"""How many tokens prompt and answer may have: the model's real window, which the user may lower."""

from rag_app.config.sections import LLMSection
from rag_app.errors import ConfigError


def choose_window(section: LLMSection, real: int, whose: str) -> int:
    """Return the window to pack for, in tokens.

    Parameters
    ----------
    section
        Whose ``context_window`` may lower the real one.
    real
        What the engine or the server has.
    whose
        For messages, e.g. "the server at http://127.0.0.1:8000".

    Raises
    ------
    ConfigError
        If ``llm.context_window`` is more than the real one, or ``llm.max_tokens`` leaves no room.
    """
    asked = section.context_window
    if asked is not None and asked > real:
        raise ConfigError(
            f"llm.context_window is {asked}, and {whose} has a window of {real} tokens",
            f"set llm.context_window to at most {real}, or leave it out",
        )
    window = asked or real
    if section.max_tokens >= window:
        raise ConfigError(
            f"llm.max_tokens is {section.max_tokens}, which leaves no room for a prompt in the "
            f"window of {window} tokens of {whose}",
            f"set llm.max_tokens to at most {window // 2}",
        )
    return window
