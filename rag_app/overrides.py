"""What of a configuration can differ from call to call, and a configuration in which it does."""

from collections.abc import Mapping
from typing import Any

from rag_app.config.answer import AnswerSection
from rag_app.config.prompt import PromptSection
from rag_app.config.sections import SAMPLING, Config, LLMSection, RetrievalSection
from rag_app.errors import ConfigError
from rag_app.load import override

_NOT_PER_CALL = {"language", "reranker"}
"""Keys of ``[retrieval]`` that cost a reload, or that the rows were made with."""

_SAMPLING_KEYS = ("temperature", "top_p", "max_tokens")
"""Sampling parameters that are keys of ``[llm]`` itself."""

OVERRIDES: Mapping[str, str] = {
    **{
        name: f"retrieval.{name}"
        for name in RetrievalSection.model_fields
        if name not in _NOT_PER_CALL
    },
    **{name: f"prompt.{name}" for name in PromptSection.model_fields},
    **{name: f"answer.{name}" for name in AnswerSection.model_fields},
    **{name: f"llm.{name}" for name in _SAMPLING_KEYS},
    **{name: f"llm.sampling.{name}" for name in SAMPLING},
}
"""What can differ from call to call, by the name that `RagApp`'s methods take, and its key."""


def with_overrides(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Return a configuration with other values of some of `OVERRIDES`, checked as a file's are.

    Raises
    ------
    ConfigError
        If an override is none of them, or its value is wrong.
    """
    if not overrides:
        return config
    for name in overrides:
        if name not in OVERRIDES:
            raise ConfigError(
                f"{name!r} cannot be changed per call", f"use {', '.join(sorted(OVERRIDES))}"
            )
    return override(config, {OVERRIDES[name]: value for name, value in overrides.items()})


def changed_sampling(built: LLMSection, asked: LLMSection) -> dict[str, Any]:
    """Tell which sampling parameters an LLM has to be asked with that it was not built with."""

    def of(section: LLMSection) -> dict[str, Any]:
        return {**{name: getattr(section, name) for name in _SAMPLING_KEYS}, **section.sampling}

    before = of(built)
    return {name: value for name, value in of(asked).items() if before.get(name) != value}
