"""`rag-app tune` as a whole: settings are opened on the collection, searched, and written down."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

from rag_app.answering.confidence import above, as_model, kind_of
from rag_app.answering.features import features_of
from rag_app.config.sections import Config
from rag_app.embedding.base import Embedder
from rag_app.errors import InputError
from rag_app.evaluation.questions import EvalQuestion
from rag_app.evaluation.regression import Labelled, fit_all
from rag_app.evaluation.relevance import Relevance, is_same_file
from rag_app.evaluation.tune import Overrides, Search, Tuned, cheap_settings
from rag_app.evaluation.variants import Variant, VariantParts, make_variants
from rag_app.load import override
from rag_app.retrieval.reranker import build_reranker
from rag_app.retrieval.retriever import Retriever
from rag_app.search.evidence import evidence_of

FEWEST_QUESTIONS = 20
"""Of fewer nothing could be told from noise."""

FEWEST_TO_FIT = 40
"""Questions from which on the confidence is fitted anew."""

SIZES = (128, 224, 384)
"""Of nodes, in the embedder's tokens, that ``--rebuild`` tries."""

Say = Callable[[str], None]
Progress = Callable[[int, int], None]


class Tuning:
    """Tunes one configuration on questions.

    Parameters
    ----------
    load
        Loads the configuration with dotted keys overridden.

    Raises
    ------
    InputError
        If there are too few questions whose answer is known.
    RagAppError
        If Milvus or the embedder cannot be used.
    """

    def __init__(
        self,
        config: Config,
        questions: Sequence[EvalQuestion],
        load: Callable[[Mapping[str, str]], Config],
        say: Say,
    ) -> None:
        self.questions = [each for each in questions if each.has_evidence]
        if len(self.questions) < FEWEST_QUESTIONS:
            raise InputError(
                f"{len(self.questions)} questions have a known answer, which is too few to tell a "
                "setting's worth from chance",
                f"write {FEWEST_QUESTIONS} or more; rag-app eval generate makes some",
            )
        self._others = [each for each in questions if each.is_unanswerable]
        self._config = config
        self._load = load
        self._say = say
        self._parts = VariantParts(config)
        self._embedder: Embedder = self._parts.embedder(config.embedding)

    def search(
        self,
        *,
        most_ms: float | None,
        most_tokens: int | None,
        rebuild: bool,
        seed: int,
        progress: Progress,
    ) -> Tuned:
        """Search, under limits of latency and of the contexts' length."""
        vectors = self._embedder.embed_queries([each.question for each in self.questions])
        keys = [each.key for each in self.questions]
        return Search(
            open=self.open,
            questions=self.questions,
            vectors=dict(zip(keys, vectors, strict=True)),
            count=lambda text: len(self._embedder.tokenize(text)),
            settings=cheap_settings(self._config.retrieval.similarity_top_k),
            dearer=list(self._dearer(rebuild)),
            most_ms=most_ms,
            most_tokens=most_tokens,
            seed=seed,
            progress=progress,
        ).run()

    def _dearer(self, rebuild: bool) -> Iterator[Overrides]:
        if self._config.retrieval.reranker.is_on:
            # How many it reads; it is loaded once.
            yield from ({"retrieval.candidates": number} for number in (10, 20, 50))
        if rebuild and self._config.chunking.unit == "tokens":
            for size in SIZES:
                if size <= self._embedder.content_tokens and size != self._config.chunking.size:
                    yield {"chunking.size": size, "chunking.overlap": size // 10}

    def open(self, setting: Overrides, filters: MetadataFilters | None = None) -> BaseRetriever:
        """Return the retriever of a setting; one of another node size ingests first."""
        config = override(self._config, setting) if setting else self._config
        variant = Variant("tune", config)
        if any(key.startswith("chunking.") for key in setting):
            text = ",".join(f"{key}={value}" for key, value in setting.items())
            (variant,) = make_variants(self._config, [f"tune:{text}"], self._load)
        store = self._parts.store(variant, lambda _done, _total: None, self._say)
        section = variant.config.retrieval
        reranker = build_reranker(section.reranker)
        return Retriever(store, self._embedder, section, reranker, filters)

    def fit_confidence(self, setting: Overrides) -> dict[str, Any] | None:
        """Fit the confidence on these questions; None where they are too few.

        Each is asked twice: as it is, and without the documents that answer it, which makes it one
        that the documents do not answer.
        """
        if len(self.questions) + len(self._others) < FEWEST_TO_FIT:
            return None
        rows: list[Labelled] = []
        paths = [each.path for each in self._paths()]
        for question in [*self.questions, *self._others]:
            rows += self._labelled(question, setting, None)
            named = [p for p in paths if any(is_same_file(p, file) for file in question.files)]
            if question.has_evidence and named:
                without = MetadataFilters(
                    filters=[MetadataFilter(key="path", value=named, operator=FilterOperator.NIN)]
                )
                rows += self._labelled(question, setting, without)
        fitted = fit_all(rows)
        # One that could keep the risk only by refusing everything is no better than the shipped.
        risk = self._config.answer.max_risk
        able = {
            kind: model
            for kind, model in fitted["models"].items()
            if as_model(model).least(risk) <= 1
        }
        if not able:
            self._say(
                "too few questions, or too alike, to fit the confidence on: it stays as it is"
            )
            return None
        return {"models": able}

    def _paths(self) -> list[Any]:
        store = self._parts.store(Variant("tune", self._config), lambda _d, _t: None, self._say)
        return list(store.documents().values())

    def _labelled(
        self, question: EvalQuestion, setting: Overrides, filters: MetadataFilters | None
    ) -> Iterator[Labelled]:
        nodes = self.open(setting, filters).retrieve(question.question)
        evidence = evidence_of(nodes)
        if evidence is None:
            return
        is_answerable = question.has_evidence and filters is None
        relevance = Relevance(question)
        texts = [node.node.get_content() for node in nodes]
        hits = [
            relevance.is_hit(str(node.metadata.get("path", "")), text)
            for node, text in zip(nodes, texts, strict=True)
        ]
        yield Labelled(
            document=question.files[0] if question.files else question.key,
            kind=kind_of(evidence),
            features=features_of(evidence, list(zip(map(above, nodes), texts, strict=True))),
            is_answerable=is_answerable,
            is_held=is_answerable and any(hits),
        )
