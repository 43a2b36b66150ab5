"""``rag-app eval`` as a whole, over a small collection of the fake embedder."""

import json
import re
import signal
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from llama_index.core.llms import CompletionResponse

from rag_app import app as query_engine
from rag_app.config.sections import Config
from rag_app.embedding.base import Embedder
from rag_app.errors import ConfigError, LLMError, LLMUnavailableError
from rag_app.evaluation import runner, study, variants
from rag_app.evaluation.questions import EvalQuestion
from rag_app.evaluation.runner import Runner
from rag_app.evaluation.study import Settings
from rag_app.evaluation.variants import Variant, parse_variant
from rag_app.ingestion import run as ingestion
from rag_app.llms import Reply
from rag_app.load import load_config
from rag_app.milvus.store import open_store
from tests.conftest import FakeEmbedder, json_of, release_databases
from tests.test_app import EchoLLM, contexts_of

Run = Callable[..., Result]

QUESTIONS: list[dict[str, Any]] = [
    {
        "id": "degree",
        "question": "What is the maximum degree of a node in the graph?",
        "answers": ["M"],
        "gold": {"index.md": ["M is the maximum degree"]},
    },
    {
        "id": "writes",
        "question": "Which consistency shows every write to every search?",
        "answers": ["Strong"],
        "file": "guide/consistency.html",
        "paragraph": "Strong consistency shows every write to every search.",
    },
    {"id": "dough", "question": "How long is dough kneaded?", "answers": ["ten minutes"]},
    {"id": "king", "question": "Who is the king of France?", "answers": []},
]
SMALL = ("--set", "chunking.size=40", "--set", "chunking.overlap=0")
"""What `ingested` was made with."""


def write(rows: list[dict[str, Any]], name: str = "questions.jsonl") -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


@pytest.fixture
def questions(here: Path) -> str:
    return write(QUESTIONS)


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> EchoLLM:
    """An LLM that answers with the last context of the prompt."""
    echo = EchoLLM()
    for module in (query_engine, variants):
        monkeypatch.setattr(module, "build_llm", lambda _section: echo)
    return echo


WITH_LLM = (*SMALL, "--set", "llm.backend=vllm-server", "--set", "answer.max_risk=1")
"""What is refused is no matter of most tests: of so few rows hardly anything is certain."""


def metrics(result: Result, variant: int = 0) -> dict[str, float]:
    figures = json_of(result)["variants"][variant]["metrics"]
    return {name: figure["value"] for name, figure in figures.items()}


def outcomes(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.glob("*.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_table_has_a_row_for_each_metric(ingested: Config, questions: str, run: Run) -> None:
    result = run("eval", questions, *SMALL)
    assert result.exit_code == 0, result.output
    for name in ("hit@1 ", "hit@10 ", "mrr@10 ", "ndcg@10 ", "recall@10 ", "@1000ch "):
        (row,) = [line for line in result.stdout.splitlines() if line.startswith(name)]
        assert "[" in row
    assert re.search(r"hit@5 +1\.000 \[0\.439, 1\.000\]", result.stdout)
    assert "ms search p95" in result.stdout
    assert "exact match" not in result.stdout  # no LLM is configured
    assert "nodes dropped" not in result.stdout  # none were


def test_json_has_every_figure_and_its_interval(ingested: Config, questions: str, run: Run) -> None:
    summary = json_of(run("eval", "run", questions, *SMALL, "--json"))
    assert summary["questions"] | {"bad_lines": []} == {
        "file": questions,
        "in_file": 4,
        "asked": 4,
        "unanswerable": 1,
        "without_evidence": 0,
        "bad_lines": [],
    }
    (variant,) = summary["variants"]
    assert variant["name"] == "configured"
    assert variant["nodes"] == open_store(ingested).count()
    hit = variant["metrics"]["hit@5"]
    assert (hit["value"], hit["n"]) == (1.0, 3)
    for figure in variant["metrics"].values():
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert set(variant["ms"]) == {"embed", "search", "pack", "total"}
    assert variant["ms"]["search"]["p50"]["n"] == 4
    assert variant["config"]["chunking.size"] == 40
    assert variant["config"]["llm.api_key"] == ""
    assert variant["ranks"]["none"] == 0
    assert len(variant["hit_curve"]) == summary["depth"] == 20
    assert Path(variant["results"]).is_file()


def test_worst_questions_come_with_what_was_found(ingested: Config, run: Run, here: Path) -> None:
    rows = [
        *QUESTIONS,
        {"question": "Bread flour salt yeast dough?", "answers": ["M"], "file": "index.md"},
    ]
    summary = json_of(run("eval", write(rows), *SMALL, "--json"))
    worst = summary["variants"][0]["worst"]
    assert all(each["first_hit"] > 1 for each in worst)
    mine = next(each for each in worst if each["line"] == 5)
    assert mine["found"][0]["path"] == "kitchen/bread.txt"
    assert "Knead the dough" in mine["found"][0]["text"]


def test_csv(ingested: Config, run: Run) -> None:
    Path("q.csv").write_text("question,answers\nHow long is dough kneaded?,ten minutes\n")
    assert metrics(run("eval", "q.csv", *SMALL, "--json"))["hit@5"] == 1


def test_wrong_lines_are_told_and_the_others_asked(
    ingested: Config, questions: str, run: Run
) -> None:
    with Path(questions).open("a", encoding="utf-8") as file:
        file.write('{"answers": ["a"]}\nnot json\n')
    result = run("eval", questions, *SMALL)
    assert result.exit_code == 2
    assert re.search(r"hit@5 +1\.000", result.stdout)
    assert 'line 5: there is no text under "question"' in result.stderr
    assert "line 6: not JSON" in result.stderr
    assert "2 lines of questions.jsonl are no questions: 5, 6" in result.stderr


def test_documents_that_are_not_ingested(ingested: Config, run: Run, here: Path) -> None:
    absent = {"question": "What?", "answers": ["x"], "file": "absent.md"}
    result = run("eval", write([absent]), *SMALL)
    assert result.exit_code == 2
    assert "none of the 1 documents that the questions name (absent.md" in result.stderr
    result = run("eval", write([*QUESTIONS, absent]), *SMALL, "--json")
    assert "1 of 3 documents that the questions name are not in the collection" in result.stderr
    assert metrics(result)["hit@10"] == 0.75
    assert json_of(result)["variants"][0]["out_of_reach"] == 1


def test_nothing_ingested(questions: str, run: Run) -> None:
    result = run("eval", questions)
    assert result.exit_code == 2
    assert "ingest something first" in result.stderr


def test_the_same_question_twice_is_asked_once(ingested: Config, run: Run, here: Path) -> None:
    result = run("eval", write([QUESTIONS[0], {**QUESTIONS[0], "id": "again"}]), *SMALL, "--json")
    assert json_of(result)["questions"]["asked"] == 1
    assert "1 questions are there twice" in result.stderr


def test_sample_and_depth(ingested: Config, questions: str, run: Run) -> None:
    first = json_of(run("eval", questions, *SMALL, "--sample", "2", "--depth", "2", "--json"))
    assert first["questions"]["asked"] == 2
    assert "hit@5" not in first["variants"][0]["metrics"]
    assert "mrr@2" in first["variants"][0]["metrics"]


@pytest.mark.parametrize(("least", "code"), [("0.9", 0), ("1", 0), ("1.01", 1)])
def test_gate(least: str, code: int, ingested: Config, questions: str, run: Run) -> None:
    result = run("eval", questions, *SMALL, "--fail-under", f"hit@5={least}", "--json")
    assert result.exit_code == code
    (check,) = json.loads(result.stdout)["gate"]
    assert check["passed"] is (code == 0)
    assert (code == 1) == ("failed: configured: hit@5 is 1.000, at least 1.01" in result.stderr)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hit@3=0.5", "'hit@3' is not measured here"),
        ("exact_match=0.5", "'exact_match' is not measured here"),
        ("hit@5=much", "'much' is not a number"),
        ("hit@5", "is not measured here"),
    ],
)
def test_a_gate_that_cannot_be_is_refused_at_once(
    text: str, told: str, ingested: Config, questions: str, run: Run
) -> None:
    result = run("eval", questions, *SMALL, "--fail-under", text)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not (Path("storage") / "eval").exists()


def test_the_same_again_asks_nothing(
    ingested: Config, questions: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("eval", questions, *SMALL, "--json")
    again = run("eval", questions, *SMALL, "--json")
    assert "4 of 4 questions were asked before" in again.stderr
    assert json_of(again)["variants"][0]["ms"] == json_of(first)["variants"][0]["ms"]
    fresh = run("eval", questions, *SMALL, "--json", "--fresh")
    assert "asked before" not in fresh.stderr
    other = run("eval", questions, *SMALL, "--json", "--depth", "5")
    assert "asked before" not in other.stderr


def test_changed_documents_are_asked_about_again(
    ingested: Config, docs: Path, questions: str, run: Run
) -> None:
    run("eval", questions, *SMALL)
    (docs / "kitchen/bread.txt").write_text("Knead the dough for ten minutes, and rest it.\n")
    ingestion.ingest(ingested, [docs])
    assert "asked before" not in run("eval", questions, *SMALL).stderr


class _Interrupting(FakeEmbedder):
    """Ctrl-C at the third question."""

    def _get_query_embedding(self, query: str) -> list[float]:
        if "dough" in query:
            signal.raise_signal(signal.SIGINT)
        return super()._get_query_embedding(query)


def test_interrupted_and_resumed(
    ingested: Config, questions: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        variants, "build_embedder", lambda _section: _Interrupting(model_name="fake")
    )
    result = run("eval", questions, *SMALL, "--results", "kept")
    assert result.exit_code == 130
    assert "interrupted: the same command goes on from here" in result.stderr
    assert "Traceback" not in result.output
    before = len(outcomes(Path("kept")))
    assert 0 < before < 4
    with next(Path("kept").glob("*.jsonl")).open("a", encoding="utf-8") as file:
        file.write('{"key": "torn')  # killed while it was being written

    asked: list[str] = []
    fake = FakeEmbedder(model_name="fake")
    monkeypatch.setattr(variants, "build_embedder", lambda _section: fake)
    vector = FakeEmbedder._get_query_embedding

    def note(self: FakeEmbedder, query: str) -> list[float]:
        asked.append(query)
        return vector(self, query)

    monkeypatch.setattr(FakeEmbedder, "_get_query_embedding", note)
    result = run("eval", questions, *SMALL, "--results", "kept", "--json")
    assert f"{before} of 4 questions were asked before" in result.stderr
    assert metrics(result)["hit@5"] == 1
    assert len([each for each in asked if not each.startswith("warm up")]) == 4 - before
    assert len(outcomes(Path("kept"))) == 4


def test_results_are_not_written_over_something_else(
    ingested: Config, questions: str, run: Run
) -> None:
    run("eval", questions, *SMALL, "--results", "kept")
    (file,) = Path("kept").glob("*.jsonl")
    file.write_text("my notes\n", encoding="utf-8")
    result = run("eval", questions, *SMALL, "--results", "kept")
    assert result.exit_code == 2
    assert "holds something else than results" in result.stderr
    assert file.read_text(encoding="utf-8") == "my notes\n"


def test_variants_share_the_collection_unless_they_need_another(
    ingested: Config, questions: str, run: Run, fake_embedder: FakeEmbedder
) -> None:
    embedded = len(fake_embedder.embedded)
    result = run(
        *("eval", questions, *SMALL, "--json", "--variant", "as-is"),
        *("--variant", "few:retrieval.similarity_top_k=1"),
        *("--variant", "short:chunking.size=20,retrieval.similarity_top_k=2"),
        *("--variant", "hnsw:index.type=HNSW,index.params={M = 8, efConstruction = 40}"),
    )
    summary = json_of(result)
    first, few, short, hnsw = summary["variants"]
    assert first["collection"] == few["collection"] == "rag_app"
    assert len({each["collection"] for each in (first, short, hnsw)}) == 3
    assert short["nodes"] > first["nodes"] == hnsw["nodes"]
    assert len(fake_embedder.embedded) == embedded + short["nodes"], "HNSW takes the vectors"
    assert hnsw["metrics"] == first["metrics"]
    assert "differences" not in first
    difference = few["differences"]["kept"]
    assert (difference["value"], difference["beyond_noise"]) == (-3.0, False), "four questions"
    assert few["differences"]["hit@5"] == {
        **{"value": 0.0, "low": 0.0, "high": 0.0},
        **{"n": 3, "p": 1.0, "beyond_noise": False, "too_few": True},
    }
    assert hnsw["config"]["index.params"] == {"M": 8, "efConstruction": 40}
    assert "short: 7 nodes written to the collection" in result.stderr
    built = open_store(ingested).built_index
    assert built.type == "AUTOINDEX", "the user's own index is left alone"


def test_how_documents_were_split_is_taken_from_the_collection(
    ingested: Config, questions: str, run: Run, docs: Path, fake_embedder: FakeEmbedder
) -> None:
    shorter = (
        "--collection",
        "shorter",
        "--set",
        "chunking.size=20",
        "--set",
        "chunking.overlap=2",
    )
    assert run(*shorter, "ingest", str(docs)).exit_code == 0
    embedded = len(fake_embedder.embedded)
    summary = json_of(
        run(
            *("eval", questions, "--json", "--variant", "as-is"),
            *("--variant", "few:retrieval.similarity_top_k=1"),
            *("--variant", "other:vector_store.collection=shorter"),
        )
    )
    base, few, other = summary["variants"]
    assert base["collection"] == few["collection"] == "rag_app"
    assert (base["config"]["chunking.size"], other["config"]["chunking.size"]) == (40, 20)
    assert other["nodes"] > base["nodes"]
    assert len(fake_embedder.embedded) == embedded
    asked = run("eval", questions, "--set", "chunking.size=30")
    assert (asked.exit_code, "chunking.size = 40" in asked.stderr) == (2, True), "as it was said"


def test_ways_of_searching_share_the_collection(
    ingested: Config, questions: str, run: Run, fake_embedder: FakeEmbedder
) -> None:
    embedded = len(fake_embedder.embedded)
    modes = ("dense", "text", "hybrid", "mmr")
    asked = [text for mode in modes for text in ("--variant", f"{mode}:retrieval.mode={mode}")]
    rrf = ("--variant", "rrf:retrieval.fusion=rrf")
    summary = json_of(run("eval", questions, *SMALL, "--json", *asked, *rrf))
    found = {variant["name"]: variant for variant in summary["variants"]}
    assert set(found) == {*modes, "rrf"}
    assert {variant["collection"] for variant in found.values()} == {"rag_app"}
    assert len(fake_embedder.embedded) == embedded
    for name in ("text", "hybrid", "rrf"):
        assert found[name]["metrics"]["hit@5"]["value"] == 1


def test_a_variants_own_collection_is_kept_and_follows(
    ingested: Config, docs: Path, questions: str, run: Run
) -> None:
    asked = ("eval", questions, *SMALL, "--variant", "short:chunking.size=20", "--json")
    first = json_of(run(*asked))["variants"][0]
    assert "nodes written" not in run(*asked).stderr
    (docs / "kitchen/bread.txt").unlink()
    gone = run(*asked)
    assert gone.exit_code == 2
    assert "1 of the 3 ingested files are not there any more" in gone.stderr
    ingestion.ingest(ingested, [docs], prune=True)
    (docs / "index.md").write_text("# Graphs\n\nM is the maximum degree of a node.\n")
    changed = run(*asked)
    after = json_of(changed)["variants"][0]
    assert after["collection"] == first["collection"]
    assert after["nodes"] < first["nodes"]
    assert "1 files changed since they were ingested into rag_app (index.md" in changed.stderr
    config = load_config(overrides={"chunking.size": 20, "chunking.overlap": 0})
    section = config.vector_store.model_copy(update={"collection": first["collection"]})
    store = open_store(config.model_copy(update={"vector_store": section}))
    paths = [document.path for document in store.documents().values()]
    assert paths == ["guide/consistency.html", "index.md"]


def test_a_variants_collection_has_the_ingested_files_alone(
    fake_embedder: FakeEmbedder, docs: Path, run: Run, here: Path
) -> None:
    """Of a folder whose other files were never ingested; under the same relative paths."""
    config = load_config(overrides={"chunking.size": 40, "chunking.overlap": 0})
    ingestion.ingest(config, [docs], roots=())
    open_store(config).delete(
        next(
            id_
            for id_, document in open_store(config).documents().items()
            if document.path == "index.md"
        )
    )
    asked = write([QUESTIONS[1]])
    result = run("eval", asked, *SMALL, "--variant", "short:chunking.size=20", "--json")
    (variant,) = json_of(result)["variants"]
    section = config.vector_store.model_copy(update={"collection": variant["collection"]})
    other = load_config(overrides={"chunking.size": 20, "chunking.overlap": 0})
    store = open_store(other.model_copy(update={"vector_store": section}))
    assert [each.path for each in store.documents().values()] == [
        "guide/consistency.html",
        "kitchen/bread.txt",
    ]


def test_the_same_name_twice_and_wrong_keys(ingested: Config, questions: str, run: Run) -> None:
    result = run("eval", questions, *SMALL, "--variant", "a", "--variant", "a")
    assert result.exit_code == 2
    assert "two variants are called 'a'" in result.stderr
    result = run("eval", questions, *SMALL, "--variant", "a:retrieval.depth=3")
    assert result.exit_code == 2
    assert "unknown key 'retrieval.depth'" in result.stderr


def test_parse_variant() -> None:
    assert parse_variant("a") == parse_variant("a:") == ("a", {})
    assert parse_variant("best-first:prompt.order=best_first") == (
        "best-first",
        {"prompt.order": "best_first"},
    )
    assert parse_variant("b.2:llm.temperature=0, index.params={M = 1, ef = 2},x.y=[1, 2]") == (
        "b.2",
        {"llm.temperature": "0", "index.params": "{M = 1, ef = 2}", "x.y": "[1, 2]"},
    )
    for wrong in (":a.b=1", "a b:c.d=1", "a:b", "a:b=1"):
        with pytest.raises(ConfigError):
            parse_variant(wrong)


def test_answers_of_an_llm(ingested: Config, questions: str, run: Run, llm: EchoLLM) -> None:
    result = run("eval", questions, *WITH_LLM, "--json", "--timed", "2")
    got = metrics(result)
    assert got["in_prompt"] == 1
    assert got["answered"] == 1
    assert got["abstained"] == 0  # the echo never abstains
    assert got["contains"] >= 2 / 3
    assert 0 < got["f1"] < 1
    assert got["prompt_tokens"] > 40
    (variant,) = json_of(result)["variants"]
    assert set(variant["ms"]) == {"embed", "search", "pack", "first_token", "all_tokens", "total"}
    assert variant["ms"]["first_token"]["p50"]["n"] == 2
    assert (
        variant["ms"]["all_tokens"]["p50"]["value"]
        >= (variant["ms"]["first_token"]["p50"]["value"])
    )
    assert len(llm.prompts) == 4 + 1  # each question once, and the warm-up


def test_what_the_window_drops(ingested: Config, questions: str, run: Run, llm: EchoLLM) -> None:
    llm.window, llm.answer_tokens = 200, 64
    got = metrics(run("eval", questions, *WITH_LLM, "--json"))
    assert got["dropped"] > 0
    assert got["kept"] + got["trimmed"] + got["dropped"] == 4
    llm.window = 70
    result = run("eval", questions, *WITH_LLM)
    assert result.exit_code == 2, result.output
    assert "was not asked: the prompt has" in result.stderr
    assert "4 questions could not be asked of every variant" in result.stderr


def test_cited_sources_are_looked_into(
    ingested: Config, run: Run, llm: EchoLLM, here: Path
) -> None:
    llm.script = ["warm", "Ten minutes [1], or so [9].", "Ten minutes."]
    rows = [
        {**QUESTIONS[2], "question": "Does bread need flour, water, salt?"},
        {**QUESTIONS[2], "question": "Knead the dough for how long?"},
    ]
    asked = ("eval", write(rows), *WITH_LLM, "--json", "--set", "retrieval.similarity_top_k=1")
    got = metrics(run(*asked))
    assert (got["cites"], got["citation_precision"]) == (0.5, 0.5)
    assert got["exact_match"] == 0.5


def test_abstaining_and_its_own_words(ingested: Config, run: Run, llm: EchoLLM, here: Path) -> None:
    llm.script = ["warm", "Weiß ich nicht."]
    asked = ("eval", write([QUESTIONS[3]]), *WITH_LLM, "--json")
    assert metrics(run(*asked))["abstained"] == 0
    assert metrics(run(*asked, "--abstains", "weiß ich nicht"))["abstained"] == 1
    wrong = run(*asked, "--abstains", "(")
    assert wrong.exit_code == 2
    assert "is not a regular expression" in wrong.stderr


def test_order_of_contexts_is_a_variant(
    ingested: Config, questions: str, run: Run, llm: EchoLLM
) -> None:
    result = run(
        *("eval", questions, *WITH_LLM, "--json", "--timed", "0", "--variant", "best-last"),
        *("--variant", "best-first:prompt.order=best_first"),
        *("--variant", "canonical:prompt.order=canonical"),
    )
    summary = json_of(result)
    assert len({each["collection"] for each in summary["variants"]}) == 1
    orders = [[contexts_of(each) for each in llm.prompts[at : at + 4]] for at in (0, 4, 8)]
    for last, first, canonical in zip(*orders, strict=True):
        assert first == last[::-1]
        assert sorted(first) == sorted(canonical)
    assert orders[2] not in orders[:2]


class _FailingJudge(EchoLLM):
    error: Exception

    async def acomplete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        raise self.error


@pytest.mark.parametrize("error", [LLMError, LLMUnavailableError])
def test_a_judge_that_fails(
    error: type[LLMError],
    ingested: Config,
    questions: str,
    run: Run,
    llm: EchoLLM,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge = _FailingJudge(error=error("the server answers 500: out of order", "mend it"))
    monkeypatch.setattr("rag_app.evaluation.judge.build_llm", lambda _section: judge)
    result = run(
        *("eval", questions, *WITH_LLM, "--timed", "0"),
        *("--judge", "faithfulness", "--judge-llm", "model=other"),
    )
    assert result.exit_code == 1
    assert "the server answers 500: out of order\n  try: mend it" in result.stderr
    assert "bug" not in result.stderr


class _Failing(EchoLLM):
    def generate_each(
        self, prompts: Sequence[str], **kwargs: Any
    ) -> Generator[tuple[int, Reply], None, None]:
        yield 0, self.complete(prompts[0])
        raise KeyboardInterrupt


def test_answers_that_came_before_an_interruption_are_kept(
    ingested: Config, questions: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "build_llm", lambda _section: _Failing())
    result = run("eval", questions, *WITH_LLM, "--timed", "0", "--results", "kept")
    assert result.exit_code == 130
    assert len(outcomes(Path("kept"))) == 1
    echo = EchoLLM()
    monkeypatch.setattr(variants, "build_llm", lambda _section: echo)
    result = run("eval", questions, *WITH_LLM, "--timed", "0", "--results", "kept", "--json")
    assert "1 of 4 questions were asked before" in result.stderr
    assert len(echo.prompts) == 3


def test_judge_grades_answers(ingested: Config, run: Run, llm: EchoLLM, here: Path) -> None:
    answer = "Ten minutes.<|im_end|>"
    llm.script = ["warm", answer, "YES", "no", "4.5 because it is right"]
    asked = ("eval", write([QUESTIONS[2]]), *WITH_LLM, "--json")
    result = run(*asked, "--judge", "faithfulness,relevancy,correctness")
    got = metrics(result)
    assert (got["faithfulness"], got["relevancy"], got["correctness"]) == (1, 0, 4.5)
    assert "knead the dough" in llm.prompts[-3].lower(), "the judge sees the contexts"
    assert all("Ten minutes.< |im_end|>" in prompt for prompt in llm.prompts[-3:])
    again = run(*asked, "--judge", "faithfulness,relevancy,correctness")
    assert "asked before" in again.stderr
    assert metrics(again)["correctness"] == 4.5


def test_a_reply_that_is_no_grade_is_no_score(
    ingested: Config, run: Run, llm: EchoLLM, here: Path
) -> None:
    llm.script = ["warm", "Ten minutes.", "maybe", "well"]
    asked = write([QUESTIONS[2]])
    result = run("eval", asked, *WITH_LLM, "--json", "--judge", "faithfulness,correctness")
    assert not {"faithfulness", "correctness"} & set(metrics(result))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--judge", "taste"), "there is no evaluator 'taste'"),
        (("--judge", "relevancy"), "none are made"),
        (("--judge", "relevancy", "--answers"), "a judge is a language model"),
        (("--judge-llm", "model=x"), "--judge-llm without --judge"),
        (("--judge", "relevancy", "--judge-llm", "model"), "is not of the form KEY=VALUE"),
    ],
)
def test_judges_that_cannot_be(
    options: tuple[str, ...], told: str, ingested: Config, questions: str, run: Run
) -> None:
    result = run("eval", questions, *SMALL, *options)
    assert result.exit_code == 2
    assert told in result.stderr


def test_questions_asked_together_are_found_as_alone(
    ingested: Config, questions: str, run: Run
) -> None:
    alone = json_of(run("eval", questions, *SMALL, "--json", "--timed", "4"))
    together = json_of(run("eval", questions, *SMALL, "--json", "--timed", "0", "--fresh"))
    assert not together["variants"][0]["ms"]
    assert alone["variants"][0]["metrics"] == together["variants"][0]["metrics"]


def test_batches_end_where_they_should(
    ingested: Config, questions: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "TOGETHER", 3)
    summary = json_of(run("eval", questions, *SMALL, "--json", "--timed", "0"))
    assert summary["variants"][0]["metrics"]["kept"]["n"] == 4


def test_variants_are_timed_in_turn(
    ingested: Config, questions: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []
    time = Runner.time

    def note(self: Runner, question: EvalQuestion, *args: Any) -> None:
        asked.append((question.id, self.similarity_top_k))
        time(self, question, *args)

    monkeypatch.setattr(Runner, "time", note)
    tops = [
        text
        for top in (1, 2, 3)
        for text in ("--variant", f"top-{top}:retrieval.similarity_top_k={top}")
    ]
    summary = json_of(run("eval", questions, *SMALL, "--json", "--timed", "4", *tops))
    assert [each["ms"]["total"]["p50"]["n"] for each in summary["variants"]] == [4, 4, 4]
    rounds = [asked[at : at + 3] for at in range(0, 12, 3)]
    assert all(len({id_ for id_, _ in each}) == 1 for each in rounds)
    turns = [[top for _, top in each] for each in rounds]
    assert turns == [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]]


def test_engines_that_differ_are_loaded_one_after_the_other() -> None:
    def variant(**llm: Any) -> Variant:
        overrides = {f"llm.{key}": value for key, value in llm.items()}
        return Variant(str(llm), load_config(overrides=overrides))

    engine = {"backend": "vllm", "model": "m"}
    warm, cold = variant(**engine, temperature=1.0), variant(**engine, temperature=0.0)
    small = variant(**engine, engine={"max_model_len": 4096})
    server, none = variant(backend="vllm-server"), variant()
    groups = study._groups([warm, none, cold, small, server, warm], Settings())
    assert groups == [[warm, none, cold], [small, server], [warm]]
    assert len(study._groups([warm, small], Settings(answers=False))) == 1


def test_report_is_not_written_over_the_questions(questions: str, run: Run) -> None:
    before = Path(questions).read_bytes()
    result = run("eval", questions, *SMALL, "--html", f"../{Path.cwd().name}/{questions}")
    assert result.exit_code == 2
    assert "is the file of the questions" in result.stderr
    assert Path(questions).read_bytes() == before


def test_too_few_questions_are_said(ingested: Config, questions: str, run: Run) -> None:
    result = run("eval", questions, *SMALL, "--variant", "a", "--variant", "b", "--variant", "c")
    said = " ".join(result.stdout.split())
    assert "permutation test, p < 0.05, corrected for 2 variants (Holm)" in said
    assert "fewer than 7 questions, which is too few to tell" in said
    assert said.endswith("all figures")


REAL = Path(__file__).parents[3] / "shared/data/milvus_docs_md"


@pytest.mark.skipif(
    not REAL.is_dir(), reason="the labelled data is not beside the checkout, in ../shared/data"
)
def test_a_real_set_offline(real_embedder: Embedder, run: Run, tmp_path: Path, here: Path) -> None:
    """Four pages and their questions, with the real embedder."""
    lines = (REAL / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    named = {file for line in lines for file in json.loads(line)["gold"]}
    names = [file.name for file in sorted((REAL / "docs").iterdir()) if file.name in named][:4]
    chosen = [line for line in lines if set(json.loads(line)["gold"]) <= set(names)]
    Path("q.jsonl").write_text("\n".join(chosen), encoding="utf-8")
    offline = ("--profile", "offline")
    result = run(*offline, "ingest", *(str(REAL / "docs" / name) for name in names))
    assert result.exit_code == 0, result.output
    result = run(*offline, "eval", "q.jsonl", "--html", "r.html", "--json")
    got = metrics(result)
    assert got["hit@10"] >= 0.8
    assert got["hit@1"] <= got["hit@2"] <= got["hit@5"] <= got["hit@10"]
    assert Path("r.html").stat().st_size > 10_000
    release_databases(tmp_path)


def test_what_the_documents_do_not_answer_is_told_apart(
    ingested: Config, here: Path, run: Run
) -> None:
    """Also where nothing is answered: retrieval alone is judged."""
    elsewhere = {"question": "Who won the 1998 World Cup?", "answerable": False}
    file = write([*QUESTIONS, elsewhere], "some.jsonl")
    result = run("eval", file, "--json", "--html", "page.html", *SMALL)
    found = metrics(result)
    assert (found["refused"], found["confidence_auroc"]) == (1.0, 1.0)
    assert 0 <= found["confidence_aurc"] < 0.4
    assert 0 <= found["confidence_ece"] < 0.5
    assert json_of(result)["questions"]["unanswerable"] == 2
    assert "risk against coverage" in Path("page.html").read_text()
    assert run("eval", file, *SMALL, "--fail-under", "refused=1").exit_code == 0
    write([{"question": "Why?", "answerable": False, "answers": ["so"]}], "wrong.jsonl")
    assert "is false" in run("eval", "wrong.jsonl", *SMALL).stderr
