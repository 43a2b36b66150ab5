"""Prompts and conversations → the token ids that the engine's model wants."""

import copy
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.llms import ChatMessage, TextBlock

from rag_app.errors import InputError

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
    """

    def __init__(self, llm: "vllm.LLM") -> None:
        # A copy, behind a lock: fast tokenizers are not safe for threads.
        self._tokenizer = copy.deepcopy(llm.get_tokenizer())
        self._tokenizer.model_max_length = sys.maxsize  # its warning is not needed: we check
        self._lock = threading.Lock()
        self._template = llm.chat_template
        self.has_template = bool(self._template or getattr(self._tokenizer, "chat_template", None))

    def of_text(self, text: str) -> list[int]:
        """Return a text's tokens, with the special ones that the model begins with."""
        with self._lock:
            return list(self._tokenizer.encode(text))

    def count(self, text: str) -> int:
        """Count a text's own tokens."""
        with self._lock:
            return len(self._tokenizer.encode(text, add_special_tokens=False))

    def of_messages(self, messages: Sequence[ChatMessage], **template: Any) -> list[int]:
        """Return a conversation's tokens, through the chat template.

        Parameters
        ----------
        template
            Further variables of the template, e.g. ``enable_thinking``.

        Raises
        ------
        InputError
            If a message is not text alone, or the template refuses them.
        """
        plain = [_plain(message) for message in messages]
        asked: Mapping[str, Any] = {
            "add_generation_prompt": True,
            "chat_template": self._template,
            **template,
        }
        with self._lock:
            try:
                text = self._tokenizer.apply_chat_template(plain, tokenize=False, **asked)
            except Exception as error:  # Jinja's, or what the template itself raises
                raise InputError(
                    f"the model's chat template refuses the messages: {error}",
                    'change their roles or order, or set llm.endpoint to "completion"',
                ) from error
            # The template has written the special tokens already.
            return list(self._tokenizer.encode(text, add_special_tokens=False))

    def special_tokens(self) -> frozenset[str]:
        """Return what the tokenizer takes for a token of its own."""
        with self._lock:
            added = getattr(self._tokenizer, "added_tokens_decoder", {}).values()
            special = {token.content for token in added if token.special}
            return frozenset({*special, *map(str, self._tokenizer.all_special_tokens)})


def _plain(message: ChatMessage) -> dict[str, str]:
    for block in message.blocks:
        if not isinstance(block, TextBlock):
            raise InputError(
                f"a message has a {type(block).__name__}, and only text is sent to the engine",
                "send text alone",
            )
    return {"role": message.role.value, "content": message.content or ""}
