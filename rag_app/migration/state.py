"""Which two collections a migration is about, as their properties tell: there is no other state."""

import json
import re
from dataclasses import dataclass

from pymilvus import MilvusClient

from rag_app.config.sections import Config, VectorStoreSection
from rag_app.errors import InputError
from rag_app.milvus.made_by import MIGRATION
from rag_app.milvus.names import at_real_name, leave_alias, real_name
from rag_app.milvus.store import connect


@dataclass(frozen=True)
class Migration:
    """The two collections, and which of them the configured name means.

    Attributes
    ----------
    old, new
        Their own names.
    active
        One of these.
    """

    old: str
    new: str
    active: str

    @property
    def is_switched(self) -> bool:
        """Whether the name means the new one."""
        return self.active == self.new

    @property
    def other(self) -> str:
        """The one that the name does not mean."""
        return self.old if self.is_switched else self.new


def find_migration(config: Config) -> Migration | None:
    """Tell which migration the configured collection is in; None: in none.

    Raises
    ------
    MilvusException, VectorStoreError
        If Milvus fails.
    """
    section = config.vector_store
    client = connect(section)
    active = real_name(client, section)
    told = properties_of(client, section, active).get(MIGRATION) if active else None
    if not active or not told:
        return None
    both = json.loads(told)
    return Migration(both["old"], both["new"], active)


def begin(config: Config) -> Migration:
    """Give the configured collection its alias, and note what is to be built beside it.

    Raises
    ------
    InputError
        If there is no such collection.
    """
    section = config.vector_store
    client, name = connect(section), section.collection
    active = real_name(client, section)
    if active is None:
        raise InputError(
            f"there is no collection {name!r} in {section.uri} yet",
            "ingest something first: rag-app ingest docs/",
        )
    if active == name or not client.has_collection(name, timeout=section.timeout):
        leave_alias(client, section, _free(client, section) if active == name else active)
        active = str(real_name(client, section))
    found = Migration(active, _free(client, section), active)
    note(client, section, found.old, found)
    return found


def note(
    client: MilvusClient, section: VectorStoreSection, collection: str, migration: Migration | None
) -> None:
    """Write into a collection's properties which migration it is in."""
    # Emptied and not dropped, which Milvus servers before 2.4 do not know.
    client.alter_collection_properties(collection, as_property(migration), timeout=section.timeout)


def as_property(migration: Migration | None) -> dict[str, str]:
    """Return what tells of a migration, as a property."""
    told = {"old": migration.old, "new": migration.new} if migration else None
    return {MIGRATION: json.dumps(told) if told else ""}


def properties_of(
    client: MilvusClient, section: VectorStoreSection, collection: str
) -> dict[str, str]:
    """Return a collection's properties."""
    described = client.describe_collection(collection, timeout=section.timeout)
    return dict(described.get("properties", {}))


def at(config: Config, collection: str) -> Config:
    """Return the configuration with one of the two collections."""
    return at_real_name(config, collection)


def _free(client: MilvusClient, section: VectorStoreSection) -> str:
    """Return the next name that no collection has."""
    pattern = re.compile(rf"{re.escape(section.collection)}_(\d+)")
    names = client.list_collections(timeout=section.timeout)
    taken = [int(match[1]) for name in names if (match := pattern.fullmatch(name))]
    return f"{section.collection}_{max(taken, default=0) + 1}"
