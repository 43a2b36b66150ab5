"""Parts by name: our own, and those that other packages add by entry points."""

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from rag_app.errors import ExtensionError, first_line

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """The parts of one kind: what is looked up in it may be ours or another package's.

    Those of other packages are looked for when a name is none of ours, or all names are asked for
    (10 ms, once), and imported when they are taken out.

    Parameters
    ----------
    group
        Of the entry points, e.g. "rag_app.readers".
    what
        One part in words, e.g. "reader".
    own
        Ours.
    takes
        What a part of another package has to be, in words.
    fits
        Whether it is that.
    reserved
        Further names that no other package may use.

    Raises
    ------
    ExtensionError
        From any method, if two packages offer the same name, or one offers a name of ours; when
        something is taken out, if it cannot be imported, or does not fit.
    """

    def __init__(
        self,
        group: str,
        what: str,
        own: dict[str, T],
        *,
        takes: str,
        fits: Callable[[object], bool],
        reserved: Collection[str] = (),
    ) -> None:
        self.own = own
        self.what = what
        self._group = group
        self._takes = takes
        self._fits = fits
        self._reserved = reserved

    def __getitem__(self, name: str) -> T:
        return self.own[name] if name in self.own else self._load(self._others()[name])

    # Mapping's own would import a part to see whether it is there.
    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._others()

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from self._others()

    def __len__(self) -> int:
        return len(self.own) + len(self._others())

    def packages(self) -> dict[str, str]:
        """Return the names that other packages offer, and which package, e.g. "rag-srt 0.1"."""
        return {name: _package(entry) for name, entry in self._others().items()}

    def _others(self) -> Mapping[str, EntryPoint]:
        offered = find_offered(self._group, self.what)
        for name, entry in offered.items():
            if name in self.own or name in self._reserved:
                raise ExtensionError(
                    f"{_package(entry)} offers a {self.what} {name!r}, which is a name of "
                    "rag_app's own",
                    f"pip uninstall {_name(entry)}; or ask its authors for another name",
                )
        return offered

    def _load(self, entry: EntryPoint) -> T:
        said = f"the {self.what} {entry.name!r} of {_package(entry)} ({entry.value})"
        remedy = f"pip uninstall {_name(entry)}; or install a version of it that fits"
        try:
            found = entry.load()
        except Exception as error:  # whatever its module does
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise ExtensionError(f"{said} cannot be imported: {reason}", remedy) from error
        if not self._fits(found):
            raise ExtensionError(f"{said} is no {self._takes}, but {found!r}", remedy)
        return found  # type: ignore[no-any-return]


@cache
def find_offered(group: str, what: str) -> Mapping[str, EntryPoint]:
    """Return what other packages offer in a group of entry points, by name; nothing is imported.

    Raises
    ------
    ExtensionError
        If two of them offer the same name.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        if (other := found.setdefault(entry.name, entry)) is not entry:
            raise ExtensionError(
                f"{_package(other)} and {_package(entry)} both offer a {what} {entry.name!r}",
                f"pip uninstall {_name(other)}, or {_name(entry)}",
            )
    return found


def _name(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "the package"


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "a package"
