"""What keeps a document from forging the prompt that it is quoted in.

A context may say "Question: … Answer: …", or write the tokens with which a chat template ends a
message and begins the system's. Contexts stand between markers that they cannot know, special
tokens are broken up so that they are read as text, and names have one line without brackets.
"""

import hmac
import re
import secrets
from collections.abc import Iterable, Sequence

from rag_app.schema import Source

_SECRET = secrets.token_bytes(32)
_MARKER_DIGITS = 12
_FAMILIES = (
    r"<\|[^|<>\n]{1,64}\|>"  # ChatML, Llama 3, Qwen, Phi, Falcon, Command, gpt-oss
    "|<\uff5c[^\uff5c<>\\n]{1,64}\uff5c>"  # DeepSeek
    r"|</?s>|<(?:bos|eos|pad|unk|mask|sop|eop)>"
    r"|<(?:start|end)_of_(?:turn|image|utterance)>"  # Gemma
    r"|<</?SYS>>|\[/?[A-Z]*(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS|THINK)\]"
    r"|\[g?MASK\]"
    r"|</?(?:think|tool_call|tool_response|tools)>"
)
_LONGEST_NAME = 200
_BRACKETS = str.maketrans("[]\uff3b\uff3d\u3010\u3011", "()()()")


class Neutralizer:
    """Breaks special tokens up with a space: what a tokenizer then sees is text.

    Parameters
    ----------
    tokens
        The model's own; those of the known families of models are broken up in any case.
    """

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        # A token of one character would have that character broken up wherever it stands.
        own = sorted({token for token in tokens if len(token.strip()) > 1}, key=len, reverse=True)
        whole = "|".join([*map(re.escape, own), _FAMILIES])
        first = "".join(map(re.escape, {"<", "[", *(token[0] for token in own)}))
        # A token's first character alone is matched: one may stand within another, "<|[INST]|>".
        # Its class comes first, so that the search skips what cannot begin one (260 times as fast).
        self._begins = re.compile(f"([{first}])(?<=(?=(?:{whole})).)", re.DOTALL)

    def __call__(self, text: str) -> str:
        """Return a text without special tokens: ``<|im_end|>`` becomes ``< |im_end|>``."""
        return self._begins.sub(r"\1 ", text)


KNOWN_FAMILIES = Neutralizer()
"""For a model whose tokenizer is not at hand."""


def name_line(name: str) -> str:
    """Make a title or path harmless in a list of sources: one line, not too long, no brackets."""
    line = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    cut = line if len(line) <= _LONGEST_NAME else f"{line[:_LONGEST_NAME]}…"
    return cut.translate(_BRACKETS)


def make_marker(sources: Sequence[Source], question: str) -> str:
    """Make the marker that fences these contexts.

    It cannot be guessed, nor learnt for the next time: it is keyed with a secret of this process,
    and another text has another marker. Over the same contexts it stays the same, so that a prefix
    cache serves them to the next question, too.
    """
    told = "\0".join(f"{source.id}\0{source.text}" for source in sources)
    shown = [question, *(f"{each.text}\0{each.title}\0{each.path}" for each in sources)]
    while True:
        told = hmac.digest(_SECRET, told.encode("utf-8", "surrogatepass"), "sha256").hex()
        marker = told[:_MARKER_DIGITS]
        # If a text has it after all, the digest of the digest is the next one to try.
        if not any(marker in text for text in shown):
            return marker


def fence(sources: Sequence[Source], question: str) -> list[str]:
    """Write each context, numbered, between markers, as the built-in template does."""
    marker = make_marker(sources, question)
    return [f"[{each.number}] <{marker}>\n{each.text}\n</{marker}>" for each in sources]
