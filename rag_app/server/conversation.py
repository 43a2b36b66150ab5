"""A client's messages → what is asked: history, question, instructions; what needs no documents."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from llama_index.core.base.llms.generic_utils import messages_to_history_str
from llama_index.core.chat_engine.condense_question import DEFAULT_PROMPT
from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from rag_app.answering.fencing import Neutralizer
from rag_app.llms import PackableLLM
from rag_app.questions import check_question
from rag_app.server.errors import RequestError


class TextPart(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="forbid")

    # Chat completions', responses', and our own answers when a client sends them back.
    type: Literal["text", "input_text", "output_text"]
    text: str
    annotations: list[Any] = []


class OtherPart(BaseModel):
    """A part that is no text: refused by its name."""

    type: str


class Message(BaseModel):
    """A message of a conversation, as OpenAI has it."""

    model_config = ConfigDict(extra="ignore")  # what we sent comes back: annotations, refusal

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        str | list[TextPart | OtherPart] | None, Field(union_mode="left_to_right")
    ] = None

    def text(self) -> str:
        """Return its text.

        Raises
        ------
        RequestError
            If a part is none, an image for example.
        """
        if self.content is None:
            return ""
        if isinstance(self.content, str):
            return self.content
        for part in self.content:
            if not isinstance(part, TextPart):
                raise RequestError(
                    400,
                    f"content of type {part.type!r} is not supported: send text",
                    code="unsupported_content",
                    param="messages",
                )
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


@dataclass(frozen=True)
class Conversation:
    """What is asked.

    Attributes
    ----------
    question
        The last message, a user's.
    history
        The messages of users and assistants before it.
    instructions
        What system messages say.
    """

    question: str
    history: tuple[ChatMessage, ...] = ()
    instructions: str = ""


def read(messages: Sequence[Message], longest: int, param: str = "messages") -> Conversation:
    """Read a client's messages.

    Raises
    ------
    RequestError
        If the last one is not a user's, or is too long.
    InputError
        If it is empty.
    """
    if not messages or messages[-1].role != "user":
        raise RequestError(400, "the last message has to be a user's", param=param)
    question = check_length(messages[-1].text(), longest, param)
    turns = [message for message in messages[:-1] if message.role in {"user", "assistant"}]
    return Conversation(
        question=check_question(question),
        history=tuple(ChatMessage(role=MessageRole(m.role), content=m.text()) for m in turns),
        instructions="\n".join(
            message.text() for message in messages if message.role in {"system", "developer"}
        ).strip(),
    )


def check_length(question: str, longest: int, param: str) -> str:
    """Return a question.

    Raises
    ------
    RequestError
        If it is longer than ``server.max_question``.
    """
    if len(question) > longest:
        raise RequestError(
            400, f"the question has {len(question):,} characters, of {longest:,}", param=param
        )
    return question


async def condense(llm: PackableLLM, conversation: Conversation) -> str:
    """Rewrite a follow-up question as one that stands alone, with LlamaIndex's prompt."""
    metadata = llm.metadata
    memory = ChatMemoryBuffer.from_defaults(
        chat_history=list(conversation.history),
        # The other half is for the question and the instruction to rewrite it.
        token_limit=(metadata.context_window - metadata.num_output) // 2,
        # The buffer takes nothing but the length of what this returns.
        tokenizer_fn=lambda text: [0] * llm.count_tokens(text),
    )
    # These are quoted in a prompt: a special token in them would end the message that quotes them.
    neutralize = Neutralizer(llm.special_tokens())
    return await llm.apredict(
        DEFAULT_PROMPT,
        question=neutralize(conversation.question),
        chat_history=neutralize(messages_to_history_str(await run_in_threadpool(memory.get))),
    )


_REWRITE = PromptTemplate(
    "Write the search query that finds, in a collection of documents, what is asked for below. "
    "Leave out polite words and whatever is not looked for; keep names and numbers as they are. "
    "Write nothing but the query, in the language of the question.\n\n"
    "Question: {question}\nQuery:"
)


async def rewrite(llm: PackableLLM, question: str) -> str:
    """Let the model write a question as a search query; the question, if it writes nothing."""
    neutralize = Neutralizer(llm.special_tokens())
    written = await llm.apredict(_REWRITE, question=neutralize(question))
    return written.strip().partition("\n")[0].strip() or question


# A heading alone is not enough: people write "### Task:" as well.
_TASK = re.compile(r"\s*### Task:\s.*<chat_history>", re.DOTALL)


def is_task(question: str) -> bool:
    """Whether a chat program wants something about the conversation itself: a title, tags, ideas.

    Open WebUI's prompts for these begin with "### Task:" and hold the conversation as data.
    """
    return _TASK.match(question) is not None
