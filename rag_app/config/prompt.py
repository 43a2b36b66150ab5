"""`[prompt]`: what the LLM is given."""

from typing import Literal

from rag_app.config.base import Section


class PromptSection(Section):
    """The text that the LLM is given."""

    template: str = ""
    """Path of a Jinja file that renders sources, contexts and question; empty: the built-in one."""
    instructions: str = ""
    """Put before the rendered prompt, e.g. "Answer in German."; a server's clients set it by their
    system message."""
    order: Literal["best_last", "best_first", "canonical"] = "best_last"
    """How contexts stand in the prompt: the best right before the question, the best first, or as
    they stand in the documents; `rag-app eval` measures which suits a model."""
    strict: bool = False
    """Ask once more where a sentence of the answer is not supported by the passages that it cites,
    and leave out those that still are not. --strict sets it."""
