"""Ingest whenever something changes (the `watchfiles` library)."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

from watchfiles import DefaultFilter
from watchfiles import watch as watch_files

from rag_app.config.sections import Config
from rag_app.documents.discover import absolute_path, exists
from rag_app.embedding.factory import build_embedder
from rag_app.errors import InputError, ServiceError
from rag_app.ingestion.run import ingest
from rag_app.milvus.writing import writing
from rag_app.schema import IngestReport

SETTLE_MS = 1600
"""Milliseconds in which changes count as one burst, watchfiles' own default."""

STARTS_MS = 500
"""Milliseconds after which watchfiles comes back if nothing changed: by then it watches."""


def watch(
    config: Config,
    paths: Sequence[str | Path],
    *,
    prune: bool = False,
    stop: Event | None = None,
    say: Callable[[str], None] = print,
) -> Iterator[IngestReport]:
    """Ingest `paths`, then again after each burst of changes; yield each report.

    What changes during an ingest, the first one too, is ingested next. The embedder is loaded once.
    A service that fails is told through `say`, and the next change tries again; so is a prune that
    would delete more than half of a folder's documents, which is not done.

    Raises
    ------
    InputError
        If a path does not exist at the start.
    ConfigError, CollectionMismatchError, ModelUnavailableError
        As `rag_app.ingestion.run.ingest`.
    """
    places = [absolute_path(path) for path in paths]
    for path, place in zip(paths, places, strict=True):
        if not exists(place):
            raise InputError(
                f"there is no file or folder {str(path)!r} to watch", "globs cannot be watched"
            )

    def refuse(much: str) -> bool:
        say(f"{much}: not done; if that is right: rag-app ingest --prune")
        return False

    def run() -> IngestReport:
        with writing(store, patience=math.inf, stop=stop):  # however long another one ingests
            return ingest(
                config,
                paths,
                prune=prune,
                confirm=refuse,
                stop=stop,
                make_embedder=lambda: embedder,
            )

    stop, store = stop or Event(), config.vector_store
    embedder = build_embedder(config.embedding)
    bursts = watch_files(
        *places,
        # A database below the folder would wake us with each row that we write ourselves.
        watch_filter=DefaultFilter(ignore_paths=[Path(store.uri).absolute()] * store.is_file),
        stop_event=stop,
        debounce=SETTLE_MS,
        rust_timeout=STARTS_MS,
        yield_on_timeout=True,
        # Ctrl-C is the caller's, who sets `stop`.
        raise_interrupt=False,
        ignore_permission_denied=True,
    )
    # It comes back once it watches: what changes during the first ingest is in the next burst.
    before = next(bursts, set())
    yield run()
    say(f"watching {', '.join(map(str, paths))}; Ctrl-C ends it")
    for burst in bursts:
        changes, before = burst | before, set()
        # watchfiles comes back without any as well, as it was asked to.
        if not changes:
            continue
        try:
            yield run()
        except (ServiceError, InputError) as error:
            say(f"{error}\n  the next change tries again")
