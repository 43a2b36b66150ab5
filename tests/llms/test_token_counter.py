"""Prompts are counted here, with the served model's tokenizer, as the server counts them."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from rag_app.llms import token_counter
from rag_app.llms.vllm_server import VllmServer

from .conftest import Server, connect

TEXTS = [
    "",
    "What is a licence?",
    " \n leading and trailing \t\n",
    "第3章 👩‍🚀 naïve",
    "<s>[INST] x </s>",
]


@contextmanager
def asked_of(llm: VllmServer) -> Iterator[list[str]]:
    asked: list[str] = []
    request = llm._connection.http.request

    def noting(method: str, path: str, **rest: object) -> object:
        asked.append(path)
        return request(method, path, **rest)  # type: ignore[arg-type]

    with patch.object(llm._connection.http, "request", noting):
        yield asked


@pytest.mark.parametrize("endpoint", ["chat", "completion"])
def test_counted_here_as_the_server_counts(
    vllm_server: Server, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = connect(vllm_server, endpoint=endpoint)
    assert here.how_it_counts == "counted here"
    monkeypatch.setattr(token_counter, "_load", lambda _source: None)
    there = connect(vllm_server, endpoint=endpoint)
    assert there.how_it_counts == "counted by the server"
    with asked_of(here) as nothing, asked_of(there) as asked:
        for text in TEXTS * 2:
            assert here.count_tokens(text) == there.count_tokens(text)
            assert here.count_text_tokens(text) == there.count_text_tokens(text)
    assert not nothing
    assert len(asked) == 2 * len(TEXTS), "each text once"


def test_another_models_tokenizer_is_not_used(
    vllm_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    other = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    monkeypatch.setattr(token_counter, "_load", lambda _source: other)
    assert connect(vllm_server).how_it_counts == "counted by the server"
