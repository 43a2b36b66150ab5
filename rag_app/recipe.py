"""Objects that are pickled and copied as the call that made them: their parts are opened again."""

from collections.abc import Callable
from typing import Any, Self


class Remade:
    """What can be made again, in this process or another one, by the call that made it.

    Connections, models and locks do not travel: the other process opens its own.
    """

    _made_by: tuple[Callable[..., Any], dict[str, Any]] | None = None

    def made_by(self, call: Callable[..., Any], **arguments: Any) -> Self:
        """Note the call that made this; it has to be one that can be pickled."""
        self._made_by = call, arguments
        return self

    def changed_since(self) -> dict[str, Any]:
        """Return what was set on it after it was made, for `__setstate__`."""
        return {}

    def __setstate__(self, changed: dict[str, Any]) -> None:
        self.__dict__.update(changed)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self._made_by is None:
            return super().__reduce_ex__(protocol)
        return _make, self._made_by, self.changed_since() or None  # None: no `__setstate__`


# Of the module: pickle looks functions up by name.
def _make(call: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    return call(**arguments)
