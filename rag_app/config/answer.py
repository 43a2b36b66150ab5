"""`[answer]`: when a question is answered, and when it is said that the documents do not."""

from pydantic import Field

from rag_app.config.base import Section


class AnswerSection(Section):
    """When to answer, and when to say that the documents do not answer the question."""

    max_risk: float = Field(default=0.05, gt=0.0, le=1.0)
    """Share of the answered questions that may be ones which the documents do not answer, where one
    question in five is such a one: below the confidence that keeps it there (with 95% certainty on
    the labelled questions, docs/answers.md) the answer is "The documents do not answer this." and
    the LLM is not asked. 1: answer everything."""
    min_confidence: float | None = Field(default=None, ge=0.0, le=1.0)
    """Refuse below this confidence, in place of the one that max_risk chooses."""
    confidence: str = ""
    """File of the coefficients that `rag-app tune` fitted on your own questions; empty: those that
    come with rag_app."""
