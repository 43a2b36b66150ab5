"""Which files are found under paths, and what is said about the others."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_app.config.sections import DocumentsSection
from rag_app.documents import discover as readers
from rag_app.documents.discover import SourceFile, content_hash, discover, read
from rag_app.documents.file_types import UnreadableFileError
from rag_app.errors import InputError
from tests.conftest import make_files


def found(*paths: str | Path, known: list[Path] | None = None, **section: object) -> list[str]:
    discovery = discover(paths, DocumentsSection.model_validate(section), known or [])
    return [file.path for file in discovery.files]


def skipped(*paths: str | Path, **section: object) -> dict[str, str]:
    discovery = discover(paths, DocumentsSection.model_validate(section))
    return {skip.path: skip.reason for skip in discovery.skipped}


# --- folders, files, globs -----------------------------------------------------------------------


def test_folder_is_read_to_the_bottom_in_order(here: Path) -> None:
    make_files(here, {"b.md": "b", "a/z.md": "z", "a/b/c.txt": "c", "a.md": "a"})
    assert found(".") == ["a.md", "a/b/c.txt", "a/z.md", "b.md"]


def test_paths_are_relative_to_the_folder_that_was_named(here: Path) -> None:
    make_files(here, {"docs/a/x.md": "x"})
    assert found("docs") == found(here / "docs") == found("docs/../docs/") == ["a/x.md"]
    assert found("docs/a") == ["x.md"]


def test_file_is_relative_to_its_folder(here: Path) -> None:
    make_files(here, {"docs/a/x.md": "x"})
    assert found("docs/a/x.md") == ["x.md"]


def test_globs_match_files_and_folders(here: Path) -> None:
    make_files(here, {"a/1.md": "1", "a/2.txt": "2", "b/c/3.md": "3"})
    assert found("a/*.md") == ["1.md"]
    assert found("**/*.md") == ["1.md", "3.md"]
    assert found("[b]") == ["c/3.md"]


def test_a_name_that_looks_like_a_glob_is_taken_as_it_is(here: Path) -> None:
    make_files(here, {"what[1].md": "x"})
    assert found("what[1].md") == ["what[1].md"]


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    make_files(here, {"home/x.md": "x"})
    monkeypatch.setenv("HOME", str(here / "home"))
    assert found("~/x.md") == ["x.md"]


def test_path_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(InputError, match="no file or folder 'nowhere'") as caught:
        found("nowhere")
    assert "globs go in quotes" in caught.value.remedy


def test_glob_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(InputError, match=r"the glob '\*\.md' matches nothing"):
        found("*.md")


def test_overlapping_paths_name_each_file_once(here: Path) -> None:
    make_files(here, {"docs/a/x.md": "x", "docs/y.md": "y"})
    assert found("docs", "docs/a", "docs/a/x.md", "docs/**/*.md") == ["a/x.md", "y.md"]


def test_part_of_a_known_folder_keeps_its_names(here: Path) -> None:
    make_files(here, {"docs/a/x.md": "x"})
    assert found("docs/a", known=[here / "docs"]) == ["a/x.md"]
    assert found("docs/a/x.md", known=[here / "docs"]) == ["a/x.md"]


def test_the_same_path_in_two_folders_is_refused(here: Path) -> None:
    make_files(here, {"one/x.md": "1", "two/x.md": "2"})
    with pytest.raises(InputError) as caught:
        found("one", "two")
    for part in (f"'{here}/one/x.md'", f"'{here}/two/x.md'", "'x.md'"):
        assert part in caught.value.message
    assert caught.value.remedy.endswith(f"rag-app ingest {here}")
    assert found(".") == ["one/x.md", "two/x.md"]


def test_hidden_files_are_left_out_unless_asked_for(here: Path) -> None:
    make_files(here, {".git/config": "x", ".env": "x", "a/.b.md": "b", "a/c.md": "c"})
    assert found(".") == ["a/c.md"]
    assert found(".", hidden=True) == [".env", ".git/config", "a/.b.md", "a/c.md"]


def test_a_hidden_file_that_is_named_is_read(here: Path) -> None:
    make_files(here, {".notes/x.md": "x", ".y.md": "y"})
    assert found(".notes") == ["x.md"]
    assert found(".y.md") == [".y.md"]


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (["*.log"], ["a/x.md", "drafts/d.md", "y.md"]),
        (["drafts"], ["a/x.log", "a/x.md", "y.md"]),
        (["drafts/*"], ["a/x.log", "a/x.md", "y.md"]),
        (["a/x.md", "y.md"], ["a/x.log", "drafts/d.md"]),
        (["x.*", "*.md"], []),
    ],
)
def test_excluded_files_are_left_out(here: Path, exclude: list[str], left: list[str]) -> None:
    make_files(here, {"a/x.md": "x", "a/x.log": "x", "drafts/d.md": "d", "y.md": "y"})
    assert found(".", exclude=exclude) == left


ODD_NAMES = [
    'it\'s "quoted".md',
    "new\nline.md",
    "back\\slash.md",
    "📚 emoji.md",
    "שלום.md",
    "café.md",
    "cafe\u0301.md",
    " leading and trailing .md ",
    "percent%20.md",
    "$(touch x);#.md",
    "-rf.md",
    "no suffix",
    "x" * 250 + ".md",
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_odd_names_are_read_as_they_are(here: Path, name: str) -> None:
    make_files(here, {f"docs/{name}": "Some text."})
    assert found("docs") == [name]
    file = discover(["docs"], DocumentsSection()).files[0]
    document = read(file, DocumentsSection())
    assert document.metadata["path"] == document.metadata["file_name"] == name
    assert len(document.id_) == 32
    assert document.id_.isalnum()


def test_name_that_is_not_utf8_is_skipped(here: Path) -> None:
    try:
        (here / "docs").mkdir()
        Path(os.fsdecode(os.fsencode(here / "docs") + b"/caf\xe9.md")).write_text("text")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert found("docs") == []
    assert skipped("docs") == {"caf\\udce9.md": "its name is not UTF-8"}


# --- links and other things that are no files ----------------------------------------------------


def test_links_to_files_and_folders_are_followed(here: Path) -> None:
    make_files(here, {"docs/a.md": "a", "elsewhere/b.md": "b"})
    (here / "docs/link.md").symlink_to(here / "elsewhere/b.md")
    (here / "docs/folder").symlink_to(here / "elsewhere")
    assert found("docs") == ["a.md", "folder/b.md", "link.md"]


def test_dangling_link_is_skipped(here: Path) -> None:
    make_files(here, {"docs/a.md": "a"})
    (here / "docs/link.md").symlink_to("nowhere")
    assert found("docs") == ["a.md"]
    assert skipped("docs") == {"link.md": "dangling link: what it points to is not there"}
    assert skipped("docs/link.md") == {"link.md": "dangling link: what it points to is not there"}


def test_link_to_itself_is_skipped(here: Path) -> None:
    make_files(here, {"docs/a.md": "a"})
    (here / "docs/loop.md").symlink_to("loop.md")
    assert found("docs") == ["a.md"]
    assert skipped("docs") == {"loop.md": "circular link"}


def test_folder_inside_itself_is_skipped(here: Path) -> None:
    make_files(here, {"docs/a/x.md": "x"})
    (here / "docs/a/up").symlink_to(here / "docs")
    assert found("docs") == ["a/x.md"]
    assert skipped("docs") == {"a/up": "circular link"}


def test_fifo_and_socket_are_skipped_without_waiting(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_files(here, {"d/a.md": "a"})
    os.mkfifo(here / "d/pipe.md")
    monkeypatch.chdir(here / "d")  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.md")
        assert found(".") == ["a.md"]
        assert skipped(".") == {
            "pipe.md": "not a regular file",
            "socket.md": "not a regular file",
        }


def test_too_large_file_is_skipped(here: Path) -> None:
    make_files(here, {"docs/a.md": "a", "docs/b.txt": "b" * 2_500_000})
    assert found("docs", max_file_size_mb=1.0) == ["a.md"]
    assert skipped("docs", max_file_size_mb=1.0) == {
        "b.txt": "larger than documents.max_file_size_mb = 1: 2.5 MB"
    }


def test_file_that_grew_since_it_was_found_is_too_large(here: Path) -> None:
    (here / "a.md").write_text("a" * 100)
    section = DocumentsSection(max_file_size_mb=0.00005)
    with pytest.raises(UnreadableFileError, match=r"larger than documents\.max_file_size_mb"):
        content_hash(SourceFile("a.md", here), section)


@pytest.fixture
def locked(here: Path) -> Iterator[Path]:
    """A folder with a file and a folder that may not be read."""
    make_files(here, {"docs/a.md": "a", "docs/locked.md": "l", "docs/closed/x.md": "x"})
    paths = [here / "docs/locked.md", here / "docs/closed"]
    for path in paths:
        path.chmod(0)
    yield here / "docs"
    for path in paths:
        path.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_locked_files_and_folders_are_skipped(locked: Path) -> None:
    assert skipped(locked) == {"closed": "unreadable: Permission denied"}
    with pytest.raises(UnreadableFileError, match="unreadable: Permission denied"):
        content_hash(SourceFile("locked.md", locked), DocumentsSection())


def test_errors_of_the_system_are_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as above for root, whom no permission stops."""
    make_files(here, {"docs/a.md": "a", "docs/closed/x.md": "x"})
    list_folder = os.listdir

    def refuse(path: Path) -> list[str]:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return list_folder(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert found("docs") == ["a.md"]
    assert skipped("docs") == {"closed": "unreadable: Permission denied"}

    def fail(_: Path) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(UnreadableFileError, match="unreadable: Input/output error"):
        content_hash(SourceFile("a.md", here / "docs"), DocumentsSection())


def test_file_that_went_away_is_skipped(here: Path) -> None:
    with pytest.raises(UnreadableFileError, match="unreadable: No such file"):
        read(SourceFile("gone.md", here), DocumentsSection())


def test_content_hash_is_the_contents(here: Path) -> None:
    make_files(here, {"a.md": "same", "b.md": "same", "c.md": "other"})
    a, b, c = (
        content_hash(SourceFile(x, here), DocumentsSection()) for x in ("a.md", "b.md", "c.md")
    )
    assert a == b != c
    assert read(SourceFile("a.md", here), DocumentsSection()).metadata["content_hash"] == a


def test_content_hash_changes_with_the_readers(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_files(here, {"a.md": "same"})
    file = SourceFile("a.md", here)
    before = content_hash(file, DocumentsSection())
    monkeypatch.setattr(readers, "READERS_VERSION", readers.READERS_VERSION + 1)
    assert content_hash(file, DocumentsSection()) != before
