"""Config → a LlamaIndex LLM on a vLLM engine inside this process.

All of LlamaIndex's methods stream, are safe for any number of threads and event loops, and are
batched together by vLLM's scheduler. LlamaIndex's own `Vllm` does none of this, and ignores the
model's chat template and window.
"""

import asyncio
import copy
import secrets
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.generic_utils import messages_to_prompt
from llama_index.core.base.llms.types import LogProb
from llama_index.core.llms import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
    TextBlock,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from pydantic import PrivateAttr

from rag_app.config.sections import LLMSection
from rag_app.errors import InputError, RagAppError
from rag_app.llms import PackableLLM, Reply
from rag_app.llms.engine_start import engine_arguments
from rag_app.llms.engine_thread import Piece, Request
from rag_app.llms.sampling import sampling_parameters
from rag_app.llms.shared_engine import SharedEngine
from rag_app.llms.window import choose_window

if TYPE_CHECKING:
    import vllm


class VllmEngine(PackableLLM):
    """A vLLM engine in this process, started when it is first asked something.

    All of one configuration's `VllmEngine` share one engine; the last one closed stops it.

    Sampling parameters are those of the configuration; each call's own (``temperature``, ``stop``,
    ``seed``, … by the names of vLLM's `SamplingParams`) win over them, and both over the model's
    generation config.

    Parameters
    ----------
    section
        With a checked ``engine`` table; `build_vllm_engine` does that.
    arguments
        What `vllm.LLM` is called with.
    """

    _section: LLMSection = PrivateAttr()
    _shared: SharedEngine = PrivateAttr()
    _tokenizer: Any = PrivateAttr(default=None)
    _tokenizer_lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def __init__(self, section: LLMSection, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self._section = section
        self._shared = SharedEngine(arguments, section.timeout)

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "VllmEngine"

    @property
    def engine(self) -> "vllm.LLM":
        """VLLM's own object, started if need be. Read it; only the engine's thread may step it."""
        return self._shared.engine()

    @property
    def metadata(self) -> LLMMetadata:
        """Window, answer length, model and kind, from the engine's own configuration."""
        model = self.engine.model_config
        return LLMMetadata(
            context_window=choose_window(
                self._section, int(model.max_model_len), f"the engine of {model.model}"
            ),
            num_output=self._section.max_tokens,
            is_chat_model=self._is_chat,
            model_name=str(model.served_model_name or model.model),
        )

    def close(self) -> None:
        """Let go of the engine, which stops and frees its memory when nobody else uses it."""
        self._shared.close()

    def unfinished(self) -> int:
        """Count the requests that the engine still works on."""
        return self._shared.unfinished()

    def count_tokens(self, prompt: str) -> int:
        """Count a prompt's tokens as the engine gets them, chat template included."""
        return len(self._tokens_of_prompt(prompt))

    def count_text_tokens(self, text: str) -> int:
        """Count a text's tokens alone."""
        with self._tokenizer_lock:
            return len(self._own_tokenizer().encode(text, add_special_tokens=False))

    def special_tokens(self) -> frozenset[str]:
        """Ask the engine's tokenizer."""
        with self._tokenizer_lock:
            tokenizer = self._own_tokenizer()
            added = getattr(tokenizer, "added_tokens_decoder", {}).values()
            special = {token.content for token in added if token.special}
            return frozenset({*special, *map(str, tokenizer.all_special_tokens)})

    def prefix_cache(self) -> tuple[int, int]:
        """Return how many prompt tokens the engine has looked up in its prefix cache, and found."""
        return self._shared.prefix_cache()

    def forget_prefixes(self) -> dict[str, Any]:
        """Return a new salt: vLLM finds a prompt only among those that were sent with the same."""
        return {"cache_salt": secrets.token_hex(16)}

    # At once

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt: through the chat template, as a user's message, if the model has one."""
        tokens = self._tokens_of_prompt(prompt, formatted=formatted)
        return _completion(self._whole([self._request(tokens, kwargs)])[0])

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation, through the model's chat template."""
        request = self._request(self._tokens_of_messages(messages), kwargs)
        return _chat(_completion(self._whole([request])[0]))

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Answer a prompt without blocking the event loop."""
        tokens = await asyncio.to_thread(self._tokens_of_prompt, prompt, formatted=formatted)
        return _completion(await self._awhole(self._request(tokens, kwargs)))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation without blocking the event loop."""
        tokens = await asyncio.to_thread(self._tokens_of_messages, messages)
        return _chat(_completion(await self._awhole(self._request(tokens, kwargs))))

    # Piece by piece

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Answer a prompt piece by piece; closing the generator aborts the request."""
        tokens = self._tokens_of_prompt(prompt, formatted=formatted)
        return self._stream(self._request(tokens, kwargs, streaming=True))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer a conversation piece by piece; closing the generator aborts the request."""
        request = self._request(self._tokens_of_messages(messages), kwargs, streaming=True)
        return (_chat(response) for response in self._stream(request))

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Answer a prompt piece by piece; closing or cancelling aborts the request."""
        tokens = await asyncio.to_thread(self._tokens_of_prompt, prompt, formatted=formatted)
        return self._astream(self._request(tokens, kwargs, streaming=True))

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Answer a conversation piece by piece; closing or cancelling aborts the request."""
        tokens = await asyncio.to_thread(self._tokens_of_messages, messages)
        return _achats(self._astream(self._request(tokens, kwargs, streaming=True)))

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
        for index, prompt in enumerate(prompts):
            try:
                requests.append(self._request(self._tokens_of_prompt(prompt), kwargs))
            except InputError as error:  # this prompt's own: too long for the window
                yield index, error
            else:
                asked.append(index)
        with closing(self._shared.ask(requests, sparing=True)) as pieces:
            for piece in pieces:
                yield asked[piece.index], piece.error or _completion(piece)

    # How

    @property
    def _is_chat(self) -> bool:
        if self._section.endpoint != "auto":
            return self._section.endpoint == "chat"
        llm = self.engine
        return bool(llm.chat_template or getattr(llm.get_tokenizer(), "chat_template", None))

    def _tokens_of_prompt(self, prompt: str, *, formatted: bool = False) -> list[int]:
        if self._is_chat and not formatted:
            return self._tokens_of_messages([ChatMessage(role=MessageRole.USER, content=prompt)])
        with self._tokenizer_lock:
            return list(self._own_tokenizer().encode(prompt))

    def _tokens_of_messages(self, messages: Sequence[ChatMessage]) -> list[int]:
        if not self._is_chat:
            return self._tokens_of_prompt(messages_to_prompt(messages), formatted=True)
        plain = [{"role": message.role.value, "content": _text(message)} for message in messages]
        with self._tokenizer_lock:
            try:
                text = self._own_tokenizer().apply_chat_template(
                    plain,
                    tokenize=False,
                    add_generation_prompt=True,
                    chat_template=self.engine.chat_template,
                )
            except Exception as error:  # Jinja's, or what the template itself raises
                raise InputError(
                    f"the model's chat template refuses the messages: {error}",
                    'change their roles or order, or set llm.endpoint to "completion"',
                ) from error
            # The template has written the special tokens already.
            return list(self._own_tokenizer().encode(text, add_special_tokens=False))

    def _own_tokenizer(self) -> Any:
        """Return a copy of the engine's tokenizer: fast tokenizers are not safe for threads."""
        if self._tokenizer is None:
            self._tokenizer = copy.deepcopy(self.engine.get_tokenizer())
            self._tokenizer.model_max_length = sys.maxsize  # its warning is not needed: we check
        return self._tokenizer

    def _request(
        self, tokens: Sequence[int], kwargs: Mapping[str, Any], *, streaming: bool = False
    ) -> Request:
        model = self.engine.model_config
        given = dict(kwargs)
        salt = given.pop("cache_salt", "")
        asked = {
            **model.get_diff_sampling_param(),
            "temperature": self._section.temperature,
            "top_p": self._section.top_p,
            "max_tokens": self._section.max_tokens,
            **self._section.sampling,
            **given,
        }
        sampling = sampling_parameters(asked, streaming=streaming)
        window = int(model.max_model_len)
        if len(tokens) + (sampling.max_tokens or 1) > window:
            raise InputError(
                f"the prompt has {len(tokens)} tokens, which with an answer of up to "
                f"{sampling.max_tokens} is more than the window of {window}",
                "shorten the prompt, lower llm.max_tokens, or raise llm.engine.max_model_len",
            )
        return Request(tokens, sampling, salt)

    def _whole(self, requests: Sequence[Request]) -> list[Piece]:
        with closing(self._shared.ask(requests)) as pieces:
            return list(pieces)

    async def _awhole(self, request: Request) -> Piece:
        async with aclosing(self._shared.aask([request])) as pieces:
            return [piece async for piece in pieces][-1]

    def _stream(self, request: Request) -> CompletionResponseGen:
        text = ""
        with closing(self._shared.ask([request])) as pieces:
            for piece in pieces:
                text += piece.text
                yield _completion(piece, text)

    async def _astream(self, request: Request) -> CompletionResponseAsyncGen:
        text = ""
        async with aclosing(self._shared.aask([request])) as pieces:
            async for piece in pieces:
                text += piece.text
                yield _completion(piece, text)


def build_vllm_engine(section: LLMSection) -> VllmEngine:
    """Make the LLM, its engine arguments checked by name; nothing is loaded yet.

    Raises
    ------
    ConfigError
        If ``llm.model`` is empty, or ``llm.engine`` has a key that vLLM does not know.
    LLMError
        If vLLM is not installed.
    """
    return VllmEngine(section, engine_arguments(section))


def _text(message: ChatMessage) -> str:
    for block in message.blocks:
        if not isinstance(block, TextBlock):
            raise InputError(
                f"a message has a {type(block).__name__}, and only text is sent to the engine",
                "send text alone",
            )
    return message.content or ""


def _completion(piece: Piece, text: str | None = None) -> CompletionResponse:
    """Make LlamaIndex's response of a piece; `text` is the whole text so far, of a stream."""
    usage = {
        "prompt_tokens": piece.prompt_tokens,
        "cached_tokens": piece.cached_tokens,
        "completion_tokens": piece.completion_tokens,
        "total_tokens": piece.prompt_tokens + piece.completion_tokens,
    }
    return CompletionResponse(
        text=piece.text if text is None else text,
        delta=None if text is None else piece.text,
        raw={"usage": usage, "finish_reason": piece.finish_reason},
        logprobs=None if piece.logprobs is None else [_likeliest(each) for each in piece.logprobs],
        additional_kwargs={**usage, "finish_reason": piece.finish_reason},
    )


def _likeliest(position: Mapping[int, Any]) -> list[LogProb]:
    """Make LlamaIndex's log probabilities of vLLM's for one token: the chosen one comes first."""
    return [
        LogProb(
            token=found.decoded_token or "",
            logprob=found.logprob,
            bytes=list((found.decoded_token or "").encode()),
        )
        for found in position.values()
    ]


def _chat(response: CompletionResponse) -> ChatResponse:
    return ChatResponse(
        message=ChatMessage(role=MessageRole.ASSISTANT, content=response.text),
        delta=response.delta,
        raw=response.raw,
        logprobs=response.logprobs,
        additional_kwargs=response.additional_kwargs,
    )


async def _achats(responses: CompletionResponseAsyncGen) -> ChatResponseAsyncGen:
    async with aclosing(responses):
        async for response in responses:
            yield _chat(response)
