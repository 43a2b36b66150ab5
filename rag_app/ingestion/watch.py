"""Ingest whenever something changes (the `watchfiles` library)."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

from watchfiles import watch as watch_files

from rag_app.config.sections import Config
from rag_app.embedding.factory import build_embedder
from rag_app.errors import InputError, ServiceError
from rag_app.ingestion.run import ingest
from rag_app.schema import IngestReport

SETTLE_MS = 1600
"""Milliseconds in which changes count as one burst, watchfiles' own default."""


def watch(
    config: Config,
    paths: Sequence[str | Path],
    *,
    prune: bool = False,
    stop: Event | None = None,
    say: Callable[[str], None] = print,
) -> Iterator[IngestReport]:
    """Ingest `paths`, then again after each burst of changes; yield each report.

    The embedder is loaded once. A service that fails is told through `say`, and the next change
    tries again.

    Raises
    ------
    InputError
        If a path does not exist at the start.
    ConfigError, CollectionMismatchError, ModelUnavailableError
        As `rag_app.ingestion.run.ingest`.
    """
    missing = [str(path) for path in paths if not Path(path).expanduser().exists()]
    if missing:
        raise InputError(
            f"there is no file or folder {missing[0]!r} to watch", "globs cannot be watched"
        )
    stop = stop or Event()
    embedder = build_embedder(config.embedding)
    yield ingest(config, paths, prune=prune, stop=stop, embedder=embedder)
    say(f"watching {', '.join(map(str, paths))}; Ctrl-C ends it")
    for _ in watch_files(*paths, stop_event=stop, debounce=SETTLE_MS, raise_interrupt=False):
        try:
            yield ingest(config, paths, prune=prune, stop=stop, embedder=embedder)
        except (ServiceError, InputError) as error:
            for line in (*str(error).splitlines(), "  the next change tries again"):
                say(line)
