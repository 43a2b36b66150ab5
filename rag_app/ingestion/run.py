"""Make the collection equal to the folder: plan, read, split, embed, write.

The plan is the difference between the files and the rows; there is no side file. New rows are
written before stale ones are deleted, window by window, so that a document is there in its old or
its new version whenever the process ends, and the next run goes on where this one stopped.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Event

from rag_app.config.sections import Config
from rag_app.documents.discover import SourceFile
from rag_app.documents.file_types.ocr import WOULD_GAIN
from rag_app.documents.web.mirror import Mirrored, is_url, mirror
from rag_app.embedding.base import Embedder
from rag_app.embedding.factory import build_embedder, describe
from rag_app.errors import InputError
from rag_app.index.apply import apply_index
from rag_app.ingestion.pipeline import Pipeline, ShowProgress, Tally
from rag_app.ingestion.plan import Plan, make_plan
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.dense_index import configured_index
from rag_app.milvus.rows import StoredDocument
from rag_app.milvus.store import find_index, find_store
from rag_app.milvus.words import MAX_BYTES
from rag_app.milvus.writing import ENOUGH, in_turn
from rag_app.schema import IngestReport, SkippedFile

Confirm = Callable[[str], bool]


@in_turn(ENOUGH)
def ingest(
    config: Config,
    paths: Iterable[str | Path],
    *,
    prune: bool = False,
    confirm: Confirm | None = None,
    moved_from: str | Path | None = None,
    dry_run: bool = False,
    progress: ShowProgress | None = None,
    stop: Event | None = None,
    make_embedder: Callable[[], Embedder] | None = None,
    store: CollectionStore | None = None,
    roots: Iterable[Path] = (),
) -> IngestReport:
    """Make the collection equal to what is under `paths`.

    Files that are in the collection as they are now are left alone. Of a changed one only the nodes
    whose text is new are embedded, and its stale nodes are deleted. A file that was renamed or
    moved keeps its vectors. What is not under `paths` is never touched.

    Parameters
    ----------
    config
        From `rag_app.load_config`.
    paths
        Folders, files and globs; addresses of pages, of sitemaps, and of lists of pages
        ("https://…"), which are kept in ``documents.web_folder`` (extra ``web``).
    prune
        Delete the documents under `paths` whose file is gone; without it they are only counted.
        Those whose file cannot be looked for are never deleted.
    confirm
        Asked before a prune that deletes more than half of the documents of an ingested folder, and
        told which; if it returns False nothing is pruned. None: such a prune is an error. Also
        asked of each folder that is empty now and held several documents, as one is where a share
        was mounted; without consent they are kept.
    moved_from
        Where the folder that is the one path lay before: its documents become those of the new
        place, and nothing is embedded again.
    dry_run
        Only say what would be done; the files are read, to say which will be skipped.
    progress
        Called at each step of about a second.
    stop
        When set, what is embedded is written, and the report says ``interrupted`` if something is
        left.
    make_embedder
        Asked for the embedder once there is something to embed. None: the configured one is loaded.
    store
        The collection, where it is open already.
    roots
        Folders that files below them are relative to, besides those ingested before.

    Raises
    ------
    InputError
        If a path does not exist, there is nothing to read under the paths, or a prune would delete
        more than half of a folder's documents and there is no `confirm`.
    CollectionMismatchError
        If another configuration made the collection.
    ModelUnavailableError, VectorStoreError
        If the embedder or Milvus cannot be used. What was written stays, and is not embedded again.
    """
    started = time.perf_counter()
    tally = Tally(stop or Event())
    if store is None:
        store = find_store(config, exact=True)
    elif find_index(config, exact=True) is None:  # it may have been opened only to be searched
        store = None
    stored = store.documents() if store else {}
    paths = list(paths)
    urls = [str(path) for path in paths if is_url(path)]
    pages = mirror(urls, config.documents, tally.stop) if urls else Mirrored()
    paths = [*(path for path in paths if not is_url(path)), *pages.files]
    if urls and not paths:
        skip = pages.skipped[0] if pages.skipped else SkippedFile(urls[0], "nothing was asked for")
        raise InputError(f"{skip.path} cannot be read: {skip.reason}", "check the address")
    if urls:
        roots = [*roots, Path(config.documents.web_folder).absolute()]
    plan = make_plan(config.documents, paths, stored, roots, moved_from=moved_from, stop=tally.stop)
    plan.skipped += pages.skipped
    if prune and not dry_run:
        _ask_about_bare(plan, confirm)
    plan.spare_bare()
    prune = prune and _may_prune(plan, confirm, dry_run=dry_run)
    tally.seconds["plan"] = time.perf_counter() - started
    if dry_run:
        _read_all(config, plan, tally)
    else:
        if plan.to_write:
            embedder = make_embedder() if make_embedder else build_embedder(config.embedding)
            plan.notes.append(describe(embedder, config.embedding))
            pipeline = Pipeline(config, store, embedder, plan, tally)
            made, before = store is None, store.shortened if store else 0
            store = pipeline.run(progress or (lambda _: None))
            if made:
                section = config.vector_store
                plan.notes.append(f"made the collection {section.collection!r} in {section.uri}")
                plan.notes += [config.notice] if config.notice else []
            if shortened := store.shortened - before:
                plan.notes.append(
                    f"{shortened} nodes have more words than Milvus keeps of one "
                    f"({MAX_BYTES:,} bytes): what comes after is found by its meaning only"
                )
        if store:
            _delete(store, plan, tally, prune=prune)
            written = {file.document_id for file in tally.done}
            store.settle(len({*stored, *written} - tally.removed))
            # Building takes long: not after a wish to stop.
            if not tally.stop.is_set():
                _fit_index(config, store, plan, tally)
    if scans := sum(WOULD_GAIN in skip.reason for skip in plan.skipped):
        files = (
            "1 file is a picture or a scan"
            if scans == 1
            else f"{scans} files are pictures or scans"
        )
        plan.notes.append(f'{files}: documents.ocr = "auto" reads the words in them')
    tally.seconds["total"] = time.perf_counter() - started
    return _report(plan, tally, store, stored, pruned=prune, dry_run=dry_run)


def _ask_about_bare(plan: Plan, confirm: Confirm | None) -> None:
    """Ask of folders that are there with nothing in them whether all was deleted there."""
    for place, documents in list(plan.bare.items()):
        much = f"pruning deletes {len(documents)} documents of {place.place}, {place.reason}"
        if confirm is not None and confirm(much):
            plan.give_up(place)


def _may_prune(plan: Plan, confirm: Confirm | None, *, dry_run: bool) -> bool:
    """Ask before most of a folder is deleted: it may be on a share that is not mounted."""
    if not plan.large_prunes:
        return True
    much = f"pruning deletes {', '.join(plan.large_prunes)}"
    if dry_run:
        plan.notes.append(f"{much}, which has to be confirmed (--yes)")
        return True
    if confirm is None:
        raise InputError(
            f"{much}, and there is nobody to confirm it",
            "see that the folder is all there, then add --yes; without --prune nothing is deleted",
        )
    if confirm(much):
        return True
    plan.notes.append("nothing was pruned")
    return False


def _read_all(config: Config, plan: Plan, tally: Tally) -> None:
    """Read the files as an ingest would, to know which it will skip."""
    for reading in tally.read(plan.to_write, config.documents):
        if reading.document is None:
            plan.skipped.append(reading.skipped)
            tally.left_out.add(reading.file)
        else:
            tally.done.add(reading.file)


def _fit_index(config: Config, store: CollectionStore, plan: Plan, tally: Tally) -> None:
    """Make the index the configured one, and fit for the rows that there are now."""
    if config.migration.auto == "never" and store.built_index.changes(
        configured_index(config, store.backend)
    ):
        return
    with tally.timed("index"):
        change = apply_index(config, store=store, anew=False)
    if change.changes:
        plan.notes.append(f"rebuilt the index: {'; '.join(change.changes)}")


def _delete(store: CollectionStore, plan: Plan, tally: Tally, *, prune: bool) -> None:
    """Delete whole documents, now that the new rows are there."""
    there = {*plan.unchanged, *tally.done}
    # Only where the new rows are there: till then these are all that there is of the file.
    documents = [document for document, file in plan.superseded if file in there]
    if prune and not tally.stop.is_set():
        documents += plan.removed
    with tally.timed("write"):
        for document in documents:
            store.delete(document.id)
            tally.deleted += document.nodes
            tally.removed.add(document.id)


def _report(
    plan: Plan,
    tally: Tally,
    store: CollectionStore | None,
    stored: dict[str, StoredDocument],
    *,
    pruned: bool,
    dry_run: bool,
) -> IngestReport:
    there = {*plan.unchanged, *tally.done}
    if dry_run:
        going = [document for document, file in plan.superseded if file in there]
        tally.removed |= {document.id for document in [*going, *(plan.removed if pruned else ())]}
    removed = [stored[id_] for id_ in tally.removed]
    gone = [document for document in plan.removed if document.id not in tally.removed]
    moved = {file for file in plan.moved if file in tally.done}
    to_write = {*plan.left, *plan.to_write}
    is_all = to_write <= tally.done | tally.left_out and not (pruned and gone)
    unchanged_nodes = sum(document.nodes for document in plan.unchanged.values())
    return IngestReport(
        new=_paths(file for file in plan.new if file in tally.done),
        changed=_paths(file for file in plan.changed if file in tally.done),
        unchanged=_paths({*plan.unchanged, *moved}),
        removed=_paths(removed),
        gone=_paths(gone),
        protected=_paths(plan.protected),
        skipped=tuple(sorted(plan.skipped, key=lambda skip: (skip.path, skip.root))),
        nodes={
            "new": sum(tally.nodes.get(file, 0) for file in plan.new),
            "changed": sum(tally.nodes.get(file, 0) for file in plan.changed),
            "unchanged": unchanged_nodes + sum(tally.nodes.get(file, 0) for file in moved),
            "removed": sum(document.nodes for document in removed),
            "gone": sum(document.nodes for document in gone),
        },
        nodes_written=tally.written,
        nodes_embedded=tally.embedded,
        # More can be embedded than written, where Milvus refused rows.
        nodes_reused=max(tally.written - tally.embedded, 0),
        nodes_deleted=tally.deleted,
        rows=store.count() if store else 0,
        seconds=dict(tally.seconds),
        pruned=pruned and not dry_run,
        dry_run=dry_run,
        interrupted=tally.stop.is_set() and not is_all,
        notes=tuple(plan.notes),
        warnings=tuple(tally.warnings),
    )


def _paths(named: Iterable[SourceFile | StoredDocument]) -> tuple[str, ...]:
    return tuple(sorted(each.path for each in named))
