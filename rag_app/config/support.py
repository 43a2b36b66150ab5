"""`[support]`: how sentences of answers are held against what they cite."""

from pydantic import Field

from rag_app.config.base import Section


class SupportSection(Section):
    """How each sentence of a model's answer is held against the passages that it cites."""

    nli_model: str = Field(default="")
    """A cross-encoder for natural language inference that decides, e.g.
    "cross-encoder/nli-deberta-v3-base": a hub name, a folder, or "package:NAME". Empty: words,
    numbers, names and negations decide."""
