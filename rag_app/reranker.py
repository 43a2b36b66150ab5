"""Config → a reranker: a cross-encoder in this process, or on a vLLM server."""

from pathlib import Path
from typing import Any

import httpx
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from pydantic import PrivateAttr

from rag_app.config import RerankerSection
from rag_app.embeddings import first_line
from rag_app.errors import ModelUnavailableError, ServiceError

CONNECT_SECONDS = 5.0


def build_reranker(section: RerankerSection, top_n: int) -> BaseNodePostprocessor | None:
    """Load the configured reranker; None if there is none.

    Parameters
    ----------
    top_n
        How many nodes it returns at most.

    Raises
    ------
    ModelUnavailableError
        If the model is not here and cannot be fetched.
    """
    if not section.is_on:
        return None
    if section.base_url:
        return ServerReranker(section, top_n)
    return _load(section.model, top_n)


class ServerReranker(BaseNodePostprocessor):
    """Asks a vLLM server's ``/rerank``; scores are the model's, from 0 to 1."""

    _top_n: int = PrivateAttr()
    _url: str = PrivateAttr()
    _model: str = PrivateAttr()
    _http: httpx.Client = PrivateAttr()

    def __init__(self, section: RerankerSection, top_n: int) -> None:
        super().__init__()
        key = section.api_key.get_secret_value()
        self._top_n = top_n
        self._url = f"{section.base_url.rstrip('/')}/rerank"
        self._model = section.model
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(section.timeout, connect=CONNECT_SECONDS),
            trust_env=False,
        )

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "ServerReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if not nodes or query_bundle is None:
            return nodes
        asked: dict[str, Any] = {
            "query": query_bundle.query_str,
            "documents": [node.node.get_content(MetadataMode.EMBED) for node in nodes],
            # As sentence-transformers does: what the model does not read is left out.
            "truncate_prompt_tokens": -1,
        }
        if self._model:
            asked["model"] = self._model
        scores = self._ask(asked, len(nodes))
        for node, score in zip(nodes, scores, strict=True):
            node.score = score
        return sorted(nodes, key=lambda node: -(node.score or 0.0))[: self._top_n]

    def _ask(self, asked: dict[str, Any], number: int) -> list[float]:
        try:
            answer = self._http.post(self._url, json=asked)
        except httpx.TimeoutException:
            raise ServiceError(
                f"the reranker at {self._url} was silent for {self._http.timeout.read:g} seconds",
                "raise retrieval.reranker.timeout, or lower retrieval.candidates",
            ) from None
        except httpx.HTTPError as error:
            raise ServiceError(
                f"the reranker at {self._url} cannot be reached: {first_line(error)}",
                "start it, e.g. vllm serve MODEL --runner pooling --port 8001, or leave "
                "retrieval.reranker out",
            ) from error
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise ServiceError(
                f"the reranker at {self._url} refuses the key",
                "set RAG_APP_RETRIEVAL__RERANKER__API_KEY",
            )
        try:
            answer.raise_for_status()
            results = answer.json()["results"]
            ranked = {int(each["index"]): float(each["relevance_score"]) for each in results}
            return [ranked[index] for index in range(number)]
        except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
            raise ServiceError(
                f"{self._url} does not answer as vLLM's /rerank does: {answer.status_code} "
                f"{answer.text[:200]}",
                "set retrieval.reranker.base_url to a vLLM server of a cross-encoder "
                "(--runner pooling)",
            ) from error


def _load(model: str, top_n: int) -> BaseNodePostprocessor:
    from llama_index.core.postprocessor import SentenceTransformerRerank

    from rag_app.torch_embeddings import is_out_of_reach, no_loading_bar  # torch: 6 s

    folder = Path(model).expanduser()
    try:
        source = str(folder) if folder.is_dir() else model
        if is_out_of_reach(source) and not folder.is_dir():
            from huggingface_hub import snapshot_download

            source = snapshot_download(model, local_files_only=True)  # if it was fetched before
        with no_loading_bar():
            return SentenceTransformerRerank(model=source, top_n=top_n, trust_remote_code=False)
    except Exception as error:  # damaged files end in whatever the library that reads them raises
        raise ModelUnavailableError(
            f"the reranker {model!r} cannot be loaded: {first_line(error)}",
            "check retrieval.reranker.model and the network; a model that was copied here goes by "
            "its folder",
        ) from error
