"""One engine, many who use it: what one of them does wrong or ends is not the others' matter."""

import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import ChatMessage

from rag_app.errors import InputError, LLMError, ModelUnavailableError
from rag_app.llms import PackableLLM, build_llm
from rag_app.llms.engine_requests import Request
from rag_app.llms.engine_thread import EngineThread
from rag_app.llms.vllm_engine import VllmEngine

from .conftest import ENGINE, section

PROMPT = "What is a licence?"
LONG = {"max_tokens": 900, "ignore_eos": True}


def build(llama: Path, **values: Any) -> VllmEngine:
    llm = build_llm(section(backend="vllm", model=str(llama), **{"engine": ENGINE, **values}))
    assert isinstance(llm, VllmEngine)
    return llm


@pytest.mark.parametrize(
    "bad",
    [
        {"structured_outputs": {"regex": "("}},
        {"structured_outputs": 5},
        {"bad_words": [5]},
        {"logit_bias": {10**9: 1.0}},
        {"seed": "x", "temperature": 1.0},
    ],
)
def test_a_bad_request_fails_alone(engine: VllmEngine, bad: dict[str, Any]) -> None:
    stream = engine.stream_complete(PROMPT, **LONG)
    next(stream)
    with pytest.raises(InputError, match="vLLM refuses"):
        engine.complete(PROMPT, **bad)
    assert next(stream).text, "what was running runs on"
    stream.close()
    assert engine.complete(PROMPT).text


def test_an_exception_that_nobody_expected_is_that_requests(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AttributeError("'dict' object has no attribute 'x'")

    running = engine.stream_complete(PROMPT, **LONG)
    next(running)
    with monkeypatch.context() as patched:
        # After half of vLLM has taken the request: nothing of it may stay.
        patched.setattr(engine.engine.llm_engine.engine_core, "add_request", fail)
        with pytest.raises(InputError, match="AttributeError"):
            engine.complete(PROMPT)
    assert engine.engine.llm_engine.get_num_unfinished_requests() == 1
    assert next(running).text
    running.close()


def test_a_request_that_vllm_gives_up_is_an_error(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such grammar")

    with monkeypatch.context() as patched:
        patched.setattr("xgrammar.GrammarCompiler.compile_grammar", fail)
        with pytest.raises(LLMError, match="gave a request up"):
            engine.complete(PROMPT, structured_outputs={"choice": ["quinces", "medlars"]})
    assert engine.complete(PROMPT).text


@pytest.mark.filterwarnings("ignore::DeprecationWarning:xgrammar")
def test_choices_as_a_table(engine: VllmEngine) -> None:
    chosen = engine.complete(PROMPT, structured_outputs={"choice": ["apples", "pears"]})
    assert chosen.text in {"apples", "pears"}


def test_one_configuration_is_one_engine(engine: VllmEngine, llama: Path) -> None:
    other = build(llama, max_tokens=5, timeout=30.0)
    assert other.engine is engine.engine, "sampling and waiting are each one's own"
    stream = other.stream_complete(PROMPT, **LONG)
    next(stream)
    kept = engine.stream_complete(PROMPT, **LONG)
    next(kept)
    other.close()
    with pytest.raises(LLMError, match="closed"):
        list(stream)
    with pytest.raises(LLMError, match="closed"):
        other.complete(PROMPT)
    assert next(kept).text
    kept.close()
    assert engine.complete(PROMPT).text


def test_what_is_collected_lets_go(engine: VllmEngine, llama: Path) -> None:
    copy = build(llama).model_copy()
    assert copy.complete(PROMPT).text == engine.complete(PROMPT).text
    del copy
    assert engine.complete(PROMPT).text


def test_closing_an_engine_leaves_the_others(engine: VllmEngine, llama: Path) -> None:
    smaller = {"engine": {**ENGINE, "max_model_len": 512}}
    one, two = build(llama, **smaller), build(llama, **smaller)
    looked_up = engine.prefix_cache()[0]
    assert one.complete(PROMPT).text == two.complete(PROMPT).text == engine.complete(PROMPT).text
    assert engine.prefix_cache()[0] - looked_up == engine.count_tokens(PROMPT)
    one.close()
    one.close()
    assert two.complete(PROMPT).text
    two.close()
    assert engine.complete(PROMPT).text, "vLLM's clean-up is for the last engine"


def test_closing_while_somebody_waits_for_the_engine(engine: VllmEngine, llama: Path) -> None:
    starting = build(llama, engine={**ENGINE, "max_model_len": 256})
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            starting.complete(PROMPT)
        except LLMError as error:
            raised.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    starting.close()
    asking.join(60)
    assert [str(error).splitlines()[0] for error in raised] == ["the vLLM engine was closed"]
    assert engine.complete(PROMPT).text


@pytest.mark.usefixtures("llama")
def test_each_call_of_a_dead_engine_raises_its_own_error() -> None:
    llm = build_llm(section(backend="vllm", model="/no/such/folder"))
    raised = []
    for _ in range(3):
        with pytest.raises(ModelUnavailableError) as caught:
            llm.complete(PROMPT)
        raised.append(caught.value)
    assert len({id(error) for error in raised}) == 3
    lengths = [len(list(_frames(error))) for error in raised]
    assert lengths[0] == lengths[-1]


class _Engine:
    """As much of vLLM's as the thread that owns it touches."""

    def __init__(self) -> None:
        self.llm_engine = self.engine_core = self
        self.renderer = self
        self.stopped = 0

    def shutdown(self) -> None:
        self.stopped += 1

    def render_cmpl(self, prompts: list[Any]) -> list[Any]:
        return prompts

    def add_request(self, *_: Any, **__: Any) -> None: ...

    def step(self) -> None:
        raise SystemExit(3)


@pytest.mark.usefixtures("llama")
def test_an_engine_that_nothing_can_be_asked_of_is_not_kept() -> None:
    engine = _Engine()
    thread = EngineThread(lambda: engine)
    with pytest.raises(LLMError, match="vLLM does not start"):
        thread.engine()  # it has no tokenizer
    assert engine.stopped == 1
    assert not thread.is_usable


@pytest.mark.usefixtures("llama")
def test_an_engine_that_exits_tells_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rag_app.llms.engine_thread.EnginePrompts", lambda _: None)
    engine, told = _Engine(), queue.SimpleQueue[Any]()
    thread = EngineThread(lambda: engine)
    thread.engine()
    thread.submit([Request(tokens=(1,), sampling=None)], told.put, told)
    assert "the vLLM engine failed: 3" in str(told.get(timeout=60))
    assert not thread.is_usable
    with pytest.raises(LLMError, match="the vLLM engine failed: 3"):
        thread.engine()
    assert engine.stopped == 1


def _frames(error: BaseException) -> Any:
    at = error.__traceback__
    while at is not None:
        yield at
        at = at.tb_next


async def test_tokens_are_counted(engine: VllmEngine) -> None:
    counter = TokenCountingHandler(tokenizer=lambda _: [])
    counted: PackableLLM = engine.model_copy(
        update={"callback_manager": CallbackManager([counter])}
    )
    counted.complete(PROMPT)
    list(counted.stream_complete(PROMPT))
    counted.chat([ChatMessage(content=PROMPT)])
    list(counted.stream_chat([ChatMessage(content=PROMPT)]))
    await counted.acomplete(PROMPT)
    assert counter.prompt_llm_token_count == 5 * engine.count_tokens(PROMPT)
    assert counter.completion_llm_token_count == 5 * 16


def test_several_answers_are_refused(engine: VllmEngine) -> None:
    for refused in ({"n": 2}, {"prompt_logprobs": 1}):
        with pytest.raises(InputError, match=next(iter(refused))):
            engine.complete(PROMPT, **refused)
        with pytest.raises(InputError, match=next(iter(refused))):
            list(engine.stream_complete(PROMPT, **refused))
    assert engine.complete(PROMPT, n=1).text


def test_logprobs_are_returned(engine: VllmEngine) -> None:
    whole = engine.complete(PROMPT, logprobs=2).logprobs
    assert whole is not None
    assert len(whole) == 16
    assert all(len(position) >= 2 and position[0].logprob <= 0 for position in whole)
    streamed = [p.logprobs or [] for p in engine.stream_complete(PROMPT, logprobs=2)]
    assert [each[0].token for part in streamed for each in part] == [p[0].token for p in whole]
    chat = engine.chat([ChatMessage(content=PROMPT)], logprobs=1)
    assert chat.logprobs is not None
    assert engine.complete(PROMPT).logprobs is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_is_told(engine: VllmEngine, llama: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(llama)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = [line for line in done.stdout.splitlines() if "was forked" in line]
    assert len(told) == 4, done.stdout
    assert "the parent answers" in done.stdout


FORK = """
import os, sys
from rag_app.config.sections import LLMSection
from rag_app.errors import LLMError
from rag_app.llms import build_llm

def build():
    return build_llm(LLMSection(backend="vllm", model=sys.argv[1], temperature=0.0, max_tokens=8,
        engine={"dtype": "float32", "enforce_eager": True, "max_model_len": 1024}))

llm = build()
llm.complete("What?")
for end in (os._exit, sys.exit):  # as multiprocessing's processes end, and as others do
    child = os.fork()
    if not child:
        for each in (llm, build()):
            try:
                each.complete("What?")
            except LLMError as error:
                print(error, flush=True)
        end(3)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 3, status
print("the parent answers", llm.complete("What?").text)
"""


def test_an_engine_of_the_program_outlives_ours(llama: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BESIDE, str(llama)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "it still answers" in done.stdout


BESIDE = """
import sys
from rag_app.llms import Vllm

ours = Vllm(sys.argv[1], max_new_tokens=4,
    vllm_kwargs={"dtype": "float32", "enforce_eager": True, "max_model_len": 256})
import vllm
from vllm.distributed.parallel_state import model_parallel_is_initialized

foreign = vllm.LLM(sys.argv[1], dtype="float32", enforce_eager=True, max_model_len=128)
ours.complete("What?")
ours.close()
assert model_parallel_is_initialized()
print("it still answers", foreign.generate("What?", use_tqdm=False)[0].outputs[0].text)
ours = Vllm(sys.argv[1], max_new_tokens=4,
    vllm_kwargs={"dtype": "float32", "enforce_eager": True, "max_model_len": 256})
ours.complete("What?")
del foreign
ours.close()
assert not model_parallel_is_initialized(), "the last one cleans up"
"""
