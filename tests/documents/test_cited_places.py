"""Someone asks for a cell, a speaker's note, a line in a PDF of a mail: the source says where."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from openpyxl.workbook import Workbook

from ..conftest import json_of, make_files
from .test_containers import LONG, zipped
from .test_file_types import pdf_bytes
from .test_mail_and_rtf import mail
from .test_office import presentation

Run = Callable[..., Result]


def workbook() -> bytes:
    made = Workbook()
    made.active.title = "Towns"
    made.active.append(["Towns of the region"])
    made.active.append(["Town", "Mayor", "Inhabitants"])
    for number in range(200):
        made.active.append([f"Town {number}", f"Mayor {number}", 1000 + number])
    made.active["B150"] = "Zacharias Quill"
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


@pytest.fixture
def ingested(run: Run, tmp_path: Path, fake_embedder: Any) -> Run:
    message = mail()
    pages = pdf_bytes(LONG, f"The turbine hall was reopened by Ottilie Brandt. {LONG}", LONG)
    message.add_attachment(pages, maintype="application", subtype="pdf", filename="report.pdf")
    folder = make_files(
        tmp_path / "docs",
        {
            "towns.xlsx": workbook(),
            "review.pptx": presentation(),
            "late.eml": bytes(message),
            "all.zip": zipped({"b/plan.md": b"# Plan\n\n## Garden\n\nPlant quinces in autumn."}),
        },
    )
    result = run("ingest", str(folder))
    assert result.exit_code == 0, result.output
    return run


@pytest.mark.parametrize(
    ("question", "text", "path", "page", "place"),
    [
        (
            "mayor Zacharias Quill",
            "Town 147, Mayor: Zacharias Quill",
            "towns.xlsx",
            None,
            "Towns › row",
        ),
        ("Mention the new office", "Notes: Mention the new office", "review.pptx", 2, "Results"),
        (
            "turbine hall reopened Ottilie Brandt",
            "Ottilie Brandt",
            "late.eml",
            None,
            "Attachment: report.pdf › page",
        ),
        ("Plant quinces autumn", "quinces", "all.zip", None, "b/plan.md › Plan › Garden"),
    ],
)
def test_sources_say_where_it_stands(
    question: str, text: str, path: str, page: int | None, place: str, ingested: Run
) -> None:
    settings = ["--set", "retrieval.mode=text"]
    found = json_of(ingested("retrieve", question, "--json", *settings))
    source = next(each for each in found if text in each["text"])
    assert source["path"] == path
    assert source["page"] == page
    assert source["headings"].startswith(place)
    if path == "towns.xlsx":
        first, last = source["headings"].split()[-1].split("-")
        assert int(first) <= 150 <= int(last) < int(first) + 30
    shown = ingested("retrieve", question, *settings).stdout
    assert place in shown
