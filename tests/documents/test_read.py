"""Whatever one file is made of, it ends as a document or as a reason, valid and bounded."""

import json
import os
from pathlib import Path

import pytest

from rag_app.config.sections import DocumentsSection
from rag_app.documents import read as readers
from rag_app.documents.discover import SourceFile, discover
from rag_app.documents.file_types import UnreadableFileError
from rag_app.documents.file_types.text import MarkdownReader
from rag_app.documents.read import content_hash, read
from tests.conftest import make_files

SECTION = DocumentsSection()


@pytest.mark.parametrize(
    ("written", "read_as"),
    [("\\ud800", "\ufffd"), ("x\\udfffy", "x\ufffdy"), ("\\ud83d\\ude00", "\N{GRINNING FACE}")],
)
def test_lone_surrogates_are_replaced_and_pairs_joined(
    here: Path, written: str, read_as: str
) -> None:
    cell = f'{{"cell_type": "markdown", "metadata": {{}}, "source": "# {written}"}}'
    book = f'{{"cells": [{cell}], "metadata": {{}}, "nbformat": 4, "nbformat_minor": 4}}'
    make_files(here, {"a.json": f'{{"{written}": "{written}"}}', "b.ipynb": book})
    document = read(SourceFile("a.json", here), SECTION)
    assert document.text == f"{read_as}: {read_as}"
    notebook = read(SourceFile("b.ipynb", here), SECTION)
    assert (notebook.metadata["title"], notebook.text) == (read_as, f"# {read_as}")
    json.dumps(notebook.metadata, ensure_ascii=False).encode()


def test_title_of_a_megabyte_is_cut(here: Path) -> None:
    make_files(here, {"a.html": f"<title>{'Long ' * 200_000}</title><p>Text.</p>"})
    title = read(SourceFile("a.html", here), SECTION).metadata["title"]
    assert len(title) == readers.MAX_TITLE
    assert title.startswith("Long Long")
    assert title.endswith("…")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "1970-01-01T00:00:00+00:00"),
        (253_402_300_800, "9999-12-31T23:59:59+00:00"),
        (2**62, "9999-12-31T23:59:59+00:00"),
        (-(2**62), "0001-01-01T00:00:00+00:00"),
    ],
)
def test_times_outside_of_any_calendar(
    here: Path, monkeypatch: pytest.MonkeyPatch, seconds: int, said: str
) -> None:
    make_files(here, {"a.md": "a"})
    assert readers._moment(seconds) == said
    if seconds in {0, 253_402_300_800}:
        os.utime(here / "a.md", (0, seconds))
        if (here / "a.md").stat().st_mtime == seconds:  # not every file system keeps such times
            assert read(SourceFile("a.md", here), SECTION).metadata["modified"] == said


@pytest.mark.parametrize("error", [RecursionError("deep"), MemoryError(), KeyError(1), OSError(5)])
def test_anything_that_a_reader_raises_is_a_reason(
    here: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    make_files(here, {"a.md": "a"})

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(MarkdownReader, "extract", fail)
    with pytest.raises(UnreadableFileError):
        read(SourceFile("a.md", here), SECTION)


def test_files_that_the_system_makes_and_pipes_are_never_waited_for(here: Path) -> None:
    for name, target in {"kmsg.txt": "/proc/kmsg", "zero.txt": "/dev/zero"}.items():
        (here / name).symlink_to(target)
    os.mkfifo(here / "pipe.txt")
    for name in ("kmsg.txt", "zero.txt", "pipe.txt"):
        with pytest.raises(UnreadableFileError):
            content_hash(SourceFile(name, here), SECTION)
    found = discover([here], DocumentsSection(follow_links=True))
    assert {skip.path for skip in found.skipped} >= {"zero.txt", "pipe.txt"}


def test_file_that_grew_since_it_was_found_is_too_large(here: Path) -> None:
    (here / "a.md").write_text("a" * 100)
    section = DocumentsSection(max_file_size_mb=0.00005)
    with pytest.raises(UnreadableFileError, match=r"larger than documents\.max_file_size_mb"):
        content_hash(SourceFile("a.md", here), section)


def test_file_that_went_away_is_skipped(here: Path) -> None:
    with pytest.raises(UnreadableFileError, match="unreadable: No such file"):
        read(SourceFile("gone.md", here), SECTION)


def test_content_hash_is_the_contents(here: Path) -> None:
    make_files(here, {"a.md": "same", "b.md": "same", "c.md": "other"})
    a, b, c = (content_hash(SourceFile(x, here), SECTION) for x in ("a.md", "b.md", "c.md"))
    assert a == b != c
    assert read(SourceFile("a.md", here), SECTION).metadata["content_hash"] == a


def test_content_hash_changes_with_the_readers(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_files(here, {"a.md": "same"})
    file = SourceFile("a.md", here)
    before = content_hash(file, SECTION)
    monkeypatch.setattr(readers, "READERS_VERSION", readers.READERS_VERSION + 1)
    assert content_hash(file, SECTION) != before
