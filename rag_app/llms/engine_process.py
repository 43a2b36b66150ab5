"""What all vLLM engines of a process share, whoever has started them, and what a fork does to it.

vLLM keeps the groups of `torch.distributed` once for the process, and destroys them whenever an
engine is shut down; here they last until the last engine has gone.
"""

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rag_app.errors import LLMError

_LIFECYCLE = threading.RLock()
"""Held while an engine is started or stopped: vLLM keeps state of the whole process meanwhile."""

_RUNNING: dict[int, int] = {}
"""The engines of this package by their ids, each with the process that it was started in."""


@contextmanager
def starting(owner: object) -> Iterator[None]:
    """Start an engine inside; it counts as running until `stopping`."""
    with _LIFECYCLE:
        _guard_cleanup()
        yield
        _RUNNING[id(owner)] = os.getpid()


@contextmanager
def stopping(owner: object) -> Iterator[None]:
    """Shut an engine down and forget it inside; with the last one goes what they share."""
    # The original: `_guard_cleanup` replaces the name in vLLM's `core` alone.
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    with _LIFECYCLE:
        try:
            yield
        finally:
            _RUNNING.pop(id(owner), None)  # not before: `_guard_cleanup` asks who is left
            gc.collect()  # the engine has cycles, and its memory is wanted now
            if not _RUNNING and not _others_live():
                cleanup_dist_env_and_memory()


def check_not_forked() -> None:
    """Refuse engines in a process that was forked from one with engines.

    Raises
    ------
    LLMError
        With the remedy.
    """
    # A fork copies the dictionary: an entry of another process is an engine of the parent's.
    if any(process != os.getpid() for process in _RUNNING.values()):
        raise forked()


def forked() -> LLMError:
    """Return the error of an engine that is asked in a process that was forked from its own."""
    return LLMError(
        f"this process ({os.getpid()}) was forked from one with a vLLM engine in it, and an "
        "engine does not survive that",
        'start processes with multiprocessing\'s "spawn", or ask a server: llm.backend = '
        '"vllm-server"',
    )


def _others_live() -> bool:
    """Whether the program has engines that were made without this package."""
    from vllm.v1.engine.core import EngineCore

    # Not isinstance: it asks objects for `__class__`, and a proxy may do anything then.
    return any(issubclass(type(each), EngineCore) for each in gc.get_objects())


def _guard_cleanup() -> None:
    """Let the last engine of the process alone clean up what all of them share.

    vLLM's `EngineCore.shutdown` destroys the groups of every engine, whichever is shut down.
    """
    from vllm.v1.engine import core

    clean_up = core.cleanup_dist_env_and_memory
    if getattr(clean_up, "is_guarded", False):
        return

    def guarded(*arguments: Any, **options: Any) -> None:
        if not _RUNNING:
            clean_up(*arguments, **options)

    guarded.is_guarded = True  # type: ignore[attr-defined]
    # Replaced where it is called: `core` has imported the name already.
    core.cleanup_dist_env_and_memory = guarded


def _after_fork() -> None:
    """Make a forked process independent of the locks and threads of its parent."""
    global _LIFECYCLE
    _LIFECYCLE = threading.RLock()
    if not _RUNNING:
        return
    # At exit Python would destroy the groups of `torch.distributed`, and they would wait for
    # threads that a fork does not copy: a segmentation fault. So they are never destroyed here.
    distributed = sys.modules.get("torch.distributed.distributed_c10d")
    if distributed is not None:
        for group, (_, store) in distributed._world.pg_map.items():
            for each in (group, store):
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_after_fork)
