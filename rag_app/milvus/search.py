"""Search a collection in Milvus, by nearness and by words."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rag_app.config.index_types import Index, search_params
from rag_app.errors import ConfigError
from rag_app.search.background import Sample, background_of_pairs, backgrounds
from rag_app.search.fusion import Background
from rag_app.search.modes import Asked, Hit

VECTOR_FIELD = "embedding"

SAMPLE = 256
"""Rows that stand for all: 200 told as much as all of a collection, on the labelled sets."""

QUESTIONS_PER_CALL = 1000
"""Questions in one call; Milvus takes up to 16,384."""

NODE_FIELDS = ("id", "text", "_node_content", "_node_type")
"""What a node is made of."""

_ID_ALONE = ("id",)
"""Milvus Lite takes "no fields" for all of them: every text would be sent, and read, for a hit."""


@dataclass(frozen=True)
class Words:
    """Where Milvus counts words, and how a question is put to it."""

    field: str
    of_question: Callable[[str], str]


@dataclass(frozen=True)
class Terms:
    """How a row's terms are known.

    Attributes
    ----------
    field
        Holds a row's terms, or the text that they are made of.
    of_row
        Makes terms of it, separated by spaces.
    """

    field: str
    of_row: Callable[[str], str]


class MilvusSearch:
    """Searches an open collection; it is a `rag_app.search.modes.Searchable`.

    Parameters
    ----------
    call
        Calls a method of the Milvus client on the collection, and raises VectorStoreError.
    index
        The index over the vectors that is there.
    given
        The search parameters that are configured, or were chosen for the rows.
    words
        Where Milvus counts words; None: the collection has none.
    terms
        Of rows.
    """

    def __init__(
        self,
        call: Callable[..., Any],
        index: Index,
        given: Mapping[str, Any],
        words: Words | None,
        terms: Terms,
    ) -> None:
        self._call = call
        self.index = index
        self.given = given
        self._words = words
        self._terms = terms
        self._sample: Sample | None = None
        self._most_found = 0

    def search_vectors(
        self, asked: Asked, limit: int, *, with_vectors: bool = False
    ) -> list[list[Hit]]:
        """Search by nearness: a list of hits for each question, best first."""
        params = search_params(self.index, self.given, limit)
        fields = [VECTOR_FIELD] if with_vectors else _ID_ALONE
        sign = -1 if self.index.metric == "L2" else 1  # a distance is better the smaller it is
        found = [
            [
                Hit(hit["id"], sign * hit["distance"], hit["entity"].get(VECTOR_FIELD, ()))
                for hit in hits
            ]
            for hits in self._search(asked.vectors, VECTOR_FIELD, params, limit, fields, asked)
        ]
        self._most_found = max((self._most_found, *map(len, found)))
        return found

    def search_words(self, asked: Asked, limit: int) -> list[list[Hit]]:
        """Search by words (BM25): a list of hits for each question, best first.

        Raises
        ------
        ConfigError
            If the collection has no words: the server was too old when it was made, or another
            program made it without.
        """
        if self._words is None:
            raise ConfigError(
                "the collection has no words to search by: a Milvus server counts them from "
                "version 2.5 on, and another program may not have asked for it",
                'set retrieval.mode = "dense"; or use a newer server, or Milvus Lite, and ingest '
                "into that",
            )
        terms = [self._words.of_question(question) for question in asked.questions]
        asking = [at for at, text in enumerate(terms) if text]  # Milvus refuses an empty one
        found: list[list[Hit]] = [[] for _ in terms]
        texts = [terms[at] for at in asking]
        rows = self._search(texts, self._words.field, {}, limit, _ID_ALONE, asked)
        for at, hits in zip(asking, rows, strict=True):
            # Milvus Lite gives the negative of the score.
            found[at] = [Hit(row["id"], abs(row["distance"])) for row in hits]
        return found

    def backgrounds(self, asked: Asked) -> list[Background]:
        """Tell for each question how near its vector is to rows taken at random."""
        return backgrounds(asked.vectors, self.sample().vectors, self.index.metric)

    def sample(self) -> Sample:
        """Return rows taken at random, the same ones until the collection has grown."""
        if self._sample is None or len(self._sample.terms) < self._most_found:
            self._sample = self._rows_at_random()
        return self._sample

    def _rows_at_random(self) -> Sample:
        """Return about `SAMPLE` rows: ids are digests, so any range is a draw.

        Another program's ids are whatever it likes; where a range holds too few, the first rows
        have to do.
        """
        (counted,) = self._call("query", filter="", output_fields=["count(*)"])
        share = SAMPLE / max(counted["count(*)"], 1)
        # A draw has only about the number that is asked for: hence twice that as its limit.
        drawn = "" if share >= 1 else f'id < "{int(share * 16**8):08x}"'
        fields = [VECTOR_FIELD, self._terms.field]
        rows = self._call("query", filter=drawn, output_fields=fields, limit=2 * SAMPLE)
        if drawn and len(rows) < SAMPLE // 2:
            rows = self._call("query", filter="", output_fields=fields, limit=SAMPLE)
        vectors = np.array([row[VECTOR_FIELD] for row in rows], dtype=np.float32)
        return Sample(
            vectors,
            [frozenset(self._terms.of_row(row[self._terms.field]).split()) for row in rows],
            background_of_pairs(vectors, self.index.metric),
        )

    def _search(
        self,
        data: Sequence[Any],
        field: str,
        params: Mapping[str, Any],
        limit: int,
        fields: Sequence[str],
        asked: Asked,
    ) -> Iterator[Any]:
        for start in range(0, len(data), QUESTIONS_PER_CALL):
            yield from self._call(
                "search",
                data=list(data[start : start + QUESTIONS_PER_CALL]),
                filter=asked.expression,
                limit=limit,
                anns_field=field,
                search_params={"params": dict(params)},
                output_fields=list(fields),
            )
