"""The configuration's ``[migration]``: what is done without asking when a collection differs."""

from typing import Literal

from rag_app.config.base import Section


class MigrationSection(Section):
    """What `rag-app ingest` and `watch` do first where the collection is not as configured."""

    auto: Literal["in-place", "compare", "never"] = "in-place"
    """"in-place": only the index is changed; "compare": a new collection is built, compared and
    switched to, as by `rag-app migrate`; "never": nothing is changed."""
    questions: str = ""
    """File of questions that "compare" asks both collections; empty: it switches without."""
    require: list[str] = []
    """What the new collection must reach, e.g. ["hit@5 >= -0.01"]; else there is no switch."""
