"""Which app a pickled one is: in this process the same, in another one that process's own."""

import os
import uuid
from collections.abc import Callable
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

from rag_app.config.portable import with_secrets
from rag_app.config.sections import Config

Name = tuple[int, str]

# Weak, since a name must not keep an app that nobody uses any more.
_apps: WeakValueDictionary[Name, Any] = WeakValueDictionary()
_arrived: dict[Name, Any] = {}
"""Apps that came out of pickles, until the process ends: a pool's worker is given the same engine
again and again, and forgets it each time."""
_lock = Lock()


def remembered(app: Any) -> str:
    """Give an app a name, by which `app_of` finds it in this process."""
    name = uuid.uuid4().hex
    with _lock:
        _apps[os.getpid(), name] = app
    return name


def app_of(name: str, make: Callable[..., Any], config: Config, llm: Any, embedder: Any) -> Any:
    """Return the app of this name; in a process that has none one is made, and kept.

    A forked process does not use its parent's: connections and threads are not forked.

    Raises
    ------
    ConfigError
        If a secret of the configuration is in no environment variable here.
    """
    here = os.getpid(), name
    with _lock:
        app = _apps.get(here)
    if app is None:
        # Outside of the lock, which `remembered` takes for each app that is made.
        made = make(with_secrets(config), llm=llm, embedder=embedder)
        with _lock:
            app = _arrived.setdefault(here, made)  # another thread may have been faster
            _apps[here] = app
    return app
