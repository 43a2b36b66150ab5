"""What made a collection: written into its properties, and compared with the configuration."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any

from rag_app.config.languages import AUTO, STANDARD
from rag_app.config.model_files import earlier_identity
from rag_app.config.sections import Config
from rag_app.errors import CollectionMismatchError
from rag_app.milvus.foreign import check_foreign

SCHEMA_VERSION = 2
"""Raise it when rows change so that collections made before cannot be used any more."""

MADE_BY = "rag_app.made_by"
"""The collection property that says what made it, as JSON. Milvus Lite forgets descriptions."""


@dataclass(frozen=True)
class MadeBy:
    """What decides a collection's rows. Two configurations that differ here cannot both fill one.

    Of those that only search it, one that differs in how documents are split can use it as well.
    """

    model: str
    normalize: bool
    unit: str
    size: int
    overlap: int
    language: str
    stemmer: str = field(default_factory=lambda: stemmer_version())  # defined below
    schema_version: int = SCHEMA_VERSION

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
        )


_CONFIG_KEYS = {
    "model": "embedding.model",
    "normalize": "embedding.normalize",
    "unit": "chunking.unit",
    "size": "chunking.size",
    "overlap": "chunking.overlap",
    "language": "retrieval.language",
}


_SPLITTING = {"unit", "size", "overlap"}
"""What searching does not need to agree on."""


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
        f"make this one anew: rag-app collections drop {name} (or, to keep it, rename {name} "
        f"{name}_old), then rag-app ingest"
    )
    made: dict[str, Any] = json.loads(properties[MADE_BY])
    if made.get("schema_version") != SCHEMA_VERSION:
        raise CollectionMismatchError(
            f"the collection {name!r} in {section.uri} was made by another version of rag_app: it "
            f"has rows of version {made.get('schema_version')}, this one writes {SCHEMA_VERSION}",
            f"{anew}; or {other}",
        )
    for part, value in asdict(MadeBy.of(config)).items():
        if part == "language" and value == AUTO:  # what the collection has: see `language_of`
            continue
        if part == "stemmer":
            _check_stemmer(name, made)
            continue
        if made.get(part) == value or (part in _SPLITTING and not exact):
            continue
        if part == "model" and _has_earlier_digest(made, config):
            continue
        key = _CONFIG_KEYS[part]
        mixed = ", and would be a mixture" if part in _SPLITTING else ""
        raise CollectionMismatchError(
            f"the collection {name!r} in {section.uri} was made with {key} = {made.get(part)!r}, "
            f"and the configuration ({config.origin(key)}) says {value!r}{mixed}",
            f"set {key} back; or {other} (vector_store.collection) and ingest into that; or {anew}",
        )


def stemmer_version() -> str:
    """Return which stemmer this installation has, e.g. "PyStemmer 3.1".

    Snowball's algorithms change between versions: of 51,000 words of 28 languages PyStemmer 2.2 and
    3.1 stem 60 differently as English, 770 as German and 7,500 as Dutch, and most others alike.
    """
    return f"PyStemmer {'.'.join(version('PyStemmer').split('.')[:2])}"


def _check_stemmer(name: str, made: Mapping[str, Any]) -> None:
    """Warn where questions are stemmed otherwise than rows: few words, that would be missed."""
    before = made.get("stemmer", stemmer_version())  # older collections do not say
    if before != stemmer_version() and made.get("language") != STANDARD:
        _warn(
            f"the words of the collection {name!r} were stemmed by {before}, and here is "
            f"{stemmer_version()}: a few will not be found, or in new rows only; "
            f"pip install '{before.replace(' ', '==')}.*', or make the collection anew"
        )


@cache
def _warn(message: str) -> None:
    """Warn once of the same thing, however often a collection is opened."""
    logging.getLogger("rag_app").warning("%s", message)


def splitting_of(properties: Mapping[str, str]) -> dict[str, Any]:
    """Return how a collection's documents were split, by key of the configuration."""
    made: dict[str, Any] = json.loads(properties.get(MADE_BY, "{}"))
    return {_CONFIG_KEYS[part]: made[part] for part in sorted(_SPLITTING & made.keys())}


def language_of(config: Config, properties: Mapping[str, str]) -> str:
    """Return whose words a collection that passed `check_made_by` counts.

    One made before each text told its own language keeps the one that it was made with.
    """
    made: dict[str, Any] = json.loads(properties[MADE_BY])
    return str(made.get("language", config.retrieval.language))


def brought_up_to_date(config: Config, properties: Mapping[str, str]) -> str:
    """Return what made a collection that passed `check_made_by`, as it is written today."""
    made: dict[str, Any] = json.loads(properties[MADE_BY])
    if not _has_earlier_digest(made, config):
        return properties[MADE_BY]
    return json.dumps({**made, "model": config.embedding.identity})


def _has_earlier_digest(made: Mapping[str, Any], config: Config) -> bool:
    """Whether the model is named as it was when only the beginnings of its files were looked at."""
    model = str(made.get("model"))
    return (
        "@" in model
        and "@sha256:" not in model
        and model == earlier_identity(config.embedding.model)
    )
