"""Index parameters that were chosen for the rows of a collection, in its properties.

Searches use them, and whoever opens the collection sees the same ones.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rag_app.config.index_types import Index, Value

CHOSEN = "rag_app.chosen"
"""The collection property, as JSON."""

GROWTH = 2
"""By how many times the rows have to have grown, or shrunk, for another choice."""


@dataclass(frozen=True)
class Chosen:
    """What was chosen, and for what.

    Attributes
    ----------
    index
        The index that was built.
    rows
        How many there were.
    params, search_params
        Those parameters to build and to search with that were not configured.
    recall
        What a search finds of what an exact search finds; None: there were too few rows to tell.
    """

    index: Index
    rows: int
    params: Mapping[str, Value]
    search_params: Mapping[str, Value]
    recall: float | None

    def is_outgrown(self, rows: int) -> bool:
        """Whether there are so many more rows, or fewer, that another choice is due."""
        return not self.rows / GROWTH <= rows <= self.rows * GROWTH

    def to_dict(self) -> dict[str, Any]:
        """Return what was chosen as ``--json`` prints it."""
        return {
            "params": dict(self.params),
            "search_params": dict(self.search_params),
            "rows": self.rows,
            "recall": self.recall,
        }

    def as_property(self) -> dict[str, str]:
        """Return it as a property."""
        return {CHOSEN: json.dumps({"index": self.index.to_dict(), **self.to_dict()})}


def read_chosen(properties: Mapping[str, Any], built: Index | None) -> Chosen | None:
    """Read the property; None if nothing was chosen for the index that is built."""
    told: dict[str, Any] = json.loads(properties.get(CHOSEN, "{}"))
    if not told:
        return None
    chosen = Chosen(**{**told, "index": Index(**told["index"])})
    # Killed between a swap and the next choice, the property still tells of the index before.
    return chosen if chosen.index == built else None
