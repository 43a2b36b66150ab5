"""What a Milvus Lite collection held when it was last written to the end, in its properties.

Milvus Lite has nothing to notice by that it went back to an older state. A process that is killed
between a write and this record is no alarm: what is counted is compared only if nothing was written
since, which Lite's own count of writes tells.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rag_app.milvus.lite_check import Position

KEPT = "rag_app.kept"
"""The collection property, as JSON."""


@dataclass(frozen=True)
class Kept:
    """What there was, and how far the files had come."""

    documents: int
    rows: int
    version: int
    writes: int

    def as_property(self) -> dict[str, str]:
        """Return it as a property."""
        return {KEPT: json.dumps(asdict(self))}

    def loss(self, now: Position | None, rows: int) -> str:
        """Say what was lost since, if anything was."""
        held = f"{self.rows} rows of {self.documents} documents when it was last written"
        if now is None:
            return f"it held {held}, and its files hold none"
        if now.version < self.version or now.writes < self.writes:
            return (
                f"its files are older than they were: version {now.version} with {now.writes} "
                f"writes, {self.version} with {self.writes} before; it held {held}, and holds "
                f"{rows} now"
            )
        if now.writes == self.writes and not now.has_log and rows != self.rows:
            return f"it held {held}, and holds {rows} now, though nothing was written since"
        return ""


def read_kept(properties: Mapping[str, Any]) -> Kept | None:
    """Read the property; None if there is none yet."""
    return Kept(**json.loads(properties[KEPT])) if KEPT in properties else None
