"""What an ingest has to do: the difference between the files and the rows. Writes nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rag_app.config.sections import DocumentsSection
from rag_app.documents.discover import SourceFile, discover
from rag_app.documents.file_types import UnreadableFileError
from rag_app.documents.read import content_hash
from rag_app.errors import InputError
from rag_app.milvus.collection import StoredDocument
from rag_app.schema import SkippedFile


@dataclass
class Plan:
    """What to do with each file and each document.

    Attributes
    ----------
    new, changed, moved, unchanged
        Files. A moved one is as it was, in a folder that lies elsewhere now: its rows are rewritten
        and nothing is embedded.
    removed
        Documents in the scope of the ingested paths whose file is not there any more. They are
        deleted only if asked for.
    superseded
        Documents whose file is there under another relative path, because a folder further up is
        ingested now. They are deleted when the file is written.
    donors
        Document ids by content hash: a new file with the same content takes their vectors.
    """

    new: list[SourceFile] = field(default_factory=list)
    changed: list[SourceFile] = field(default_factory=list)
    moved: list[SourceFile] = field(default_factory=list)
    unchanged: list[SourceFile] = field(default_factory=list)
    removed: list[StoredDocument] = field(default_factory=list)
    superseded: list[StoredDocument] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    donors: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def to_write(self) -> list[SourceFile]:
        """Files to read, split and write."""
        return sorted([*self.new, *self.changed, *self.moved])


def make_plan(
    section: DocumentsSection,
    paths: Iterable[str | Path],
    stored: Mapping[str, StoredDocument],
    known_roots: Iterable[Path] = (),
) -> Plan:
    """Compare files and rows.

    Parameters
    ----------
    section
        The configuration's ``[documents]``.
    paths
        Folders, files and globs that the user named.
    stored
        The collection's documents by id.
    known_roots
        Folders that files below them are relative to, besides those of the documents.

    Raises
    ------
    InputError
        If a path does not exist, or there is nothing under the paths, on disk or in the collection.
    """
    paths = list(paths)
    roots = sorted({*known_roots, *(Path(document.root) for document in stored.values())})
    found = discover(paths, section, roots)
    plan = Plan(skipped=found.skipped)
    for document in stored.values():
        for hash_ in document.hashes:
            plan.donors.setdefault(hash_, document.id)
    for file in found.files:
        _sort(plan, file, stored.get(file.document_id), section)
    _find_removed(plan, found.tops, found.files, stored)
    if not (found.files or plan.skipped or plan.removed):
        raise InputError(
            f"there is no file to read under {', '.join(map(str, paths)) or 'no path at all'}",
            "name folders, files or globs; hidden files need --set documents.hidden=true",
        )
    return plan


def _sort(
    plan: Plan, file: SourceFile, before: StoredDocument | None, section: DocumentsSection
) -> None:
    try:
        now = content_hash(file, section)
    except UnreadableFileError as error:
        plan.skipped.append(SkippedFile(file.path, str(error), str(file.root)))
        return
    if before is None:
        plan.new.append(file)
    elif not before.is_complete(now):
        plan.changed.append(file)
    elif before.root != str(file.root):
        plan.moved.append(file)
    else:
        plan.unchanged.append(file)


def _find_removed(
    plan: Plan,
    tops: Iterable[Path],
    files: list[SourceFile],
    stored: Mapping[str, StoredDocument],
) -> None:
    """Sort the documents that no file stands for; a skipped file keeps its document."""
    here = {file.document_id for file in files}
    on_disk = {file.absolute for file in files}
    left = {Path(stored[file.document_id].root) for file in plan.moved}
    gone_roots = {root for root in left if not root.exists()}
    if replaced := sorted(str(root) for root in left - gone_roots):
        plan.notes.append(
            f"documents of the same relative path came from {', '.join(replaced)} before, and are "
            "replaced; to keep both, ingest the folder that holds both"
        )
    skipped = {skip.path for skip in plan.skipped}
    for document in stored.values():
        file = document.file
        in_scope = Path(document.root) in gone_roots or any(
            file == top or top in file.parents for top in tops
        )
        if document.id in here or not in_scope or document.path in skipped:
            continue
        if file in on_disk:
            plan.superseded.append(document)
        else:
            plan.removed.append(document)
