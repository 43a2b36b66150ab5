"""`rag_app.llms.Vllm` in the place of LlamaIndex's own, and its copies."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import llama_index.llms.vllm
import pytest
from llama_index.core import Settings
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import LLM, ChatMessage, MessageRole
from llama_index.core.prompts import PromptTemplate
from llama_index_instrumentation import get_dispatcher

from rag_app.errors import ConfigError, InputError
from rag_app.llms import Vllm, VllmEngine, VllmServer
from tests.llms.conftest import ENGINE, WINDOW

PROMPT = "What is a licence?"


def made(llama: Path, **values: Any) -> Vllm:
    """Make one as LlamaIndex's own is made, on the session's engine."""
    asked = {"temperature": 0.0, "max_new_tokens": 16, "vllm_kwargs": ENGINE, **values}
    return Vllm(str(llama), **asked)


def test_it_is_llama_indexs_own(engine: VllmEngine, llama: Path) -> None:
    assert VllmEngine is Vllm
    assert isinstance(engine, llama_index.llms.vllm.Vllm)
    assert isinstance(engine, LLM)
    llm = made(llama)
    assert llm.complete(PROMPT).text == engine.complete(PROMPT).text
    assert llm.engine is engine.engine, "one configuration is one engine"
    assert (llm.model, llm.max_new_tokens, llm.dtype) == (str(llama), 16, "auto")
    assert llm.predict(PromptTemplate(PROMPT)) == engine.complete(PROMPT).text
    assert llm.metadata.context_window == WINDOW
    assert Vllm.from_dict(llm.to_dict()).complete(PROMPT).text == engine.complete(PROMPT).text


def test_engine_arguments_by_its_names(engine: VllmEngine, llama: Path) -> None:
    rest = {name: value for name, value in ENGINE.items() if name != "dtype"}
    llm = made(llama, dtype=ENGINE["dtype"], vllm_kwargs=rest)
    assert llm.engine is engine.engine
    assert llm.trust_remote_code is False
    assert made(llama)._shared is not llm._shared


@pytest.mark.usefixtures("llama")
@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        ({"temprature": 0.5}, TypeError, "temprature"),
        ({"vllm_kwargs": {"gpu_memory": 1}}, ConfigError, "gpu_memory_utilization"),
        ({"api_url": "http://127.0.0.1:8000"}, ConfigError, "vllm-server"),
        ({"model": ""}, ConfigError, "llm.model is empty"),
    ],
)
def test_wrong_arguments(values: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        Vllm(**{"model": "x", **values})


def test_only_what_is_given_is_sampled_with(engine: VllmEngine, llama: Path) -> None:
    def sampling(**values: Any) -> Any:
        llm = Vllm(str(llama), vllm_kwargs=ENGINE, **values)
        return llm._request([1], {}).sampling

    assert engine.complete(PROMPT).text
    assert (sampling().temperature, sampling().max_tokens) == (1.0, 512)
    given = sampling(temperature=0.3, top_k=5, stop=["x"], logprobs=2, max_new_tokens=7)
    assert (given.temperature, given.top_k, given.stop) == (0.3, 5, ["x"])
    assert (given.logprobs, given.max_tokens) == (2, 7)
    assert sampling(sampling={"min_p": 0.1}).min_p == 0.1
    with pytest.raises(InputError, match="best_of"):
        sampling(best_of=2)
    with pytest.raises(InputError, match="holds one answer"):
        sampling(n=2)


def test_ones_own_prompt_functions_are_used(engine: VllmEngine, llama: Path) -> None:
    def join(messages: Sequence[ChatMessage]) -> str:
        return "".join(f"[INST] {message.content} [/INST]" for message in messages)

    llm = made(
        llama, messages_to_prompt=join, completion_to_prompt=lambda text: f"[INST] {text} [/INST]"
    )
    raw = engine.complete(f"[INST] {PROMPT} [/INST]", formatted=True).text
    assert not llm.metadata.is_chat_model
    assert llm.chat([ChatMessage(role=MessageRole.USER, content=PROMPT)]).message.content == raw
    assert llm.complete(PROMPT).text == llm.predict(PromptTemplate(PROMPT)) == raw
    plain = made(llama, is_chat_model=False)
    assert plain.complete(PROMPT).text == engine.complete(PROMPT, formatted=True).text


def test_copies_have_a_hold_of_their_own(engine: VllmEngine, llama: Path) -> None:
    handler = CallbackManager([TokenCountingHandler(tokenizer=lambda _: [])])
    llm = made(llama, sampling={"stop": ["never"]}, callback_manager=handler)
    for other in (copy.copy(llm), copy.deepcopy(llm), llm.model_copy(deep=True)):
        assert other.callback_manager is handler
        assert other.sampling == llm.sampling
        other.close()
    assert copy.deepcopy(llm).sampling is not llm.sampling
    other = pickle.loads(pickle.dumps(llm))
    assert isinstance(other, Vllm)
    assert other.model_fields_set - {"callback_manager"} < llm.model_fields_set
    assert other.callback_manager.handlers == []
    llm.close()
    assert other.complete(PROMPT).text == engine.complete(PROMPT).text
    assert pickle.loads(pickle.dumps(engine)).complete(PROMPT).text == other.complete(PROMPT).text


@pytest.mark.usefixtures("llama")
def test_a_token_is_not_in_the_pickle() -> None:
    llm = Vllm("org/gated", vllm_kwargs={"hf_token": "hf_hush", "max_model_len": 64})
    assert b"hf_hush" not in pickle.dumps(llm)
    assert pickle.loads(pickle.dumps(llm)).vllm_kwargs == {"max_model_len": 64}


PICKLED = """
import pickle, sys
llm = pickle.load(sys.stdin.buffer)
assert "vllm" not in sys.modules, "nothing is loaded before it is asked"
print("answer:", llm.complete("What is a licence?").text)
"""


def test_a_pickle_opens_again_in_another_process(engine: VllmEngine) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PICKLED],
        input=pickle.dumps(engine),
        capture_output=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    answer = engine.complete("What is a licence?").text
    assert f"answer: {answer}" in done.stdout.decode()


@pytest.fixture
def settings_handler() -> Iterator[TokenCountingHandler]:
    handler = TokenCountingHandler(tokenizer=lambda _: [])
    Settings.callback_manager = CallbackManager([handler])
    yield handler
    Settings._callback_manager = None


def test_global_settings_are_not_read(
    engine: VllmEngine, llama: Path, settings_handler: TokenCountingHandler
) -> None:
    llm = made(llama)
    assert llm.complete(PROMPT).text == engine.complete(PROMPT).text
    assert settings_handler.total_llm_token_count == 0
    assert llm.callback_manager.handlers == []


def test_counting_tokens_makes_no_span(engine: VllmEngine) -> None:
    handler = SimpleSpanHandler()
    root = get_dispatcher()
    root.add_span_handler(handler)
    try:
        engine.count_tokens(PROMPT)
        engine.count_text_tokens(PROMPT)
        engine.prefix_cache()
        engine.forget_prefixes()
        engine.complete(PROMPT)
    finally:
        root.span_handlers.remove(handler)
    assert [span.id_.partition("-")[0] for span in handler.completed_spans] == ["Vllm.complete"]


def test_public_names() -> None:
    import rag_app.llms

    assert {rag_app.llms.Vllm, rag_app.llms.VllmServer} == {Vllm, VllmServer}
    with pytest.raises(AttributeError, match="Vlm"):
        _ = rag_app.llms.Vlm
