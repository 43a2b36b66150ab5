"""Folders, files and globs → the files under them, none of them opened; what is left out, and why.

Nothing here ends a run but a path that the user named and that is not there.
"""

import errno
import glob
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from rag_app.documents.file_types.limits import too_large
from rag_app.errors import InputError
from rag_app.schema import SkippedFile

if TYPE_CHECKING:  # 0.4 s, which a reading process does without
    from rag_app.config.sections import DocumentsSection


@dataclass(frozen=True, order=True)
class SourceFile:
    """A file to read: `path` is relative to `root`, with forward slashes."""

    path: str
    root: Path

    @property
    def absolute(self) -> Path:
        """Where the file lies."""
        return self.root / self.path

    @property
    def document_id(self) -> str:
        """Hex digest of root and path: the same path under two roots is two documents."""
        # NUL is in no path: root and path cannot run into each other.
        return hashlib.sha256(f"{self.root}\0{self.path}".encode()).hexdigest()[:32]


@dataclass
class Discovery:
    """What `discover` found.

    Attributes
    ----------
    files
        Sorted by path.
    skipped, unseen
        What was left out, as it is told and where it lies. What is at and below those places was
        not looked at.
    tops
        Where the walks began.
    """

    files: list[SourceFile] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    unseen: set[Path] = field(default_factory=set)
    tops: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class _Top:
    """A path to walk from, and the folder (without links) that a link in it may lead to."""

    path: Path
    inside: str


def discover(
    paths: Iterable[str | Path], section: "DocumentsSection", known_roots: Sequence[Path] = ()
) -> Discovery:
    """List the files under folders, files and globs.

    Parameters
    ----------
    paths
        What the user named.
    section
        The configuration's ``[documents]``.
    known_roots
        Folders ingested before: a path inside one of them keeps being relative to it, so that
        ingesting a part of a folder again names its documents as before.

    Raises
    ------
    InputError
        If a path does not exist, or a glob matches nothing.
    """
    tops = [top for path in paths for top in _expand(path)]
    found = Discovery(tops=[top.path for top in tops])
    folders = {*known_roots, *(p if os.path.isdir(p) else p.parent for p in found.tops)}  # noqa: PTH112 - no permission to look is no error here
    for top in tops:
        around = [each for each in folders if top.path == each or each in top.path.parents]
        # The outermost, so that a document's name does not depend on
        # which part of a folder is ingested.
        root = min(around, key=lambda folder: len(folder.parts))
        walk = _Walk(root, (os.path.realpath(root), top.inside), section)
        files = list(walk.below(top.path))
        found.files += [SourceFile(file.relative_to(root).as_posix(), root) for file in files]
        found.skipped += walk.skipped
        found.unseen |= walk.unseen
    # Once each: the paths that the user named may overlap.
    found.files = sorted({file.absolute: file for file in found.files}.values())
    found.skipped = sorted(set(found.skipped), key=lambda skip: (skip.path, skip.root))
    return found


def absolute_path(path: str | Path) -> Path:
    """Make a path that the user named absolute: "~" goes, ".." goes, links keep their own names.

    Raises
    ------
    InputError
        If it is empty, or the home of a user who is not there.
    """
    if not os.fspath(path):
        raise InputError("a path is empty", 'name a folder or a file; "." is the current folder')
    try:
        expanded = Path(path).expanduser()
    except RuntimeError:
        raise InputError(
            f"{_named(path)} is in the home of a user whom this machine does not know",
            "write the folder out",
        ) from None
    return Path(os.path.abspath(expanded))  # noqa: PTH100 - Path.resolve would follow links


def exists(path: Path) -> bool:
    """Whether something is at a path, be it a dangling link or nothing that we may look into.

    Raises
    ------
    InputError
        If that cannot be told, with the system's reason.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # too long, a zero byte, a parent that is locked
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{_named(path)} cannot be looked at: {reason}", "check it") from None
    return True


def _named(path: str | Path) -> str:
    text = str(path)
    return repr(text if len(text) <= 120 else f"{text[:60]}…{text[-40:]}")


def _expand(path: str | Path) -> list[_Top]:
    """Return the path itself, or what it matches as a glob."""
    given = absolute_path(path)
    is_glob = glob.has_magic(str(path))
    try:
        # Before the glob: a file may be called "notes [old].md".
        if exists(given):
            return [_Top(given, os.path.realpath(given))]
    except InputError:
        if not is_glob:
            raise
    if not is_glob:
        raise InputError(
            f"there is no file or folder {_named(path)}", "check the path; globs go in quotes"
        )
    try:
        matches = sorted(glob.glob(str(given), recursive=True))  # noqa: PTH207 - it is absolute
    except RecursionError:
        raise InputError(
            f"under the glob {_named(path)} are more folders in each other than a glob can follow",
            "name the folder instead",
        ) from None
    if not matches:
        raise InputError(f"the glob {_named(path)} matches nothing", "check it, quotes included")
    # What a glob matches may be a link; it may lead to wherever the fixed part of the glob holds.
    before = [folder for folder in given.parents if not glob.has_magic(str(folder))]
    return [_Top(Path(match), os.path.realpath(before[0])) for match in matches]


@dataclass(frozen=True)
class _Folder:
    """A folder that we came through, and the one above it."""

    identity: tuple[int, int]
    above: "_Folder | None"

    def is_below(self, identity: tuple[int, int]) -> bool:
        folder: _Folder | None = self
        while folder is not None:
            if folder.identity == identity:
                return True
            folder = folder.above
        return False


class _Walk:
    """Goes through folders without calling itself: they may be nested as deep as paths can be."""

    def __init__(self, root: Path, inside: tuple[str, ...], section: "DocumentsSection") -> None:
        self.skipped: list[SkippedFile] = []
        self.unseen: set[Path] = set()
        self._root = root
        self._inside = inside
        self._section = section

    def below(self, top: Path) -> Iterator[Path]:
        """Yield readable-looking files at and below `top`."""
        waiting: list[tuple[Path, _Folder | None]] = [(top, None)]
        while waiting:
            path, above = waiting.pop()
            try:
                status = path.stat()
                if reason := self._reason_against(path, status, is_top=above is None):
                    self._skip(path, reason)
                elif stat.S_ISREG(status.st_mode):
                    yield path
                # By device and inode: a link that goes round has another path each time.
                elif above and above.is_below((status.st_dev, status.st_ino)):
                    self._skip(path, "circular link")
                else:
                    folder = _Folder((status.st_dev, status.st_ino), above)
                    waiting += [(inner, folder) for inner in self._inside_of(path)]
            except OSError as error:
                self._skip(path, _said_by(error, path))

    def _reason_against(self, path: Path, status: os.stat_result, *, is_top: bool) -> str:
        # The path goes into each row, and a row takes valid UTF-8 alone.
        if str(path) != _printable(str(path)):
            return "its name is not UTF-8"
        if is_top or path.is_symlink():  # a glob may have led through a link
            target = os.path.realpath(path)
            if not (self._section.follow_links or self._holds(target)):
                return (
                    f"a link out of the folder, to {_printable(target)}; "
                    "documents.follow_links = true follows it"
                )
        if stat.S_ISREG(status.st_mode):
            return too_large(status.st_size, round(self._section.max_file_size_mb * 1e6))
        return "" if stat.S_ISDIR(status.st_mode) else "not a regular file"

    def _holds(self, target: str) -> bool:
        return any(Path(target).is_relative_to(folder) for folder in self._inside)

    def _inside_of(self, folder: Path) -> Iterator[Path]:
        names = os.listdir(folder)  # noqa: PTH208 - names, not paths, are filtered
        # Read as documents, its files would have changed by each ingest that reads them.
        if {"LOCK", "collections"} <= set(names):
            self._skip(folder, "a Milvus Lite database")
            return
        for name in names:
            inner = folder / name
            relative = inner.relative_to(self._root).as_posix()
            hidden = name.startswith(".") and not self._section.hidden
            if not hidden and not any(
                fnmatch(relative, pattern) or fnmatch(name, pattern)
                for pattern in self._section.exclude
            ):
                yield inner

    def _skip(self, path: Path, reason: str) -> None:
        # A prune must not take for gone what was never looked at.
        self.unseen.add(path)
        relative = path.relative_to(self._root).as_posix()
        shown = relative if relative != "." else path.name
        self.skipped.append(SkippedFile(_printable(shown), reason, _printable(str(self._root))))


def _said_by(error: OSError, path: Path) -> str:
    if error.errno == errno.ENOENT and path.is_symlink():
        return "dangling link: what it points to is not there"
    return "circular link" if error.errno == errno.ELOOP else f"unreadable: {error.strerror}"


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
