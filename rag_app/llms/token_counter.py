"""How many tokens a served model makes of a prompt, without asking the server each time."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from rag_app.config.model_files import model_folder
from rag_app.errors import LLMError
from rag_app.llms.replicas import RefusedRequestError
from rag_app.llms.served_model import ServedModel, ask

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TEMPLATE_TOKENS = 128
"""More than known chat templates add: their marks, and a system prompt of their own."""

_MARKER = "marker"  # a plain word, which templates leave as it is
_PROBE = (
    "\n  Füße, naïve Ωmega — 第3章 ผู้ใช้ 👩‍🚀 e\u0301 {x: [1.5e-3]}\t\tfoo_bar\r\n\n"
    "def f(a):\n    return a**2  # 12345 67,890 <b>&amp;</b> [2] HNSW efConstruction\n "
)
"""Scripts, numbers, code and blanks that tokenizers and templates treat differently."""


class TokenCounter:
    """Counts prompts in a served model's own tokens. Safe for threads.

    With the model's own tokenizer, if it is on this machine and makes of a probe what the server
    makes of it; else by asking the server, once a text. A server that cannot say (only vLLM can)
    is taken to make a token of each byte, which is never too few.

    Parameters
    ----------
    endpoint
        ``llm.endpoint``.
    template
        Variables of the chat template.

    Attributes
    ----------
    is_chat
        Whether prompts go through a chat template.
    how
        How it counts, for people.
    """

    def __init__(
        self,
        http: httpx.Client,
        model: ServedModel,
        endpoint: str,
        template: Mapping[str, Any] | None = None,
    ) -> None:
        self._http = http
        self._template = dict(template or {})
        self._model = model.name
        self.is_chat = endpoint != "completion"
        self._text: Callable[[str], int] = self._bytes
        self._prompt: Callable[[str], int] = self._bytes_and_template
        self.how = "each byte taken for a token: the server cannot count them"
        try:
            marked = self._tokens(_MARKER)
        except RefusedRequestError as error:
            # vLLM answers 400 and names the template if the tokenizer has none.
            if endpoint != "auto" or error.status != 400 or "template" not in error.said:
                if error.status in {404, 405, 501}:  # another server than vLLM's
                    return
                raise
            self.is_chat = False
            marked = self._tokens(_MARKER)
        if marked is None:
            return
        self.how = "counted by the server"
        # Packing counts the same texts and prompts again while it looks for what fits.
        self._text = lru_cache(4096)(lambda text: self._asked(text, alone=True))
        self._prompt = lru_cache(4096)(self._asked)
        for source in (model.source, model.name):
            tokenizer = _load(source)
            if tokenizer is not None and (local := self._proven(tokenizer, marked)) is not None:
                self.how = "counted here"
                self._prompt = local
                self._text = partial(_length, tokenizer)
                return

    def count(self, prompt: str) -> int:
        """Count a prompt, chat template included where one is applied.

        Raises
        ------
        LLMError
            If the server is asked and does not say.
        """
        return self._prompt(prompt)

    def count_text(self, text: str) -> int:
        """Count a text alone. Raises as `count`."""
        return self._text(text)

    def _proven(self, tokenizer: "Tokenizer", marked: list[int]) -> Callable[[str], int] | None:
        """Return what counts with a tokenizer, if that and the template are the server's."""
        before = after = ""
        if self.is_chat:
            # Read off what the server made: its template need not be the model's own.
            rendered = tokenizer.decode(marked, skip_special_tokens=False)
            before, found, after = rendered.partition(_MARKER)
            if not found:
                return None
        expected = self._tokens(_PROBE)

        def encode(prompt: str) -> list[int]:
            ids: list[int] = tokenizer.encode(
                before + prompt + after, add_special_tokens=not self.is_chat
            ).ids
            return ids

        if encode(_PROBE) == expected:
            return lambda prompt: len(encode(prompt))
        if encode(_PROBE.strip()) == expected:  # as many chat templates do
            return lambda prompt: len(encode(prompt.strip()))
        return None

    def _asked(self, text: str, *, alone: bool = False) -> int:
        found = self._tokens(text, alone=alone)
        if found is None:
            raise LLMError(
                f"the server at {self._http.base_url} does not count tokens any more as it did",
                "look into the server's log",
            )
        return len(found)

    def _tokens(self, text: str, *, alone: bool = False) -> list[int] | None:
        """Ask the server for a prompt's tokens; None if it does not answer as vLLM does."""
        asked: dict[str, Any] = {"model": self._model}
        if self.is_chat and not alone:
            asked["messages"] = [{"role": "user", "content": text}]
            asked["add_generation_prompt"] = True
            if self._template:
                asked["chat_template_kwargs"] = self._template
        else:
            asked["prompt"] = text
            asked["add_special_tokens"] = not alone
        answer = ask(self._http, "POST", "/tokenize", asked)
        tokens = answer.get("tokens")
        if not isinstance(tokens, list) or answer.get("count") != len(tokens):
            return None
        return tokens

    @staticmethod
    def _bytes(text: str) -> int:
        return len(text.encode("utf-8", "replace"))

    @classmethod
    def _bytes_and_template(cls, prompt: str) -> int:
        return cls._bytes(prompt) + TEMPLATE_TOKENS


def _length(tokenizer: "Tokenizer", text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def _load(source: str) -> "Tokenizer | None":
    """Load the tokenizer of a folder, or of a hub name that was fetched before."""
    if not source:
        return None
    folder = model_folder(source)
    if folder is None:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            cached = try_to_load_from_cache(source, "tokenizer.json")
        except HFValidationError:  # a path of the server's machine
            return None
        if not isinstance(cached, str):
            return None
        folder = Path(cached).parent
    if not (folder / "tokenizer.json").is_file():
        return None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # the library raises bare ones: of another version, or damaged
        return None
    # A file may come with either: what is cut off or filled up would be counted wrongly.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
