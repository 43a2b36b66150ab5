"""Pack contexts into the model's window: keep the best that fit, order them (best last)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from llama_index.core.node_parser.text.utils import split_by_sentence_tokenizer
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from rag_app.answering.confidence import Verdict
from rag_app.errors import ConfigError
from rag_app.retrieval.expansion import Passage, shrink
from rag_app.schema import LedgerEntry

Render = Callable[[Sequence[NodeWithScore]], str]
CountTokens = Callable[[str], int]
Order = Callable[[Sequence[NodeWithScore]], list[NodeWithScore]]


@dataclass(frozen=True)
class Packed:
    """What goes into the prompt.

    Attributes
    ----------
    nodes
        In prompt order: best last, unless ``prompt.order`` says otherwise.
    ledger
        What became of each retrieved node, best first.
    prompt
        As rendered over `nodes`.
    prompt_tokens
        Its length in the LLM's own tokens.
    budget
        What it may have: the window less the answer.
    verdict
        How sure it is that the contexts answer the question; None where nobody judged.
    """

    nodes: list[NodeWithScore]
    ledger: tuple[LedgerEntry, ...]
    prompt: str
    prompt_tokens: int
    budget: int
    verdict: Verdict | None = None

    @property
    def is_refused(self) -> bool:
        """Whether there is nothing to answer from: no context, or none that is likely enough."""
        return not self.nodes or (self.verdict is not None and not self.verdict.is_answered)


def best_last(nodes: Sequence[NodeWithScore]) -> list[NodeWithScore]:
    """Turn retrieval's order (best first) into the prompt's: the best right before the question.

    Models use what stands at the ends of a long prompt best, and the end best of all (Liu et al.,
    "Lost in the Middle", 2023). `LongContextReorder` would put the best at both ends.
    """
    return list(reversed(nodes))


def canonical(nodes: Sequence[NodeWithScore]) -> list[NodeWithScore]:
    """Order nodes as they stand in the documents, whatever was asked.

    Prompts over the same nodes then begin alike, and a prefix cache serves them further.
    """
    return sorted(
        nodes,
        key=lambda node: (
            str(node.metadata.get("path", "")),
            getattr(node.node, "start_char_idx", None) or 0,
            node.node.node_id,
        ),
    )


ORDERS: Mapping[str, Order] = {"best_last": best_last, "best_first": list, "canonical": canonical}
"""By ``prompt.order``."""


def pack(
    nodes: Sequence[NodeWithScore],
    render: Render,
    count_tokens: CountTokens,
    count_text_tokens: CountTokens,
    budget: int,
    order: Order = best_last,
) -> Packed:
    """Keep the best nodes whose prompt fits the budget, dropping the worst first.

    Passages keep their neighbours as far as all hits still fit, the best ones first. If not even
    the best node fits whole, it is trimmed to its first sentences that do; the ledger says so.

    Parameters
    ----------
    nodes
        Best first, as a retriever returns them.
    render
        Makes the whole prompt of nodes in prompt order.
    count_tokens
        Counts a prompt in the LLM's own tokens, chat template included.
    count_text_tokens
        Counts a text in them, for the ledger.
    budget
        Most tokens that the prompt may have.
    order
        Puts the kept nodes, given best first, in prompt order.

    Raises
    ------
    ConfigError
        If the prompt does not fit even without contexts.
    """

    def cost(kept: Sequence[NodeWithScore]) -> int:
        return count_tokens(render(order(kept)))

    # The bare prompt is counted only if not all fits: counting takes time.
    if cost(nodes) > budget and (bare := cost([])) > budget:
        raise ConfigError(
            f"the prompt has {bare} tokens before any context, the window leaves {budget} for it",
            "ask a shorter question, lower llm.max_tokens, or raise the window "
            "(llm.context_window or llm.engine.max_model_len)",
        )
    if any(isinstance(node.node, Passage) for node in nodes):
        whole = _most_that_fit(len(nodes), lambda number: cost(shrink(nodes, number)) <= budget)
        nodes = shrink(nodes, whole)
    fitting = _most_that_fit(len(nodes), lambda number: cost(nodes[:number]) <= budget)
    kept = list(nodes[:fitting])
    trimmed = None
    if not kept and nodes:
        trimmed = _trim(nodes[0], lambda node: cost([node]) <= budget)
        kept = [trimmed] if trimmed else []
    ordered = order(kept)
    prompt = render(ordered)
    entries = []
    for rank, node in enumerate(nodes, start=1):
        fate, reason = _fate(rank, len(kept), trimmed is not None, budget)
        tokens = count_text_tokens(node.node.get_content(MetadataMode.NONE))
        entries.append(_entry(rank, node, fate, tokens, reason))
    return Packed(ordered, tuple(entries), prompt, count_tokens(prompt), budget)


def keep_all(nodes: Sequence[NodeWithScore]) -> Packed:
    """Order all nodes best last, where there is no LLM and so no window."""
    ledger = tuple(_entry(rank, node, "kept", None, "") for rank, node in enumerate(nodes, start=1))
    return Packed(best_last(nodes), ledger, prompt="", prompt_tokens=0, budget=0)


def _most_that_fit(most: int, fits: Callable[[int], bool]) -> int:
    """Find the largest number that fits; a prompt only grows with its nodes, so bisect."""
    if fits(most):
        return most
    # Not tried itself, 0 is the answer where nothing fits.
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _trim(node: NodeWithScore, fits: Callable[[NodeWithScore], bool]) -> NodeWithScore | None:
    """Keep as many whole sentences from the node's start as fit; None if not even one does."""
    sentences = split_by_sentence_tokenizer()(node.node.get_content(MetadataMode.NONE))

    def shortened(number: int) -> NodeWithScore:
        text = "".join(sentences[:number]).strip()
        # A new node: the retrieved one may be others' too, and the ledger counts all of its text.
        part = TextNode(**{**node.node.model_dump(), "text": text})
        return NodeWithScore(node=part, score=node.score)

    number = _most_that_fit(len(sentences), lambda count: fits(shortened(count)))
    return shortened(number) if number else None


def _fate(rank: int, kept: int, trimmed: bool, budget: int) -> tuple[str, str]:
    if rank > kept:
        return "dropped", f"the prompt would exceed {budget} tokens"
    if trimmed:
        return "trimmed", f"to its first sentences: whole, the prompt would exceed {budget} tokens"
    return "kept", ""


def _entry(
    rank: int, node: NodeWithScore, fate: str, tokens: int | None, reason: str
) -> LedgerEntry:
    return LedgerEntry(
        rank=rank,
        id=node.node.node_id,
        path=str(node.metadata.get("path", "")),
        score=None if node.score is None else float(node.score),
        fate=fate,
        tokens=tokens,
        reason=reason,
    )
