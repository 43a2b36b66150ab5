"""The errors that rag_app raises, and the exit code each one ends the command line with.

::

    RagAppError                      1
    ├── UserError                    2   the user's mistake: change the input and run again
    │   ├── ConfigError              2   a key, value, profile or file of the configuration
    │   ├── InputError               2   an argument: a path that is not there, an empty question
    │   │   ├── ClosedError          2   a `RagApp` that was closed
    │   │   ├── SessionBusyError     2   a conversation that is at another question
    │   │   └── StoreUsageError      2   a call that the vector store does not know
    │   ├── ExtensionError           2   an installed package that adds to rag_app, and cannot
    │   └── CollectionMismatchError  2   a collection that another configuration made
    └── ServiceError                 1   something that the user's input cannot mend
        ├── ModelUnavailableError    1   a model that is not here and cannot be fetched
        ├── VectorStoreError         1   Milvus cannot be reached, opened or written
        │   ├── RowsRefusedError     1   it can, but not with these rows
        │   └── CollectionChangedError 1 another process dropped the collection, or is changing it
        └── LLMError                 1   the LLM fails on a request
            └── LLMUnavailableError  1   the LLM cannot be reached or started: it would on any
"""


class RagAppError(Exception):
    """Base of every error that rag_app raises on purpose.

    Parameters
    ----------
    message
        What happened, with the offending value.
    remedy
        What to do about it: a command, or a line to type into a file.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  try: {self.remedy}" if self.remedy else self.message


class UserError(RagAppError):
    """The user's mistake: the same input will fail again."""

    exit_code = 2


class ConfigError(UserError):
    """A configuration that cannot be: unknown key, wrong type, impossible combination."""


class InputError(UserError):
    """An argument that cannot be worked with."""


class StoreUsageError(InputError, ValueError):
    """A call that the vector store does not know; LlamaIndex's stores raise ValueError for it."""


class ClosedError(InputError):
    """A `rag_app.RagApp`, or something made of it, that is used after `close`."""

    def __init__(self) -> None:
        super().__init__("this RagApp is closed", "make another one: RagApp(config)")

    def __reduce__(self) -> tuple[type["ClosedError"], tuple[()]]:
        # Python would make it anew with its message, which it does not take.
        return ClosedError, ()


class SessionBusyError(InputError):
    """A conversation that is asked by two callers at once."""


class ExtensionError(UserError):
    """A part that another installed package adds, and that cannot be used."""


class CollectionMismatchError(UserError):
    """A collection that was made by another configuration, or by another program."""


class ServiceError(RagAppError):
    """A failure of something that rag_app relies on."""


class ModelUnavailableError(ServiceError):
    """A model that is neither here nor can be fetched."""


class VectorStoreError(ServiceError):
    """Milvus cannot be reached, opened, read or written."""


class RowsRefusedError(VectorStoreError):
    """Milvus does not take these rows, and may take others."""


class CollectionChangedError(VectorStoreError):
    """Another process dropped an open collection, or is changing its index."""


class LLMError(ServiceError):
    """The LLM fails on a request."""


class LLMUnavailableError(LLMError):
    """The LLM cannot be reached or started, or refuses the key: any request would fail."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def shortened(shown: str, most: int = 200) -> str:
    """Return the beginning of a value that is too long for a message."""
    return shown if len(shown) <= most else f"{shown[:most]}…"
