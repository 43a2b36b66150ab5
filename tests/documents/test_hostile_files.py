"""Real ingests of hostile and odd files, in a process of an ordinary user, its memory measured.

Each file ends as nodes or as a line in the report, within a gigabyte and half a minute.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..conftest import make_files
from . import hostile, hostile_containers
from .measured_ingest import NOBODY

GIGABYTE = 1_000_000_000
ALL = hostile.KINDS | hostile_containers.KINDS
SLOW = hostile.SLOW | hostile_containers.SLOW
KINDS = [
    name
    if name not in SLOW
    else pytest.param(
        name, marks=pytest.mark.skipif("not config.getoption('--slow')", reason="with --slow")
    )
    for name in ALL
]


@dataclass
class Ingested:
    """What a process printed: its report, seconds and bytes by file, and its errors."""

    report: dict[str, Any]
    taken: dict[str, dict[str, float]]
    errors: str

    def outcome(self, name: str) -> str:
        """Return the reason why a file was skipped, or "nodes"."""
        reasons = {skip["path"]: skip["reason"] for skip in self.report["skipped"]}
        if name in self.report["new"]:
            assert name not in reasons
            return "nodes"
        return str(reasons[name])


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder that an ordinary user may write to; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="rag_app-hostile-"))
    folder.chmod(0o755)
    yield folder
    for inside in folder.rglob("*"):
        if inside.is_dir() and not inside.is_symlink():
            inside.chmod(0o700)
    shutil.rmtree(folder)


def ingested(home: Path, docs: Path) -> Ingested:
    """Ingest as an ordinary user."""
    database = home / f"{docs.name}-db"
    database.mkdir()
    if os.geteuid() == 0:
        for place in [database, docs, *docs.rglob("*")]:
            os.chown(place, NOBODY, NOBODY, follow_symlinks=False)
    done = subprocess.run(
        [sys.executable, "-m", "tests.documents.measured_ingest", str(docs), str(database)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    return Ingested(result["report"], result["taken"], done.stderr)


@pytest.fixture(scope="module")
def contents(home: Path, request: pytest.FixtureRequest) -> Ingested:
    """All kinds of content, ingested together."""
    docs = home / "contents"
    for name, make in ALL.items():
        if name not in SLOW or request.config.getoption("--slow"):
            make_files(docs, {name: make()})
    return ingested(home, docs)


@pytest.mark.parametrize("name", KINDS)
def test_file_ends_as_nodes_or_as_a_line(contents: Ingested, name: str) -> None:
    outcome = contents.outcome(name)
    assert "\n" not in outcome
    assert len(outcome) < 300
    assert "bug" not in outcome
    if taken := contents.taken.get(name):  # else it was skipped by its bytes alone
        assert taken["seconds"] < 30
        assert taken["bytes"] < GIGABYTE


def test_libraries_say_nothing_to_the_terminal(contents: Ingested) -> None:
    assert contents.errors == ""
    warned = {warning["path"] for warning in contents.report["warnings"]}
    assert {
        "surrogates in the title.pdf",
        "html/declared as XML.html",
        "many titles.docx",
    } <= warned
    assert warned <= set(ALL)


def test_odd_files_among_them_are_found(contents: Ingested) -> None:
    assert contents.report["rows"] == contents.report["nodes_written"] > 0


@pytest.fixture(scope="module")
def places(home: Path) -> Ingested:
    """Odd names, times, permissions, and what is no file, ingested together."""
    docs = make_files(home / "places", {f"names/{name}": b for name, b in hostile.NAMES.items()})
    Path(os.fsdecode(os.fsencode(docs) + b"/names/caf\xe9.md")).write_text("text")
    for name, seconds in TIMES.items():
        make_files(docs, {f"times/{name}": "text"})
        os.utime(docs / f"times/{name}", (seconds, seconds))
    special = docs / "special"
    make_files(special, {"locked.md": "text", "closed/a.md": "text", "no way in/a.md": "text"})
    os.mkfifo(special / "pipe.md")
    with socket.socket(socket.AF_UNIX) as listening:
        before = Path.cwd()
        os.chdir(special)  # a socket's path must be short
        listening.bind("socket.md")
        os.chdir(before)
    for name, target in {
        "zero.md": "/dev/zero",
        "tty.md": "/dev/tty",
        "log.md": "/proc/kmsg",
    }.items():
        (special / name).symlink_to(target)
    (special / "nowhere.md").symlink_to("nowhere")
    (special / "loop.md").symlink_to("loop.md")
    (special / "up").symlink_to("..")
    with (special / "sparse.md").open("wb") as sparse:
        sparse.truncate(10_000_000_000)
    deep = docs / "deep"
    for _ in range(100):
        deep /= "d" * 20
    make_files(deep, {"a.md": "text"})
    (special / "locked.md").chmod(0)
    (special / "closed").chmod(0)
    (special / "no way in").chmod(0o600)
    return ingested(home, docs)


LINKS = {
    "zero.md": "/dev/zero",
    "tty.md": "/dev/tty",
    "log.md": "/proc/kmsg",
    "nowhere.md": "nowhere",
    "loop.md": "loop.md",
    "up": "..",
}
TIMES = {"before 1970.md": -1e9, "2106.md": 2**32, "last.md": 2**33 + 2**32, "zero.md": 0}


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        *((f"names/{name}", "nodes") for name in hostile.NAMES),
        ("names/caf\\udce9.md", "its name is not UTF-8"),
        *((f"times/{name}", "nodes") for name in TIMES),
        ("special/locked.md", "unreadable: Permission denied"),
        ("special/closed", "unreadable: Permission denied"),
        ("special/no way in/a.md", "unreadable: Permission denied"),
        ("special/pipe.md", "not a regular file"),
        ("special/socket.md", "not a regular file"),
        ("special/sparse.md", "larger than documents.max_file_size_mb = 50: 10000.0 MB"),
        ("special/zero.md", "a link out of the folder"),
        ("special/tty.md", "a link out of the folder"),
        ("special/log.md", "a link out of the folder"),
        ("special/nowhere.md", "dangling link"),
        ("special/loop.md", "circular link"),
        ("special/up", "circular link"),
        (f"deep/{'d' * 20 + '/'}" + f"{'d' * 20}/" * 99 + "a.md", "nodes"),
    ],
)
def test_place_ends_as_nodes_or_as_a_line(places: Ingested, name: str, outcome: str) -> None:
    assert outcome in places.outcome(name)
