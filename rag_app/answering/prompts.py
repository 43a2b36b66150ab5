"""The prompt: how sources, contexts and the question become the text that the LLM is given.

Text only. A template is a Jinja file with three variables, all of which it must use:

``contexts``
    Passages, best last. Each has ``number``, ``text``, ``path``, ``title``, ``headings`` (those
    above it, as a path), ``name`` (title and headings), ``page`` and ``score``; its number is the
    one in the printed list, so ``[1]`` in the answer leads to one passage.
``sources``
    The same passages, for a list of where they come from: a line each.
``question``
    As the user asked it.

and one that it should use:

``marker``
    A word that stands in no context: nothing in a context can pretend to be its end.

Documents are of unknown origin. In all of these the special tokens of models are broken up, and
titles and paths have one line and no brackets.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import StrictUndefined, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rag_app.answering.fencing import KNOWN_FAMILIES, Neutralizer, make_marker, name_line
from rag_app.errors import ConfigError
from rag_app.schema import Source

if TYPE_CHECKING:  # 0.65 s, and a template is checked whenever a configuration is loaded
    from llama_index.core.schema import NodeWithScore

VARIABLES = ("contexts", "sources", "question")
MARKER = "marker"
BUILT_IN = Path(__file__).with_name("answer.jinja")
"""The walk-through's prompt: relevance first, then an answer in under two sentences."""

# A template may be somebody else's: in the sandbox it neither reaches Python nor changes what it is
# given. Nothing is escaped, since a prompt is no HTML.
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
        if unknown := sorted(used - {*VARIABLES, MARKER}):
            raise ConfigError(
                f"the prompt template {name} uses the unknown variable {unknown[0]!r}",
                f"it may use {', '.join(VARIABLES)} and {MARKER}",
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

    def render(
        self, sources: Sequence[Source], question: str, neutralize: Neutralizer = KNOWN_FAMILIES
    ) -> str:
        """Render the prompt.

        Parameters
        ----------
        sources
            The contexts in prompt order, from `number_sources`.
        neutralize
            Knows the special tokens of the model that will read it.

        Raises
        ------
        ConfigError
            If the template asks for something that contexts or sources do not have.
        """
        safe = make_safe(sources, neutralize)
        asked = neutralize(question)
        try:
            return self._template.render(
                contexts=safe,
                sources=safe,
                question=asked,
                marker=make_marker(safe, asked),
            )
        except Exception as error:  # a template's expressions can end in anything Python raises
            raise ConfigError(
                f"the prompt template {self._name} cannot be rendered: {error}",
                f"compare it with the built-in one: {BUILT_IN}",
            ) from None


def make_safe(sources: Sequence[Source], neutralize: Neutralizer) -> list[Source]:
    """Make texts and names of documents harmless in a prompt."""
    return [
        replace(
            source,
            text=neutralize(source.text),
            title=neutralize(name_line(source.title)),
            path=neutralize(name_line(source.path)),
            file_name=neutralize(name_line(source.file_name)),
            headings=neutralize(name_line(source.headings)),
        )
        for source in sources
    ]


def number_sources(nodes: Sequence["NodeWithScore"]) -> list[Source]:
    """Turn nodes in prompt order (best last) into contexts, numbered from 1 in this order."""
    return [
        Source(
            number=number,
            id=node.node.node_id,
            document_id=node.node.ref_doc_id or "",
            path=_path(node),
            file_name=str(node.metadata.get("file_name", "")),
            title=str(node.metadata.get("title", "")),
            type=str(node.metadata.get("type", "")),
            page=node.metadata.get("page"),
            score=None if node.score is None else float(node.score),  # NumPy's is no JSON
            text=node.node.get_content(),
            copies=tuple(node.metadata.get("copies", ())),
            headings=str(node.metadata.get("headings", "")),
            boxes=tuple(tuple(box) for box in node.metadata.get("boxes", ())),
        )
        for number, node in enumerate(nodes, start=1)
    ]


def _path(node: "NodeWithScore") -> str:
    # Of a page of the web its address, not the file that it is kept in.
    if url := node.metadata.get("url"):
        return str(url)
    return str(node.metadata.get("path", node.node.ref_doc_id or node.node.node_id))
