"""``rag-app index bench``: what each index type costs, and what it finds, on one set of vectors.

Recall is measured against exact search in numpy, latency through Milvus's own client, so without
embedding the question and without reading the texts.
"""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rag_app.config.index_checks import dimension_fault, faults, index_error, server_fault
from rag_app.config.index_types import (
    INDEX_TYPES,
    Index,
    Value,
    build_params,
    lite_types,
    search_params,
)
from rag_app.config.sections import Config
from rag_app.index.bench.recall import Exact
from rag_app.index.bench.scratch import Scratch, scratch
from rag_app.index.bench.vectors import Vectors
from rag_app.index.schema import IndexBenchmark, IndexMeasurement
from rag_app.milvus.backend import Backend
from rag_app.milvus.errors import FAILURES, as_store_error
from rag_app.milvus.store import check_backend

Say = Callable[[str], None]

SWEEP: dict[str, tuple[int, ...]] = {
    "ef": (16, 32, 64, 128, 256, 512),
    "nprobe": (1, 2, 4, 8, 16, 32, 64, 128),
    "search_list": (16, 32, 64, 128, 256),
    "itopk_size": (32, 64, 128, 256, 512),
}
"""The search parameter of each kind of index that trades recall for time, and values for it."""

ALONE = 100
"""Searches for one question that latency is taken from."""
BATCH = 100
BATCHES = 10


def measure_indexes(
    config: Config,
    vectors: Vectors,
    questions: Vectors,
    about: str,
    *,
    types: Sequence[str] = (),
    say: Say = lambda _text: None,
) -> IndexBenchmark:
    """Measure index types on a scratch copy of vectors, each with a sweep of search parameters.

    Parameters
    ----------
    vectors, questions
        Of shape (rows, dimension) and (questions, dimension).
    about
        What the vectors are, for the report.
    types
        Index types; empty: all that the backend builds and that know the configured metric.
    say
        Told of the progress.

    Raises
    ------
    ConfigError
        If a type is not built by the backend, or does not fit metric or dimension.
    VectorStoreError
        If Milvus fails.
    """
    rows, dimension = vectors.shape
    top_k = min(config.retrieval.similarity_top_k, rows)
    metric = config.index.metric
    _check(config, types)
    measured: list[IndexMeasurement] = []
    try:
        with scratch(config, dimension) as copy:
            backend = copy.index.backend
            for type_ in types:
                check_backend(copy.index.client, config, type_)
            wanted = [
                _index(config, type_, dimension, backend).for_rows(rows)
                for type_ in types or _buildable(config, backend, dimension)
            ]
            exact = Exact(questions, metric, top_k)
            exact.add(vectors)
            say(f"writing {rows} vectors of {dimension} dimensions")
            copy.fill(vectors)
            for number, index in enumerate(wanted, start=1):
                say(f"{number}/{len(wanted)} building {index}")
                steps = copy.index.replace(index)
                seconds = steps["create"] + steps["load"]  # the former one's end is none of it
                for searched in sweep(index, config, top_k):
                    found = _measure(copy, index, searched, vectors, questions, exact, seconds)
                    say(f"    {_text(searched)} recall {found.recall:.3f}, {found.p50_ms:.1f} ms")
                    measured.append(found)
    except FAILURES as error:
        raise as_store_error(error, config.vector_store.uri) from error
    return IndexBenchmark(
        about, rows, dimension, len(questions), top_k, metric, str(backend), tuple(measured)
    )


def _text(params: dict[str, Value]) -> str:
    return ", ".join(f"{name}={value}" for name, value in params.items()) or "no parameters"


def _check(config: Config, types: Sequence[str]) -> None:
    """Refuse types that cannot be measured here, before anything is."""
    for type_ in types:
        found = faults(
            *(type_, config.index.metric, {}, {}),
            top_k=config.retrieval.similarity_top_k,
            lite=config.vector_store.is_file,
        )
        for fault in found:
            raise index_error(config, fault, asked=type_)


def _buildable(config: Config, backend: Backend, dimension: int) -> list[str]:
    """Return the types that can be measured with no word from the user."""
    able = lite_types() if backend.is_lite else tuple(INDEX_TYPES)
    return [
        name
        for name in able
        if config.index.metric in INDEX_TYPES[name].metrics
        and not INDEX_TYPES[name].needs
        and (backend.is_lite or server_fault(name, backend.version) is None)
        and dimension_fault(_params(config, name, backend), dimension) is None
    ]


def _index(config: Config, type_: str, dimension: int, backend: Backend) -> Index:
    params = _params(config, type_, backend)
    if fault := dimension_fault(params, dimension):
        raise index_error(config, fault)
    return Index(type_, config.index.metric, params)


def _params(config: Config, type_: str, backend: Backend) -> dict[str, Value]:
    """Return what to build a type with: as configured, if it is the configured one."""
    given = config.index.params if type_ == config.index.type else {}
    return build_params(type_, given, lite=backend.is_lite)


def sweep(index: Index, config: Config, top_k: int) -> Iterator[dict[str, Value]]:
    """Yield the sets of search parameters that an index is measured with, each one once."""
    given = dict(config.index.search_params) if index.type == config.index.type else {}
    known = (param.name for param in INDEX_TYPES[index.type].search_params)
    swept = next((name for name in known if name in SWEEP), "")
    values = {*SWEEP.get(swept, ()), *(value for name, value in given.items() if name == swept)}
    seen: list[dict[str, Value]] = []
    for asked in [{**given, swept: value} for value in sorted(values)] or [given]:
        searched = search_params(index, asked, top_k)
        if searched not in seen:
            seen.append(searched)
            yield searched


def _measure(
    copy: Scratch,
    index: Index,
    searched: dict[str, Value],
    vectors: Vectors,
    questions: Vectors,
    exact: Exact,
    seconds: float,
) -> IndexMeasurement:
    # Once: to make lists of them is no part of a search's time.
    asked = questions.tolist()
    copy.search(asked[:BATCH], exact.top_k, searched)  # a warm-up
    alone = [_timed(copy, [one], exact.top_k, searched)[0] for one in asked[:ALONE]]
    batches = []
    found: list[list[int]] = []
    # Few questions are asked again, for as many timings; only once for the recall.
    for start in range(0, max(len(asked), BATCHES * BATCH), BATCH):
        batch = [asked[number % len(asked)] for number in range(start, start + BATCH)]
        took, hits = _timed(copy, batch, exact.top_k, searched)
        batches.append(took)
        found += hits
    return IndexMeasurement(
        type=index.type,
        params=dict(index.params),
        search_params=searched,
        recall=exact.recall([vectors[sorted(set(rows))] for rows in found[: len(asked)]]),
        p50_ms=float(np.percentile(alone, 50)),
        p95_ms=float(np.percentile(alone, 95)),
        batch_p50_ms=float(np.percentile(batches, 50)),
        batch_p95_ms=float(np.percentile(batches, 95)),
        build_seconds=seconds,
        size=copy.index_bytes(),
    )


def _timed(
    copy: Scratch, asked: list[list[float]], top_k: int, searched: dict[str, Value]
) -> tuple[float, list[list[int]]]:
    """Search; return the milliseconds it took, and what was found."""
    start = time.perf_counter()
    found = copy.search(asked, top_k, searched)
    return (time.perf_counter() - start) * 1000, found
