"""Reading in processes of their own: whatever a reader does there is one line in the report."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from rag_app.config.sections import DocumentsSection
from rag_app.documents.discover import discover
from rag_app.documents.reading import Reading, read_all
from rag_app.registry import find_offered

from ..conftest import make_files

BAD = '''
import ctypes, os, sys, time
from rag_app.documents.file_types import FileReader


class BadReader(FileReader):
    """Does what its file says."""

    def extract(self, file, budget):
        what = file.read_text().strip()
        if what == "abort":
            os.abort()
        if what == "segfault":
            ctypes.string_at(0)
        if what == "exit":
            os._exit(3)
        if what == "wait":
            time.sleep(1000)
        if what == "turn":
            while True:
                pass
        if what == "turn in C":
            sum(range(10**15))
        if what == "fill":
            return "x" * 10**10, None
        if what == "leak":
            BadReader.kept = bytearray(100_000_000)
        if what == "slow":
            time.sleep(0.4)
        if what == "print":
            print("to the terminal"), print("to the terminal", file=sys.stderr)
            os.write(1, b"and below"), os.write(2, b"and below")
        if what.startswith("touch"):
            open(what.split()[1], "w").write(str(os.getpid()))
            time.sleep(1000)
        return f"{what} {os.getpid()} {'torch' in sys.modules} {'llama_index' in sys.modules}", None
'''


@pytest.fixture
def bad_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package whose reader of .bad files does what they say; its folder."""
    package = make_files(
        tmp_path / "package",
        {
            "bad_reader.py": BAD,
            "bad_reader-1.0.dist-info/METADATA": "Name: bad-reader\nVersion: 1.0\n",
            "bad_reader-1.0.dist-info/entry_points.txt": (
                "[rag_app.readers]\nbad = bad_reader:BadReader\n"
            ),
        },
    )
    monkeypatch.syspath_prepend(str(package))
    find_offered.cache_clear()
    yield package
    monkeypatch.undo()
    find_offered.cache_clear()


def readings(folder: Path, **settings: float) -> list[Reading]:
    section = DocumentsSection.model_validate(settings)
    return list(read_all(discover([folder], section).files, section))


def test_whatever_a_reader_does_is_one_line(bad_reader: Path, tmp_path: Path) -> None:
    ends = {
        "abort": "its reader crashed (SIGABRT)",
        "segfault": "its reader crashed (SIGSEGV)",
        "exit": "its reader crashed (exit code 3)",
        "wait": "it takes longer than documents.max_seconds = 1 to read",
        "turn": "it takes longer than documents.max_seconds = 1 to read",
        "turn in C": "it takes longer than documents.max_seconds = 1 to read",
        "fill": "it takes more memory than documents.max_memory_mb = 200 to read",
    }
    files: dict[str, str | bytes] = {f"{name}.bad": name for name in ends}
    for name in ends:
        files |= {f"{name} after.bad": "fine", f"{name} between.md": "Plain text."}
    folder = make_files(tmp_path / "docs", files)
    found = readings(folder, max_seconds=1, max_memory_mb=200)
    assert [each.file.path for each in found] == sorted(files)
    for each in found:
        reason = ends.get(each.file.path.removesuffix(".bad"))
        if reason is None:
            assert each.document is not None, each.reason
        else:
            assert each.document is None
            assert each.reason.startswith(reason)


def test_several_are_read_at_once_by_processes_that_are_kept(
    bad_reader: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = make_files(
        tmp_path / "docs", {f"{n:02}.bad": "print" if n % 4 else "slow" for n in range(16)}
    )
    found = readings(folder, workers=2)
    assert [each.file.path for each in found] == [f"{n:02}.bad" for n in range(16)]
    said = [each.document.text.split() for each in found if each.document]
    assert len({pid for _, pid, *_ in said}) == 2
    # Neither torch nor LlamaIndex: a process starts in a fraction of a second.
    assert {tuple(imported) for _, _, *imported in said} == {("False", "False")}
    assert capfd.readouterr() == ("", "")


def test_a_process_that_keeps_memory_is_replaced(bad_reader: Path, tmp_path: Path) -> None:
    folder = make_files(tmp_path / "docs", {f"{n}.bad": "leak" for n in range(5)})
    found = readings(folder, workers=1, max_memory_mb=150)
    assert [each.reason for each in found] == [""] * 5


def test_a_process_that_does_not_start_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag_app.errors import ServiceError

    folder = make_files(tmp_path / "docs", {"a.html": "<p>Text."})
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ServiceError, match="did not start"):
        readings(folder)


def test_reading_stops_when_it_is_asked_to(bad_reader: Path, tmp_path: Path) -> None:
    folder = make_files(tmp_path / "docs", {"a.md": "text", "b.bad": "wait", "c.md": "text"})
    stop = Event()
    section = DocumentsSection()
    before = children()
    for reading in read_all(discover([folder], section).files, section, stop):
        assert reading.file.path == "a.md"
        assert children() > before
        stop.set()
    assert children() == before


def children() -> set[int]:
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {int(pid) for pid in listed}


PROGRAM = """
import sys
from rag_app.config.sections import DocumentsSection
from rag_app.documents.directory_reader import DirectoryReader
print("once", flush=True)
print(len(DirectoryReader().load_data([sys.argv[1]])), flush=True)
"""


def started(program: str, folder: Path, package: Path) -> "subprocess.Popen[str]":
    (folder.parent / "program.py").write_text(program)
    path = os.pathsep.join([str(package), str(Path(__file__).parents[2])])
    return subprocess.Popen(
        [sys.executable, str(folder.parent / "program.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_program_needs_no_main_guard(bad_reader: Path, tmp_path: Path) -> None:
    folder = make_files(tmp_path / "docs", {"a.html": "<p>Text.", "b.bad": "fine", "c.md": "Text."})
    process = started(PROGRAM, folder, bad_reader)
    out, errors = process.communicate(timeout=120)
    assert (process.returncode, out, errors) == (0, "once\n3\n", "")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_the_one_that_asks(
    bad_reader: Path, tmp_path: Path, end: signal.Signals
) -> None:
    note = tmp_path / "pid"
    folder = make_files(tmp_path / "docs", {"a.bad": f"touch {note}"})
    process = started(PROGRAM, folder, bad_reader)
    until(lambda: note.exists() and note.read_text() != "")
    worker = int(note.read_text())
    os.killpg(process.pid, end)
    _, errors = process.communicate(timeout=60)
    until(lambda: not Path(f"/proc/{worker}").exists())
    assert errors.count("Traceback") == (end == signal.SIGINT)


def until(is_so: Callable[[], bool]) -> None:
    """Wait for something, for as long as a busy machine may take."""
    ends = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.02)
