"""What made a collection: written into its properties, and compared with the configuration."""

import json
import logging
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from enum import StrEnum
from functools import cache
from importlib.metadata import version
from typing import Any

from rag_app.config.languages import AUTO, STANDARD
from rag_app.config.model_files import PACKAGE_PREFIX, earlier_identity
from rag_app.config.sections import Config
from rag_app.documents.read import READERS_VERSION
from rag_app.errors import CollectionMismatchError
from rag_app.milvus.foreign import check_foreign

SCHEMA_VERSION = 2
"""Raise it when rows change so that collections made before cannot be used any more."""

MADE_BY = "rag_app.made_by"
"""The collection property that says what made it, as JSON. Milvus Lite forgets descriptions."""

MIGRATION = "rag_app.migration"
"""The property of the two collections of a migration, until it is finished. Meanwhile either one is
searched as it was made, whatever the configuration says."""

_UNKNOWN = object()


class Invalidates(StrEnum):
    """What of a collection has to be made again when a part of its recipe changes.

    New nodes have new vectors where their text is new, and new words; new vectors leave the rest as
    it is, and so do new words.
    """

    NODES = "nodes"
    VECTORS = "vectors"
    WORDS = "words"
    NOTHING = "nothing"


def _part(
    invalidates: Invalidates,
    key: str = "",
    *,
    refuses: bool = True,
    before: Any = _UNKNOWN,
    **settings: Any,
) -> Any:
    """Describe a part of the recipe.

    Parameters
    ----------
    invalidates
        What another value of it makes unusable.
    key
        Of the configuration; empty: no setting, but what is installed.
    refuses
        Whether a collection with another value may not be written to.
    before
        What a collection has that was made before this part was there; not given: nobody knows,
        and it counts as the same.
    """
    about = {"invalidates": invalidates, "key": key, "refuses": refuses, "before": before}
    return field(metadata=about, **settings)


@dataclass(frozen=True)
class MadeBy:
    """What decides a collection's rows: its recipe, and what each part of it invalidates.

    Two configurations that differ here cannot both fill one collection. Of those that only search
    it, one that differs in how documents are split can use it as well.
    """

    model: str = _part(Invalidates.VECTORS, "embedding.model")
    normalize: bool = _part(Invalidates.VECTORS, "embedding.normalize")
    unit: str = _part(Invalidates.NODES, "chunking.unit")
    size: int = _part(Invalidates.NODES, "chunking.size")
    overlap: int = _part(Invalidates.NODES, "chunking.overlap")
    language: str = _part(Invalidates.WORDS, "retrieval.language")
    parents: bool = _part(Invalidates.NODES, "chunking.parents", before=False)
    contextualize: str = _part(Invalidates.NODES, "chunking.contextualize", before="none")
    stemmer: str = _part(
        Invalidates.WORDS,
        refuses=False,
        default_factory=lambda: stemmer_version(),  # defined below
    )
    readers: int = _part(
        Invalidates.NODES,
        refuses=False,  # an ingest reads files again whose readers changed, one by one
        default=READERS_VERSION,
    )
    schema_version: int = _part(
        Invalidates.NOTHING, refuses=False, default_factory=lambda: SCHEMA_VERSION
    )

    @classmethod
    def of(cls, config: Config) -> "MadeBy":
        """Tell what a configuration would make."""
        return cls(
            model=config.embedding.identity,
            normalize=config.embedding.normalize,
            unit=config.chunking.unit,
            size=config.chunking.size,
            overlap=config.chunking.overlap,
            language=config.retrieval.language,
            parents=config.chunking.parents,
            contextualize=config.chunking.contextualize,
        )


@dataclass(frozen=True)
class Difference:
    """A part of the recipe in which a collection and a configuration differ.

    Attributes
    ----------
    key
        Of the configuration, or the part's own name where it is none.
    made, wanted
        What the collection was made with, and what the configuration says.
    """

    key: str
    made: Any
    wanted: Any
    invalidates: Invalidates
    refuses: bool


def recipe_keys() -> dict[str, Invalidates]:
    """Return all parts of the recipe, by their keys, with what each invalidates."""
    return {_key(each): each.metadata["invalidates"] for each in fields(MadeBy)}


def differences(config: Config, made: Mapping[str, Any]) -> list[Difference]:
    """Compare what made a collection with what a configuration would make."""
    found = []
    wanted = MadeBy.of(config)
    for each in fields(MadeBy):
        about, value = each.metadata, getattr(wanted, each.name)
        there = made.get(each.name, about["before"])
        if there is _UNKNOWN or there == value:
            continue
        if each.name == "language" and value == AUTO:  # what the collection has: `language_of`
            continue
        if each.name == "stemmer" and made.get("language") == STANDARD:  # which stems nothing
            continue
        if each.name == "model" and _has_earlier_digest(made, config):
            continue
        found.append(
            Difference(_key(each), there, value, about["invalidates"], refuses=about["refuses"])
        )
    return found


def _key(part: "Field[Any]") -> str:
    return str(part.metadata["key"] or part.name)


def check_made_by(
    config: Config, properties: Mapping[str, str], *, exact: bool = False, foreign: bool = False
) -> None:
    """Refuse a collection that the configuration cannot search, or would not have made.

    Parameters
    ----------
    exact
        Whether it must be as the configuration would make it: to ingest into it, or to measure it.
    foreign
        Whether one that another program made will do, to be searched.

    Raises
    ------
    CollectionMismatchError
        Naming both sides; the remedy spells out the ways on.
    """
    section = config.vector_store
    name = section.collection
    other = f"use another collection: --collection {name}_2"
    if MADE_BY not in properties:
        check_foreign(config, may_search=foreign and not exact)
        return
    anew = (
        "rag-app migrate, which makes it what the configuration says (rag-app plan tells what that "
        f"costs); or make this one anew: rag-app collections drop {name} (or, to keep it, rename "
        f"{name} {name}_old), then rag-app ingest"
    )
    made: dict[str, Any] = json.loads(properties[MADE_BY])
    version_there = int(made.get("schema_version") or 0)
    if version_there < SCHEMA_VERSION and not exact:  # it can be searched, and is not written to
        _warn(
            f"the collection {name!r} was made by an earlier version of rag_app and is only "
            "searched; rag-app migrate brings it up to date"
        )
    elif version_there != SCHEMA_VERSION:
        raise CollectionMismatchError(
            f"the collection {name!r} in {section.uri} was made by another version of rag_app: it "
            f"has rows of version {made.get('schema_version')}, this one writes {SCHEMA_VERSION}",
            "rag-app migrate brings it up to date while it goes on answering"
            if version_there < SCHEMA_VERSION
            else f"use that version; or {anew}; or {other}",
        )
    if not exact and properties.get(MIGRATION):
        config = as_made(config, properties)
    for each in differences(config, made):
        splits = each.invalidates == Invalidates.NODES
        if each.key == "stemmer":
            _warn_of_stemmer(name, each)
        if not each.refuses or (splits and not exact):
            continue
        mixed = ", and would be a mixture" if splits else ""
        raise CollectionMismatchError(
            f"the collection {name!r} in {section.uri} was made with {each.key} = {each.made!r}, "
            f"and the configuration ({config.origin(each.key)}) says {each.wanted!r}{mixed}",
            f"set {each.key} back; or {other} (vector_store.collection) and ingest into that; or "
            f"{anew}",
        )


def describe_embedding(config: Config) -> dict[str, Any]:
    """Return what it takes to load the model again that embeds a collection."""
    section = config.embedding
    folder = section.folder
    is_package = section.model.startswith(PACKAGE_PREFIX)
    return {
        "model": section.model if folder is None or is_package else str(folder.absolute()),
        "max_length": section.max_length,
        "query_instruction": section.query_instruction,
    }


def as_made(config: Config, properties: Mapping[str, str]) -> Config:
    """Return a configuration that searches a collection with what made it.

    Where the model is not to be found, or is another one by now, the configuration stays as it is,
    and `check_made_by` tells of it.
    """
    made: dict[str, Any] = json.loads(properties.get(MADE_BY, "{}"))
    wanted = {each.key for each in differences(config, made)}
    changes: dict[str, Any] = {}
    if "retrieval.language" in wanted:
        language = {"language": made["language"]}
        changes["retrieval"] = config.retrieval.model_copy(update=language)
    if wanted & {"embedding.model", "embedding.normalize"}:
        # Of a collection made before this was kept; a folder's path is not in its identity.
        by_name = {} if "@" in made["model"] else {"model": made["model"]}
        told = {**by_name, **made.get("embedding", {}), "normalize": made["normalize"]}
        section = config.embedding.model_copy(update=told)
        if section.identity == made["model"]:
            changes["embedding"] = section
    return config.model_copy(update=changes)


def stemmer_version() -> str:
    """Return which stemmer this installation has, e.g. "PyStemmer 3.1".

    Snowball's algorithms change between versions: of 51,000 words of 28 languages PyStemmer 2.2 and
    3.1 stem 60 differently as English, 770 as German and 7,500 as Dutch, and most others alike.
    """
    return f"PyStemmer {'.'.join(version('PyStemmer').split('.')[:2])}"


def _warn_of_stemmer(name: str, stemmer: Difference) -> None:
    """Warn where questions are stemmed otherwise than rows: few words, that would be missed."""
    _warn(
        f"the words of the collection {name!r} were stemmed by {stemmer.made}, and here is "
        f"{stemmer.wanted}: a few will not be found, or in new rows only; "
        f"pip install '{str(stemmer.made).replace(' ', '==')}.*', or make the collection anew"
    )


@cache
def _warn(message: str) -> None:
    """Warn once of the same thing, however often a collection is opened."""
    logging.getLogger("rag_app").warning("%s", message)


def splitting_of(properties: Mapping[str, str]) -> dict[str, Any]:
    """Return how a collection's documents were split, by key of the configuration."""
    made: dict[str, Any] = json.loads(properties.get(MADE_BY, "{}"))
    return {
        each.metadata["key"]: made[each.name]
        for each in fields(MadeBy)
        if each.metadata["invalidates"] == Invalidates.NODES
        and each.metadata["key"]
        and each.name in made
    }


def language_of(config: Config, properties: Mapping[str, str]) -> str:
    """Return whose words a collection that passed `check_made_by` counts.

    One made before each text told its own language keeps the one that it was made with.
    """
    made: dict[str, Any] = json.loads(properties[MADE_BY])
    return str(made.get("language", config.retrieval.language))


def brought_up_to_date(config: Config, properties: Mapping[str, str]) -> str:
    """Return what made a collection that passed `check_made_by`, as it is written today."""
    made: dict[str, Any] = json.loads(properties[MADE_BY])
    if _has_earlier_digest(made, config):
        made["model"] = config.embedding.identity
    if made["model"] == config.embedding.identity:
        made.setdefault("embedding", describe_embedding(config))
    return json.dumps(made)


def _has_earlier_digest(made: Mapping[str, Any], config: Config) -> bool:
    """Whether the model is named as it was when only the beginnings of its files were looked at."""
    model = str(made.get("model"))
    return (
        "@" in model
        and "@sha256:" not in model
        and model == earlier_identity(config.embedding.model)
    )
