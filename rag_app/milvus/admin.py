"""The collections of the configured Milvus: list them, show one, drop one, rename one."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymilvus import MilvusClient
from pymilvus.client.types import LoadState

from rag_app.config.sections import COLLECTION_NAME, Config
from rag_app.errors import CollectionMismatchError, InputError
from rag_app.milvus.backend import backend_of
from rag_app.milvus.chosen import read_chosen
from rag_app.milvus.dense_index import DenseIndex
from rag_app.milvus.errors import FAILURES, as_store_error
from rag_app.milvus.lite import check_collection, collection_faults, remove_collection
from rag_app.milvus.lite_check import has_content, read_properties
from rag_app.milvus.lite_files import collection_folder
from rag_app.milvus.made_by import MADE_BY, check_made_by
from rag_app.milvus.names import alias_target
from rag_app.milvus.search import VECTOR_FIELD
from rag_app.milvus.store import connect, is_there
from rag_app.milvus.writing import changing_index, writing
from rag_app.schema import Record


@dataclass(frozen=True)
class CollectionInfo(Record):
    """A collection of the configured Milvus.

    Attributes
    ----------
    rows
        As Milvus's statistics have it; on a server that may count deleted rows for a while.
        `show_collection` counts.
    configured
        Whether it is ``vector_store.collection``.
    made_by
        Model, node size and the rest of what decides its rows; empty: another program made it.
    mismatch
        Why this configuration cannot ingest into it; empty: it can.
    searchable
        Whether it can search it, which asks for less.
    damage
        What is wrong with its files (Milvus Lite); such a collection is not opened, so that nothing
        else is known of it.
    index
        Over the vectors: type, metric, params; empty: there is none that rag_app knows of. What
        was "chosen" for its rows has its own key there, as `rag_app.index.schema` tells it.
    """

    name: str
    rows: int
    configured: bool
    made_by: dict[str, Any]
    mismatch: str
    searchable: bool
    index: dict[str, Any]
    aliases: tuple[str, ...] = ()
    damage: str = ""


@dataclass(frozen=True)
class CollectionDetails(CollectionInfo):
    """A collection in detail.

    Attributes
    ----------
    rows
        Counted.
    fields
        The schema: what each column holds, by name.
    """

    fields: dict[str, str] = field(default_factory=dict)
    remedy: str = ""


def list_collections(config: Config) -> list[CollectionInfo]:
    """List all collections, in the order of their names; none if there is no Lite database yet.

    Raises
    ------
    VectorStoreError
        If Milvus cannot be reached or opened.
    """
    with _client(config) as client:
        if client is None:
            return []
        names = {*_call(client, config, "list_collections"), *_folders(config)}
        return [_info(client, config, name) for name in sorted(names)]


def show_collection(config: Config, name: str) -> CollectionDetails:
    """Tell all about a collection, or the one that an alias means. Loads it, to count its rows.

    Raises
    ------
    InputError
        If there is no such collection.
    VectorStoreError
        If Milvus cannot be reached or opened.
    """
    with _client(config) as client:
        name = (client and alias_target(client, name, config.vector_store.timeout)) or name
        described = _described(client, config, name)
        info = _info(client, config, name)
        fields = {each["name"]: _type_of(each) for each in described["fields"]}
        if described.get("enable_dynamic_field"):
            fields["$meta"] = "JSON: all other keys"
        error = _mismatch(config, name, described)
        return CollectionDetails(
            **{**vars(info), "rows": _count(client, config, name)},
            fields=fields,
            remedy=error.remedy if error else "",
        )


def find_collection(config: Config, name: str, *, foreign: bool = False) -> CollectionInfo:
    """Return a collection that may be dropped. Raises as `drop_collection`."""
    with _client(config) as client:
        return _of_rag_app(client, config, name, foreign=foreign, verb="dropped")


def drop_collection(config: Config, name: str, *, foreign: bool = False) -> CollectionInfo:
    """Delete a collection with all its rows; return what it was.

    Parameters
    ----------
    foreign
        Also one that another program made.

    Raises
    ------
    InputError
        If there is no such collection, the name is an alias, or another program made it.
    VectorStoreError
        If Milvus cannot be reached or opened, or refuses.
    """
    with _writing_client(config, name) as client:
        info = _of_rag_app(client, config, name, foreign=foreign, verb="dropped")
        if info.damage:
            remove_collection(config.vector_store.uri, name)
        else:
            _call(client, config, "drop_collection", collection_name=name)
        return info


def rename_collection(config: Config, name: str, to: str, *, foreign: bool = False) -> None:
    """Give a collection another name; its rows, index and aliases stay.

    Raises
    ------
    InputError
        As `drop_collection`; if the new name is taken, or none that Milvus takes.
    VectorStoreError
        If Milvus cannot be reached or opened, or refuses.
    """
    if not re.fullmatch(COLLECTION_NAME, to):
        raise InputError(
            f"{to!r} is no name for a collection",
            "use letters, digits and underscores, not starting with a digit",
        )
    with _writing_client(config, name) as client:
        _of_rag_app(client, config, name, foreign=foreign, verb="renamed")
        # True of an alias as well, whose name is taken, too.
        if _call(client, config, "has_collection", collection_name=to):
            raise InputError(
                f"there is a collection {to!r} already in {config.vector_store.uri}",
                f"use another name, or drop that one: rag-app collections drop {to}",
            )
        _call(client, config, "rename_collection", old_name=name, new_name=to)


def _of_rag_app(
    client: MilvusClient | None, config: Config, name: str, *, foreign: bool, verb: str
) -> CollectionInfo:
    """Return a collection that may be changed."""
    if client is None:
        raise _absent(config, name, [])
    # A damaged collection cannot be described; to drop it is one of its remedies.
    if verb != "dropped" or not _damage(config, name):
        _described(client, config, name)
    info = _info(client, config, name)
    if not info.made_by and not foreign:
        raise InputError(
            f"the collection {name!r} was not made by rag_app and is not {verb}",
            "add --foreign if you mean it",
        )
    return info


@contextmanager
def _client(config: Config) -> Iterator[MilvusClient | None]:
    """Connect; None if there is no Lite database, which asking must not make."""
    section = config.vector_store
    if not is_there(section):
        yield None
        return
    try:
        # Within: what fails in the block that uses it is told in the same way.
        yield connect(section)
    except FAILURES as error:
        raise as_store_error(error, section.uri) from error


@contextmanager
def _writing_client(config: Config, name: str) -> Iterator[MilvusClient | None]:
    """Connect, and be the only one that writes to a collection."""
    section = config.vector_store
    # To wait for a turn would make the folder of a database that is not there.
    with writing(section, name) if is_there(section) else nullcontext(), _client(config) as client:
        yield client


def _call(client: MilvusClient, config: Config, method: str, **arguments: Any) -> Any:
    return getattr(client, method)(timeout=config.vector_store.timeout, **arguments)


def _described(client: MilvusClient | None, config: Config, name: str) -> dict[str, Any]:
    """Describe a collection by its own name."""
    if client and config.vector_store.is_file:
        check_collection(config.vector_store.uri, name)
    # Not `has_collection`: that, and describing it, take an alias for the collection behind it.
    names = sorted(_call(client, config, "list_collections")) if client else []
    if client is None or name not in names:
        if client and _call(client, config, "has_collection", collection_name=name):
            real = _call(client, config, "describe_collection", collection_name=name)
            what = f"{name!r} is an alias of the collection {real['collection_name']!r}"
            raise _absent(config, name, names, what)
        raise _absent(config, name, names)
    described: dict[str, Any] = _call(client, config, "describe_collection", collection_name=name)
    return described


def _absent(config: Config, name: str, names: list[str], what: str = "") -> InputError:
    what = what or f"there is no collection {name!r} in {config.vector_store.uri}"
    there = f"there are {', '.join(names)}" if names else "there are none"
    return InputError(what, f"{there}; see rag-app collections list")


def _folders(config: Config) -> list[str]:
    """Name the collections that have files, those included that Milvus Lite does not see."""
    folder = Path(config.vector_store.uri) / "collections"
    if not config.vector_store.is_file:
        return []
    # One without content was left by a process that was killed as it made a collection.
    return [path.name for path in folder.iterdir() if path.is_dir() and has_content(path)]


def _damage(config: Config, name: str) -> str:
    section = config.vector_store
    return "; ".join(collection_faults(section.uri, name)) if section.is_file else ""


def _info(client: MilvusClient, config: Config, name: str) -> CollectionInfo:
    if damage := _damage(config, name):
        # From the files: opening it, Milvus Lite would delete what the manifest does not name.
        properties = read_properties(collection_folder(config.vector_store.uri, name))
        configured = name == config.vector_store.collection
        made_by = json.loads(properties.get(MADE_BY, "{}"))
        return CollectionInfo(name, 0, configured, made_by, "it is damaged", False, {}, (), damage)
    described = _call(client, config, "describe_collection", collection_name=name)
    properties = described.get("properties", {})
    stats = _call(client, config, "get_collection_stats", collection_name=name)
    error = _mismatch(config, name, described)
    aliases = tuple(sorted(_aliases(client, config, described)))
    return CollectionInfo(
        name=name,
        rows=int(stats["row_count"]),
        configured=config.vector_store.collection in {name, *aliases},
        made_by=json.loads(properties.get(MADE_BY, "{}")),
        mismatch=error.message if error else "",
        searchable=_mismatch(config, name, described, exact=False) is None,
        index=_index(client, config, name, described),
        aliases=aliases,
    )


def _index(
    client: MilvusClient, config: Config, name: str, described: dict[str, Any]
) -> dict[str, Any]:
    if not any(field["name"] == VECTOR_FIELD for field in described["fields"]):
        return {}
    section = config.vector_store
    backend = backend_of(client, section.uri, section.timeout)
    built = DenseIndex(client, name, backend=backend, timeout=section.timeout).read()
    chosen = read_chosen(described.get("properties", {}), built)
    told = {"chosen": chosen.to_dict()} if chosen else {}
    return {**built.to_dict(), **told} if built else {}


def _aliases(client: MilvusClient, config: Config, described: dict[str, Any]) -> list[str]:
    section = config.vector_store
    if not backend_of(client, section.uri, section.timeout).lists_aliases:
        return list(described.get("aliases", ()))
    listed = _call(client, config, "list_aliases", collection_name=described["collection_name"])
    return list(listed["aliases"])


def _mismatch(
    config: Config, name: str, described: dict[str, Any], *, exact: bool = True
) -> CollectionMismatchError | None:
    """Tell why the configuration could not fill a collection, or not even search it."""
    section = config.vector_store.model_copy(update={"collection": name})
    try:
        check_made_by(
            config.model_copy(update={"vector_store": section}),
            described.get("properties", {}),
            exact=exact,
            foreign=not exact,
        )
    except CollectionMismatchError as error:
        return error
    return None


def _count(client: MilvusClient, config: Config, name: str) -> int:
    """Count the rows of a collection, and leave it loaded or released as it was."""
    named = {"collection_name": name, "consistency_level": "Strong"}
    # Loaded here while another process swaps the index, it could not be dropped there.
    with changing_index(client, name):
        state = _call(client, config, "get_load_state", collection_name=name)["state"]
        if state != LoadState.Loaded:
            _call(client, config, "load_collection", collection_name=name)
        rows = _call(client, config, "query", filter="", output_fields=["count(*)"], **named)
        if state != LoadState.Loaded:
            _call(client, config, "release_collection", collection_name=name)
    return int(rows[0]["count(*)"])


def _type_of(described_field: dict[str, Any]) -> str:
    params = described_field.get("params", {})
    detail = params.get("dim") or params.get("max_length")
    key = ", primary key" if described_field.get("is_primary") else ""
    return f"{described_field['type'].name}{f'({detail})' if detail else ''}{key}"
