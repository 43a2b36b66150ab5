"""Vectors to measure an index on: the collection's own with questions, or made-up ones."""

import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag_app.config.sections import Config
from rag_app.errors import InputError
from rag_app.milvus.store import open_store
from rag_app.questions import BadLine, Question, read_questions

Vectors = NDArray[np.float32]

SAMPLE = 100_000
"""Rows of a collection that are measured unless asked otherwise: 150 MB at 384 dimensions."""
MAX_QUESTIONS = 1000
MIN_ROWS = 20


def collection_vectors(
    config: Config, *, sample: int = SAMPLE, questions: Path | None = None
) -> tuple[Vectors, Vectors, str]:
    """Return vectors of the collection, vectors to search for, and what they are in words.

    Parameters
    ----------
    sample
        At most this many rows, drawn evenly; the same ones each time.
    questions
        A file of questions, as ``rag-app batch`` reads it; None: a fifth of the vectors (1,000 at
        most) is held out and searched for.

    Raises
    ------
    InputError
        If there are too few rows, or no questions in the file.
    CollectionMismatchError, ModelUnavailableError, VectorStoreError
        If the collection cannot be opened, or the questions cannot be embedded.
    """
    asked = None if questions is None else embed_questions(config, questions)
    store = open_store(config)
    dice = random.Random(0)  # noqa: S311 - a sample, not a secret
    kept: list[NDArray[np.float32]] = []
    rows = 0
    for rows, vector in enumerate(store.vectors(), start=1):  # Vitter's reservoir: one pass
        if len(kept) < sample:
            kept.append(np.asarray(vector, dtype=np.float32))
        elif (place := dice.randrange(rows)) < sample:
            kept[place] = np.asarray(vector, dtype=np.float32)
    _check_enough(len(kept))
    found = np.stack(kept)
    about = f"{len(found)} of {rows} vectors of {config.vector_store.collection}"
    if asked is not None and questions is not None:
        return found, asked, f"{about}, {len(asked)} questions of {questions.name}"
    found, asked = hold_out(found)
    return found, asked, f"{about}, {len(asked)} held out as questions"


def embed_questions(config: Config, file: Path) -> Vectors:
    """Embed the questions of a file, 1,000 at most; shape (questions, dimension).

    Raises
    ------
    InputError
        If the file cannot be read, or has a line that is no question.
    """
    from rag_app.embedding.factory import build_embedder  # torch: 6 s

    try:
        with file.open(encoding="utf-8") as lines:
            read = list(read_questions(lines, file.name))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}", "name a readable UTF-8 file") from None
    texts = [line.text for line in read if isinstance(line, Question)]
    bad = next((line for line in read if isinstance(line, BadLine)), None)
    if bad is not None or not texts:
        what = f"line {bad.line} is no question: {bad.reason}" if bad else "has no questions"
        raise InputError(f"{file}: {what}", "write one question a line, or JSON lines")
    embedder = build_embedder(config.embedding)
    return np.asarray(embedder.embed_queries(texts[:MAX_QUESTIONS]), dtype=np.float32)


def _check_enough(rows: int) -> None:
    if rows < MIN_ROWS:
        raise InputError(
            f"{rows} vectors are too few to measure an index on (at least {MIN_ROWS})",
            "ingest more, or measure on made-up vectors: rag-app index bench --synthetic 10000",
        )


def clustered_vectors(rows: int, dimension: int, *, seed: int = 0) -> Vectors:
    """Make up unit vectors in clusters of about 100, as texts about the same things are.

    The cosine is about 0.7 to the middle of a vector's cluster, 0.5 to another one of it, and 0 to
    the others.
    """
    random = np.random.default_rng(seed)
    centers = unit(random.normal(size=(max(1, rows // 100), dimension)).astype(np.float32))
    of = random.integers(len(centers), size=rows)
    noise = random.normal(scale=dimension**-0.5, size=(rows, dimension)).astype(np.float32)
    return unit(centers[of] + noise)


def hold_out(vectors: Vectors, *, count: int | None = None) -> tuple[Vectors, Vectors]:
    """Split vectors into those to search in and those to search for.

    Parameters
    ----------
    count
        How many to search for; None: a fifth, 1,000 at most.

    Raises
    ------
    InputError
        If there are too few.
    """
    _check_enough(len(vectors))
    order = np.random.default_rng(0).permutation(len(vectors))  # the same ones each time
    count = count or min(MAX_QUESTIONS, len(vectors) // 5)
    return vectors[np.sort(order[count:])], vectors[order[:count]]


def unit(vectors: Vectors) -> Vectors:
    """Scale vectors to length 1; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths == 0, 1, lengths), dtype=np.float32)
