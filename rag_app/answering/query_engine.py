"""LlamaIndex's query engine over our retriever and synthesizer: each question is let in once."""

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.response.schema import RESPONSE_TYPE
from llama_index.core.callbacks import CallbackManager
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, QueryBundle

from rag_app.answering.base import RagSynthesizer
from rag_app.callbacks import own_callbacks
from rag_app.recipe import Remade
from rag_app.retrieval.retriever import Retriever
from rag_app.runner import Runner


class QueryEngine(Remade, RetrieverQueryEngine):
    """`RetrieverQueryEngine` whose questions are let in whole: retrieval and answer, or neither.

    Parameters
    ----------
    runner
        What lets questions in, and waits for them at the end.
    """

    def __init__(
        self,
        retriever: Retriever,
        synthesizer: RagSynthesizer,
        runner: Runner,
        node_postprocessors: Sequence[BaseNodePostprocessor] = (),
        callback_manager: CallbackManager | None = None,
    ) -> None:
        super().__init__(
            retriever=retriever,
            response_synthesizer=synthesizer,
            node_postprocessors=list(node_postprocessors),
            callback_manager=callback_manager or own_callbacks(),
        )
        self._runner = runner
        self._replaced: dict[str, BasePromptTemplate] = {}

    def update_prompts(self, prompts_dict: dict[str, BasePromptTemplate]) -> None:
        """Replace prompts; copies, and what comes out of a pickle, have them as well."""
        super().update_prompts(prompts_dict)
        self._replaced.update(prompts_dict)

    def changed_since(self) -> dict[str, Any]:
        """Return the prompts that were replaced."""
        return {"prompts": self._replaced} if self._replaced else {}

    def __setstate__(self, changed: dict[str, Any]) -> None:
        self.update_prompts(changed["prompts"])

    # Called bare, LlamaIndex's own have no spans of their own within these two's.

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        with self._runner.question():
            found: RESPONSE_TYPE = RetrieverQueryEngine._query.__wrapped__(self, query_bundle)  # type: ignore[attr-defined]
            return found

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        with self._runner.question():
            found: RESPONSE_TYPE = await RetrieverQueryEngine._aquery.__wrapped__(  # type: ignore[attr-defined]
                self, query_bundle
            )
            return found

    async def _async_apply_node_postprocessors(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle
    ) -> list[NodeWithScore]:
        """Run those that block where other blocking steps run, not in the loop's own threads."""
        for each in self._node_postprocessors:
            # LlamaIndex's own `_apostprocess_nodes` runs the blocking one in the loop's threads.
            if type(each)._apostprocess_nodes is BaseNodePostprocessor._apostprocess_nodes:
                nodes = await self._runner.run(each.postprocess_nodes, nodes, query_bundle)
            else:
                nodes = await each.apostprocess_nodes(nodes, query_bundle)
        return nodes
