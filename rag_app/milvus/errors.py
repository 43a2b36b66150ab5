"""Failures of Milvus → errors that say what to do, by their status codes."""

import errno
import os
from pathlib import Path

import grpc
from pymilvus.exceptions import DataNotMatchException, MilvusException, ParamError

from rag_app.errors import RowsRefusedError, VectorStoreError
from rag_app.milvus.lite_shared import not_answering


class LiteFailure(MilvusException):  # type: ignore[misc]
    """An error of ours, in the form in which pymilvus lets it through."""

    def __init__(self, store_error: VectorStoreError) -> None:
        super().__init__(message=store_error.message)
        self.store_error = store_error


FAILURES = (MilvusException, grpc.RpcError)
"""What pymilvus raises: it passes on some of gRPC's errors as they are, a refused token's too."""

_REFUSED_TOKEN = {grpc.StatusCode.UNAUTHENTICATED, 1400}
_NOT_ALLOWED = {grpc.StatusCode.PERMISSION_DENIED, 1401}
"""gRPC's codes, and those of Milvus from 2.3 on (``pkg/util/merr``)."""

_NOT_THERE = {grpc.StatusCode.UNAVAILABLE, 2}
"""gRPC's code, and pymilvus's for a connection that failed."""

_PARAMETER_INVALID = 1100
"""Milvus's code for values that are too long, of the wrong type, …"""

MAKE_ROOM = "make room on the disk of vector_store.uri, or make it writable, and run the same again"

_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def as_store_error(error: Exception, uri: str) -> VectorStoreError:
    """Turn one of `FAILURES` into an error that says what to do."""
    if ours := _ours(error):
        return ours
    code, message = _read(error)
    if code in _REFUSED_TOKEN:
        return VectorStoreError(
            f"the Milvus server at {uri} refuses the token: {message}",
            "set RAG_APP_VECTOR_STORE__TOKEN=user:password",
        )
    if code in _NOT_ALLOWED:
        return VectorStoreError(
            f"the Milvus server at {uri} does not allow this user to do that: {message}",
            "let its administrator grant the privilege, or use the token of another user: "
            "RAG_APP_VECTOR_STORE__TOKEN=user:password",
        )
    if code in _NOT_THERE:
        return VectorStoreError(
            f"the Milvus server at {uri} cannot be reached: {message}",
            "start it, or set vector_store.uri; without a server: a path that ends in .db",
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and "://" not in uri:
        return not_answering(Path(uri))
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return VectorStoreError(
            f"the Milvus server at {uri} did not answer in time: {message}",
            "raise vector_store.timeout, or look what keeps the server busy",
        )
    if "://" not in uri and (problem := storage_problem(error)):
        return VectorStoreError(
            f"the Milvus Lite database {uri} could not be written: {problem}", MAKE_ROOM
        )
    if (
        code == _PARAMETER_INVALID
        or isinstance(error, ParamError | DataNotMatchException)
        # Milvus Lite's code for it is that of other faults, too, and so is gRPC's.
        or "exceeds max" in message
        or "larger than max" in message
    ):
        return RowsRefusedError(f"Milvus ({uri}) does not take it: {message}", "see rag-app doctor")
    return VectorStoreError(f"Milvus ({uri}) failed: {message}", "see rag-app doctor")


def _ours(error: BaseException | None) -> VectorStoreError | None:
    """Return the error of ours that pymilvus passed on, or made another one of."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:  # pymilvus makes errors their own causes
        if isinstance(error, LiteFailure):
            return error.store_error
        seen.append(error)
        error = error.__cause__ if error.__cause__ is not error else error.__context__
    return None


def is_timeout(error: BaseException) -> bool:
    """Whether a call was given up because there was no answer in time."""
    return _read(error)[0] is grpc.StatusCode.DEADLINE_EXCEEDED


def message_of(error: BaseException) -> str:
    """Return what a failure says, in one line."""
    return _read(error)[1]


def _read(error: BaseException) -> tuple[grpc.StatusCode | int, str]:
    """Return the code of a failure, and its message in one line."""
    cause = error.__cause__
    if isinstance(error, grpc.RpcError):
        code, message = error.code(), error.details() or str(error.code())
    elif isinstance(cause, grpc.RpcError):  # pymilvus calls any failure to connect the same
        code, message = cause.code(), cause.details() or str(cause.code())
    else:
        code, message = getattr(error, "code", 0), getattr(error, "message", str(error))
    return code, " ".join(message.split())


def storage_problem(error: BaseException) -> str:
    """Return what the operating system says of storage in a message of Milvus Lite."""
    # It comes through gRPC, by which the system's words are all that is left of its error.
    message = message_of(error)
    return next((os.strerror(code) for code in _STORAGE if os.strerror(code) in message), "")
