"""Search parameters that nobody configured, chosen for the rows that a collection has."""

from collections.abc import Iterator, Mapping

from rag_app.config.index_types import Index, Parameter, Value, chosen_by_rows
from rag_app.index.bench.recall import measure_recall
from rag_app.milvus.dense_index import DenseIndex

ENOUGH = 0.99
"""What a search for rows is to find of what an exact search finds, so that one for a question finds
.95: questions are farther from the rows than these are from each other. With MiniLM, nprobe 8 of
107 clusters found .97 for 718 rows of Wikipedia, and .88 for 200 questions that people asked."""

_DOUBLINGS = 4
"""Of a parameter without an upper end: ef from 64 to 1,024."""


def choose_search_params(
    index: DenseIndex, built: Index, given: Mapping[str, Value]
) -> tuple[dict[str, Value], float | None]:
    """Find the least effort with which a search finds `ENOUGH` of the collection's own rows.

    Parameters
    ----------
    given
        The configured search parameters, which are left as they are.

    Returns
    -------
    dict
        What was chosen; empty if all that can be set is configured.
    float or None
        The recall with it, of the nearest 10; None if there are too few rows to tell.
    """
    open_ = chosen_by_rows(built.type, given)
    if not open_:
        return {}, next(measure_recall(index, built, [given]), None)
    (param,) = open_  # no type has two
    tried: list[dict[str, Value]] = [{param.name: value} for value in _values(param, built)]
    recalls: list[float] = []
    # It measures as it is asked: what would come after `ENOUGH` costs nothing.
    for recall in measure_recall(index, built, ({**given, **each} for each in tried)):
        recalls.append(recall)
        if recall >= ENOUGH:
            break
    if not recalls:  # so few rows that nothing is lost by looking at all of them
        return (tried[-1] if "nlist" in built.params else tried[0]), None
    return tried[len(recalls) - 1], recalls[-1]


def _values(param: Parameter, built: Index) -> Iterator[int]:
    """Yield values by rising effort: all clusters at the most, else from Milvus's default on."""
    if "nlist" not in built.params:
        yield from (int(param.default or 1) << step for step in range(_DOUBLINGS + 1))
        return
    value, most = 1, int(built.params["nlist"])
    while value < most:
        yield value
        value *= 2
    yield most
