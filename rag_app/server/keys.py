"""Keys: who may ask the server, which collections, which documents in them, and how often.

A key is shown once, when it is made; the file keeps its SHA-256, which is enough for a random key
of 256 bits (nothing slower is needed where nothing can be guessed). Revoked keys stay in the file:
a server that once asked for keys does so for ever.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any, Literal, get_args

from rag_app.config.sections import COLLECTION_NAME
from rag_app.errors import ConfigError, InputError
from rag_app.schema import Record

Role = Literal["reader", "writer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what the one before it may, and: ask; change documents; see the server's state."""

# Names become part of a folder's name (`uploads`). \Z, as $ would let a line break through.
_NAME = re.compile(r"[\w.@-]{1,64}\Z")
_RATE = re.compile(r"([1-9]\d{0,6})/(s|min|h)\Z")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Key(Record):
    """What is kept of a key.

    Attributes
    ----------
    digest
        Hex SHA-256 of the key.
    collections
        That it may use; empty: all.
    filter
        Joined to every search it makes, as ``retrieval.filter`` is written; empty: none.
    rate
        Requests by time, "60/min"; empty: no limit.
    made
        Seconds since 1970.
    """

    name: str
    role: Role
    digest: str
    collections: tuple[str, ...] = ()
    filter: str = ""
    rate: str = ""
    made: float = 0.0
    is_revoked: bool = False

    def may(self, role: Role) -> bool:
        """Whether its role covers another."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def may_use(self, collection: str) -> bool:
        """Whether it may use a collection."""
        return not self.collections or collection in self.collections


class KeyFile:
    """The file of the keys, read again whenever it changed; for any thread."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._keys: tuple[Key, ...] = ()
        self.has_had_keys = False

    def all(self) -> tuple[Key, ...]:
        """Return all keys, revoked ones included, in the order in which they were made.

        Raises
        ------
        ConfigError
            If the file cannot be read: nobody is let in then.
        """
        with self._lock:
            try:
                stat = self._path.stat()
                # Looked at with each request, so that a revoked key ends at
                # once; read only if it changed.
                if (seen := (stat.st_mtime_ns, stat.st_size)) != self._seen:
                    self._keys = _parse(self._path.read_text(encoding="utf-8"))
                    self._seen = seen
                    self.has_had_keys = self.has_had_keys or bool(self._keys)
            except FileNotFoundError:
                self._keys, self._seen = (), None
            # The last two: JSON, but of another shape.
            except (OSError, ValueError, TypeError, KeyError) as error:
                raise ConfigError(
                    f"the file of the keys {self._path} cannot be read: {error}",
                    "restore it, or move it away and make new keys: rag-app keys add",
                ) from None
            return self._keys

    def add(
        self,
        name: str,
        role: str = "reader",
        collections: Sequence[str] = (),
        filter: str = "",
        rate: str = "",
    ) -> str:
        """Make a key and return it; it cannot be shown again.

        Raises
        ------
        InputError
            If the name is in use or none, or role, a collection, the filter or the rate is wrong.
        """
        from rag_app.retrieval.filter_text import parse_filter  # LlamaIndex: 1.3 s

        if not _NAME.match(name):
            raise InputError(
                f"{name!r} is no name for a key", "use letters, digits and _ . @ -, at most 64"
            )
        if role not in ROLES:
            raise InputError(f"there is no role {role!r}", f"use one of {', '.join(ROLES)}")
        for collection in collections:
            if not re.fullmatch(COLLECTION_NAME, collection):
                raise InputError(
                    f"{collection!r} is no name of a collection",
                    "see which there are: rag-app collections list",
                )
        # Only to refuse it now: at a request a wrong one would be the reader's problem.
        parse_filter(filter)
        per_second(rate)
        key = f"rag-{secrets.token_urlsafe(32)}"
        made = Key(name, role, _digest(key), tuple(collections), filter, rate, time.time())
        with self._change() as keys:
            # Under the lock: two commands at once could give away the same name.
            if any(each.name == name and not each.is_revoked for each in keys):
                raise InputError(
                    f"there is a key called {name!r}", f"first: rag-app keys revoke {name}"
                )
            keys.append(made)
        return key

    def revoke(self, name: str) -> Key:
        """Make a key useless from the next request on, and return it.

        Raises
        ------
        InputError
            If there is no such key in use.
        """
        with self._change() as keys:
            for place, each in enumerate(keys):
                if each.name == name and not each.is_revoked:
                    keys[place] = replace(each, is_revoked=True)
                    return keys[place]
        raise InputError(
            f"there is no key called {name!r}", "see which there are: rag-app keys list"
        )

    @contextmanager
    def _change(self) -> Iterator[list[Key]]:
        """Yield the keys to change; written as a whole, and one process at a time."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Not the file itself, which is replaced: a lock on the old one would hold nobody up.
        with open(f"{self._path}.lock", "a") as lock:  # noqa: PTH123 - beside the file
            flock(lock, LOCK_EX)
            keys = list(self.all())
            yield keys
            text = json.dumps({"keys": [asdict(key) for key in keys]}, indent=2)
            temporary = self._path.with_suffix(f".{os.getpid()}")
            # Its owner's alone before there is anything in it.
            temporary.touch(mode=0o600)
            with temporary.open("w", encoding="utf-8") as out:
                out.write(f"{text}\n")
                out.flush()
                # Else a crash could leave the new name with nothing behind it: nobody gets in then.
                os.fsync(out.fileno())
            temporary.replace(self._path)


def find_key(keys: Iterable[Key], given: str) -> Key | None:
    """Return what is kept of a key that may be used; None if there is none.

    All digests are compared, each in the same time whatever it has in common with the key's.
    """
    digest = _digest(given)
    found = None
    for each in keys:
        if hmac.compare_digest(each.digest, digest) and not each.is_revoked:
            found = each
    return found


def per_second(rate: str) -> float | None:
    """Return a rate such as "60/min" by second; None if it is empty.

    Raises
    ------
    InputError
        If it is no rate.
    """
    if not rate:
        return None
    if (match := _RATE.match(rate)) is None:
        raise InputError(f"{rate!r} is no rate", "write for example 60/min, 2/s or 1000/h")
    return int(match[1]) / _SECONDS[match[2]]


def _parse(text: str) -> tuple[Key, ...]:
    table: dict[str, Any] = json.loads(text)
    keys = [Key(**{**each, "collections": tuple(each["collections"])}) for each in table["keys"]]
    for key in keys:
        if key.role not in ROLES:
            raise ValueError(f"{key.name} has the role {key.role!r}")
    return tuple(keys)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
