"""Whether a file is gone, or only out of sight.

An unmounted share, a locked folder and a dangling link look like deleted files to whoever does not
look twice. Gone is only what is missing from a folder that is there, could be listed and is not
bare: a bare folder is what is left where a share was mounted.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR


@dataclass(frozen=True)
class Doubt:
    """A place that cannot be looked into, and why.

    Attributes
    ----------
    is_bare
        Whether it is a folder with nothing in it: only the user knows if all was deleted there.
    """

    place: Path
    reason: str
    is_bare: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class Absence:
    """Tells of missing files whether they are gone; remembers what it saw of folders.

    Parameters
    ----------
    files
        All that should be there. A bare folder that should hold one of them may have lost just that
        one; one that should hold more has rather lost its share.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = list(files)
        self._seen: dict[Path, Doubt | bool] = {}

    def look_for(self, root: Path, file: Path) -> Doubt | bool:
        """Return whether a file is there, or what keeps us from knowing.

        Parameters
        ----------
        root
            The ingested folder, without which nothing can be said of the file.
        file
            A path below it.
        """
        try:
            file.stat()
        except (FileNotFoundError, NotADirectoryError):
            if os.path.islink(file):  # noqa: PTH114 - it never raises
                return Doubt(file, "dangling link")
        except OSError as error:
            return self._closed_folder(root, file) or _unreadable(file, error)
        else:
            return True
        return self._closed_folder(root, file) or False

    def _closed_folder(self, root: Path, file: Path) -> Doubt | None:
        """Go down from the root until a folder is missing or cannot be looked into."""
        for folder in [root / part for part in reversed(file.relative_to(root).parents)]:
            # Each folder once: a share that is away is missed by thousands of files.
            if folder not in self._seen:
                self._seen[folder] = self._look_at(folder)
            seen = self._seen[folder]
            if isinstance(seen, Doubt):
                return seen
            if not seen:
                return Doubt(root, "the folder is not there") if folder == root else None
        return None

    def _look_at(self, folder: Path) -> Doubt | bool:
        """Return whether a folder is there, if that can be told."""
        try:
            if not S_ISDIR(folder.stat().st_mode):
                return False
            names = os.listdir(folder)  # noqa: PTH208 - a generator would fail later
        except (FileNotFoundError, NotADirectoryError):
            return Doubt(folder, "dangling link") if os.path.islink(folder) else False  # noqa: PTH114
        except OSError as error:
            return _unreadable(folder, error)
        if any(not name.startswith(".") for name in names):  # .gitkeep and the like tell nothing
            return True
        if folder.is_symlink():
            return Doubt(folder, "a link to an empty folder, as one to an unmounted share is", True)
        if sum(file.is_relative_to(folder) for file in self._files) > 1:
            return Doubt(folder, "an empty folder, as that of an unmounted share is", True)
        return True


def _unreadable(path: Path, error: OSError) -> Doubt:
    return Doubt(path, f"unreadable: {error.strerror}")
