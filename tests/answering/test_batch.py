"""``rag-app batch``: what becomes of its output, and of questions that the LLM fails on."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from llama_index.core.llms import CompletionResponse

from rag_app import app as query_engine
from rag_app.config.sections import Config
from rag_app.errors import InputError, LLMError, LLMUnavailableError
from rag_app.evaluation.results import Outcome, ResultsFile
from rag_app.json_lines import read_own_lines
from rag_app.llms import Reply
from tests.test_app import EchoLLM

Run = Callable[..., Result]
WITH_LLM = (
    *("--set", "llm.backend=vllm-server", "--set", "retrieval.similarity_top_k=1"),
    *("--set", "chunking.size=40", "--set", "chunking.overlap=0"),
)
QUESTIONS = ["What is HNSW?", "What does bread need?", "What is nprobe?"]
ANSWER = (
    '{"line": 1, "id": null, "question": "What is HNSW?", "answer": "A graph.", "sources": [], '
    '"prompt_tokens": 9, "completion_tokens": 2, "finish_reason": "stop"}\n'
)


class PickyLLM(EchoLLM):
    """Fails on prompts that have a word in them."""

    refused: str = "bread"
    unavailable: bool = False
    interrupted: bool = False
    closed: bool = False

    def generate_each(
        self, prompts: Sequence[str], **kwargs: Any
    ) -> Generator[tuple[int, Reply], None, None]:
        try:
            for index, prompt in enumerate(prompts):
                asked = prompt.rpartition("Question:")[2]
                if self.unavailable and index:
                    raise LLMUnavailableError("no LLM server answers")
                if self.interrupted and index:
                    raise KeyboardInterrupt
                if self.refused in asked:
                    yield index, LLMError("the server answers 400: I do not talk of this")
                else:
                    yield index, CompletionResponse(text="An answer.")
        finally:
            self.closed = True


@pytest.fixture
def picky(ingested: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[PickyLLM]:
    llm = PickyLLM()
    monkeypatch.setattr(query_engine, "build_llm", lambda _section: llm)
    yield llm
    assert llm.closed


@pytest.fixture
def questions(here: Path) -> str:
    (here / "questions.txt").write_text("\n".join(QUESTIONS), encoding="utf-8")
    return "questions.txt"


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_a_failing_question_is_a_line_and_the_rest_goes_on(
    picky: PickyLLM, questions: str, run: Run
) -> None:
    result = run("batch", questions, "-o", "out.jsonl", "--json", *WITH_LLM)
    assert result.exit_code == 1
    assert "line 2: the server answers 400" in result.stderr
    assert "1 of 3 questions have no answer" in result.stderr
    summary = json.loads(result.stdout)
    assert (summary["answered"], summary["failed"]) == (2, 1)
    (failure,) = [line for line in lines("out.jsonl") if "error" in line]
    assert failure == {
        "line": 2,
        "id": None,
        "question": QUESTIONS[1],
        "error": "the server answers 400: I do not talk of this",
        "attempt": 1,
    }


def test_a_failing_question_is_asked_again_a_few_times(
    picky: PickyLLM, questions: str, run: Run
) -> None:
    asked = ("batch", questions, "-o", "out.jsonl", "--json", *WITH_LLM)
    for attempt in (1, 2, 3):
        assert run(*asked).exit_code == 1
        assert [line.get("attempt") for line in lines("out.jsonl")][-1] == attempt
    result = run(*asked)
    assert result.exit_code == 1
    assert "failed too often to be asked again (see --retries): lines 2" in result.stderr
    assert json.loads(result.stdout)["given_up"] == [2]
    assert len(lines("out.jsonl")) == 5
    picky.refused = "nothing at all"
    result = run(*asked, "--retries", "3")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["answered"] == 1
    assert json.loads(run(*asked).stdout)["done_before"] == 3


def test_a_server_that_is_gone_uses_up_no_attempts(
    picky: PickyLLM, questions: str, run: Run
) -> None:
    picky.unavailable = True
    result = run("batch", questions, "-o", "out.jsonl", *WITH_LLM)
    assert result.exit_code == 1
    assert "no LLM server answers" in result.stderr
    assert len(lines("out.jsonl")) == 1
    assert "error" not in lines("out.jsonl")[0]


def test_interrupted(picky: PickyLLM, questions: str, run: Run) -> None:
    picky.interrupted = True
    result = run("batch", questions, "-o", "out.jsonl", *WITH_LLM)
    assert result.exit_code == 130
    assert "what is answered is in out.jsonl" in result.stderr
    assert len(lines("out.jsonl")) == 1


@pytest.mark.parametrize("how", ["itself", "link", "hard link", "other way"])
def test_questions_are_not_written_over(how: str, here: Path, questions: str, run: Run) -> None:
    output = {"itself": questions, "other way": f"../{here.name}/{questions}"}.get(how, "out.jsonl")
    if how == "link":
        Path(output).symlink_to(questions)
    elif how == "hard link":
        os.link(questions, output)
    result = run("batch", questions, "-o", output)
    assert result.exit_code == 2
    assert "is the file of the questions" in result.stderr
    assert Path(questions).read_text(encoding="utf-8") == "\n".join(QUESTIONS)


@pytest.mark.parametrize(
    "redirected",
    ["batch {} >> {}", "batch - -o {} < {}", "batch - < {} >> {}", "batch - -o - < {} 1<> {}"],
)
def test_shell_does_not_lead_answers_into_the_questions(redirected: str, questions: str) -> None:
    command = f"{sys.executable} -m rag_app {redirected.format(questions, questions)}"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2, result.stderr
    assert "is the file of the questions" in result.stderr
    assert Path(questions).read_text(encoding="utf-8") == "\n".join(QUESTIONS)


FOREIGN = {
    "one line without end": "precious",
    "json without end": '{"question": "What?", "answer": "That."}',
    "gold answers": '{"question": "What?", "answer": "That."}\n' * 2,
    "torn at once": ANSWER[:30],
    "answers, then notes": ANSWER + "my notes\n",
    "answers, then notes without end": ANSWER + "my notes",
    "nested": '{"line": ' + "[" * 100_000,
    "other types": ANSWER.replace("[]", "7"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_another_programs_file_stays_as_it_is(name: str, questions: str, run: Run) -> None:
    Path("out.jsonl").write_text(FOREIGN[name], encoding="utf-8")
    result = run("batch", questions, "-o", "out.jsonl")
    assert result.exit_code == 2
    assert "holds something else than answers" in result.stderr
    assert Path("out.jsonl").read_text(encoding="utf-8") == FOREIGN[name]


@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        ("", 1),
        (ANSWER, 2),
        (ANSWER[:-1], 2),
        (ANSWER[:40], 1),
        (ANSWER[:3], 1),
        ('{"line": 2, "id": null, "question": "Why?", "error": "no", "attempt": 1}\n', 2),
    ],
)
def test_an_unfinished_line_is_cut_off(tail: str, kept: int, here: Path) -> None:
    from rag_app.answering.answers_file import read_answers

    path = here / "out.jsonl"
    path.write_text(ANSWER + tail, encoding="utf-8")
    found = read_answers(path)
    assert found.answered.total() + len(found.failed) == kept
    assert len(lines(str(path))) == kept
    assert path.read_text(encoding="utf-8").endswith("}\n")
    assert read_answers(path) == found


def test_questions_that_stand_there_twice(here: Path) -> None:
    from rag_app.answering.answers_file import Kept, still_to_ask
    from rag_app.questions import Question

    asked = [Question(1, None, "a"), Question(2, None, "a"), Question(3, "x", "a")]
    left, given_up = still_to_ask(asked, Kept(Counter({(None, "a"): 1}), {(None, "a"): 2}))
    assert [(each.line, each.attempt) for each in left] == [(2, 3), (3, 1)]
    assert not given_up
    left, given_up = still_to_ask(asked, Kept(failed={(None, "a"): 3}))
    assert [each.line for each in left] == [3]
    assert [each.line for each in given_up] == [1, 2]


def test_results_of_an_evaluation_are_read_alike(here: Path) -> None:
    path = here / "kept.jsonl"
    with ResultsFile(path) as results:
        results.add(Outcome(key="one"))
        results.add(Outcome(key="two"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with ResultsFile(path) as results:
        assert set(results.outcomes) == {"one"}
    path.write_bytes(whole[:-1])
    with ResultsFile(path) as results:
        assert set(results.outcomes) == {"one", "two"}
    assert path.read_bytes() == whole
    path.write_text("a thesis", encoding="utf-8")
    with pytest.raises(InputError, match="something else than results"):
        ResultsFile(path)
    assert path.read_text(encoding="utf-8") == "a thesis"


def test_what_is_no_file_has_no_lines(here: Path) -> None:
    fifo = here / "pipe"
    os.mkfifo(fifo)
    assert read_own_lines(fifo, "{", dict, what="x", remedy="y") == []


@pytest.mark.parametrize("through", ["file", "stdin"])
def test_line_that_is_not_utf_8_is_that_lines_error(
    through: str, ingested: Config, run: Run, monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    monkeypatch.setattr(query_engine, "build_llm", lambda _section: PickyLLM())
    lines = "What is HNSW?\nWo ist Köln?\nWhat is nprobe?\n".encode("latin-1")
    (here / "asked.txt").write_bytes(lines)
    name, stdin = ("-", lines) if through == "stdin" else ("asked.txt", None)
    result = run("batch", name, *WITH_LLM, input=stdin)
    assert result.exit_code == 2
    assert "line 2: the question is not UTF-8 from character 9 on" in result.stderr
    answered = [json.loads(line)["line"] for line in result.stdout.splitlines()]
    assert sorted(answered) == [1, 3]
