"""Programs that people have: LlamaIndex's OpenAILike and LangChain's ChatOpenAI."""

from typing import Any

from langchain_openai import ChatOpenAI
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

from tests.server.conftest import Running

HNSW = "What do the parameters M and efConstruction of HNSW mean?"


def test_llama_indexs_openai_like(running: Running) -> None:
    llm = OpenAILike(
        model="rag_app", api_base=f"{running.url}/v1", api_key="none", is_chat_model=True
    )
    message = [ChatMessage(content=HNSW)]
    whole = llm.chat(message).message.content or ""
    assert "maximum degree" in whole
    *_, last = llm.stream_chat(message)
    assert last.message.content == whole
    llm._get_client().close()


async def test_llama_indexs_openai_like_asynchronously(running: Running) -> None:
    llm = OpenAILike(
        model="rag_app", api_base=f"{running.url}/v1", api_key="none", is_chat_model=True
    )
    message = [ChatMessage(content=HNSW)]
    whole = (await llm.achat(message)).message.content or ""
    pieces = [piece.delta or "" async for piece in await llm.astream_chat(message)]
    assert "".join(pieces) == whole
    await llm._get_aclient().close()


def test_langchains_chat_openai(running: Running) -> None:
    chat: Any = ChatOpenAI(model="rag_app", base_url=f"{running.url}/v1", api_key="none")
    whole = chat.invoke(HNSW).content
    assert "maximum degree" in whole
    assert "".join(piece.content for piece in chat.stream(HNSW)) == whole
    chat.root_client.close()
