"""What an ingest has to do: the difference between the files and the rows. Writes nothing."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from threading import Event

from rag_app.config.sections import DocumentsSection
from rag_app.documents.discover import Discovery, SourceFile, absolute_path, discover
from rag_app.documents.file_types import UnreadableFileError
from rag_app.documents.read import content_hash
from rag_app.errors import InputError
from rag_app.ingestion.absence import Absence, Doubt
from rag_app.milvus.rows import StoredDocument
from rag_app.schema import SkippedFile


@dataclass
class Plan:
    """What to do with each file and each document.

    Attributes
    ----------
    new, changed, moved
        Files to write. A moved one is as it was, in a place that the user said it was moved to: its
        rows are written anew and nothing is embedded.
    unchanged
        Files, and the documents that they are.
    earlier
        Documents that a file to write stands for from now on: of an earlier place, of another
        folder around it, or with an id as rag_app made them before. They lend their vectors.
    superseded
        All documents that another one stands for, with its file; deleted once that is written.
    removed
        Documents in the scope of the ingested paths whose file is gone, or left out by now. They
        are deleted only if asked for.
    protected
        Documents whose file could not be looked for.
    bare
        Folders with nothing in them, and the documents that they held: `spare_bare` makes them
        `protected`, `removed` with the user's consent.
    donors
        Document ids by content hash: a new file with the same content takes their vectors.
    sizes
        Of the files to write, in bytes.
    large_prunes
        Roots of which `removed` is more than half, in words.
    left
        Files that were not compared, because it was asked to stop.
    ids
        Of all documents in the collection.
    """

    new: list[SourceFile] = field(default_factory=list)
    changed: list[SourceFile] = field(default_factory=list)
    moved: list[SourceFile] = field(default_factory=list)
    unchanged: dict[SourceFile, StoredDocument] = field(default_factory=dict)
    earlier: dict[SourceFile, list[StoredDocument]] = field(default_factory=dict)
    superseded: list[tuple[StoredDocument, SourceFile]] = field(default_factory=list)
    removed: list[StoredDocument] = field(default_factory=list)
    protected: list[StoredDocument] = field(default_factory=list)
    bare: dict[Doubt, list[StoredDocument]] = field(default_factory=dict)
    skipped: list[SkippedFile] = field(default_factory=list)
    donors: dict[str, str] = field(default_factory=dict)
    sizes: dict[SourceFile, int] = field(default_factory=dict)
    large_prunes: list[str] = field(default_factory=list)
    left: list[SourceFile] = field(default_factory=list)
    ids: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)

    @property
    def to_write(self) -> list[SourceFile]:
        """Files to read, split and write."""
        return sorted([*self.new, *self.changed, *self.moved])

    def give_up(self, place: Doubt) -> None:
        """Let the documents of a bare folder be taken for gone."""
        self.removed += self.bare.pop(place)

    def spare_bare(self) -> None:
        """Keep the documents of bare folders, and say what would delete them."""
        for place, documents in self.bare.items():
            self.protected += documents
            self.notes.append(f"{_kept(len(documents), str(place))}; --prune --yes deletes them")
        self.bare.clear()


def make_plan(
    section: DocumentsSection,
    paths: Iterable[str | Path],
    stored: Mapping[str, StoredDocument],
    known_roots: Iterable[Path] = (),
    *,
    moved_from: str | Path | None = None,
    stop: Event | None = None,
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
    moved_from
        Where what is at the one path lay before.
    stop
        When set, the files that were not compared yet are left for the next time.

    Raises
    ------
    InputError
        If a path does not exist, there is nothing under the paths, on disk or in the collection, or
        nothing was ingested from `moved_from`.
    """
    paths = list(paths)
    roots = sorted({*known_roots, *(document.folder for document in stored.values())})
    found = discover(paths, section, roots)
    planner = _Planner(Plan(skipped=found.skipped, ids=frozenset(stored)), stored)
    if moved_from is not None:
        planner.move(moved_from, paths, found.tops)
    for file in found.files:
        if stop is not None and stop.is_set():
            planner.leave(file)
        else:
            planner.sort(file, section)
    planner.find_removed(found)
    planner.hint_at_moved_folders()
    plan = planner.plan
    if not (found.files or plan.skipped or plan.removed or plan.protected or plan.bare):
        raise InputError(
            f"there is no file to read under {', '.join(map(str, paths)) or 'no path at all'}",
            "name folders, files or globs; hidden files need --set documents.hidden=true",
        )
    return plan


class _Planner:
    """Fills a plan, a file at a time."""

    def __init__(self, plan: Plan, stored: Mapping[str, StoredDocument]) -> None:
        self.plan = plan
        self._documents = list(stored.values())
        self._by_file: defaultdict[Path, list[StoredDocument]] = defaultdict(list)
        self._by_hash: defaultdict[str, list[StoredDocument]] = defaultdict(list)
        self._moved: dict[Path, list[StoredDocument]] = {}
        self._placed: set[str] = set()
        self._hashes: dict[SourceFile, str] = {}
        for document in self._documents:
            self._by_file[document.file].append(document)
            for hash_ in document.hashes:
                self._by_hash[hash_].append(document)
                plan.donors.setdefault(hash_, document.id)

    def move(self, old: str | Path, paths: list[str | Path], tops: list[Path]) -> None:
        """Note where the documents that lay at `old` lie now."""
        before = absolute_path(old)
        if len(paths) != 1 or len(tops) != 1:
            raise InputError(
                f"what was moved from {str(before)!r} lies at one place now",
                "rag-app ingest NEW --moved-from OLD, with one NEW that is no glob",
            )
        (now,) = tops
        moved = [each for each in self._documents if each.file.is_relative_to(before)]
        if before == now or not (moved or any(d.file.is_relative_to(now) for d in self._documents)):
            raise InputError(
                f"no document in the collection is from {str(before)!r}"
                if before != now
                else f"{str(now)!r} cannot have been moved to itself",
                "see where they are from: rag-app documents list --json",
            )
        copied = 0
        for document in moved:
            if _is_there(document.file):
                copied += 1
            else:
                place = now / document.file.relative_to(before)
                self._moved.setdefault(place, []).append(document)
        if copied:
            self.plan.notes.append(f"{copied} documents stay: their files are still in {before}")

    def leave(self, file: SourceFile) -> None:
        """Leave a file, and what is known of it, for another time."""
        self.plan.left.append(file)
        # Placed all the same: what nobody stands for counts as removed.
        self._place(file)

    def sort(self, file: SourceFile, section: DocumentsSection) -> None:
        """Say what is to be done with a file."""
        plan = self.plan
        here, came = self._place(file)
        try:
            now = content_hash(file, section)
        except UnreadableFileError as error:
            plan.skipped.append(SkippedFile(file.path, str(error), str(file.root)))
            return
        self._hashes[file] = now
        plan.sizes[file] = _size_of(file.absolute)
        at_place = [document for document in here if document.root == str(file.root)]
        complete = [document for document in at_place if document.is_complete(now)]
        if complete:
            # Another one may be there under an id as rag_app made them before.
            kept = next((each for each in complete if each.id == file.document_id), complete[0])
            plan.unchanged[file] = kept
            plan.superseded += [(each, file) for each in [*here, *came] if each is not kept]
            return
        others = [each for each in [*here, *came] if each.id != file.document_id]
        plan.earlier[file] = others
        plan.superseded += [(each, file) for each in others]
        if at_place:
            plan.changed.append(file)
        elif came:
            as_it_was = any(document.is_complete(now) for document in came)
            (plan.moved if as_it_was else plan.changed).append(file)
        else:
            plan.new.append(file)

    def _place(self, file: SourceFile) -> tuple[list[StoredDocument], list[StoredDocument]]:
        here, came = self._by_file.get(file.absolute, []), self._moved.get(file.absolute, [])
        self._placed |= {document.id for document in chain(here, came)}
        return here, came

    def find_removed(self, found: Discovery) -> None:
        """Sort the documents in scope that no file stands for."""
        plan = self.plan
        doubts: Counter[str] = Counter()
        absence = Absence(chain(self._by_file, self._moved))
        there = set(self._hashes.values())
        for document, file in self._in_scope(found.tops):
            root = document.folder if file == document.file else found.tops[0]
            # The walk passed these places over: what was read there before may be there still.
            unseen = next((p for p in (file, *file.parents) if p in found.unseen), None)
            seen = absence.look_for(root, file) if unseen is None else unseen
            if isinstance(seen, Doubt) and seen.is_bare:
                if there.isdisjoint(document.hashes):
                    plan.bare.setdefault(seen, []).append(document)
                else:  # it lies elsewhere now
                    plan.removed.append(document)
            elif isinstance(seen, Doubt | Path):
                plan.protected.append(document)
                doubts[str(seen)] += 1
            else:
                plan.removed.append(document)
        plan.notes += [_kept(count, place) for place, count in doubts.items()]
        # What lies elsewhere by now was moved, and is no loss to ask about.
        lost = mostly_gone(
            self._documents, [each for each in plan.removed if there.isdisjoint(each.hashes)]
        )
        plan.large_prunes = [
            f"{gone} of the {all_} documents of {root}" for root, (gone, all_) in lost.items()
        ]

    def _in_scope(self, tops: list[Path]) -> Iterable[tuple[StoredDocument, Path]]:
        for document in self._documents:
            if document.id not in self._placed:
                file = document.file
                if any(file.is_relative_to(top) for top in tops):
                    yield document, file
        for place, documents in self._moved.items():
            for document in documents:
                if document.id not in self._placed:
                    yield document, place

    def hint_at_moved_folders(self) -> None:
        """Name folders that are away and whose documents' contents lie elsewhere now."""
        gone: Counter[str] = Counter()
        for file in self.plan.new:
            twins = self._by_hash.get(self._hashes[file], [])
            gone.update({twin.root for twin in twins if not _is_there(twin.folder)})
        self.plan.notes += [
            f"{count} of the new files are as they were in {root}, which is not there any more; if "
            f"it was moved, say so, and its documents go: --moved-from {root}"
            for root, count in gone.items()
        ]


def _kept(count: int, place: str) -> str:
    documents, files = (
        ("document is", "its file") if count == 1 else ("documents are", "their files")
    )
    return f"{count} {documents} kept, as {files} cannot be looked for in {place}"


def mostly_gone(
    documents: Iterable[StoredDocument], gone: Iterable[StoredDocument]
) -> dict[str, tuple[int, int]]:
    """Return, of roots of which more than half is gone, how many documents and of how many."""
    of_root = Counter(document.root for document in documents)
    lost = Counter(document.root for document in gone)
    return {
        root: (lost[root], of_root[root]) for root in sorted(lost) if 2 * lost[root] > of_root[root]
    }


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # reading it will say why
        return 0


def _is_there(path: Path) -> bool:
    """Whether something is at a path; what cannot be looked at is taken to be there."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
