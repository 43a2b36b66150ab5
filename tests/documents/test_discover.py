"""Which files are found under paths, and what is said of the others."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from rag_app.config.sections import DocumentsSection
from rag_app.documents.discover import SourceFile, discover
from rag_app.documents.file_types import UnreadableFileError
from rag_app.documents.read import content_hash, read
from rag_app.errors import InputError
from tests.conftest import make_files, ordinary_user


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


def test_the_same_path_in_two_folders_is_two_documents(here: Path) -> None:
    make_files(here, {"one/x.md": "1", "two/x.md": "2"})
    assert found("one", "two") == ["x.md", "x.md"]
    first, second = discover(["one", "two"], DocumentsSection()).files
    assert (first.root, second.root) == (here / "one", here / "two")
    assert first.document_id != second.document_id


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "a path is empty"),
        ("x" * 300, "cannot be looked at: File name too long"),
        ("~nosuchuser/x", "'~nosuchuser/x' is in the home of a user"),
        ("nul\0byte", "cannot be looked at: embedded null byte"),
        ("[x]" * 100, "matches nothing"),
    ],
)
def test_path_that_cannot_be_is_an_error(path: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        found("." if path == "[x]" else path)
    assert len(caught.value.message) < 250


def test_folders_nested_deeper_than_python_calls_itself(here: Path) -> None:
    make_files(here, {"docs/top.md": "top"})
    os.chdir(here / "docs")
    for _ in range(1_500):
        Path("d").mkdir()
        os.chdir("d")
    Path("bottom.md").write_text("bottom")
    os.chdir(here)
    assert found("docs") == [f"{'d/' * 1_500}bottom.md", "top.md"]
    with pytest.raises(InputError, match="name the folder instead"):
        found("**/bottom.md")
    subprocess.run(["rm", "-r", "docs/d"], check=True)  # shutil.rmtree calls itself


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


@pytest.fixture
def links(here: Path) -> Path:
    """A folder with links to what is in it, and to what is not."""
    make_files(here, {"docs/a/a.md": "a", "elsewhere/b.md": "b", "secret.txt": "s"})
    (here / "docs/in.md").symlink_to("a/a.md")
    (here / "docs/in").symlink_to("a")
    (here / "docs/out.md").symlink_to(here / "elsewhere/b.md")
    (here / "docs/out").symlink_to(here / "elsewhere")
    (here / "docs/up.txt").symlink_to("../secret.txt")
    return here / "docs"


def test_links_within_the_folder_are_followed_and_others_said(links: Path, here: Path) -> None:
    assert found(links) == ["a/a.md", "in.md", "in/a.md"]
    reasons = skipped(links)
    assert sorted(reasons) == ["out", "out.md", "up.txt"]
    assert f"a link out of the folder, to {here}/secret.txt" in reasons["up.txt"]
    assert "documents.follow_links" in reasons["up.txt"]
    inside = ["a/a.md", "in.md", "in/a.md"]
    assert found(links, follow_links=True) == sorted([*inside, "out.md", "out/b.md", "up.txt"])


def test_a_link_that_is_named_is_followed(links: Path, here: Path) -> None:
    assert found(links / "out") == ["b.md"]
    assert found(links / "up.txt") == ["up.txt"]
    (here / "elsewhere/again.md").symlink_to("b.md")
    assert found(links / "out", known=[links]) == ["out/again.md", "out/b.md"]


def test_globs_do_not_lead_out_through_links(links: Path) -> None:
    assert found(f"{links}/**/*.md") == ["a/a.md", "in.md", "in/a.md"]
    assert sorted(skipped(f"{links}/*")) == ["out", "out.md", "up.txt"]


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


def test_locked_files_and_folders_are_skipped(here: Path) -> None:
    with ordinary_user() as home:
        docs = make_files(home / "docs", {"a.md": "a", "locked.md": "l", "closed/x.md": "x"})
        make_files(docs, {"listed/x.md": "x", "listed/LOCK": "x"})
        locked = {"locked.md": 0, "closed": 0, "listed": 0o400}
        for name, mode in locked.items():
            (docs / name).chmod(mode)
        assert found(docs) == ["a.md", "locked.md"]
        assert skipped(docs) == {
            "closed": "unreadable: Permission denied",
            "listed/LOCK": "unreadable: Permission denied",
            "listed/x.md": "unreadable: Permission denied",
        }
        with pytest.raises(UnreadableFileError, match="unreadable: Permission denied"):
            content_hash(SourceFile("locked.md", docs), DocumentsSection())
        with pytest.raises(InputError, match="cannot be looked at: Permission denied"):
            found(docs / "closed/x.md")
        assert skipped(docs / "closed") == {"closed": "unreadable: Permission denied"}
        for name in locked:
            (docs / name).chmod(0o700)


def test_folder_that_fails_to_be_listed_is_skipped(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_files(here, {"docs/a.md": "a", "docs/failing/x.md": "x"})
    list_folder = os.listdir

    def fail(path: Path) -> list[str]:
        if Path(path).name == "failing":
            raise OSError(5, "Input/output error")
        return list_folder(path)

    monkeypatch.setattr(os, "listdir", fail)
    assert found("docs") == ["a.md"]
    assert skipped("docs") == {"failing": "unreadable: Input/output error"}
