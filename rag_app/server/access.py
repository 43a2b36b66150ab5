"""Who is asking: the key of a request, what its role covers, and how often it may come."""

import logging
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters

from rag_app.config.sections import Config
from rag_app.errors import ConfigError
from rag_app.retrieval.filter_text import parse_filter
from rag_app.server.errors import RequestError
from rag_app.server.keys import Key, Role, find_key
from rag_app.server.service import Service

_LOG = logging.getLogger("rag_app.server")

ANYONE = Key(name="", role="admin", digest="")
"""Whoever can reach a server that never had a key: it listens on loopback only."""


def check_exposure(config: Config, keys: tuple[Key, ...]) -> None:
    """Refuse to listen to other machines without a key.

    Raises
    ------
    ConfigError
        With the command that makes one.
    """
    if not keys and not config.server.is_loopback:
        raise ConfigError(
            f"{config.said('server.host')} lets other machines ask, and there is no key",
            "rag-app keys add NAME --role reader, or leave server.host at 127.0.0.1",
        )


def service_of(request: Request) -> Service:
    """Return the parts that an application was made with."""
    service: Service = request.app.state.service
    return service


def bearer(request: Request, service: Service) -> Key:
    """Return the key of a request.

    Raises
    ------
    RequestError
        401 without one that may be used, 429 if it came too often.
    """
    # Revoked keys count, too: revoking the last one must not open the server to everyone.
    try:
        keys = service.keys.all()
    except ConfigError as error:
        _LOG.error("%s", error)
        message = "the server cannot read its keys; its log says more"
        raise RequestError(503, message, code="no_keys") from None
    # Nor does a file that is emptied or gone: who once asked for keys does so for ever.
    is_open = service.config.server.is_loopback and not service.keys.has_had_keys
    if not keys and is_open:
        return ANYONE
    # The scheme's case is free (RFC 9110, section 11.1).
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    key = find_key(keys, given.strip()) if scheme.lower() == "bearer" else None
    if key is None:
        raise RequestError(
            401,
            "this server asks for a key: Authorization: Bearer KEY",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )
    # Only now: guesses of others must not use up what the key's owner may ask.
    service.allowances.take(key)
    return key


def needs(role: Role) -> Callable[[Request], Awaitable[Key]]:
    """Return the dependency of a route: the request's key, whose role covers `role`."""

    async def authenticate(request: Request) -> Key:
        key = bearer(request, service_of(request))
        if not key.may(role):
            raise RequestError(
                403, f"the key {key.name!r} is a {key.role}'s; this takes a {role}'s", code="role"
            )
        return key

    return authenticate


Reader = Annotated[Key, Depends(needs("reader"))]
Writer = Annotated[Key, Depends(needs("writer"))]
Admin = Annotated[Key, Depends(needs("admin"))]
Served = Annotated[Service, Depends(service_of)]


def filters_of(key: Key, *asked: MetadataFilters | None) -> MetadataFilters | None:
    """Join a key's filter with those that a request asks for; none replaces another."""
    found = [each for each in (parse_filter(key.filter), *asked) if each is not None]
    if len(found) < 2:
        return found[0] if found else None
    return MetadataFilters(filters=list(found))


def of_document(id_: str) -> MetadataFilters:
    """Return the filter of one document; its id, a client's, is escaped where filters are built."""
    return MetadataFilters(filters=[MetadataFilter(key="doc_id", value=id_)])


def base_url(request: Request, service: Service) -> str:
    """Return what links to this server begin with."""
    return service.config.server.public_url or str(request.base_url).rstrip("/")
