"""What differs between the configuration and its collection, and what it costs to change it."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llama_index.core.schema import MetadataMode, TextNode

from rag_app.config.sections import Config
from rag_app.embedding.base import Embedder
from rag_app.embedding.factory import build_embedder
from rag_app.errors import InputError
from rag_app.migration.state import find_migration
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.dense_index import DenseIndex, configured_index
from rag_app.milvus.made_by import MADE_BY, Invalidates, as_made, differences, recipe_keys
from rag_app.milvus.names import at_real_name, real_name
from rag_app.milvus.store import check_backend, connect, is_there, open_store
from rag_app.schema import Record

IN_PLACE = "in place"

SAMPLE = 200
"""Rows that stand for all: their ids are digests, so the first ones are as good as any."""

MEASURED = 32
"""Of these, texts that are embedded to learn how fast that goes."""

_NEEDS = {
    Invalidates.NODES: "other nodes",
    Invalidates.VECTORS: "other vectors",
    Invalidates.WORDS: "other words",
    Invalidates.NOTHING: "rows as they are written now",
}


@dataclass(frozen=True)
class Change(Record):
    """One thing that differs.

    Attributes
    ----------
    key
        Of the configuration, or what it is of the installation.
    needs
        "in place", "other nodes", "other vectors", "other words", …
    """

    key: str
    made: Any
    wanted: Any
    needs: str


@dataclass(frozen=True)
class Cost(Record):
    """What a migration takes, at most: vectors of texts that stay the same are taken over.

    Attributes
    ----------
    nodes, tokens
        To embed.
    seconds
        At the measured speed; None: nothing was measured.
    bytes
        Beside the collection that is there, until the migration is finished.
    missing
        Documents whose files are not there any more, though they are needed.
    """

    nodes: int
    rows: int
    tokens: int
    seconds: float | None
    bytes: int
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan(Record):
    """The configuration against the collection.

    Attributes
    ----------
    name, collection
        As configured, and what that means now.
    other
        The other collection of a migration that is not finished; empty: there is none.
    command
        Does what is to be done; empty: nothing is.
    """

    name: str
    collection: str
    uri: str
    rows: int
    changes: tuple[Change, ...]
    unchanged: tuple[str, ...]
    cost: Cost | None = None
    other: str = ""
    is_switched: bool = False
    command: str = ""

    @property
    def needs(self) -> frozenset[str]:
        """What the changes need."""
        return frozenset(change.needs for change in self.changes)

    @property
    def needs_migration(self) -> bool:
        """Whether a new collection has to be built."""
        return bool(self.needs - {IN_PLACE})

    def line(self) -> str:
        """Say it in one line."""
        if not self.changes:
            return "nothing to do" + (f"; {self.other} is kept" if self.other else "")
        needs = "; ".join(f"{each.key} needs {each.needs}" for each in self.changes)
        return f"{needs}: {self.command}"


def plan(
    config: Config,
    *,
    measure: bool = True,
    make_embedder: Callable[[], Embedder] | None = None,
) -> Plan:
    """Compare a configuration with its collection. Nothing is written.

    Parameters
    ----------
    measure
        Whether to load the model, and embed a few texts, to tell how long it takes.
    make_embedder
        None: the configured one is loaded.

    Raises
    ------
    InputError
        If there is no such collection, or another program made it.
    RagAppError
        If Milvus or the embedder cannot be used.
    """
    section = config.vector_store
    client = connect(section) if is_there(section) else None
    name = real_name(client, section) if client is not None else None
    if client is None or name is None:
        raise InputError(
            f"there is no collection {section.collection!r} in {section.uri} yet",
            "ingest something first: rag-app ingest docs/",
        )
    backend = check_backend(client, config, config.index.type)
    index = DenseIndex(client, name, backend=backend, timeout=section.timeout)
    properties = index.properties()
    if MADE_BY not in properties:
        raise InputError(
            f"the collection {section.collection!r} in {section.uri} was not made by rag_app",
            "what made it can change it",
        )
    made = json.loads(properties[MADE_BY])
    found = differences(config, made)
    changes = [Change(each.key, each.made, each.wanted, _NEEDS[each.invalidates]) for each in found]
    built, wanted = index.read(), configured_index(config, backend)
    in_place = built.changes(wanted) if built else (f"none → {wanted}",)
    changes += [Change("index", str(built), change, IN_PLACE) for change in in_place]
    keys = {each.key for each in found}
    unchanged = tuple(key for key in [*recipe_keys(), "index"] if key not in keys)
    if in_place:
        unchanged = tuple(key for key in unchanged if key != "index")
    migration = find_migration(config)
    needs = {each.invalidates for each in found}
    cost = None
    if found and measure:
        there = open_store(at_real_name(as_made_whole(config, properties), name), counted=False)
        cost = _cost(config, there, made, needs, make_embedder)
    command = ""
    if changes:
        command = "rag-app migrate" if found else "rag-app index apply"
    return Plan(
        name=section.collection,
        collection=name,
        uri=section.uri,
        rows=index.count(),
        changes=tuple(changes),
        unchanged=unchanged,
        cost=cost,
        other=migration.other if migration else "",
        is_switched=bool(migration and migration.is_switched),
        command=command,
    )


def as_made_whole(config: Config, properties: Mapping[str, str]) -> Config:
    """Return a configuration that made a collection: its model, language, and how it was split."""
    made = json.loads(properties.get(MADE_BY, "{}"))
    searched = as_made(config, properties)
    split = {key: made[key] for key in ("unit", "size", "overlap") if key in made}
    return searched.model_copy(update={"chunking": config.chunking.model_copy(update=split)})


def _cost(
    config: Config,
    store: CollectionStore,
    made: Mapping[str, Any],
    needs: set[Invalidates],
    make_embedder: Callable[[], Embedder] | None,
) -> Cost:
    sample = store.sample(SAMPLE)
    rows = store.count()
    embeds = bool(needs & {Invalidates.NODES, Invalidates.VECTORS})
    if not sample:
        return Cost(0, rows, 0, 0.0, 0)
    width = sum(_bytes(node) for node in sample) / len(sample)
    if not embeds:
        return Cost(0, rows, 0, 0.0, round(rows * (width + 4 * int(made["dimension"]))))
    embedder = make_embedder() if make_embedder else build_embedder(config.embedding)
    texts = [node.get_content(MetadataMode.EMBED) for node in sample]
    lengths = [len(embedder.tokenize(text)) for text in texts]
    tokens, nodes = rows * sum(lengths) / len(lengths), float(rows)
    missing: tuple[str, ...] = ()
    if Invalidates.NODES in needs:
        chunking = config.chunking
        tokens *= 1 - made["overlap"] / made["size"]  # what two nodes share is in the file once
        per_token = sum(map(len, texts)) / max(sum(lengths), 1)
        unit = 1.0 if chunking.unit == "tokens" else per_token
        # A node is seldom full: as full as those are that are there.
        is_same_unit = made["unit"] == "tokens"
        fill = sum(lengths) / len(lengths) / (made["size"] / (1.0 if is_same_unit else per_token))
        nodes = tokens * unit / max((chunking.size - chunking.overlap) * min(fill, 1.0), 1)
        tokens *= chunking.size / (chunking.size - chunking.overlap)
        width *= rows / max(nodes, 1)
        documents = store.documents().values()
        missing = tuple(each.path for each in documents if not each.file.exists())
    chosen = sorted(range(len(texts)), key=lambda at: lengths[at])[
        :: max(1, len(texts) // MEASURED)
    ]
    embedder.get_text_embedding_batch([texts[chosen[0]]])  # what is loaded at first use
    started = time.perf_counter()
    embedder.get_text_embedding_batch([texts[at] for at in chosen])
    speed = sum(lengths[at] for at in chosen) / max(time.perf_counter() - started, 1e-6)
    return Cost(
        round(nodes),
        round(nodes),
        round(tokens),
        tokens / speed,
        round(nodes * (width + 4 * embedder.dimension)),
        missing,
    )


def _bytes(node: TextNode) -> int:
    # The text, and the node as JSON beside it, which has the text's metadata once more.
    return len(node.text.encode()) + 2 * len(json.dumps(node.metadata)) + 400
