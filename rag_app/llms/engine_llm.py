"""What a vLLM engine in this process is made with, how it is copied, and what it is asked."""

import atexit
import copy
import inspect
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import llama_index.llms.vllm
from llama_index.core.base.llms.generic_utils import messages_to_prompt
from llama_index.core.llms import (
    ChatMessage,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.llms.llm import default_completion_to_prompt
from pydantic import Field, PrivateAttr

from rag_app.callbacks import own_callbacks
from rag_app.errors import ConfigError, InputError
from rag_app.llms import PackableLLM
from rag_app.llms.engine_replies import ChatReader
from rag_app.llms.engine_requests import Request
from rag_app.llms.engine_start import all_arguments, engine_arguments
from rag_app.llms.guided import GuidedLLM
from rag_app.llms.sampling import sampling_parameters
from rag_app.llms.shared_engine import SharedEngine
from rag_app.llms.tool_calls import TOOL_ARGUMENTS, ToolReader, check_tool_parser
from rag_app.llms.window import choose_window

if TYPE_CHECKING:
    import vllm

# LlamaIndex's package has torch imported at the exit of each process that has imported it, to empty
# a GPU's cache. The engines here are stopped at exit, and whoever has no torch needs none.
atexit.unregister(llama_index.llms.vllm.Vllm.close)

_TAKEN = inspect.signature(llama_index.llms.vllm.Vllm.__init__)
_ENGINE_FIELDS = ("tensor_parallel_size", "trust_remote_code", "dtype", "download_dir")
_SAMPLING_FIELDS = (
    *("temperature", "n", "best_of", "presence_penalty", "frequency_penalty", "top_p", "top_k"),
    *("stop", "ignore_eos", "logprobs"),
)


class EngineLLM(llama_index.llms.vllm.Vllm, GuidedLLM, PackableLLM):
    """A hold on an engine: fields, copies, window, tokens. `Vllm` adds the asking."""

    model: str | None = Field(
        default="facebook/opt-125m", description="Hub name or folder of the model."
    )
    temperature: float = Field(default=1.0, description="0 always takes the likeliest token.")
    trust_remote_code: bool | None = Field(
        default=False, description="Whether code that comes with the model is run."
    )
    api_url: str = Field(default="", description="Not used: see rag_app.llms.VllmServer.")
    is_chat_model: bool | None = Field(  # type: ignore[assignment]
        default=None,
        description="Whether prompts go through the chat template; None: if there is one.",
    )
    sampling: dict[str, Any] = Field(
        default_factory=dict, description="Further sampling parameters, by vLLM's names."
    )
    context_window: int | None = Field(
        default=None, description="Tokens of prompt and answer together; None: the engine's."
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Variables of the chat template."
    )
    tool_parser: str = Field(
        default="", description="vLLM's parser of the model's calls of tools, e.g. \"hermes\"."
    )
    timeout: float = Field(
        default=120.0, description="Seconds without a step of the engine, after which calls fail."
    )

    _shared: SharedEngine = PrivateAttr()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        ours = type(self).model_fields.keys() - _TAKEN.parameters.keys()
        own = {name: kwargs.pop(name) for name in ours & kwargs.keys()}
        # By LlamaIndex's signature, so that positional arguments stay where its callers put them.
        given = _TAKEN.bind(self, *args, **kwargs).arguments
        del given["self"]
        fields = {name: value for name, value in {**given, **own}.items() if value is not None}
        self._begin(fields)
        if self.api_url:
            raise ConfigError(
                f"api_url is {self.api_url!r}, and Vllm is an engine in this process",
                'use rag_app.llms.build_llm with llm.backend = "vllm-server"',
            )
        engine_arguments(self.model or "", self._engine_options())  # checks them
        if self.tool_parser:
            check_tool_parser(self.tool_parser)

    def _begin(self, fields: dict[str, Any]) -> None:
        fields.setdefault("callback_manager", own_callbacks())
        # Past the constructor of LlamaIndex's own, which would load the model.
        super(llama_index.llms.vllm.Vllm, self).__init__(**fields)
        self._join()

    def _join(self) -> None:
        # Not `engine_arguments`: its checks import vLLM, and a copy was checked when it was made.
        arguments = all_arguments(self.model or "", self._engine_options())
        self._shared = SharedEngine(arguments, self.timeout)

    def __copy__(self) -> Self:
        copied = super().__copy__()
        # A hold of its own: closed with the original's, the engine would be gone under the copy.
        copied._join()
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        copied = self.__copy__()
        for name, value in self.__dict__.items():
            if name != "callback_manager":  # its handlers are where events go, also the copy's
                copied.__dict__[name] = copy.deepcopy(value, memo)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        given = self.model_fields_set - {"callback_manager"}  # handlers belong to a process
        state = {name: self.__dict__[name] for name in given}
        if "vllm_kwargs" in state:  # a token goes from process to process by the environment
            state["vllm_kwargs"] = {**state["vllm_kwargs"]}
            state["vllm_kwargs"].pop("hf_token", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._begin(dict(state))

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "Vllm"

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
                self.context_window,
                self.max_new_tokens,
                int(model.max_model_len),
                f"the engine of {model.model}",
            ),
            num_output=self.max_new_tokens,
            is_chat_model=self._is_templated if self.is_chat_model is None else self.is_chat_model,
            model_name=str(model.served_model_name or model.model),
            is_function_calling_model=bool(self.tool_parser),
        )

    def to_payload(self) -> dict[str, Any]:
        """Return what events say of the LLM; of an engine that does not run yet, what is known.

        Events are sent from event loops, too, which are not to wait for an engine's start.
        """
        if self._shared.is_running:
            return super().to_payload()
        return {
            "class_name": self.class_name(),
            "model_name": self.model,
            "num_output": self.max_new_tokens,
        }

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
        return self._shared.prompts().count(text)

    def special_tokens(self) -> frozenset[str]:
        """Ask the engine's tokenizer."""
        return self._shared.prompts().special_tokens()

    def prefix_cache(self) -> tuple[int, int]:
        """Return how many prompt tokens the engine has looked up in its prefix cache, and found."""
        return self._shared.prefix_cache()

    def forget_prefixes(self) -> dict[str, Any]:
        """Return a new salt: vLLM finds a prompt only among those that were sent with the same."""
        return {"cache_salt": secrets.token_hex(16)}

    # What it is asked

    @property
    def _is_templated(self) -> bool:
        """Whether prompts go through the model's chat template."""
        # LlamaIndex fills both in; what is not its default was given, and stands for the template.
        if self.is_chat_model is False or not (
            self.messages_to_prompt is messages_to_prompt
            and self.completion_to_prompt is default_completion_to_prompt
        ):
            return False
        return self.is_chat_model or self._shared.prompts().has_template

    def _tokens_of_prompt(
        self, prompt: str, *, formatted: bool = False, **template: Any
    ) -> list[int]:
        if formatted:
            return self._shared.prompts().of_text(prompt)
        if self._is_templated:
            message = ChatMessage(role=MessageRole.USER, content=prompt)
            return self._tokens_of_messages([message], **template)
        return self._shared.prompts().of_text((self.completion_to_prompt or str)(prompt))

    def _tokens_of_messages(self, messages: Sequence[ChatMessage], **template: Any) -> list[int]:
        if self._is_templated:
            variables = {**self.chat_template_kwargs, **template}
            return self._shared.prompts().of_messages(messages, **variables)
        if template.get("tools"):
            raise InputError(
                "prompts do not go through a chat template, which would tell the model of tools",
                "leave out messages_to_prompt, completion_to_prompt and is_chat_model; "
                'llm.endpoint has to be "auto" or "chat"',
            )
        return self._shared.prompts().of_text(
            (self.messages_to_prompt or messages_to_prompt)(messages)
        )

    def _prompt_request(
        self, prompt: str, formatted: bool, kwargs: Mapping[str, Any], *, streaming: bool = False
    ) -> Request:
        asked = dict(kwargs)
        template = _template_variables(asked)
        tokens = self._tokens_of_prompt(prompt, formatted=formatted, **template)
        return self._request(tokens, asked, streaming=streaming)

    def _chat_request(
        self, messages: Sequence[ChatMessage], kwargs: Mapping[str, Any], *, streaming: bool = False
    ) -> tuple[Request, ChatReader]:
        """Return what to ask the engine, and what reads its answer."""
        asked = dict(kwargs)
        template = _template_variables(asked)
        tools = {name: asked.pop(name) for name in TOOL_ARGUMENTS if name in asked}
        reader = ChatReader()
        if tools.get("tools"):
            # The template tells the model of the tools; the parser below reads what it then says.
            template["tools"] = tools["tools"]
        tokens = self._tokens_of_messages(messages, **template)
        if tools.get("tools"):
            if "structured_outputs" in asked:
                tools["structured_outputs"] = asked["structured_outputs"]
            reader = ToolReader(
                self.engine.model_config,
                self._shared.prompts().tokenizer,
                self.tool_parser,
                messages,
                tools,
                {**self.chat_template_kwargs, **template},
            )
            asked.update(reader.sampling)
        return self._request(tokens, asked, streaming=streaming), reader

    def _request(
        self, tokens: Sequence[int], kwargs: Mapping[str, Any], *, streaming: bool = False
    ) -> Request:
        model = self.engine.model_config
        given = dict(kwargs)
        salt, lora = given.pop("cache_salt", ""), given.pop("lora_request", None)
        # Of the fields those that were set: the class's temperature, 1.0, would hide the model's.
        fields = [name for name in _SAMPLING_FIELDS if name in self.model_fields_set]
        asked = {
            **model.get_diff_sampling_param(),
            **{name: getattr(self, name) for name in fields},
            "max_tokens": self.max_new_tokens,
            **self.sampling,
            **given,
        }
        sampling = sampling_parameters(asked, streaming=streaming)
        window = int(model.max_model_len)
        # Without a limit an answer takes what room is left, which has to be one token at least.
        if len(tokens) + (sampling.max_tokens or 1) > window:
            raise InputError(
                f"the prompt has {len(tokens)} tokens, which with an answer of up to "
                f"{sampling.max_tokens} is more than the window of {window}",
                "shorten the prompt, lower llm.max_tokens, or raise llm.engine.max_model_len",
            )
        return Request(tokens, sampling, salt, lora)

    def _engine_options(self) -> dict[str, Any]:
        named = [name for name in _ENGINE_FIELDS if name in self.model_fields_set]
        return {**{name: getattr(self, name) for name in named}, **self.vllm_kwargs}


def _template_variables(asked: dict[str, Any]) -> dict[str, Any]:
    """Take out of what is asked what is the chat template's."""
    template = dict(asked.pop("chat_template_kwargs", None) or {})
    if (other := asked.pop("chat_template", None)) is not None:
        template["chat_template"] = other
    return template
