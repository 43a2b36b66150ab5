"""What only the engine in this process does."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.llms import ChatMessage, ImageBlock

from rag_app.errors import ConfigError, InputError, LLMError, ModelUnavailableError, RagAppError
from rag_app.llms import build_llm
from rag_app.llms.engine_start import explain
from rag_app.llms.vllm_engine import VllmEngine
from rag_app.load import load_config
from tests.llms.conftest import ENGINE, WINDOW, section

PROMPT = "What is a licence?"
LONG = {"max_tokens": 900, "ignore_eos": True}


def wait_until_idle(engine: VllmEngine) -> None:
    deadline = time.monotonic() + 10
    while engine.unfinished():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_generate_is_one_by_one(engine: VllmEngine) -> None:
    prompts = [f"{number} {PROMPT}" for number in range(20)]
    answers = engine.generate(prompts)
    assert [answer.text for answer in answers] == [engine.complete(p).text for p in prompts]
    assert {index for index, _ in engine.generate_each(prompts)} == set(range(20))


def test_requests_interleave(engine: VllmEngine) -> None:
    long = engine.stream_complete(PROMPT, **LONG)
    next(long)
    assert engine.complete(PROMPT).text  # while the long one runs
    assert engine.unfinished() == 1
    long.close()
    wait_until_idle(engine)


def test_closing_a_stream_aborts_its_request(engine: VllmEngine) -> None:
    stream = engine.stream_complete(PROMPT, **LONG)
    next(stream)
    assert engine.unfinished() == 1
    stream.close()
    wait_until_idle(engine)


async def test_cancelling_a_task_aborts_its_request(engine: VllmEngine) -> None:
    task = asyncio.create_task(engine.acomplete(PROMPT, **LONG))
    while not engine.unfinished():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(wait_until_idle, engine)


async def test_the_event_loop_is_not_blocked(engine: VllmEngine) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await engine.acomplete(PROMPT, max_tokens=200, ignore_eos=True)
    ticking.cancel()
    assert ticks > 10


def test_prefix_cache_is_measured(engine: VllmEngine) -> None:
    shared = "a shared context " * 60
    engine.complete(shared + "one")
    looked_up, found = engine.prefix_cache()
    answer = engine.complete(shared + "two")
    assert answer.additional_kwargs["cached_tokens"] > 0
    assert engine.prefix_cache()[0] > looked_up
    assert engine.prefix_cache()[1] - found == answer.additional_kwargs["cached_tokens"]


def test_images_are_refused(engine: VllmEngine) -> None:
    with pytest.raises(InputError, match="ImageBlock"):
        engine.chat([ChatMessage(blocks=[ImageBlock(image=b"x")])])


def test_engine_arguments_reach_vllm(engine: VllmEngine) -> None:
    config = engine.engine.llm_engine.vllm_config
    assert config.model_config.max_model_len == WINDOW
    assert str(config.model_config.dtype) == "torch.float32"
    assert config.model_config.enforce_eager
    assert not config.model_config.trust_remote_code


@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        ({"engine": {"enforce_eagre": True}}, ConfigError, "enforce_eagre.*\n.*'enforce_eager'"),
        ({"engine": {"model": "x"}}, ConfigError, "llm.model"),
        ({"model": ""}, ConfigError, "llm.model is empty"),
    ],
)
@pytest.mark.usefixtures("llama")
def test_wrong_configuration(values: dict[str, Any], error: type[RagAppError], match: str) -> None:
    with pytest.raises(error, match=match):
        build_llm(section(**{"backend": "vllm", "model": "x", **values}))


@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        ({"model": "/no/such/folder"}, ModelUnavailableError, "no such folder"),
        ({"engine": {"max_model_len": 9999}}, ConfigError, "9999.*2048"),
        ({"engine": {**ENGINE, "gpu_memory_utilization": 1.0}}, LLMError, "too little memory"),
        ({"engine": {**ENGINE, "dtype": "float3"}}, LLMError, "float3"),
    ],
)
def test_engine_that_cannot_start(
    engine: VllmEngine,
    llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, Any],
    error: type[RagAppError],
    match: str,
) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE")
    llm = build_llm(section(**{"backend": "vllm", "model": str(llama), **values}))
    with pytest.raises(error, match=match):
        llm.complete(PROMPT)
    assert engine.complete(PROMPT).text, "the other engine is unharmed"


def test_window_may_only_be_lowered(engine: VllmEngine) -> None:
    lowered = engine.model_copy(update={"context_window": 512})
    assert lowered.metadata.context_window == 512
    lowered.context_window = 4096
    with pytest.raises(ConfigError, match=r"4096.*1024"):
        _ = lowered.metadata


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("Failed to infer device type", LLMError, "install-vllm-cpu.sh"),
        ("401 Client Error. Access to model x is restricted", ModelUnavailableError, "HF_TOKEN"),
        ("You are trying to access a gated repo", ModelUnavailableError, "accept the licence"),
        ("CUDA out of memory. Tried to allocate 2 GiB", LLMError, "gpu_memory_utilization"),
        ("something else", LLMError, "something else"),
    ],
)
def test_what_vllm_raises_is_explained(text: str, error: type[RagAppError], match: str) -> None:
    with pytest.raises(error, match=match):
        raise explain(RuntimeError(text), "org/model")


SCRIPT = """
import sys, time
from rag_app.config.sections import LLMSection
from rag_app.llms import build_llm

llm = build_llm(LLMSection(backend="vllm", model=sys.argv[1], temperature=0.0,
    engine={"dtype": "float32", "enforce_eager": True, "max_model_len": 1024}))
stream = llm.stream_complete("What?", max_tokens=900, ignore_eos=True)
next(stream)
print("running", flush=True)
if sys.argv[2] == "raise":
    raise SystemError("on purpose")
if sys.argv[2] == "wait":
    for _ in stream:
        pass
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["return", "raise", "wait"])
def test_nothing_is_left_after_exit(llama: Path, how: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(llama), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert process.stdout is not None
    running = process.stdout.readline()
    if how == "wait":
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert running == "running\n", errors
    assert process.returncode == {"return": 0, "raise": 1, "wait": -signal.SIGINT}[how], errors
    with pytest.raises(ProcessLookupError):  # its process group is empty
        os.killpg(process.pid, 0)


BLOG = """
import json, sys
from rag_app import load_config
from rag_app.llms import build_llm
from rag_app.llms.vllm_engine import VllmEngine

config = load_config(profile="blog", overrides={"llm.model": sys.argv[1]})
llm = build_llm(config.llm)
engine = llm.engine.llm_engine.vllm_config
sampling = llm._request([1], {}).sampling
print("read back:", json.dumps({
    "enforce_eager": engine.model_config.enforce_eager,
    "dtype": str(engine.model_config.dtype),
    "gpu_memory_utilization": engine.cache_config.gpu_memory_utilization,
    "max_model_len": engine.model_config.max_model_len,
    "seed": engine.model_config.seed,
    "max_num_batched_tokens": engine.scheduler_config.max_num_batched_tokens,
    "temperature": sampling.temperature,
    "top_p": sampling.top_p,
    "window": llm.metadata.context_window,
}))
llm.close()
"""


def test_profile_blog_hands_vllm_the_walk_throughs_parameters(llama: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOG, str(llama)], capture_output=True, text=True, timeout=240
    )
    (line,) = [line for line in done.stdout.splitlines() if "read back:" in line] or [done.stderr]
    assert json.loads(line.partition(":")[2]) == {
        "enforce_eager": True,
        "dtype": "torch.bfloat16",
        "gpu_memory_utilization": 0.5,
        "max_model_len": 1000,
        "seed": 415,
        "max_num_batched_tokens": 3000,
        "temperature": 0.2,
        "top_p": 0.95,
        "window": 1000,
    }
    model = load_config(profile="blog").llm.model
    assert model == "meta-llama/Meta-Llama-3.1-8B-Instruct"
