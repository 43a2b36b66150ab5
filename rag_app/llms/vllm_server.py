"""Config → a LlamaIndex LLM on running servers, vLLM's above all, with OpenAI's endpoints.

LlamaIndex's `OpenAILike` does the talking, as its maintainers advise for vLLM. Here it is given
what it cannot know (model, window, chat template: asked of the server), and mended where it falls
short: sampling parameters per call win over the configured ones, each event loop has a client of
its own, a stream that breaks off is an error, and errors say what to do.
"""

import asyncio
import copy
import os
import re
import secrets
import threading
import weakref
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from contextlib import aclosing, closing, contextmanager
from contextvars import copy_context
from typing import Any, Self

import httpx
import openai
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse
from llama_index.llms.openai_like import OpenAILike
from pydantic import PrivateAttr, SecretStr

from rag_app.callbacks import own_callbacks
from rag_app.config.sections import SAMPLING, LLMSection
from rag_app.errors import LLMError, LLMUnavailableError, first_line
from rag_app.llms import PackableLLM, Reply
from rag_app.llms.replies import tidied
from rag_app.llms.served_model import find_model
from rag_app.llms.server_connection import ServerConnection, timeouts
from rag_app.llms.token_counter import TokenCounter
from rag_app.llms.transport import AsyncReplicaTransport
from rag_app.llms.window import choose_window

KEY_VARIABLE = "RAG_APP_LLM__API_KEY"
"""Where a process finds the key of an LLM that was made in another one."""

_MALFORMED = (AttributeError, LookupError, TypeError, ValueError, RecursionError, httpx.HTTPError)
"""What LlamaIndex and OpenAI's client end in on an answer of another shape."""

_ALSO = ("chat_template_kwargs", "structured_outputs", "cache_salt")
"""What vLLM takes in a request beside sampling parameters, and OpenAI's client does not know."""

_COUNTER = re.compile(r"^vllm:prefix_cache_(queries|hits)_total(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


class VllmServer(OpenAILike, PackableLLM):
    """`OpenAILike` on one or several vLLM servers. Safe for threads and event loops."""

    _connection: ServerConnection = PrivateAttr()
    _counter: TokenCounter | None = PrivateAttr()
    _counter_lock: threading.Lock = PrivateAttr()
    _aclients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, openai.AsyncOpenAI] = (
        PrivateAttr()
    )

    def __init__(
        self, connection: ServerConnection, counter: TokenCounter | None, **kwargs: Any
    ) -> None:
        super().__init__(
            max_retries=0,  # they are the transport's; more on top would multiply them
            http_client=connection.http,
            api_base=f"{connection.replicas.roots[0]}/v1",
            # Never OPENAI_API_KEY from the environment, which is not ours.
            api_key=connection.key or "none",
            **{"callback_manager": own_callbacks(), **kwargs},
        )
        self._connection = connection
        self._counter = counter
        self._counter_lock = threading.Lock()
        self._aclients = weakref.WeakKeyDictionary()
        # The transport's thread would run on without anybody who asks.
        weakref.finalize(self, connection.http.close)

    def __copy__(self) -> Self:
        copied = type(self).__new__(type(self))
        copied._open_again(self._connection.section, dict(self.__dict__))
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        copied = self.__copy__()
        for name, value in self.__dict__.items():
            if name != "callback_manager":  # its handlers are where events go, also the copy's
                copied.__dict__[name] = copy.deepcopy(value, memo)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        # `engine` may hold the hub's token, and no server is asked with it.
        # The key goes from process to process by the environment; handlers belong to a process.
        secret = {"api_key": SecretStr(""), "engine": {}}
        kept = self.__dict__.keys() - {"api_key", "callback_manager"}
        return {
            "section": self._connection.section.model_copy(update=secret),
            "fields": {name: self.__dict__[name] for name in kept},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        key = SecretStr(os.environ.get(KEY_VARIABLE, ""))
        section = state["section"].model_copy(update={"api_key": key})
        self._open_again(section, state["fields"])

    def _open_again(self, section: LLMSection, fields: dict[str, Any]) -> None:
        """Open connections of its own; nothing is asked of the server before it is needed."""
        self.__init__(ServerConnection(section), None, model=fields["model"])  # type: ignore[misc]
        self.__dict__.update(fields)

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "VllmServer"

    def count_tokens(self, prompt: str) -> int:
        """Count a prompt's tokens, chat template included.

        Raises
        ------
        LLMError
            If the server has to be asked, and does not say.
        """
        return self._counting().count(prompt)

    def count_text_tokens(self, text: str) -> int:
        """Count a text's tokens alone. Raises as `count_tokens`."""
        return self._counting().count_text(text)

    @property
    def how_it_counts(self) -> str:
        """How tokens are counted, for people."""
        return self._counting().how

    def generate_each(
        self, prompts: Sequence[str], **kwargs: Any
    ) -> Generator[tuple[int, Reply], None, None]:
        """Answer many prompts, ``llm.concurrency`` at a time, each as soon as it is finished.

        Raises
        ------
        LLMUnavailableError
            If no server can be reached, or they refuse the key; the rest is not sent any more.
        """
        asking: set[int] = set()

        def ask(prompt: str) -> CompletionResponse:
            asking.add(threading.get_ident())
            return self.complete(prompt, **kwargs)

        with ThreadPoolExecutor(self._connection.section.concurrency) as threads:
            # In the caller's context, so that a trace shows the calls below what asked for them.
            asked = {
                threads.submit(copy_context().run, ask, prompt): index
                for index, prompt in enumerate(prompts)
            }
            try:
                for answered in as_completed(asked):
                    error = answered.exception()
                    if isinstance(error, LLMError) and not isinstance(error, LLMUnavailableError):
                        yield asked[answered], error
                    else:
                        yield asked[answered], answered.result()
            finally:
                threads.shutdown(wait=False, cancel_futures=True)
                # Until none is left: what has not sent its request yet cannot be broken off.
                while running := [future for future in asked if future.running()]:
                    self._connection.transport.cancel(asking)
                    wait(running, timeout=0.1)

    def prefix_cache(self) -> tuple[int, int]:
        """Sum the replicas' counters of prompt tokens looked up in the prefix cache, and found."""
        looked_up = found = 0.0
        for root in self._connection.replicas.roots:
            metrics = self._connection.transport.look(
                root, "/metrics"
            )  # one that is down serves nothing
            for name, value in _COUNTER.findall((metrics or b"").decode("utf-8", "replace")):
                looked_up += float(value) if name == "queries" else 0.0
                found += float(value) if name == "hits" else 0.0
        return int(looked_up), int(found)

    def forget_prefixes(self) -> dict[str, Any]:
        """Return a new salt: vLLM finds a prompt only among those that were sent with the same."""
        return {"cache_salt": secrets.token_hex(16)}

    def close(self) -> None:
        """Close the connections."""
        self._connection.http.close()

    def _counting(self) -> TokenCounter:
        with self._counter_lock:
            if self._counter is None:
                section = self._connection.section
                model = find_model(self._connection.http, self.model)
                self._counter = TokenCounter(
                    self._connection.http, model, section.endpoint, section.chat_template_kwargs
                )
            return self._counter

    def _get_aclient(self) -> openai.AsyncOpenAI:
        loop = asyncio.get_running_loop()
        # httpx ties connections to the loop that opened them, and fails in another one.
        if loop not in self._aclients:
            self._aclients[loop] = openai.AsyncOpenAI(
                api_key=self.api_key,
                base_url=self.api_base,
                max_retries=0,
                timeout=timeouts(self.timeout),
                http_client=httpx.AsyncClient(
                    transport=AsyncReplicaTransport(self._connection.replicas),
                    timeout=timeouts(self.timeout),
                    trust_env=False,
                ),
            )
        return self._aclients[loop]

    def _get_credential_kwargs(self, is_async: bool = False) -> dict[str, Any]:
        return {**super()._get_credential_kwargs(is_async), "timeout": timeouts(self.timeout)}

    def _get_model_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        """Let a call's own parameters win, and send what OpenAI does not know in the body."""
        asked = {**self.additional_kwargs, **kwargs}
        body = {**super()._get_model_kwargs(**kwargs), **asked}
        extra = {name: body.pop(name) for name in (*SAMPLING, *_ALSO) if name in body}
        if extra := {**extra, **body.get("extra_body", {})}:
            body["extra_body"] = extra
        if body.get("stream"):
            # Else a stream does not tell its tokens.
            body["stream_options"] = {"include_usage": True}
        return body

    # LlamaIndex's public methods call these: errors are put into words within its spans.
    def _chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        with self._explained():
            response: ChatResponse = super()._chat(messages, **kwargs)
            return tidied(response)

    def _complete(self, prompt: str, **kwargs: Any) -> CompletionResponse:
        with self._explained():
            response: CompletionResponse = super()._complete(prompt, **kwargs)
            return tidied(response)

    def _stream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> Iterator[ChatResponse]:
        return self._watched(super()._stream_chat(messages, **kwargs))

    def _stream_complete(self, prompt: str, **kwargs: Any) -> Iterator[CompletionResponse]:
        return self._watched(super()._stream_complete(prompt, **kwargs))

    async def _achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        with self._explained():
            response: ChatResponse = await super()._achat(messages, **kwargs)
            return tidied(response)

    async def _acomplete(self, prompt: str, **kwargs: Any) -> CompletionResponse:
        with self._explained():
            response: CompletionResponse = await super()._acomplete(prompt, **kwargs)
            return tidied(response)

    async def _astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> AsyncIterator[ChatResponse]:
        return self._awatched(await super()._astream_chat(messages, **kwargs))

    async def _astream_complete(
        self, prompt: str, **kwargs: Any
    ) -> AsyncIterator[CompletionResponse]:
        return self._awatched(await super()._astream_complete(prompt, **kwargs))

    def _watched(self, stream: Any) -> Iterator[Any]:
        finished = False
        with self._explained(), closing(stream):
            for reply in map(tidied, stream):
                finished = finished or "finish_reason" in reply.additional_kwargs
                yield reply
        # A server that dies closes the connection, which is a stream's end for OpenAI's client.
        if not finished:
            raise self._broken_off()

    async def _awatched(self, stream: Any) -> AsyncIterator[Any]:
        finished = False
        with self._explained():
            async with aclosing(stream):
                async for reply in stream:
                    finished = finished or "finish_reason" in tidied(reply).additional_kwargs
                    yield reply
        if not finished:
            raise self._broken_off()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what OpenAI's client raises, and what malformed answers end in, into `LLMError`."""
        try:
            yield
        except openai.OpenAIError as error:
            # The transport's own, which OpenAI's client takes for a connection that failed.
            if isinstance(error.__cause__, LLMError):
                raise error.__cause__ from None
            raise LLMError(
                f"the request to {self.api_base} failed: {error}", "look into the server's log"
            ) from error
        except _MALFORMED as error:
            if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
                raise  # the caller's own
            raise LLMError(
                f"the server at {self.api_base} answers with what is no answer: "
                f"{type(error).__name__}: {first_line(error)}",
                "set llm.base_url to a vLLM server, or look into this one's log",
            ) from error

    def _broken_off(self) -> LLMError:
        replicas = self._connection.replicas
        # Which one it was, OpenAI's client does not tell.
        return replicas.broken_off(" or ".join(replicas.roots), "it closed the connection")


# OpenAILike's methods each call OpenAI's of the same name, and LlamaIndex gives both a span:
# without this, every request would be two spans, one within the other.
for _name in ("complete", "stream_complete", "chat", "stream_chat"):
    for _method in (_name, f"a{_name}"):
        setattr(VllmServer, _method, getattr(OpenAILike, _method).__wrapped__)


def build_vllm_server(section: LLMSection) -> VllmServer:
    """Connect to the configured servers, and ask them for model, window and chat template.

    Raises
    ------
    LLMError
        If none answers as a vLLM server, refuses the key, or does not serve ``llm.model``.
    ConfigError
        If ``llm.context_window`` or ``llm.max_tokens`` is more than the server's window.
    """
    connection = ServerConnection(section)
    http, root = connection.http, connection.replicas.roots[0]
    try:
        model = find_model(http, section.model)
        real = model.window or section.context_window
        if real is None:
            raise LLMError(
                f"the server at {root} does not report the window of {model.name!r} "
                "(max_model_len), as vLLM does",
                "set llm.context_window to the tokens that the server was started with",
            )
        whose = f"the server at {root}"
        window = choose_window(section.context_window, section.max_tokens, real, whose)
        counter = TokenCounter(http, model, section.endpoint, section.chat_template_kwargs)
    except BaseException:
        http.close()
        raise
    template = {"chat_template_kwargs": section.chat_template_kwargs}
    if not (counter.is_chat and section.chat_template_kwargs):
        template = {}
    return VllmServer(
        connection,
        counter,
        model=model.name,
        context_window=window,
        is_chat_model=counter.is_chat,
        is_function_calling_model=bool(section.tool_parser),
        strict=True,  # arguments of calls keep to the tool's schema
        should_use_structured_outputs=counter.is_chat,  # vLLM's servers guide; others ignore it
        temperature=section.temperature,
        max_tokens=section.max_tokens,
        timeout=section.timeout,
        additional_kwargs={"top_p": section.top_p, **section.sampling, **template},
    )
