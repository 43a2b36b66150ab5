"""``query``, ``chat`` and ``batch`` end to end: Milvus Lite, vLLM's engine and vLLM's server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner, Result

from rag_app import ingest, load_config
from rag_app.cli import main
from rag_app.config.sections import LLMSection
from rag_app.llms import PackableLLM
from rag_app.llms.serve import server_command
from rag_app.llms.vllm_engine import VllmEngine
from rag_app.milvus.lite_files import release
from tests.llms.conftest import ENGINE, KEY, Server

TEXTS = {
    "apples.md": "# Apples\n\nApples grow on trees and are picked in autumn.\n",
    "pears.md": "# Pears\n\nPears ripen after they were picked, in a cool cellar.\n",
    "plums.md": "# Plums\n\nPlums are dried in the sun and kept over winter.\n",
}
QUESTIONS = ["When are apples picked?", "Where do pears ripen?", "How are plums dried?"]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    documents = tmp_path_factory.mktemp("fruit")
    for name, text in TEXTS.items():
        (documents / name).write_text(text, encoding="utf-8")
    path = tmp_path_factory.mktemp("storage") / "milvus.db"
    ingest(load_config(profile="offline", overrides={"vector_store.uri": str(path)}), [documents])
    return path


@pytest.fixture(params=["engine", "server"])
def options(
    request: pytest.FixtureRequest, database: Path, llama: Path, engine: VllmEngine
) -> Iterator[list[str]]:
    """Options that choose a backend. The engine is the session's own: a second one takes long."""
    values: dict[str, Any] = {
        "vector_store.uri": database,
        "retrieval.similarity_top_k": 2,
        "llm.temperature": 0,
        "llm.max_tokens": 16,
    }
    if request.param == "server":
        server: Server = request.getfixturevalue("vllm_server")
        values |= {
            "llm.backend": "vllm-server",
            "llm.base_url": server.url,
            "llm.api_key": KEY,
        }
    else:
        values |= {"llm.backend": "vllm", "llm.model": llama}
        values |= {
            f"llm.engine.{name}": str(value).lower() if value is True else value
            for name, value in ENGINE.items()
        }

    def build(section: LLMSection) -> PackableLLM:
        from rag_app.llms import build_llm

        return engine if section.backend == "vllm" else build_llm(section)

    # `chat` closes what it was given; this one is the session's.
    with patch("rag_app.app.build_llm", build), patch.object(VllmEngine, "close"):
        yield [text for key, value in values.items() for text in ("--set", f"{key}={value}")]


def run(options: list[str], *arguments: str, stdin: str | None = None) -> Result:
    found = CliRunner().invoke(main, ["--profile", "offline", *options, *arguments], input=stdin)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def answers(text: str) -> dict[str, dict[str, Any]]:
    return {found["question"]: found for found in map(json.loads, text.splitlines())}


def without_score(sources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Vectors embedded together differ from those embedded alone in the last digits."""
    return [{name: value for name, value in s.items() if name != "score"} for s in sources]


def test_query(options: list[str]) -> None:
    result = run(options, "query", QUESTIONS[0], "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["answer"]
    assert found["sources"][-1]["path"] == "apples.md"
    assert found["prompt_tokens"] > 16


def test_batch_answers_as_query_does(options: list[str], tmp_path: Path) -> None:
    file, output = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    lines = [json.dumps({"id": n, "question": text}) for n, text in enumerate(QUESTIONS)]
    file.write_text("\n".join(lines))
    result = run(options, "batch", str(file), "-o", str(output), "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["answered"] == 3
    assert summary["cache_queries"] > 0
    assert "prefix cache hit rate" in result.stderr
    found = answers(output.read_text())
    for number, question in enumerate(QUESTIONS):
        answer = found[question]
        assert (answer["id"], answer["line"]) == (str(number), number + 1)
        assert answer["completion_tokens"] <= 16
        alone = json.loads(run(options, "query", question, "--json").stdout)
        assert answer["answer"] == alone["answer"]
        assert without_score(answer["sources"]) == without_score(alone["sources"])
        assert answer["prompt_tokens"] == alone["prompt_tokens"]


def test_batch_goes_on_where_it_stopped(options: list[str], tmp_path: Path) -> None:
    file, output = tmp_path / "questions.txt", tmp_path / "answers.jsonl"
    file.write_text("\n".join(QUESTIONS))
    assert run(options, "batch", str(file), "-o", str(output)).exit_code == 0
    whole = output.read_text().splitlines(keepends=True)
    assert len(whole) == 3
    output.write_text(whole[0] + whole[1][:20])  # killed while it wrote the second
    result = run(options, "batch", str(file), "-o", str(output), "--json")
    assert json.loads(result.stdout)["done_before"] == 1
    assert sorted(output.read_text().splitlines(keepends=True)) == sorted(whole)
    result = run(options, "batch", str(file), "-o", str(output), "--json")
    assert json.loads(result.stdout)["answered"] == 0


def test_batch_of_a_bad_line(options: list[str]) -> None:
    lines = ['{"question": "When are apples picked?"}', "{not json", '{"q": 1}', '""']
    result = run(options, "batch", "-", stdin="\n".join(lines))
    assert result.exit_code == 2
    assert list(answers(result.stdout)) == [QUESTIONS[0]]
    for number in (2, 3, 4):
        assert f"line {number}: " in result.stderr


def test_batch_of_a_question_over_the_window(options: list[str]) -> None:
    result = run(options, "batch", "-", stdin=f"{'long ' * 3000}\n{QUESTIONS[0]}\n")
    assert result.exit_code == 2
    assert list(answers(result.stdout)) == [QUESTIONS[0]]
    assert "line 1: the prompt has" in result.stderr


def test_batch_leaves_other_files_alone(options: list[str], tmp_path: Path) -> None:
    output = tmp_path / "thesis.txt"
    output.write_text("precious\n")
    result = run(options, "batch", "-", "-o", str(output), stdin=QUESTIONS[0])
    assert result.exit_code == 2
    assert "something else than answers" in result.stderr
    assert output.read_text() == "precious\n"


def test_batch_in_a_process_of_its_own(database: Path, llama: Path) -> None:
    """Nothing is replaced here, and standard output has the answers only."""
    values = {"vector_store.uri": database, "llm.backend": "vllm", "llm.model": llama}
    values |= {f"llm.engine.{name}": value for name, value in ENGINE.items()}
    command = [sys.executable, "-m", "rag_app", "--profile", "offline", "batch", "-"]
    for key, value in values.items():
        command += ["--set", f"{key}={str(value).lower() if value is True else value}"]
    release(str(database))
    done = subprocess.run(
        command, input="\n".join(QUESTIONS), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert set(answers(done.stdout)) == set(QUESTIONS)
    assert "3 answers in " in done.stderr


def test_chat(options: list[str]) -> None:
    turns = [QUESTIONS[0], "/sources", "And pears?", "/nonsense", "/reset", "/sources", "/quit"]
    result = run(options, "chat", stdin="\n".join(turns))
    assert result.exit_code == 0, result.stderr
    assert "apples.md" in result.stdout
    assert "there is no /nonsense" in result.stderr
    assert "forgotten" in result.stderr
    assert result.stdout.count("Also read:") == 1


def test_chat_remembers_and_rewrites(
    database: Path, llama: Path, engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rag_app.build import build_chat_engine

    monkeypatch.setattr("rag_app.app.build_llm", lambda _: engine)
    config = load_config(
        profile="offline",
        overrides={"vector_store.uri": str(database), "llm.backend": "vllm"},
    )
    chat = build_chat_engine(config)
    first = "".join(chat.stream(QUESTIONS[0]))
    assert [message.content for message in chat.chat_history] == [QUESTIONS[0], first]
    expected = chat._condense_question(chat.chat_history, "And pears?")
    assert expected != "And pears?"
    asked: list[str] = []
    query = chat._query_engine.query

    def remembering(_: object, text: str) -> object:
        asked.append(text)
        return query(text)

    monkeypatch.setattr(type(chat._query_engine), "query", remembering)
    assert "".join(chat.stream("And pears?"))
    assert asked == [expected]
    assert len(chat.chat_history) == 4
    for _ in range(10):
        list(chat.stream("And plums? " * 20))
    assert 0 < len(chat.chat_history) < 24, "the oldest turns no longer fit"
    chat.reset()
    assert not chat.chat_history


def test_chat_needs_a_language_model(database: Path) -> None:
    result = run(["--set", f"vector_store.uri={database}"], "chat")
    assert result.exit_code == 2
    assert "answers without an LLM" in result.stderr


@pytest.mark.usefixtures("llama")
def test_serve_prints_its_command(llama: Path) -> None:
    options = ["--set", f"llm.model={llama}", "--set", "llm.api_key=secret"]
    engine = ["--set", "llm.engine.max_model_len=512", "--set", "llm.engine.enforce_eager=true"]
    result = run([*options, *engine], "llm", "serve", "--dry-run", "--port", "8123")
    assert result.exit_code == 0, result.stderr
    assert "--host 127.0.0.1 --port 8123" in result.stdout
    assert "--max-model-len 512 --enforce-eager" in result.stdout
    assert "--no-trust-remote-code" in result.stdout
    assert "secret" not in result.stdout


@pytest.mark.usefixtures("llama")
def test_serve_prints_no_secret_of_the_engines_arguments(llama: Path) -> None:
    options = ["--set", f"llm.model={llama}", "--set", "llm.engine.hf_token=hf_hush"]
    nested = '{"download": {"access_token": "hush-hush", "retries": 3}}'
    options += ["--set", f"llm.engine.model_loader_extra_config={nested}"]
    result = run(options, "llm", "serve", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "HF_TOKEN=********" in result.stdout
    assert "hush" not in result.output
    assert '"retries": 3' in result.stdout
    command = server_command(LLMSection(model=str(llama), engine={"hf_token": "hf_hush"}))
    assert command.environment["HF_TOKEN"] == "hf_hush"
    assert "hush" not in " ".join(command.arguments) + repr(command)
