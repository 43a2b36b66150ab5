"""Configurations to compare, and the collections that they need.

Variants that only change search, fusion, packing, the prompt or the LLM share the configured
collection. One that changes what the rows or the index are (node size, embedder, index type) gets a
collection of its own beside it, made of the same files, and kept for the next time.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from rag_app.config.index_types import Index, build_params
from rag_app.config.loader import parse_assignment
from rag_app.config.sections import Config, EmbeddingSection
from rag_app.embedding.base import Embedder
from rag_app.embedding.factory import build_embedder
from rag_app.errors import ConfigError, InputError
from rag_app.ingestion.known_vectors import KnownVectors
from rag_app.ingestion.run import ingest
from rag_app.llms import PackableLLM, build_llm
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.made_by import MadeBy
from rag_app.milvus.rows import StoredDocument
from rag_app.milvus.store import open_store, split_as_made

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*\Z")  # it becomes part of a file's name
_NEXT_KEY = re.compile(r",(?=\s*[a-z_]+(?:\.[A-Za-z_]+)+\s*=)")
"""A comma between assignments; one inside a value, as in {M = 16, ef = 64}, is not followed by a
dotted key."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Variant:
    """A configuration under a name.

    Attributes
    ----------
    overrides
        What it changes, by dotted key.
    config
        With the collection that its questions go to.
    owns_collection
        Whether that is one made for it.
    """

    name: str
    config: Config
    overrides: Mapping[str, str] = field(default_factory=dict)
    owns_collection: bool = False


def parse_variant(text: str) -> tuple[str, dict[str, str]]:
    """Split "name:key=value,key=value"; a name alone changes nothing.

    Raises
    ------
    ConfigError
        If the name or an assignment is not one.
    """
    name, _, assignments = text.partition(":")
    if not _NAME.match(name):
        raise ConfigError(
            f"--variant {text!r} does not begin with a name",
            "write for example --variant wide:retrieval.similarity_top_k=10",
        )
    parts = [part for part in _NEXT_KEY.split(assignments) if part.strip()]
    return name, dict(parse_assignment(part.strip()) for part in parts)


def make_variants(
    base: Config, texts: Sequence[str], load: Callable[[Mapping[str, str]], Config]
) -> list[Variant]:
    """Make a variant of each ``--variant``; without any, the configuration alone.

    Parameters
    ----------
    base
        With the collection's own ``[chunking]``, as `split_as_made` gives it.
    load
        Loads the configuration again with these keys overridden.

    Raises
    ------
    ConfigError
        If a text is no variant, two have the same name, or a key or value is wrong.
    """
    if not texts:
        return [Variant("configured", base)]
    variants: list[Variant] = []
    for text in texts:
        name, overrides = parse_variant(text)
        if name in {variant.name for variant in variants}:
            raise ConfigError(f"two variants are called {name!r}", "give each its own name")
        config = load(overrides)
        splits = any(key.startswith("chunking.") for key in overrides)
        # One that names its collection has one: none is made for it.
        if {"vector_store.collection", "vector_store.uri"} & set(overrides):
            placed = config if splits else split_as_made(config)
            variants.append(Variant(name, placed, overrides))
            continue
        if not splits:
            # The configuration may say another size than the rows have: that is no variant's doing.
            config = config.model_copy(update={"chunking": base.chunking})
        placed = _place(base, config)
        variants.append(Variant(name, placed, overrides, placed is not config))
    return variants


def _place(base: Config, config: Config) -> Config:
    """Return the configuration as it is if it can use the base's collection, else with its own."""
    if _made_of(base) == _made_of(config):
        return config
    digest = hashlib.sha256(json.dumps(_made_of(config), sort_keys=True).encode()).hexdigest()
    # Named by what it is made of, so that the next comparison finds it.
    name = f"{base.vector_store.collection}_eval_{digest[:10]}"
    section = config.vector_store.model_copy(update={"collection": name})
    return config.model_copy(update={"vector_store": section})


def _made_of(config: Config) -> dict[str, object]:
    index = config.index
    # With the defaults of every Milvus: which one it is, all variants have in common.
    params = build_params(index.type, index.params, lite=False)
    built = Index(index.type, index.metric, params)
    return {"made_by": asdict(MadeBy.of(config)), "index": built.to_dict()}


class VariantParts:
    """Opens collections, embedders and LLMs for variants, each once.

    Parameters
    ----------
    base
        The configuration whose collection says what there is to ingest.
    """

    def __init__(self, base: Config) -> None:
        self._base = base
        self._embedders: dict[str, Embedder] = {}
        self._llms: dict[str, PackableLLM] = {}

    def embedder(self, section: EmbeddingSection) -> Embedder:
        """Load an embedder, or return it if it is loaded."""
        key = section.model_dump_json()
        if key not in self._embedders:
            self._embedders[key] = build_embedder(section)
        return self._embedders[key]

    def llm(self, config: Config) -> PackableLLM | None:
        """Build an LLM, or return it if it is built; None for the extractive backend."""
        if config.llm.backend == "extractive":
            return None
        key = repr(config.llm)
        if key not in self._llms:
            self._llms[key] = build_llm(config.llm)
        return self._llms[key]

    def close(self) -> None:
        """Close the LLMs."""
        while self._llms:
            self._llms.popitem()[1].close()

    def store(
        self, variant: Variant, progress: Progress, say: Callable[[str], None]
    ) -> CollectionStore:
        """Open a variant's collection; make its own one equal to the base's first.

        Raises
        ------
        InputError
            If nothing was ingested yet, or files that were are not there any more.
        RagAppError
            As `rag_app.ingest`.
        """
        if not variant.owns_collection:
            return open_store(variant.config, exact=True)
        base = open_store(self._base, exact=True)
        documents = base.documents()
        gone = [document.file for document in documents.values() if not document.file.exists()]
        if gone:
            raise InputError(
                f"the variant {variant.name!r} needs a collection of its own, and {len(gone)} of "
                f"the {len(documents)} ingested files are not there any more: {gone[0]}",
                "put them back, or rag-app ingest … --prune",
            )
        config = variant.config
        make_embedder: Callable[[], Any] = partial(self.embedder, config.embedding)
        if MadeBy.of(config) == MadeBy.of(self._base):  # the index alone differs
            make_embedder = KnownVectors(make_embedder, base).opened
        # Also if it is there: what has changed since is all that is written.
        report = ingest(
            config,
            [document.file for document in documents.values()],
            progress=lambda told: progress(told.files_done, told.files),
            make_embedder=make_embedder,
            # A document's id is made of root and path.
            roots={document.folder for document in documents.values()},
        )
        if report.nodes_written:
            say(
                f"{variant.name}: {report.nodes_written} nodes written to the collection "
                f"{config.vector_store.collection}, which is kept"
            )
        store = open_store(config)
        if changed := _made_equal(store, documents.values()):
            say(
                f"{variant.name}: {len(changed)} files changed since they were ingested into "
                f"{self._base.vector_store.collection} ({changed[0]} …); rag-app ingest them first "
                "to compare the same documents"
            )
        return store


def _made_equal(store: CollectionStore, documents: Collection[StoredDocument]) -> list[str]:
    """Delete what these documents are not, and return the paths of those that differ from them.

    A collection of an earlier comparison may hold what was taken out of the base's since.
    """
    before = {document.file: set(document.hashes) for document in documents}
    changed = []
    for document in store.documents().values():
        if document.file not in before:
            store.delete(document.id)
        elif set(document.hashes) != before[document.file]:
            changed.append(document.path)
    return changed
