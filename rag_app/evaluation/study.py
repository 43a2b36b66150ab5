"""The whole of an evaluation: every variant asked the same questions."""

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rag_app import __version__
from rag_app.answering.abstaining import ABSTAINS
from rag_app.answering.confidence import Judge as Confidence
from rag_app.answering.factory import make_synthesizer
from rag_app.answering.prompts import PromptTemplate
from rag_app.config.loader import config_rows
from rag_app.config.sections import Config
from rag_app.errors import InputError
from rag_app.evaluation.judge import Judge
from rag_app.evaluation.metrics import metric_names
from rag_app.evaluation.questions import EvalQuestion
from rag_app.evaluation.relevance import Relevance, find_gold, is_same_file
from rag_app.evaluation.results import Outcome, ResultsFile
from rag_app.evaluation.runner import Runner, time_in_turn, unique
from rag_app.evaluation.variants import Variant, VariantParts
from rag_app.llms import PackableLLM
from rag_app.milvus.collection import CollectionStore
from rag_app.questions import BadLine
from rag_app.retrieval.retriever import make_retriever

RESULTS_VERSION = 2
"""Part of the results' names: raise it when outcomes mean something else."""

DEPTH = 20
"""Nodes retrieved for a question: enough for hit@10, and for the 4,000 characters of ``@4000ch``
with nodes of 64 tokens."""
TIMED = 50
"""Questions asked one by one and timed."""

ProgressBar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]

_NO_MATTER = {"profile", "vector_store.timeout", "vector_store.lock_timeout", "vector_store.token"}
"""Keys that change no result."""


@dataclass(frozen=True)
class Settings:
    """How to evaluate.

    Attributes
    ----------
    depth
        Nodes retrieved for a question; the best ``retrieval.similarity_top_k`` are packed.
    timed
        How many questions are asked one by one and timed.
    answers
        Whether to answer; None: if an LLM is configured.
    fresh
        Do not go on from results that are there.
    """

    depth: int = DEPTH
    timed: int = TIMED
    seed: int = 0
    answers: bool | None = None
    abstains: re.Pattern[str] = ABSTAINS
    fresh: bool = False

    def answers_with(self, config: Config) -> bool:
        """Tell whether this configuration is asked for answers."""
        return config.llm.backend != "extractive" if self.answers is None else self.answers


@dataclass
class VariantRun:
    """A variant and what came of its questions, in their order.

    Attributes
    ----------
    before
        How many outcomes were there already.
    """

    variant: Variant
    outcomes: list[Outcome]
    bad: list[BadLine]
    results: Path
    before: int
    nodes: int


@dataclass
class Study:
    """All variants on the same questions: only those that every variant could be asked."""

    settings: Settings
    questions: list[EvalQuestion]
    runs: list[VariantRun] = field(default_factory=list)


def conduct(
    base: Config,
    variants: Sequence[Variant],
    questions: Sequence[EvalQuestion],
    settings: Settings,
    folder: Path,
    *,
    judge: Judge | None = None,
    progress_bar: ProgressBar,
    say: Callable[[str], None],
) -> Study:
    """Ask every variant the questions.

    Parameters
    ----------
    folder
        Where outcomes are kept, a file for each variant: the same call goes on from there.
    judge
        Grades the answers.
    progress_bar
        Of a label, draws progress.
    say
        Tells the user something.

    Raises
    ------
    ConfigError
        If a judge has nothing to judge, or no LLM.
    InputError
        If nothing was ingested, or none of the documents that the questions name.
    RagAppError
        If Milvus, the embedder or the LLM cannot be used.
    """
    if judge:
        for variant in variants:
            judge.check(variant.config.llm, answers=settings.answers_with(variant.config))
    if repeated := len(questions) - len(unique(questions)):
        say(f"{repeated} questions are there twice, with the same answers: they are asked once")
    questions = unique(questions)
    study = Study(settings, questions)
    timed = choose_timed(questions, settings)
    shared = VariantParts(base)
    runs = _Runs(shared, questions, settings, folder, judge, progress_bar, say)
    try:
        for group in _groups(variants, settings):
            with ExitStack() as files:
                parts = [files.enter_context(runs.prepared(variant)) for variant in group]
                with progress_bar("timing") as progress:
                    time_in_turn(
                        [(part.runner, part.results) for part in parts],
                        [question for question in questions if question.key in timed],
                        progress,
                    )
                study.runs += [runs.finish(part) for part in parts]
            # Now and not at the end: the next group loads an engine of its own.
            shared.close()
    finally:
        shared.close()
    _keep_common(study)
    return study


def _groups(variants: Sequence[Variant], settings: Settings) -> list[list[Variant]]:
    """Divide variants into those that can be asked in turn: engines are loaded one at a time."""
    groups: list[list[Variant]] = []
    engine = ""
    for variant in variants:
        llm = variant.config.llm
        needed = ""
        if llm.backend == "vllm" and settings.answers_with(variant.config):
            needed = f"{llm.model} {llm.engine}"
        if not groups or (needed and engine and needed != engine):
            groups.append([])
            engine = ""
        groups[-1].append(variant)
        engine = needed or engine  # a variant without an engine leaves the one that is loaded
    return groups


@dataclass
class _Part:
    """A variant that is being asked."""

    variant: Variant
    runner: Runner
    results: ResultsFile
    llm: PackableLLM | None
    before: int
    nodes: int


class _Runs:
    """Prepares variants for their questions, and sums up what came of them."""

    def __init__(
        self,
        shared: VariantParts,
        questions: Sequence[EvalQuestion],
        settings: Settings,
        folder: Path,
        judge: Judge | None,
        progress_bar: ProgressBar,
        say: Callable[[str], None],
    ) -> None:
        self._shared = shared
        self._questions = questions
        self._settings = settings
        self._folder = folder
        self._judge = judge
        self._progress_bar = progress_bar
        self._say = say
        self._golds: dict[tuple[str, str], dict[str, list[str]]] = {}
        self._relevances = {each.key: Relevance(each) for each in questions if each.has_evidence}

    @contextmanager
    def prepared(self, variant: Variant) -> Iterator[_Part]:
        """Open a variant's collection, models and results."""
        config, settings = variant.config, self._settings
        with self._progress_bar(f"{variant.name}: ingesting") as progress:
            store = self._shared.store(variant, progress, self._say)
        # Found once for each collection, since all of its rows are read for it.
        place = (config.vector_store.uri, config.vector_store.collection)
        if place not in self._golds:
            self._golds[place] = _gold(store, self._questions, self._relevances, self._say)
        embedder = self._shared.embedder(config.embedding)
        answers = settings.answers_with(config)
        llm = self._shared.llm(config) if answers else None
        top_k = config.retrieval.similarity_top_k
        deep = config.retrieval.model_copy(update={"similarity_top_k": max(top_k, settings.depth)})
        runner = Runner(
            embedder=embedder,
            retriever=make_retriever(store, embedder, deep),
            similarity_top_k=top_k,
            relevances=self._relevances,
            gold=self._golds[place],
            synthesizer=make_synthesizer(config, embedder, llm=llm) if answers else None,
            llm=llm,
            verdict_of=Confidence(config.answer),
            keeps_contexts=self._judge is not None,
        )
        name = f"{variant.name}-{_digest(store, config, settings, llm, self._judge)}.jsonl"
        with ResultsFile(self._folder / name, fresh=settings.fresh) as results:
            before = sum(question.key in results.outcomes for question in self._questions)
            if before:
                self._say(
                    f"{variant.name}: {before} of {len(self._questions)} questions were asked "
                    f"before ({results.path}), their times are of then; --fresh asks all again"
                )
            yield _Part(variant, runner, results, llm, before, store.count())

    def finish(self, part: _Part) -> VariantRun:
        """Ask a variant what was not timed, and have its answers graded."""
        name = part.variant.name
        with self._progress_bar(f"{name}: asking") as progress:
            part.runner.run(self._questions, part.results, progress)
        if self._judge:
            with self._progress_bar(f"{name}: judging") as progress:
                self._judge.grade(self._questions, part.results, part.llm, progress)
        outcomes = part.results.outcomes
        return VariantRun(
            variant=part.variant,
            outcomes=[outcomes[each.key] for each in self._questions if each.key in outcomes],
            bad=part.runner.bad,
            results=part.results.path,
            before=part.before,
            nodes=part.nodes,
        )


def quality_names(
    variants: Sequence[Variant], settings: Settings, judge: Judge | None
) -> list[str]:
    """Name the metrics that are the better the higher, as far as these variants have them."""
    answers = any(settings.answers_with(variant.config) for variant in variants)
    names = judge.names if judge else ()
    return metric_names(settings.depth, answers=answers, judges=names)


def choose_timed(questions: Sequence[EvalQuestion], settings: Settings) -> frozenset[str]:
    """Choose the questions that are timed: the same for every variant."""
    keys = [question.key for question in questions]
    chance = random.Random(settings.seed)  # noqa: S311 - no secret
    return frozenset(chance.sample(keys, min(settings.timed, len(keys))))


def _gold(
    store: CollectionStore,
    questions: Sequence[EvalQuestion],
    relevances: Mapping[str, Relevance],
    say: Callable[[str], None],
) -> dict[str, list[str]]:
    """Find the nodes that are hits, and tell what the collection lacks."""
    paths = [document.path for document in store.documents().values()]
    named = {file for question in questions for file in question.files}
    missing = sorted(file for file in named if not any(is_same_file(path, file) for path in paths))
    if named and len(missing) == len(named):
        raise InputError(
            f"none of the {len(named)} documents that the questions name ({missing[0]} …) is in "
            f"the collection {store.collection_name!r}",
            "ingest them: rag-app ingest FOLDER",
        )
    if missing:
        say(
            f"{len(missing)} of {len(named)} documents that the questions name are not in the "
            f"collection ({missing[0]} …): their questions count as misses"
        )
    return find_gold(store, relevances, {each.key: each.files for each in questions})


def _digest(
    store: CollectionStore,
    config: Config,
    settings: Settings,
    llm: PackableLLM | None,
    judge: Judge | None,
) -> str:
    """Tell apart what would give other outcomes: configuration, documents, depth, model, judge."""
    answers = settings.answers_with(config)
    rows = {
        row["key"]: row["value"]
        for row in config_rows(config)
        if row["key"] not in _NO_MATTER
        # Where nothing is answered these change no outcome.
        and (answers or not row["key"].startswith(("llm.", "prompt.")))
    }
    documents = {id_: document.hashes for id_, document in store.documents().items()}
    told: list[Any] = [__version__, RESULTS_VERSION, rows, documents, store.built_index]
    told += [settings.depth, answers, judge.identity if judge else ""]
    if config.llm.backend == "vllm-server" and llm is not None:
        # Another model may be served at the same address, and an empty llm.model takes any.
        told += [llm.metadata.model_name, llm.metadata.context_window]
    if answers and config.prompt.template:
        # The file may say something else by now.
        told.append(PromptTemplate.load(config.prompt.template).text)
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _keep_common(study: Study) -> None:
    """Compare on the questions that every variant could be asked."""
    common = set.intersection(*({each.key for each in run.outcomes} for run in study.runs))
    study.questions = [question for question in study.questions if question.key in common]
    for run in study.runs:
        run.outcomes = [outcome for outcome in run.outcomes if outcome.key in common]
