"""A conversation over the documents: LlamaIndex's condense engine, streaming as fast as the LLM."""

from collections.abc import Iterator, Sequence

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import StreamingResponse
from llama_index.core.chat_engine import CondenseQuestionChatEngine
from llama_index.core.chat_engine.condense_question import DEFAULT_PROMPT
from llama_index.core.chat_engine.types import AgentChatResponse
from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.core.memory import ChatMemoryBuffer

from rag_app.answering.fencing import Neutralizer
from rag_app.answering.metadata import sources_of
from rag_app.llms import PackableLLM
from rag_app.questions import check_question
from rag_app.schema import Source


class ChatEngine(CondenseQuestionChatEngine):
    """`CondenseQuestionChatEngine` whose history fits the LLM's window, counted in its tokens.

    A follow-up question is rewritten from the history by one LLM call, then answered by the query
    engine as a question that stands alone.

    Parameters
    ----------
    query_engine
        Made with ``streaming=True``.
    """

    def __init__(self, query_engine: BaseQueryEngine, llm: PackableLLM) -> None:
        metadata = llm.metadata
        super().__init__(
            query_engine,
            condense_question_prompt=DEFAULT_PROMPT,
            memory=ChatMemoryBuffer.from_defaults(
                # The other half is for the question and the instruction to rewrite it.
                token_limit=(metadata.context_window - metadata.num_output) // 2,
                tokenizer_fn=lambda text: [0] * llm.count_tokens(text),
            ),
            llm=llm,
        )
        self._neutralize = Neutralizer(llm.special_tokens())
        self.sources: Sequence[Source] = ()

    def chat(
        self, message: str, chat_history: list[ChatMessage] | None = None
    ) -> AgentChatResponse:
        """Answer at once; the response's metadata is that of the query engine's response."""
        return _with_metadata(super().chat(message, chat_history))

    async def achat(
        self, message: str, chat_history: list[ChatMessage] | None = None
    ) -> AgentChatResponse:
        """Answer as `chat` does, from any event loop."""
        return _with_metadata(await super().achat(message, chat_history))

    def stream(self, question: str) -> Iterator[str]:
        """Answer piece by piece; a turn that was answered to its end is remembered.

        LlamaIndex's own `stream_chat` polls its queue without pause, which costs a processor that
        an engine in this process needs.

        Raises
        ------
        RagAppError
            As the query engine.
        """
        self.sources = ()
        question = self._neutralize(check_question(question))
        asked = self._condense_question(self._memory.get(), question)
        response = self._query_engine.query(asked)
        self.sources = sources_of(response.metadata)
        pieces = []
        for piece in response.response_gen if isinstance(response, StreamingResponse) else ():
            pieces.append(piece)
            yield piece
        for role, text in ((MessageRole.USER, question), (MessageRole.ASSISTANT, "".join(pieces))):
            self._memory.put(ChatMessage(role=role, content=self._neutralize(text)))

    def reset(self) -> None:
        """Forget the conversation."""
        super().reset()
        self.sources = ()


def _with_metadata(answered: AgentChatResponse) -> AgentChatResponse:
    (found,) = answered.sources
    answered.metadata = found.raw_output.metadata
    return answered
