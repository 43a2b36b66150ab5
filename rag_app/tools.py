"""The documents as tools of a LlamaIndex agent: one that answers, or ask, look up and list."""

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any

from llama_index.core.base.response.schema import RESPONSE_TYPE
from llama_index.core.schema import NodeWithScore
from llama_index.core.tools import QueryEngineTool, ToolOutput
from llama_index.core.tools.tool_spec.base import BaseToolSpec
from llama_index.core.vector_stores.types import MetadataFilters

from rag_app.answering.fencing import KNOWN_FAMILIES, name_line
from rag_app.answering.prompts import number_sources
from rag_app.app import RagApp
from rag_app.config.sections import Config
from rag_app.errors import InputError
from rag_app.retrieval.filter_text import parse_filter

MOST_DOCUMENTS = 200
"""What `RagAppToolSpec.documents` lists at most: an agent has a window, too."""

Question = Annotated[str, "A whole question, which can be understood without the conversation."]
Where = Annotated[
    str,
    'Only documents like this, e.g. \'type = "html" and modified >= "2026-01-01"\' (fields: path, '
    "title, type, modified); empty: all of them.",
]


# What OpenAI's and vLLM's interfaces take for a function's name.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


def as_tool(
    config: Config | RagApp, name: str, description: str, **options: Any
) -> QueryEngineTool:
    """Return a tool that answers questions from the documents, with its sources.

    >>> manual = as_tool(config, "manual", "Answers questions on the product from its manual.")
    >>> agent = FunctionAgent(tools=[manual], llm=llm)

    It is LlamaIndex's `QueryEngineTool`, so that routers and sub-question engines take it as well;
    its text has the list of the numbered sources, without which citations mean nothing to an agent.

    Parameters
    ----------
    config
        Opened until the process ends; an app is shared, and stays the caller's to close.
    name
        Letters, digits, "_" and "-".
    description
        For the agent's model: what these documents know, and when to ask them.
    options
        As `RagApp.query_engine` takes them.

    Raises
    ------
    InputError
        If the name is none for a tool, or the description is empty.
    RagAppError
        As `RagApp.query_engine`.
    """
    if not _NAME.match(name):
        raise InputError(f"{name!r} is no name for a tool", "use at most 64 of A-Z a-z 0-9 _ -")
    if not description.strip():
        raise InputError(
            f"the tool {name!r} has no description", "say what the documents know: models go by it"
        )
    app = config if isinstance(config, RagApp) else RagApp(config)
    return _CitingTool.from_defaults(app.query_engine(**options), name, description)


class _CitingTool(QueryEngineTool):
    """A query engine's tool whose text names the sources."""

    def call(self, *args: Any, **kwargs: Any) -> ToolOutput:
        return _with_sources(super().call(*args, **kwargs))

    async def acall(self, *args: Any, **kwargs: Any) -> ToolOutput:
        return _with_sources(await super().acall(*args, **kwargs))


def _with_sources(output: ToolOutput) -> ToolOutput:
    output.content = _answer(output.raw_output)
    return output


class RagAppToolSpec(BaseToolSpec):
    """What an agent can do with the documents of a collection.

    >>> with RagApp(load_config()) as app:
    ...     agent = FunctionAgent(tools=RagAppToolSpec(app).to_tool_list(), llm=llm)
    ...     await agent.run("What do our documents say of backups?")

    What the tools return is text of documents, which may be of unknown origin: passages come as
    JSON, and without what chat templates take for more than text.

    Parameters
    ----------
    app
        Whose configuration says how is retrieved and answered; it stays the caller's to close.
    """

    spec_functions = [  # noqa: RUF012 - LlamaIndex's type
        ("query", "aquery"),
        ("retrieve", "aretrieve"),
        "documents",
    ]

    def __init__(self, app: RagApp) -> None:
        self._app = app

    def query(self, question: Question, where: Where = "") -> str:
        """Answer a question from the documents, with numbered sources. Says so if they do not."""
        return _answer(self._app.query_engine(filters=_filters(where)).query(question))

    async def aquery(self, question: Question, where: Where = "") -> str:
        """Answer as `query` does."""
        # An engine a call, since the filter is the call's; the costly parts are the app's.
        engine = self._app.query_engine(filters=_filters(where))
        return _answer(await engine.aquery(question))

    def retrieve(self, question: Question, where: Where = "") -> str:
        """Find the passages of the documents that may answer a question, best first, as JSON."""
        return _passages(self._app.retriever(filters=_filters(where)).retrieve(question))

    async def aretrieve(self, question: Question, where: Where = "") -> str:
        """Find passages as `retrieve` does."""
        retriever = self._app.retriever(filters=_filters(where))
        return _passages(await retriever.aretrieve(question))

    def documents(self) -> str:
        """List the documents that there are: path, title and type, as JSON."""
        found = self._app.store.documents().values()
        listed: list[Any] = [
            {"path": name_line(each.path), "title": name_line(each.title), "type": each.type}
            for each in list(found)[:MOST_DOCUMENTS]
        ]
        if len(found) > len(listed):
            listed.append(f"and {len(found) - len(listed)} more")
        return json.dumps(listed, ensure_ascii=False)


def _filters(where: str) -> MetadataFilters | None:
    """Read a filter, which is joined to the configured one: an agent cannot see beyond that."""
    return parse_filter(where) if where.strip() else None


def _answer(response: RESPONSE_TYPE) -> str:
    lines = [str(response)]
    for number, source in enumerate(number_sources(response.source_nodes), start=1):
        lines += ["", "Sources:"] if number == 1 else []
        lines.append(f"[{number}] {name_line(source.path)} - {name_line(source.title)}")
    # The agent's LLM need not be the app's, so its own tokens are not known here.
    return KNOWN_FAMILIES("\n".join(lines))


def _passages(nodes: Sequence[NodeWithScore]) -> str:
    found = [
        {
            "path": name_line(each.path),
            "title": name_line(each.title),
            "page": each.page,
            "text": KNOWN_FAMILIES(each.text),
        }
        for each in number_sources(nodes)
    ]
    return json.dumps(found, ensure_ascii=False)
