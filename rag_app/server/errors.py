"""Errors in OpenAI's form; no traceback, path or address of a service ever leaves."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from rag_app.errors import (
    CollectionMismatchError,
    LLMError,
    LLMUnavailableError,
    RagAppError,
    ServiceError,
    UserError,
)

_LOG = logging.getLogger("rag_app.server")


class RequestError(Exception):
    """A request that is refused.

    Parameters
    ----------
    status
        HTTP's.
    code
        OpenAI's, for programs: "model_not_found", "unsupported_parameter", …
    param
        The field of the request that is wrong.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = headers or {}


_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def as_request_error(error: Exception) -> RequestError:
    """Say of any error what the client may know. What it may not is logged."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, TimeoutError):
        return RequestError(504, "this took longer than server.deadline", code="deadline")
    # Before `UserError`, which it is: its message tells how the server is configured.
    if isinstance(error, CollectionMismatchError):
        _LOG.warning("%s", error)
        message = "the collection cannot be used as the server is configured; its log says more"
        return RequestError(409, message, code="collection_mismatch")
    if isinstance(error, UserError):
        # Not the remedy, which is a command or a key of the
        # configuration for whoever runs the server.
        return RequestError(400, error.message, code="invalid_value")
    if isinstance(error, ServiceError):
        _LOG.error("%s", error)
        part, status = "the vector store or an embedding model", 503
        if isinstance(error, LLMError):
            part = "the language model"
            status = 503 if isinstance(error, LLMUnavailableError) else 502
        return RequestError(status, f"{part} failed; the server's log says more", code="service")
    _LOG.error("%s: %s", type(error).__name__, error, exc_info=error)
    return RequestError(500, "an error in the server; its log says more", code="internal_error")


def body_of(error: RequestError) -> dict[str, object]:
    """Return OpenAI's error object."""
    default = "invalid_request_error" if error.status < 500 else "server_error"
    return {
        "error": {
            "message": error.message,
            "type": _TYPES.get(error.status, default),
            "param": error.param,
            "code": error.code,
        }
    }


def response_of(error: Exception) -> JSONResponse:
    """Return the response to a request that failed."""
    refused = as_request_error(error)
    return JSONResponse(body_of(refused), status_code=refused.status, headers=refused.headers)


def install(application: FastAPI) -> None:
    """Let every error of an application leave in this form."""

    async def failed(_: Request, error: Exception) -> JSONResponse:
        return response_of(error)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - FastAPI's promise
        # OpenAI's error has room for one, and its `param` has no "body" before the field.
        first = error.errors()[0]
        place = [str(part) for part in first["loc"] if part not in {"body", "query", "path"}]
        param = ".".join(place)
        code = "invalid_value"
        message = f"{param or 'the request'}: {first['msg'].removeprefix('Value error, ')}"
        if first["type"] == "extra_forbidden":
            code, message = "unsupported_parameter", f"{param} is not supported here"
        if first["type"] == "missing":
            code = "missing_required_parameter"
        return response_of(RequestError(400, message, code=code, param=param or None))

    async def of_http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101 - Starlette's promise
        headers = dict(error.headers or {})
        return response_of(RequestError(error.status_code, str(error.detail), headers=headers))

    # Each by its type: what `Exception` alone catches Starlette raises again after it was answered,
    # so that every refusal would be a traceback in the log.
    application.add_exception_handler(RequestError, failed)
    application.add_exception_handler(RagAppError, failed)
    application.add_exception_handler(TimeoutError, failed)
    application.add_exception_handler(RequestValidationError, invalid)
    application.add_exception_handler(HTTPException, of_http)
    application.add_exception_handler(Exception, failed)
