"""Which collection a configured name means: itself, or the one that its alias points to.

A collection that was migrated is reached by an alias, so that one step makes the name mean another
one. Whoever opens a collection goes through `real_name`, and stays with that one until it looks
again: nothing is ever searched in one and fetched from another.
"""

import json
from pathlib import Path
from typing import Any

from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from rag_app.config.sections import Config, VectorStoreSection
from rag_app.milvus.lite_shared import share

NAMED = "rag_app.named"
"""The collection property that says by which name a collection is to be found. A server renames a
collection in one step and makes the alias in another: in between, this tells."""


def real_name(client: MilvusClient, section: VectorStoreSection) -> str | None:
    """Return which collection the configured name means; None: there is none.

    Raises
    ------
    MilvusException
        If Milvus fails.
    """
    name, timeout = section.collection, section.timeout
    if target := alias_target(client, name, timeout):
        return target
    if client.has_collection(name, timeout=timeout):
        return name
    if section.is_file:  # which renames and makes the alias in one step
        return None
    for other in client.list_collections(timeout=timeout):
        if other.startswith(f"{name}_") and _named(client, other, timeout) == name:
            return str(other)
    return None


def alias_target(client: MilvusClient, alias: str, timeout: float) -> str:
    """Return the collection that an alias points to; empty: it is no alias."""
    try:
        return str(client.describe_alias(alias, timeout=timeout).get("collection_name", ""))
    except MilvusException as error:
        if "alias" in error.message.lower():  # "not found", "does not exist"
            return ""
        raise


def at_real_name(config: Config, name: str) -> Config:
    """Return the configuration with another collection."""
    section = config.vector_store.model_copy(update={"collection": name})
    return config.model_copy(update={"vector_store": section})


def lite_target(uri: str, name: str) -> str:
    """Return what a name of a Milvus Lite database means, without opening it."""
    try:
        aliases: dict[str, Any] = json.loads(Path(uri, "aliases.json").read_bytes())
        return str(aliases.get(name, name))
    except (OSError, ValueError, AttributeError):  # opening the database tells of a damaged one
        return name


def leave_alias(client: MilvusClient, section: VectorStoreSection, to: str) -> None:
    """Rename the configured collection, and let its name go on meaning it, as an alias.

    Killed in the middle, the name means it all the same; again, it is completed. Those who have it
    open by its own name go on with the new one when they look next: let a moment pass before the
    alias is to mean another collection.

    Raises
    ------
    MilvusException, VectorStoreError
        If Milvus fails.
    """
    name, timeout = section.collection, section.timeout
    if alias_target(client, name, timeout):
        return
    if section.is_file:
        from rag_app.milvus.lite_server import LEAVE_ALIAS  # Milvus Lite: 0.3 s

        share(Path(section.uri)).ask(LEAVE_ALIAS, {"name": name, "to": to})
        return
    if client.has_collection(name, timeout=timeout):
        client.alter_collection_properties(name, {NAMED: name}, timeout=timeout)
        client.rename_collection(name, to, timeout=timeout)
    client.create_alias(to, name, timeout=timeout)


def point(client: MilvusClient, section: VectorStoreSection, to: str) -> None:
    """Let the configured name, which is an alias, mean another collection: in one step."""
    client.alter_alias(to, section.collection, timeout=section.timeout)


def _named(client: MilvusClient, collection: str, timeout: float) -> str:
    described = client.describe_collection(collection, timeout=timeout)
    return str(described.get("properties", {}).get(NAMED, ""))
