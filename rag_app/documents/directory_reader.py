"""The readers of an ingest, for LlamaIndex's own pipelines: of one file, and of folders."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from llama_index.core.readers.base import BasePydanticReader, BaseReader
from llama_index.core.schema import Document
from pydantic import Field

from rag_app.config.sections import DocumentsSection
from rag_app.documents.discover import discover
from rag_app.documents.file_types import FileReader
from rag_app.documents.file_types.kinds import readers_by_suffix
from rag_app.documents.read import limits_of
from rag_app.documents.reading import read_all
from rag_app.schema import SkippedFile

_LOG = logging.getLogger("rag_app")


def file_readers(section: DocumentsSection | None = None) -> dict[str, BaseReader]:
    """Return a reader for each suffix that tells a type of file, those of other packages included.

    They read in the process that calls them: what crashes or hangs there is not caught, as it is by
    `DirectoryReader`.

    >>> SimpleDirectoryReader("docs", file_extractor=file_readers()).load_data()

    Parameters
    ----------
    section
        The configuration's ``[documents]``, for its limits; None: the defaults.
    """
    limits = limits_of(section or DocumentsSection())
    return {suffix: _Reader(reader(limits)) for suffix, reader in readers_by_suffix().items()}


class _Reader(BaseReader):
    """One of our readers as one of LlamaIndex's."""

    def __init__(self, reader: FileReader) -> None:
        self._reader = reader

    def load_data(self, file: Path, extra_info: dict[str, Any] | None = None) -> list[Document]:
        text, title = self._reader.load(file)
        named = {"title": title} if title else {}
        return [Document(text=text, metadata={**(extra_info or {}), **named})]


class DirectoryReader(BasePydanticReader):
    """Reads folders, files and globs into the documents that an ingest makes of them.

    `NodeParser` and the embedder make the same rows of them as an ingest does, so that either may
    go on with what the other began.
    """

    section: DocumentsSection = Field(
        default_factory=DocumentsSection, description='The configuration\'s "documents".'
    )

    @classmethod
    def class_name(cls) -> str:
        """Return LlamaIndex's name for this type."""
        return "DirectoryReader"

    def lazy_load_data(
        self,
        paths: Iterable[str | Path],
        *,
        skipped: list[SkippedFile] | None = None,
        **_: Any,
    ) -> Iterator[Document]:
        """Yield a document for each file, in the order of their paths.

        Parameters
        ----------
        paths
            Folders, files and globs. A file's document is named by its path below the folder.
        skipped
            Takes the files that cannot be read, with the reason. None: they are logged.

        Raises
        ------
        InputError
            If a path does not exist, or a glob matches nothing.
        """
        found = discover(paths, self.section)
        for skip in found.skipped:
            _tell(skip, skipped)
        for reading in read_all(found.files, self.section):
            if reading.document is not None:
                yield reading.document
            else:
                _tell(reading.skipped, skipped)


def _tell(skip: SkippedFile, skipped: list[SkippedFile] | None) -> None:
    if skipped is None:
        _LOG.warning("skipped %s: %s", skip.path, skip.reason)
    else:
        skipped.append(skip)
