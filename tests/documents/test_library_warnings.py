"""What libraries say while they read a file is in that file's report, and nowhere else."""

import logging
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from rag_app.documents.library_warnings import heard_by

from ..conftest import FakeEmbedder, json_of, make_files
from . import hostile

Run = Callable[..., Result]

XML_PAGE = hostile.HTML["declared as XML.html"]()
RAW = ("XMLParsedAsHTMLWarning", "HTML parser", "cyclic", "wrong pointing", "Prev")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONWARNINGS", "default")
    return make_files(
        tmp_path / "docs",
        {
            "one.html": XML_PAGE,
            "two.html": XML_PAGE,
            "form.pdf": hostile.PDF["surrogates in the title.pdf"](),
            "quiet.md": "text",
        },
    )


@pytest.mark.filterwarnings("always")
def test_report_says_what_libraries_said_of_each_file(
    folder: Path, run: Run, fake_embedder: FakeEmbedder
) -> None:
    result = run("ingest", str(folder))
    assert result.exit_code == 0
    assert "3 files with warnings; -v shows them" in result.stderr
    assert not any(raw in result.output for raw in RAW)


@pytest.mark.filterwarnings("always")
def test_verbose_shows_them_with_the_files_name(
    folder: Path, run: Run, fake_embedder: FakeEmbedder
) -> None:
    said = [
        line for line in run("-v", "ingest", str(folder)).stderr.split("\n") if "warning" in line
    ]
    assert [line.split(":")[0] for line in said] == [
        *("warning form.pdf", "warning one.html", "warning two.html"),
    ]
    assert "the title is left out" in said[0]
    assert "using an HTML parser" in said[1]


@pytest.mark.filterwarnings("always")
def test_json_has_them(folder: Path, run: Run, fake_embedder: FakeEmbedder) -> None:
    report = json_of(run("ingest", "--json", str(folder)))
    assert [warning["path"] for warning in report["warnings"]] == [
        *("form.pdf", "one.html", "two.html"),
    ]


def test_warnings_of_other_threads_go_where_they_went() -> None:
    mine: list[str] = []
    logged: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = logged.append  # type: ignore[assignment, method-assign]

    def other() -> None:
        warnings.warn("not of this file", UserWarning, stacklevel=1)
        logging.getLogger("pypdfium2._helpers").warning("logged elsewhere")

    logging.getLogger().addHandler(handler)
    with warnings.catch_warnings(record=True) as caught, heard_by(mine):
        warnings.simplefilter("always")
        warnings.warn("of this\nfile", UserWarning, stacklevel=1)
        logging.getLogger("pypdfium2._helpers").warning("logged %s", "here")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    logging.getLogger().removeHandler(handler)
    assert mine == ["of this file", "logged here"]
    assert [str(each.message) for each in caught] == ["not of this file"]
    assert [record.getMessage() for record in logged] == ["logged elsewhere"]


def test_messages_without_end_are_cut() -> None:
    said: list[str] = []
    with heard_by(said):
        for number in range(1000):
            logging.getLogger("pypdfium2").warning("message %d", number % 500)
    assert len(said) == 21
    assert said[-1] == "and more"
