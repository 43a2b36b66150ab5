"""``/v1/responses`` with the real openai client."""

from typing import Any

import openai
import pytest

from tests.server.conftest import Running
from tests.test_app import EchoLLM

HNSW = "What do the parameters M and efConstruction of HNSW mean?"


def test_response_has_the_search_and_cites_files(running: Running) -> None:
    client = running.openai()
    response = client.responses.create(
        model="rag_app", input=HNSW, include=["file_search_call.results"]
    )
    search, message = response.output
    assert search.type == "file_search_call"
    assert search.queries == [HNSW]
    assert search.results
    assert "maximum degree" in response.output_text
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "output_text"
    citation = part.annotations[0]
    assert citation.type == "file_citation"
    assert response.output_text[citation.index] == "["
    assert citation.filename == "index.md"
    (first, *_) = client.vector_stores.search("rag_app", query=HNSW)
    assert citation.file_id == first.file_id


def test_stream_ends_in_the_same_response(running: Running) -> None:
    client = running.openai()
    whole = client.responses.create(model="rag_app", input=HNSW)
    with client.responses.stream(model="rag_app", input=HNSW) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert final.output_text == whole.output_text
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert "response.file_search_call.searching" in kinds
    assert "response.output_text.annotation.added" in kinds
    numbers = [event.sequence_number for event in events if hasattr(event, "sequence_number")]
    assert numbers == list(range(len(numbers)))


def test_conversation_and_instructions_reach_the_model(echoing: Running, llm: EchoLLM) -> None:
    llm.script.append("What does ef of HNSW mean?")
    echoing.openai().responses.create(
        model="rag_app",
        instructions="Answer like a pirate.",
        input=[
            {"role": "user", "content": HNSW},
            {"role": "assistant", "content": "The maximum degree [1]."},
            {"role": "user", "content": [{"type": "input_text", "text": "And ef?"}]},
        ],
        temperature=0.1,
        max_output_tokens=9,
    )
    condensed, prompt = llm.prompts
    assert "And ef?" in condensed
    assert prompt.startswith("Answer like a pirate.\n\n")
    assert "Question: What does ef of HNSW mean?" in prompt


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["other"]}]}, "tools"),
        ({"reasoning": {"effort": "low"}}, "reasoning"),
        ({"model": "other"}, "model"),
        ({"input": [{"role": "assistant", "content": "x"}]}, "input"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    running: Running, fields: dict[str, Any], param: str
) -> None:
    asked: dict[str, Any] = {"model": "rag_app", "input": HNSW, **fields}
    with pytest.raises(openai.APIStatusError) as raised:
        running.openai().responses.create(**asked)
    error: Any = raised.value.body
    assert param in error["param"]
    assert raised.value.status_code in {400, 404}
