"""Prompts and conversations → the token ids that the engine's model wants."""

import copy
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.llms import ChatMessage

from rag_app.errors import InputError
from rag_app.llms.engine_messages import plain_messages

if TYPE_CHECKING:
    import vllm


class EnginePrompts:
    """An engine's tokenizer and chat template. Safe for threads.

    Parameters
    ----------
    llm
        The engine that the token ids are for.

    Attributes
    ----------
    has_template
        Whether the model comes with a chat template.
    tokenizer
        To look tokens up; `of_text` and the like are for making them.
    """

    def __init__(self, llm: "vllm.LLM") -> None:
        # A copy, behind a lock: fast tokenizers are not safe for threads.
        self.tokenizer = copy.deepcopy(llm.get_tokenizer())
        self.tokenizer.model_max_length = sys.maxsize  # its warning is not needed: we check
        self._lock = threading.Lock()
        self._template = llm.chat_template
        self.has_template = bool(self._template or getattr(self.tokenizer, "chat_template", None))

    def of_text(self, text: str) -> list[int]:
        """Return a text's tokens, with the special ones that the model begins with."""
        with self._lock:
            return list(self.tokenizer.encode(text))

    def count(self, text: str) -> int:
        """Count a text's own tokens."""
        with self._lock:
            return len(self.tokenizer.encode(text, add_special_tokens=False))

    def of_messages(self, messages: Sequence[ChatMessage], **template: Any) -> list[int]:
        """Return a conversation's tokens, through the chat template.

        Parameters
        ----------
        template
            ``tools``, another ``chat_template``, and further variables of the template, e.g.
            ``enable_thinking``.

        Raises
        ------
        InputError
            If a message is not text alone, the template refuses them, or knows no tools.
        """
        plain = plain_messages(messages)
        asked: dict[str, Any] = {
            "add_generation_prompt": True,
            "chat_template": self._template,
            **template,
        }
        if asked.get("tools"):
            self._check_tools(asked)
        with self._lock:
            try:
                text = self.tokenizer.apply_chat_template(plain, tokenize=False, **asked)
            except Exception as error:  # Jinja's, or what the template itself raises
                raise InputError(
                    f"the model's chat template refuses the messages: {error}",
                    'change their roles or order, or set llm.endpoint to "completion"',
                ) from error
            # The template has written the special tokens already.
            return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _check_tools(self, asked: Mapping[str, Any]) -> None:
        template = self.tokenizer.get_chat_template(asked["chat_template"], tools=asked["tools"])
        # Jinja drops a variable that a template does not use: the model would never hear of tools.
        if not re.search(r"\btools\b", template):
            raise InputError(
                "the model's chat template knows no tools",
                "take a model that was trained to call tools, or give llm.engine.chat_template a "
                "template that tells it of them",
            )

    def special_tokens(self) -> frozenset[str]:
        """Return what the tokenizer takes for a token of its own."""
        with self._lock:
            added = getattr(self.tokenizer, "added_tokens_decoder", {}).values()
            special = {token.content for token in added if token.special}
            # Both, as `all_special_tokens` lacks added tokens that have no role such as eos.
            return frozenset({*special, *map(str, self.tokenizer.all_special_tokens)})
