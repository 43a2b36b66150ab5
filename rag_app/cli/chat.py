"""``rag-app chat``: a conversation over the documents."""

from typing import TYPE_CHECKING

import click

from rag_app.cli.common import common_options, echo, echo_text, filter_option, load, say, say_error
from rag_app.cli.query import print_sources
from rag_app.errors import LLMError, UserError

if TYPE_CHECKING:
    from rag_app.answering.chat import ChatEngine

_HELP = "/sources shows what the last answer rests on, /reset forgets the conversation, /quit ends"


@click.command(
    "chat",
    epilog="\b\nExamples:\n"
    "  rag-app --profile gpu chat\n"
    "  rag-app --set llm.backend=vllm-server chat\n"
    """  rag-app --profile gpu chat --filter 'title contains "Handbook"'""",
)
@filter_option
@common_options
def chat_command() -> None:
    """Talk with the language model about the documents, over several turns.

    A follow-up question is rewritten from the conversation before contexts are looked for. /sources
    shows what the last answer rests on, /reset forgets the conversation, /quit (or Ctrl-D) ends it.
    """
    config = load()
    from rag_app.app import RagApp  # LlamaIndex, torch, Milvus: 8 s

    with RagApp(config) as app:
        _talk(app.chat_engine())


def _talk(engine: "ChatEngine") -> None:
    say(_HELP)
    answer = ""
    while (line := _read_line()) is not None:
        if line == "/quit":
            return
        if line == "/sources":
            print_sources(engine.sources, answer)
        elif line == "/reset":
            engine.reset()
            say("forgotten")
        elif line.startswith("/"):
            say(f"there is no {line.split()[0]}; {_HELP}")
        elif line:
            answer = _answer(engine, line)


def _read_line() -> str | None:
    """Read a line; None at the end of the input."""
    try:
        # Without a default click asks again after an empty line.
        return str(click.prompt("", prompt_suffix="> ", default="", show_default=False)).strip()
    # Ctrl-D, and Ctrl-C while a question is typed.
    except click.Abort:
        echo("")
        return None


def _answer(engine: "ChatEngine", question: str) -> str:
    """Print an answer as it comes. What the question or the LLM fails on ends the turn only."""
    pieces = []
    try:
        for piece in engine.stream(question):
            echo_text(piece, nl=False)
            pieces.append(piece)
    except (UserError, LLMError) as error:
        say_error(error)
    echo("")
    return "".join(pieces)
