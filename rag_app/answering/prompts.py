"""The prompt: how sources, contexts and the question become the text that the LLM is given.

Text only. A template is a Jinja file with three variables, all of which it must use:

``contexts``
    Best last. Each has ``number``, ``text``, ``path``, ``title`` and ``score``.
``sources``
    The documents that the contexts come from, each once, best last. Each has ``number``, ``path``
    and ``title``; a context's number is that of its source, so ``[1]`` in the answer is ``[1]`` in
    the printed list.
``question``
    As the user asked it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import StrictUndefined, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rag_app.errors import ConfigError
from rag_app.schema import Source

if TYPE_CHECKING:  # 0.65 s, and a template is checked whenever a configuration is loaded
    from llama_index.core.schema import NodeWithScore

VARIABLES = ("contexts", "sources", "question")
BUILT_IN = Path(__file__).with_name("answer.jinja")
"""The walk-through's prompt: relevance first, then an answer in under two sentences."""

_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=False, autoescape=False
)


class PromptTemplate:
    """A Jinja template that was checked when it was loaded.

    Parameters
    ----------
    text
        The template.
    name
        Where it came from, for messages.

    Raises
    ------
    ConfigError
        If it is not Jinja (with the line), lacks one of `VARIABLES` or uses another.
    """

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self.text = text
        try:
            used = meta.find_undeclared_variables(_ENVIRONMENT.parse(text))
            self._template = _ENVIRONMENT.from_string(text)
        except TemplateSyntaxError as error:
            raise ConfigError(
                f"the prompt template {name} is not valid Jinja: {error.message} "
                f"(line {error.lineno})",
                f"mend that line; the built-in one to start from is {BUILT_IN}",
            ) from None
        for variable in VARIABLES:
            if variable not in used:
                raise ConfigError(
                    f"the prompt template {name} lacks the variable {variable!r}",
                    f"put {{{{ {variable} }}}}, or a loop over it, where it belongs",
                )
        if unknown := sorted(used - set(VARIABLES)):
            raise ConfigError(
                f"the prompt template {name} uses the unknown variable {unknown[0]!r}",
                f"it may use {', '.join(VARIABLES)}",
            )

    @classmethod
    def load(cls, path: str = "") -> "PromptTemplate":
        """Load a template from a path; an empty one: the built-in template.

        Raises
        ------
        ConfigError
            If the file cannot be read, or as the constructor.
        """
        file = Path(path) if path else BUILT_IN
        try:
            return cls(file.read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"the prompt template {str(file)!r} cannot be read: {error}",
                "set prompt.template to a readable UTF-8 file, or leave it out",
            ) from None

    def render(self, sources: Sequence[Source], question: str) -> str:
        """Render the prompt; `sources` are the contexts in prompt order, from `number_sources`.

        Raises
        ------
        ConfigError
            If the template asks for something that contexts or sources do not have.
        """
        unique = {source.number: source for source in sources}
        try:
            return self._template.render(
                contexts=sources,
                sources=[unique[number] for number in sorted(unique)],
                question=question,
            )
        except Exception as error:  # a template's expressions can end in anything Python raises
            raise ConfigError(
                f"the prompt template {self._name} cannot be rendered: {error}",
                f"compare it with the built-in one: {BUILT_IN}",
            ) from None


def number_sources(nodes: Sequence["NodeWithScore"]) -> list[Source]:
    """Turn nodes in prompt order (best last) into numbered contexts.

    A document's number is its place among the documents ordered best last, so that each number
    stands once in the prompt's list of sources and once in the printed one.
    """
    best_first = dict.fromkeys(_path(node) for node in reversed(nodes))
    numbers = {path: number for number, path in enumerate(reversed(list(best_first)), start=1)}
    return [
        Source(
            number=numbers[_path(node)],
            id=node.node.node_id,
            path=_path(node),
            file_name=str(node.metadata.get("file_name", "")),
            title=str(node.metadata.get("title", "")),
            page=node.metadata.get("page"),
            score=node.score,
            text=node.node.get_content(),
        )
        for node in nodes
    ]


def _path(node: "NodeWithScore") -> str:
    return str(node.metadata.get("path", node.node.ref_doc_id or node.node.node_id))
