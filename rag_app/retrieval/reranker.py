"""Config → a reranker: a cross-encoder in this process, or on a vLLM server."""

import asyncio
from pathlib import Path
from threading import Lock
from typing import Any

import httpx
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor import SentenceTransformerRerank
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from llama_index_instrumentation import get_dispatcher
from pydantic import PrivateAttr

from rag_app.config.reranker import RerankerSection
from rag_app.embedding.locate import locate_model, locate_source
from rag_app.errors import ModelUnavailableError, RagAppError, ServiceError, first_line
from rag_app.llms.loop_thread import LoopThread
from rag_app.llms.replicas import MOST_BYTES
from rag_app.llms.transport import beginning

CONNECT_SECONDS = 5.0

ECHOED_BYTES = 6
"""What an answer may have for each character sent, on top: vLLM returns the texts, as JSON."""

MOST_NODES = 16_384
"""All that can be found: Milvus's own limit."""

_DISPATCHER = get_dispatcher(__name__)
_KEY = "retrieval.reranker.model"
_START = "rag-app --set llm.model=MODEL --set llm.engine.runner=pooling llm serve --port 8001"


def build_reranker(
    section: RerankerSection, top_n: int = MOST_NODES
) -> BaseNodePostprocessor | None:
    """Load the configured reranker; None if there is none.

    Parameters
    ----------
    top_n
        How many nodes it returns at most; a `Retriever` itself takes as many as it is asked for.

    Raises
    ------
    ModelUnavailableError
        If the model is not here and cannot be fetched, or is no reranker.
    """
    if not section.is_on:
        return None
    if section.base_url:
        return ServerReranker(section, top_n)
    return _load(section.model, top_n)


def find_reranker(section: RerankerSection) -> str:
    """Say where the configured reranker is: without loading it, but a server is asked once.

    Raises
    ------
    ModelUnavailableError
        If it is neither a folder nor a package here, nor looks like a hub name.
    ServiceError
        If the server does not answer as a reranker does.
    """
    if not section.base_url:
        return f"{section.model}: {locate_model(section.model, _KEY)}"
    return f"{ServerReranker(section, 1).served_model()}, served at {section.base_url}"


class LocalReranker(SentenceTransformerRerank):
    """LlamaIndex's reranker, for threads: one at a time, and scores that JSON can say.

    Parameters
    ----------
    model
        A folder or a hub name.
    top_n
        How many nodes are returned at most.

    Raises
    ------
    ValueError
        If the model gives no score to a pair of texts.
    """

    def __init__(self, model: str, top_n: int) -> None:
        super().__init__(model=model, top_n=top_n, trust_remote_code=False)
        self._model = _Scorer(self._model)

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "LocalReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        _tell_start(query_bundle, nodes, self.top_n, self.model)
        # Called bare, it has no span of its own within this one's. It writes its scores into the
        # nodes that it is given.
        found: list[NodeWithScore] = SentenceTransformerRerank._postprocess_nodes.__wrapped__(  # type: ignore[attr-defined]
            self, _copied(nodes), query_bundle
        )
        _DISPATCHER.event(ReRankEndEvent(nodes=found))
        return found


class _Scorer:
    """A cross-encoder: pairs of texts in, scores out."""

    def __init__(self, encoder: Any) -> None:
        names = getattr(encoder.model.config, "architectures", None) or [""]
        # Without a head of its own the library gives it a random one, and warns.
        if len(encoder) == 1 and not names[0].endswith("ForSequenceClassification"):
            raise ValueError(f"it is no cross-encoder, but a {names[0] or 'model without a name'}")
        if encoder.num_labels != 1:
            raise ValueError(f"it gives {encoder.num_labels} scores to a pair of texts, not one")
        positions = getattr(encoder.model.config, "max_position_embeddings", None)
        if isinstance(positions, int):  # LlamaIndex lets any model read 512 tokens
            encoder.max_seq_length = min(encoder.max_seq_length, positions)
        self._encoder = encoder
        self._lock = Lock()  # its tokenizer is set to cut while it works

    def predict(self, pairs: list[tuple[str, str]]) -> list[float]:
        with self._lock:
            scores = self._encoder.predict(pairs, show_progress_bar=False)
        return [float(score) for score in scores]


class ServerReranker(BaseNodePostprocessor):
    """Asks a vLLM server's ``/rerank``; the scores are those that the model has in this process."""

    _top_n: int = PrivateAttr()
    _url: str = PrivateAttr()
    _model: str = PrivateAttr()
    _has_key: bool = PrivateAttr()
    _headers: dict[bytes, bytes] = PrivateAttr()
    _seconds: float = PrivateAttr()

    def __init__(self, section: RerankerSection, top_n: int) -> None:
        super().__init__()
        key = section.api_key.get_secret_value().strip()  # of a file's last line end
        self._top_n = top_n
        self._url = f"{section.base_url.rstrip('/')}/rerank"
        self._model = section.model
        self._has_key = bool(key)
        # Not compressed: few bytes could become more than the answer may have.
        self._headers = {b"Accept-Encoding": b"identity"}
        if key:
            self._headers[b"Authorization"] = f"Bearer {key}".encode()
        self._seconds = section.timeout

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "ServerReranker"

    def served_model(self) -> str:
        """Let the server score one pair, and return the name of its model.

        Raises
        ------
        ServiceError
            If it does not.
        """
        return self._ask("a question", ["a text"])[0]

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if not nodes or query_bundle is None:
            return nodes
        _tell_start(query_bundle, nodes, self._top_n, self._model)
        texts = [node.node.get_content(MetadataMode.EMBED) for node in nodes]
        _, scores = self._ask(query_bundle.query_str, texts)
        found = _copied(nodes)
        for node, score in zip(found, scores, strict=True):
            node.score = score
        found = sorted(found, key=lambda node: -(node.score or 0.0))[: self._top_n]
        _DISPATCHER.event(ReRankEndEvent(nodes=found))
        return found

    def _ask(self, question: str, texts: list[str]) -> tuple[str, list[float]]:
        """Return the model's name and each text's score."""
        # As sentence-transformers does: what the model does not read is left out.
        asked = {"query": question, "documents": texts, "truncate_prompt_tokens": -1}
        if self._model:
            asked["model"] = self._model
        try:
            answer = self._fetch(asked, MOST_BYTES + ECHOED_BYTES * sum(map(len, texts)))
        except TimeoutError:
            raise ServiceError(
                f"the reranker at {self._url} has not answered within {self._seconds:g} seconds",
                "raise retrieval.reranker.timeout, or lower retrieval.candidates",
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._not_reached(error) from error
        if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise ServiceError(
                f"the reranker at {self._url} "
                + ("refuses the key" if self._has_key else "asks for an API key"),
                "set RAG_APP_RETRIEVAL__RERANKER__API_KEY to the key that the server was started "
                "with",
            )
        try:
            answer.raise_for_status()
            said = answer.json()
            ranked = {
                int(each["index"]): float(each["relevance_score"]) for each in said["results"]
            }
            return str(said.get("model", "")), [ranked[index] for index in range(len(texts))]
        except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
            raise ServiceError(
                f"{self._url} does not answer as vLLM's /rerank does: {answer.status_code} "
                f"{answer.text[:200]}",
                "set retrieval.reranker.base_url to a vLLM server of a cross-encoder "
                f"({_START}), and retrieval.reranker.model to the name it serves or to nothing",
            ) from error

    def _fetch(self, asked: dict[str, Any], most: int) -> httpx.Response:
        """Post a request, however its answer trickles in: bound in time and size."""
        thread = LoopThread()  # the caller may stand in an event loop, which cannot wait
        try:
            return thread.run(self._exchange(asked, most))
        finally:
            thread.close(lambda: asyncio.sleep(0))

    async def _exchange(self, asked: dict[str, Any], most: int) -> httpx.Response:
        http = httpx.AsyncClient(
            headers=self._headers,
            # httpx's own limits begin anew with each byte; the whole is bound below.
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            trust_env=False,  # no proxies: the server is one's own
        )
        async with asyncio.timeout(self._seconds), http:
            request = http.build_request("POST", self._url, json=asked)
            response = await http.send(request, stream=True)
            body = await beginning(response, most + 1)
        if len(body) > most:
            raise ServiceError(
                f"the answer of the reranker at {self._url} has more than {most} bytes",
                "set retrieval.reranker.base_url to a vLLM server of a cross-encoder",
            )
        return httpx.Response(response.status_code, content=body, request=request)

    def _not_reached(self, error: Exception) -> RagAppError:
        return ServiceError(
            f"the reranker at {self._url} cannot be reached: {first_line(error)}",
            f"start it ({_START}), or set retrieval.reranker.base_url to where it runs",
        )


def _tell_start(
    query: QueryBundle | None, nodes: list[NodeWithScore], top_n: int, model: str
) -> None:
    """Dispatch LlamaIndex's event; `top_n` may be more than there are nodes."""
    most = min(top_n, len(nodes))
    _DISPATCHER.event(ReRankStartEvent(query=query, nodes=nodes, top_n=most, model_name=model))


def _copied(nodes: list[NodeWithScore]) -> list[NodeWithScore]:
    """Return the nodes with scores of their own: what was told of them before stays true."""
    return [NodeWithScore(node=node.node, score=node.score) for node in nodes]


def _load(model: str, top_n: int) -> BaseNodePostprocessor:
    source = locate_source(model, _KEY)

    from rag_app.embedding.torch import is_out_of_reach, no_loading_bar  # torch: 6 s

    try:
        if not Path(source).is_dir() and is_out_of_reach(source):
            from huggingface_hub import snapshot_download

            source = snapshot_download(model, local_files_only=True)  # if it was fetched before
        with no_loading_bar():
            return LocalReranker(source, top_n)
    except Exception as error:  # damaged files end in whatever the library that reads them raises
        raise ModelUnavailableError(
            f"the reranker {model!r} cannot be loaded: {first_line(error)}",
            f"check {_KEY} and the network; a model that was copied here goes by its folder",
        ) from error
