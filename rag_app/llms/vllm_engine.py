"""A LlamaIndex LLM on a vLLM engine inside this process.

It takes the place of `llama_index.llms.vllm.Vllm`, whose subclass it is, and mends what that does
not do: all of LlamaIndex's methods stream, are safe for any number of threads and event loops, and
are batched together by vLLM's scheduler; the model's chat template and window are used; nothing is
loaded before it is needed.
"""

from collections.abc import Generator, Sequence
from contextlib import aclosing, closing
from typing import Any

from llama_index.core.llms import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback

from rag_app.config.sections import LLMSection
from rag_app.errors import InputError, RagAppError
from rag_app.llms import Reply
from rag_app.llms.batch_events import BatchEvents
from rag_app.llms.engine_llm import EngineLLM
from rag_app.llms.engine_replies import ChatReader, completion
from rag_app.llms.engine_requests import Piece, Request


class Vllm(EngineLLM):
    """A vLLM engine in this process, started when it is first asked something.

    All of one model and one set of engine arguments share one engine, which stops when the last is
    closed. A copy, and what comes out of a pickle in another process, has a hold of its own; the
    engine is opened there when it is first asked.

    Positional and keyword arguments are those of `llama_index.llms.vllm.Vllm`, and the fields
    below. What is not given is the model's own (its generation config), or vLLM's default. Each
    call's own sampling parameters (``temperature``, ``stop``, ``seed``, … by the names of vLLM's
    `SamplingParams`) win over the fields.

    Prompts and messages go through the model's chat template if it has one, unless
    ``is_chat_model`` is False or ``messages_to_prompt`` or ``completion_to_prompt`` is given: then
    those are used.

    Raises
    ------
    ConfigError
        If there is no model, or ``vllm_kwargs`` has a key that vLLM does not know.
    LLMError
        If vLLM is not installed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # said again for type checkers: pydantic's take no *args

    # At once

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt: through the chat template, as a user's message, if the model has one."""
        return completion(self._whole(self._prompt_request(prompt, formatted, kwargs)))

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation, through the model's chat template."""
        request, reader = self._chat_request(messages, kwargs)
        return reader.whole(self._whole(request))

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Answer a prompt without blocking the event loop."""
        # Before the request is made: its tokens need the engine, whose start would block the loop.
        await self._shared.aengine()
        return completion(await self._awhole(self._prompt_request(prompt, formatted, kwargs)))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation without blocking the event loop."""
        await self._shared.aengine()
        request, reader = self._chat_request(messages, kwargs)
        return reader.whole(await self._awhole(request))

    # Piece by piece

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Answer a prompt piece by piece; closing the generator aborts the request."""
        return self._stream(self._prompt_request(prompt, formatted, kwargs, streaming=True))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer a conversation piece by piece; closing the generator aborts the request."""
        return self._chat_stream(*self._chat_request(messages, kwargs, streaming=True))

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Answer a prompt piece by piece; closing or cancelling aborts the request."""
        await self._shared.aengine()
        return self._astream(self._prompt_request(prompt, formatted, kwargs, streaming=True))

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Answer a conversation piece by piece; closing or cancelling aborts the request."""
        await self._shared.aengine()
        return self._chat_astream(*self._chat_request(messages, kwargs, streaming=True))

    # Many

    def generate(self, prompts: Sequence[str], **kwargs: Any) -> list[CompletionResponse]:
        """Answer many prompts in vLLM's one continuous batch, in the prompts' order."""
        answers: dict[int, CompletionResponse] = {}
        for index, answer in self.generate_each(prompts, **kwargs):
            if isinstance(answer, RagAppError):
                raise answer
            answers[index] = answer
        return [answers[index] for index in range(len(prompts))]

    def generate_each(
        self, prompts: Sequence[str], **kwargs: Any
    ) -> Generator[tuple[int, Reply], None, None]:
        """Do as `generate`, yielding each prompt's index and answer as soon as it is finished."""
        requests: list[Request] = []
        asked: list[int] = []
        events = BatchEvents(self, kwargs)
        try:
            for index, prompt in enumerate(prompts):
                events.began(index, prompt)
                try:
                    requests.append(self._prompt_request(prompt, False, kwargs))
                except InputError as error:  # this prompt's own: too long for the window
                    events.failed(index, error)
                    yield index, error
                else:
                    asked.append(index)
            with closing(self._shared.ask(requests, sparing=True)) as pieces:
                for piece in pieces:
                    index = asked[piece.index]
                    if piece.error is not None:
                        events.failed(index, piece.error)
                        yield index, piece.error
                    else:
                        answer = completion(piece)
                        events.ended(index, answer)
                        yield index, answer
        except BaseException as error:  # also when it is closed early: spans would stay open
            events.all_failed(error)
            raise

    def _whole(self, request: Request) -> Piece:
        with closing(self._shared.ask([request])) as pieces:
            return list(pieces)[-1]

    async def _awhole(self, request: Request) -> Piece:
        async with aclosing(self._shared.aask([request])) as pieces:
            return [piece async for piece in pieces][-1]

    def _stream(self, request: Request) -> CompletionResponseGen:
        text = ""
        with closing(self._shared.ask([request])) as pieces:
            for piece in pieces:
                text += piece.text
                yield completion(piece, text)

    async def _astream(self, request: Request) -> CompletionResponseAsyncGen:
        text = ""
        async with aclosing(self._shared.aask([request])) as pieces:
            async for piece in pieces:
                text += piece.text
                yield completion(piece, text)

    def _chat_stream(self, request: Request, reader: ChatReader) -> ChatResponseGen:
        with closing(self._shared.ask([request])) as pieces:
            for piece in pieces:
                if (response := reader.next(piece, request.tokens)) is not None:
                    yield response

    async def _chat_astream(self, request: Request, reader: ChatReader) -> ChatResponseAsyncGen:
        async with aclosing(self._shared.aask([request])) as pieces:
            async for piece in pieces:
                if (response := reader.next(piece, request.tokens)) is not None:
                    yield response


VllmEngine = Vllm
"""Its name before it was LlamaIndex's too."""


def build_vllm_engine(section: LLMSection) -> Vllm:
    """Make the LLM, its engine arguments checked by name; nothing is loaded yet.

    Raises
    ------
    ConfigError
        If ``llm.model`` is empty, or ``llm.engine`` has a key that vLLM does not know.
    LLMError
        If vLLM is not installed.
    """
    return Vllm(
        model=section.model,
        temperature=section.temperature,
        top_p=section.top_p,
        max_new_tokens=section.max_tokens,
        sampling=section.sampling,
        vllm_kwargs=section.engine,
        is_chat_model={"auto": None, "chat": True, "completion": False}[section.endpoint],
        context_window=section.context_window,
        timeout=section.timeout,
        chat_template_kwargs=section.chat_template_kwargs,
        tool_parser=section.tool_parser,
    )
