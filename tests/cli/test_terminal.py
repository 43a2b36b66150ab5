"""What a terminal is shown: nothing from a document, a name or a server can command it."""

import ast
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from rag_app.cli import common
from rag_app.cli.terminal import json_text, many_lines, one_line
from rag_app.config.sections import Config
from rag_app.errors import LLMError
from rag_app.ingestion.run import ingest
from tests.cli.test_cli import ROOT, SMALL
from tests.conftest import FakeEmbedder, MakeConfig, make_files

Run = Callable[..., Result]

COMMANDS = {
    "\x1b]0;owned\x07": r"\x1b]0;owned\x07",
    "\x1b[2J": r"\x1b[2J",
    "a\x00b\x7fc\x9bd": r"a\x00b\x7fc\x9bd",
    "\u202egpj.exe\u202c": r"\u202egpj.exe\u202c",
    "\u2066x\u2069": r"\u2066x\u2069",
    "over\rwritten": r"over\rwritten",
    "undecodable \udcff": r"undecodable \udcff",
}
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
HOSTILE = "".join(COMMANDS)
FORGED = "a\n  [1] forged — Official handbook.md"


@pytest.mark.parametrize(("text", "shown"), COMMANDS.items())
def test_what_a_terminal_obeys_is_escaped(text: str, shown: str) -> None:
    assert one_line(text) == many_lines(text) == shown


@pytest.mark.parametrize("text", ["Ogród Saski", "華沙", "שָׁלוֹם \u200f(1)", "👩\u200d🔬 “so”"])
def test_other_text_is_left(text: str) -> None:
    assert one_line(text) == many_lines(text) == json_text(text) == text


def test_names_have_one_line_and_texts_many() -> None:
    assert one_line("a\n\tb") == r"a\n\tb"
    assert many_lines("a\r\n\tb") == "a\n\tb"


def test_json_is_read_as_it_was() -> None:
    text = json_text(json.dumps(HOSTILE, ensure_ascii=False))
    assert not OBEYED.search(text)
    assert json.loads(text) == HOSTILE


@pytest.fixture
def hostile(fake_embedder: FakeEmbedder, tmp_path: Path, make_config: MakeConfig) -> Config:
    """The configuration of a collection with one document, hostile in name, title and text."""
    title = HOSTILE.replace("\x00", "").replace("\udcff", "").replace("\r", "")
    name = f"{FORGED}{title}.md"
    text = f"# Kneading {title}\n\nKnead the {title} dough for ten long minutes, slowly.\n"
    make_files(tmp_path / "docs", {name: text})
    config = make_config(chunking__size=40, chunking__overlap=0)
    ingest(config, [tmp_path / "docs"])
    return config


QUESTION = "How long do I knead the dough?"


@pytest.mark.parametrize(
    "command",
    [
        ("query", QUESTION, "--explain", "--set", "llm.extractive.min_similarity=-1.0"),
        ("retrieve", QUESTION),
        ("documents",),
        ("documents", "show", "*"),
        ("documents", "rm", "*", "--dry-run"),
        ("collections", "show"),
        ("verify",),
    ],
    ids=" ".join,
)
def test_hostile_document_commands_no_terminal(
    command: tuple[str, ...], hostile: Config, run: Run
) -> None:
    if command[:2] == ("documents", "show"):
        (document,) = json.loads(run("documents", "--json", *SMALL).stdout)
        command = ("documents", "show", document["path"])
    result = run(*command, *SMALL)
    assert result.exit_code == 0, result.output
    for shown in (result.stdout, result.stderr):
        assert not OBEYED.search(shown), repr(shown)
        assert "\n  [1] forged" not in shown
    assert command[0] in {"collections", "verify"} or "forged" in result.output


def test_hostile_file_is_reported_harmlessly(
    fake_embedder: FakeEmbedder, tmp_path: Path, run: Run
) -> None:
    make_files(tmp_path / "docs", {f"{FORGED}\x1b[2J.md": "", "b.md": "Some text."})
    result = run("ingest", str(tmp_path / "docs"))
    assert result.exit_code == 0, result.output
    assert r"skipped a\n  [1] forged — Official handbook.md\x1b[2J.md: empty" in result.stderr
    assert not OBEYED.search(result.output)


def test_errors_cannot_forge_lines(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LLMError("the server says \x1b[2J\nError: all is lost", "rm -rf \u202e/")

    monkeypatch.setattr("rag_app.milvus.stored_documents.list_documents", fail)
    result = run("documents")
    assert result.exit_code == 1
    shown = result.stderr.splitlines()[-3:]
    assert shown[0] == r"Error: the server says \x1b[2J"
    assert shown[1:] == ["  | Error: all is lost", r"  try: rm -rf \u202e/"]


def test_traceback_and_log_are_harmless(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        logging.getLogger("a library").warning("ignoring %s", "\x1b]0;owned\x07")
        raise RuntimeError("\x1b[2J")

    monkeypatch.setattr("rag_app.milvus.stored_documents.list_documents", fail)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    result = run("documents", "-v")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert r"ignoring \x1b]0;owned\x07" in result.stderr
    assert not OBEYED.search(result.output)


def test_only_the_helpers_write_to_the_terminal() -> None:
    """A new command cannot forget it: `say`, `echo` and `echo_text` are the only way out."""
    raw = {"echo", "secho", "print", "echo_via_pager"}
    for file in sorted((ROOT / "rag_app" / "cli").glob("*.py")):
        if file.name == Path(common.__file__).name:
            continue
        for call in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                owner = call.func.value
                is_click = isinstance(owner, ast.Name) and owner.id == "click"
                assert not (is_click and call.func.attr in raw), f"{file.name}:{call.lineno}"
