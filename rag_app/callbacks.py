"""LlamaIndex's callback managers, without what a program has put into its global settings."""

import llama_index.core
from llama_index.core.callbacks import CallbackManager


def own_callbacks() -> CallbackManager:
    """Make a callback manager that holds no handler but the process-wide one.

    ``CallbackManager([])`` takes its handlers from the global ``Settings``, which is for parts that
    are made without being told what to use. ``set_global_handler`` stays in force: it says that it
    is for everything.
    """
    manager = CallbackManager([])
    everywhere = llama_index.core.global_handler
    manager.handlers = [] if everywhere is None else [everywhere]
    return manager
