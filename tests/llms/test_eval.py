"""``rag-app eval`` with real language models. Their answers are noise; the plumbing is tested."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from rag_app.config.sections import Config
from rag_app.evaluation import variants
from rag_app.llms.vllm_engine import VllmEngine
from rag_app.llms.vllm_server import VllmServer
from tests.conftest import json_of
from tests.llms.conftest import Server

Run = Callable[..., Result]
SMALL = (
    *("--set", "chunking.size=40", "--set", "chunking.overlap=0"),
    *("--set", "answer.max_risk=1"),  # every question reaches the model
)


@pytest.fixture
def questions(ingested: Config, here: Path) -> str:
    rows = [
        {"question": f"What does {word} do in the graph?", "answers": [answer], "file": "index.md"}
        for word, answer in (("M", "maximum degree"), ("ef", "candidates"), ("nlist", "clusters"))
    ]
    rows.append({"question": "Who is the king of France?", "answers": [], "file": ""})
    file = here / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


@pytest.fixture
def kept_open(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> VllmEngine:
    """The session's engine, in place of one that the command would start and close."""
    monkeypatch.setattr(variants, "build_llm", lambda _section: engine)
    monkeypatch.setattr(type(engine), "close", lambda _self: None)
    return engine


def test_engine(kept_open: VllmEngine, questions: str, run: Run) -> None:
    result = run(
        *("eval", questions, *SMALL, "--set", "llm.backend=vllm", "--set", "llm.model=tiny"),
        *("--json", "--timed", "2", "--variant", "best-last"),
        *("--variant", "best-first:prompt.order=best_first", "--variant", "same"),
    )
    last, first, same = json_of(result)["variants"]
    for variant in (last, first, same):
        figures = {name: figure["value"] for name, figure in variant["metrics"].items()}
        assert figures["exact_match"] <= 0.1
        assert figures["f1"] <= 0.2
        assert 0 < figures["completion_tokens"] <= 16
        assert figures["prompt_tokens"] > 100
        assert 0 <= figures["cached"] < 0.9, "nothing of the variant before is in the cache"
        times = variant["ms"]
        assert times["first_token"]["p50"]["n"] == 2
        assert 0 < times["first_token"]["p50"]["value"] <= times["all_tokens"]["p50"]["value"]
    assert last["collection"] == first["collection"]
    assert same["metrics"]["cached"]["value"] == pytest.approx(last["metrics"]["cached"]["value"])


def test_server_and_judge(vllm_server: Server, questions: str, run: Run) -> None:
    result = run(
        *("eval", questions, *SMALL, "--set", "llm.backend=vllm-server", "--json"),
        *("--set", f"llm.base_url={vllm_server.url}", "--set", "llm.api_key=a-key"),
        *("--set", "llm.max_tokens=16", "--timed", "2", "--judge", "faithfulness"),
        *("--variant", "one", "--variant", "two"),
    )
    one, two = json_of(result)["variants"]
    assert one["metrics"]["answered"]["n"] == 3
    assert one["metrics"]["exact_match"]["value"] <= 0.1
    assert one["ms"]["first_token"]["p50"]["value"] > 0
    assert two["metrics"]["cached"]["value"] == pytest.approx(
        one["metrics"]["cached"]["value"], abs=0.2
    )
    assert "a-key" not in result.output
    kept = Path(one["results"]).read_text(encoding="utf-8")
    assert '"judged": {"faithfulness"' in kept


def test_another_prompt_of_before_is_not_cached(client: VllmServer, engine: VllmEngine) -> None:
    prompt = "Licences say what may be done with a work, and by whom. " * 20
    for llm in (client, engine):
        llm.complete(prompt)
        before = llm.prefix_cache()
        llm.complete(prompt)
        cached = llm.prefix_cache()[1] - before[1]
        assert cached > 100
        asking = llm.forget_prefixes()
        before = llm.prefix_cache()
        llm.complete(prompt, **asking)
        assert llm.prefix_cache()[1] - before[1] == 0
        before = llm.prefix_cache()
        llm.complete(prompt, **asking)
        assert llm.prefix_cache()[1] - before[1] == cached


def test_generate_with_a_model_that_writes_noise(
    vllm_server: Server, ingested: Config, run: Run
) -> None:
    result = run(
        *("eval", "generate", "-n", "2", "-o", "made.jsonl", *SMALL),
        *("--set", "llm.backend=vllm-server", "--set", f"llm.base_url={vllm_server.url}"),
        *("--set", "llm.api_key=a-key", "--set", "llm.max_tokens=16"),
    )
    assert result.exit_code == 1
    assert "only 0 of 2 questions could be made" in result.stderr
