"""Make a new collection hold what the old one does, as the configuration would have made it.

Called again, it does what has changed since, and what a killed run left.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from llama_index.core.schema import MetadataMode, TextNode

from rag_app.config.sections import Config
from rag_app.embedding.base import Embedder
from rag_app.errors import InputError
from rag_app.index.apply import apply_index
from rag_app.ingestion.known_vectors import KnownVectors
from rag_app.ingestion.run import ingest
from rag_app.milvus.collection import CollectionStore
from rag_app.milvus.copying import copy_rows
from rag_app.milvus.made_by import Invalidates
from rag_app.milvus.rows import StoredDocument

SLICE = 64
"""Texts embedded between two looks at Ctrl-C and two ticks of the progress bar."""

ShowShare = Callable[[str, float], None]
"""Told what is being done, and the share of it that is done."""


@dataclass
class Built:
    """What was done.

    Attributes
    ----------
    embedded, reused
        Nodes whose vectors were made, and taken over.
    changed
        Whether there was anything to do.
    skipped
        Files that could not be read.
    """

    embedded: int = 0
    reused: int = 0
    written: int = 0
    deleted: int = 0
    changed: bool = False
    interrupted: bool = False
    skipped: list[str] = field(default_factory=list)

    def add(self, other: "Built") -> None:
        """Add what another pass did."""
        for name in ("embedded", "reused", "written", "deleted"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.interrupted, self.skipped = other.interrupted, other.skipped


class Builder:
    """Fills a new collection from the old one and, where nodes change, from the files.

    Parameters
    ----------
    config
        With the new collection.
    needs
        What has to be made again.
    make_embedder
        Asked once there is something to embed.
    without_missing
        Leave out documents whose files are gone, where they are needed.
    """

    def __init__(
        self,
        config: Config,
        old: CollectionStore,
        new: CollectionStore,
        needs: frozenset[Invalidates],
        make_embedder: Callable[[], Embedder],
        *,
        without_missing: bool,
        stop: Event,
        show: ShowShare,
    ) -> None:
        self._config = config
        self._old = old
        self._new = new
        self._needs = needs
        self._make_embedder = make_embedder
        self._without_missing = without_missing
        self._stop = stop
        self._show = show
        self._lender: KnownVectors | None = None

    def fill(self) -> Built:
        """Do what is to be done.

        Raises
        ------
        InputError
            If nodes change, and files are gone.
        RagAppError
            As `ingest`. What was written stays, and is not written again.
        """
        built = Built()
        if Invalidates.NODES in self._needs:
            self._split_again(built)
        self._copy(built, documents=Invalidates.NODES not in self._needs)
        if not self._stop.is_set() and built.written + built.deleted:
            self._new.settle(len(self._new.documents()))
            apply_index(self._config, store=self._new, anew=False)
        built.interrupted = self._stop.is_set()
        built.changed = bool(built.written or built.deleted)
        return built

    def _copy(self, built: Built, *, documents: bool) -> None:
        is_same = Invalidates.VECTORS not in self._needs
        reembed = None if is_same else _Reembedding(self._make_embedder, self._stop, self._show)

        def progress(done: int, total: int) -> None:
            self._show("copying", done / max(total, 1))

        copied = copy_rows(
            self._old,
            self._new,
            change=reembed,
            stop=self._stop,
            progress=progress,
            documents=documents,
        )
        embedded = reembed.embedded if reembed else 0
        built.embedded += embedded
        built.reused += copied.written - embedded
        built.written += copied.written
        built.deleted += copied.deleted

    def _split_again(self, built: Built) -> None:
        there = {document.file: document for document in self._old.documents().values()}
        gone = [document for file, document in there.items() if not file.exists()]
        if gone and not self._without_missing:
            raise InputError(
                f"the nodes have to be made again, and {len(gone)} of the {len(there)} files are "
                f"not there any more: {gone[0].file}",
                "put them back; rag-app ingest … --prune takes them out; --without-missing leaves "
                "them out of the new collection",
            )
        files = [file for file in there if file.exists()]
        if files:
            self._ingest(files, list(there.values()), built)
        lost = set(there) - set(files)
        for document in self._new.documents().values():
            if document.file not in there or document.file in lost:
                self._new.delete(document.id)
                built.deleted += document.nodes

    def _ingest(
        self, files: Sequence[Any], documents: Sequence[StoredDocument], built: Built
    ) -> None:
        if Invalidates.VECTORS not in self._needs and self._lender is None:
            self._lender = KnownVectors(self._make_embedder, self._old)
        lender = self._lender
        lent = lender.lent if lender else 0

        def embedder() -> Any:
            return lender.opened() if lender else self._make_embedder()

        report = ingest(
            self._config,
            files,
            make_embedder=embedder,
            stop=self._stop,
            progress=lambda told: self._show("building", told.share),
            store=self._new,
            roots={document.folder for document in documents},
        )
        lent = (lender.lent if lender else 0) - lent
        built.embedded += report.nodes_embedded - lent
        built.reused += report.nodes_reused + lent
        built.written += report.nodes_written
        built.deleted += report.nodes_deleted
        built.skipped = [f"{skip.path}: {skip.reason}" for skip in report.skipped]


class _Reembedding:
    """Gives nodes the vectors of another model."""

    def __init__(self, make_embedder: Callable[[], Embedder], stop: Event, show: ShowShare) -> None:
        self._make_embedder = make_embedder
        self._stop = stop
        self._show = show
        self.embedded = 0

    def __call__(self, nodes: list[TextNode]) -> list[TextNode]:
        ready: list[TextNode] = []
        # Longest first: the model pads a slice to its longest text.
        left = sorted(nodes, key=lambda node: -len(node.text))
        while left and not self._stop.is_set():
            some, left = left[:SLICE], left[SLICE:]
            texts = [node.get_content(MetadataMode.EMBED) for node in some]
            for node, vector in zip(
                some, self._make_embedder().get_text_embedding_batch(texts), strict=True
            ):
                node.embedding = vector
            ready += some
            self.embedded += len(some)
        return ready
