"""LlamaIndex's prompt templates as ours, for ``update_prompts``, and ours as LlamaIndex's.

A template names what it needs either as ``prompt.template`` does (``contexts``, ``sources``,
``question``; Jinja, so in a `RichPromptTemplate`), or as LlamaIndex's own do: ``context_str``, the
contexts numbered and fenced as in the built-in template, and ``query_str``.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from llama_index.core.prompts import BasePromptTemplate, RichPromptTemplate
from llama_index.core.prompts import PromptTemplate as FormatTemplate

from rag_app.answering.fencing import KNOWN_FAMILIES, Neutralizer, fence
from rag_app.answering.prompts import PromptTemplate, make_safe
from rag_app.errors import ConfigError
from rag_app.schema import Source

TEXT_QA = "text_qa_template"
"""LlamaIndex's name of a synthesizer's prompt."""

_CONTEXT, _QUERY = "context_str", "query_str"  # as `GivenTemplate.render` names them


class Template(Protocol):
    """What makes a prompt of sources in prompt order and a question."""

    def render(
        self, sources: Sequence[Source], question: str, neutralize: Neutralizer = KNOWN_FAMILIES
    ) -> str:
        """Render the prompt. Raises ConfigError if that fails."""
        ...


class GivenTemplate:
    """A LlamaIndex template in place of ours.

    Parameters
    ----------
    prompt
        With variables ``context_str`` and ``query_str``, or what is mapped to them.

    Raises
    ------
    ConfigError
        If it lacks one of them or uses another.
    """

    def __init__(self, prompt: BasePromptTemplate) -> None:
        self.prompt = prompt
        # A template may go by other names, and says which of its own stand for these.
        mapped = prompt.template_var_mappings or {}
        known = {mapped.get(name, name) for name in (_CONTEXT, _QUERY)}
        used = set(prompt.template_vars)
        if missing := sorted(known - used):
            raise ConfigError(
                f"the prompt template {TEXT_QA} lacks the variable {missing[0]!r}",
                f"put {_CONTEXT} where the passages belong, and {_QUERY} where the question does",
            )
        given = {*prompt.kwargs, *(prompt.function_mappings or {})}
        if unknown := sorted(used - known - {mapped.get(name, name) for name in given}):
            raise ConfigError(
                f"the prompt template {TEXT_QA} uses the unknown variable {unknown[0]!r}",
                f"it may use {_CONTEXT} and {_QUERY}; give others with partial_format",
            )

    def render(
        self, sources: Sequence[Source], question: str, neutralize: Neutralizer = KNOWN_FAMILIES
    ) -> str:
        """Render the prompt.

        Raises
        ------
        ConfigError
            If a function or parser of the template's own fails.
        """
        safe, asked = make_safe(sources, neutralize), neutralize(question)
        contexts = "\n".join(fence(safe, asked))
        try:
            return self.prompt.format(context_str=contexts, query_str=asked)
        except Exception as error:  # whatever the functions that it was given raise
            raise ConfigError(
                f"the prompt template {TEXT_QA} cannot be rendered: {error}",
                "mend the functions and the output parser that it was made with",
            ) from error


def as_llamaindex(template: Template) -> BasePromptTemplate:
    """Return a template as LlamaIndex's type: the one that was given, or Jinja."""
    if isinstance(template, GivenTemplate):
        return template.prompt
    assert isinstance(template, PromptTemplate)  # noqa: S101 - there is no third
    return RichPromptTemplate(template.text)


def from_llamaindex(prompts: Mapping[str, BasePromptTemplate]) -> Template:
    """Check the one prompt that a synthesizer has, and return it.

    Raises
    ------
    ConfigError
        If there is another, or it cannot be used, with the reason.
    """
    if unknown := sorted(set(prompts) - {TEXT_QA}):
        raise ConfigError(
            f"there is no prompt {unknown[0]!r} here",
            f'use "{TEXT_QA}", of a query engine "response_synthesizer:{TEXT_QA}"',
        )
    prompt = prompts[TEXT_QA]
    if isinstance(prompt, RichPromptTemplate) and not prompt.is_chat_template:
        if {_CONTEXT, _QUERY}.isdisjoint(prompt.template_vars):
            return PromptTemplate(prompt.template_str, TEXT_QA)
        return GivenTemplate(prompt)
    if isinstance(prompt, FormatTemplate):
        return GivenTemplate(prompt)
    raise ConfigError(
        f"the prompt template {TEXT_QA} is a {type(prompt).__name__}"
        + (" of a chat" if isinstance(prompt, RichPromptTemplate) else ""),
        "give the whole prompt as one text: a PromptTemplate, or a RichPromptTemplate without chat "
        "blocks; the model's chat template is put around it",
    )
