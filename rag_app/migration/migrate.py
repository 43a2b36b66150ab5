"""Build a collection beside the one that answers, switch to it, switch back, finish.

Every step can be killed: what a collection's properties and the alias say is all there is to know,
and the same command goes on from there.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

from rag_app.config.sections import Config
from rag_app.embedding.base import Embedder
from rag_app.embedding.factory import build_embedder
from rag_app.errors import CollectionMismatchError, InputError
from rag_app.index.apply import apply_index
from rag_app.migration.build import Builder, Built, ShowShare
from rag_app.migration.plan import Plan, as_made_whole, plan
from rag_app.migration.state import (
    Migration,
    as_property,
    at,
    begin,
    find_migration,
    note,
    properties_of,
)
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.errors import FAILURES, as_store_error
from rag_app.milvus.lite_files import collection_folder
from rag_app.milvus.made_by import MADE_BY, differences
from rag_app.milvus.names import point
from rag_app.milvus.noticing import LOOK_SECONDS
from rag_app.milvus.store import connect, create_store, find_store
from rag_app.milvus.writing import ENOUGH, writing
from rag_app.schema import Record

PASSES = 5
"""Times that what has changed meanwhile is caught up with before nobody may write for a moment."""

SETTLE = 2 * LOOK_SECONDS + 1.0
"""Seconds from a collection's first alias to a switch: those who have it open by its former name
take notice at their next question, and questions that run then end."""

Approve = Callable[[Config, Config], None]
"""Called with the configurations that search the old and the new collection; raises to refuse."""


@dataclass(frozen=True)
class MigrationReport(Record):
    """What a migration did.

    Attributes
    ----------
    action
        "nothing", "in place", "built", "switched", "rolled back", "finished".
    collection
        What the configured name means now.
    other
        The other collection, which is kept; empty: there is none.
    seconds
        By step.
    """

    action: str
    name: str
    collection: str
    other: str = ""
    embedded: int = 0
    reused: int = 0
    rows: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    interrupted: bool = False


def migrate(
    config: Config,
    *,
    approve: Approve | None = None,
    switch: bool = True,
    without_missing: bool = False,
    stop: Event | None = None,
    show: ShowShare | None = None,
    make_embedder: Callable[[], Embedder] | None = None,
) -> MigrationReport:
    """Make the configured collection what the configuration says, without a question failing.

    Parameters
    ----------
    approve
        Asked before the switch.
    switch
        Whether to switch, or only to build.
    without_missing
        Leave out documents whose files are gone, where nodes have to be made again.
    stop
        When set, what is embedded is written, and the report says ``interrupted``.
    show
        Told how far it is.
    make_embedder
        None: the configured one is loaded once there is something to embed.

    Raises
    ------
    InputError
        If there is no collection, its files are gone, or another migration is not finished.
    RagAppError
        If Milvus or the embedder cannot be used, and what `approve` raises.
    """
    found = plan(config, measure=False)
    if not found.needs_migration:
        return _in_place(config, found)
    with writing(config.vector_store, f"{config.vector_store.collection}.migration"):
        try:
            return _Run(config, without_missing, stop, show, make_embedder).run(approve, switch)
        except FAILURES as error:
            raise as_store_error(error, config.vector_store.uri) from error


def _in_place(config: Config, found: Plan) -> MigrationReport:
    if not found.changes:
        return MigrationReport("nothing", found.name, found.collection, found.other)
    change = apply_index(config)
    return MigrationReport(
        "in place",
        found.name,
        found.collection,
        found.other,
        rows=change.rows,
        seconds=dict(change.seconds),
        notes=tuple(change.changes),
    )


class _Run:
    """One run of a migration."""

    def __init__(
        self,
        config: Config,
        without_missing: bool,
        stop: Event | None,
        show: ShowShare | None,
        make_embedder: Callable[[], Embedder] | None,
    ) -> None:
        self._config = config
        self._without_missing = without_missing
        self._stop = stop or Event()
        self._show = show or (lambda _what, _share: None)
        self._make = make_embedder or (lambda: build_embedder(config.embedding))
        self._embedder: Embedder | None = None
        self._seconds: dict[str, float] = {}

    def run(self, approve: Approve | None, switch: bool) -> MigrationReport:
        config, section = self._config, self._config.vector_store
        client = connect(section)
        migration, began = self._begin()
        properties = properties_of(client, section, migration.old)
        before = at(as_made_whole(config, properties), migration.old)
        old = find_store(before, counted=False)
        if old is None:
            raise InputError(
                f"the collection {migration.old!r} in {section.uri} is gone",
                "see what is there: rag-app collections list",
            )
        after = at(config, migration.new)
        new = self._open(after, migration)
        needs = frozenset(each.invalidates for each in differences(config, _made(properties)))
        builder = Builder(
            after,
            old,
            new,
            needs,
            self._loaded,
            without_missing=self._without_missing,
            stop=self._stop,
            show=self._show,
        )
        built = self._build(builder)
        if not built.interrupted and switch:
            if approve is not None:
                started = time.perf_counter()
                approve(before, after)
                self._seconds["compare"] = time.perf_counter() - started
            self._switch(builder, migration, built, began)
        is_switched = switch and not built.interrupted
        return MigrationReport(
            "switched" if is_switched else "built",
            section.collection,
            migration.new if is_switched else migration.old,
            migration.old if is_switched else migration.new,
            built.embedded,
            built.reused,
            new.count(),
            self._seconds,
            tuple(built.skipped),
            interrupted=built.interrupted,
        )

    def _begin(self) -> tuple[Migration, float]:
        """Take up the migration that is there, or begin one; tell when."""
        config = self._config
        migration = find_migration(config)
        if migration is not None and migration.is_switched:
            raise InputError(
                f"{config.vector_store.collection!r} was migrated before, and {migration.old!r} is "
                "kept to go back to",
                "rag-app migrate --finish drops it; then migrate again",
            )
        if migration is not None:
            return migration, 0.0
        return begin(config), time.monotonic()

    def _open(self, after: Config, migration: Migration) -> CollectionStore:
        try:
            new = find_store(after, counted=False, exact=True)
        except CollectionMismatchError as error:
            raise InputError(
                f"a migration of {self._config.vector_store.collection!r} to another configuration "
                f"is not finished: {error.message}",
                "set that back and migrate; or rag-app migrate --finish drops what was built",
            ) from None
        if new is None:
            new = create_store(after, self._loaded().dimension, as_property(migration))
        return new

    def _loaded(self) -> Embedder:
        if self._embedder is None:
            self._embedder = self._make()
        return self._embedder

    def _build(self, builder: Builder) -> Built:
        started = time.perf_counter()
        total = Built()
        for _ in range(PASSES):
            built = builder.fill()
            total.add(built)
            if built.interrupted or not built.changed:
                break
        self._seconds["build"] = time.perf_counter() - started
        return total

    def _switch(self, builder: Builder, migration: Migration, built: Built, began: float) -> None:
        """Let nobody write while the last changes are caught up with, and switch."""
        section = self._config.vector_store
        started = time.perf_counter()
        time.sleep(max(0.0, began + SETTLE - time.monotonic()) if began else 0.0)
        with writing(section, patience=ENOUGH, stop=self._stop):
            built.add(builder.fill())
            if not built.interrupted:
                point(connect(section), section, migration.new)
        self._seconds["switch"] = time.perf_counter() - started


def roll_back(config: Config) -> MigrationReport:
    """Let the configured name mean the former collection again: in one step.

    Raises
    ------
    InputError
        If there is none to go back to.
    """
    section = config.vector_store
    try:
        migration = _unfinished(config)
        if not migration.is_switched:
            raise InputError(
                f"{section.collection!r} means {migration.old!r} already",
                "rag-app migrate switches; rag-app migrate --finish drops what was built",
            )
        with writing(section, patience=ENOUGH):
            point(connect(section), section, migration.old)
    except FAILURES as error:
        raise as_store_error(error, section.uri) from error
    return MigrationReport("rolled back", section.collection, migration.old, migration.new)


def finish(config: Config) -> MigrationReport:
    """Drop the collection that the configured name does not mean: the migration is over.

    Raises
    ------
    InputError
        If there is no migration to finish.
    """
    section = config.vector_store
    client = connect(section)
    try:
        migration = _unfinished(config)
        with writing(section, migration.other, patience=ENOUGH):
            if client.has_collection(migration.other, timeout=section.timeout):
                client.drop_collection(migration.other, timeout=section.timeout)
            elif section.is_file:  # half deleted by a process that was killed
                folder = collection_folder(section.uri, migration.other)
                shutil.rmtree(folder, ignore_errors=True)
        note(client, section, migration.active, None)
    except FAILURES as error:
        raise as_store_error(error, section.uri) from error
    return MigrationReport(
        "finished", section.collection, migration.active, notes=(f"dropped {migration.other}",)
    )


def _unfinished(config: Config) -> Migration:
    migration = find_migration(config)
    if migration is None:
        raise InputError(
            f"no migration of {config.vector_store.collection!r} is under way",
            "rag-app plan says what there is to do",
        )
    return migration


def _made(properties: dict[str, str]) -> dict[str, object]:
    return dict(json.loads(properties[MADE_BY]))
