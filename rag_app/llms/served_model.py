"""What a server says of itself: the models that it serves, and how large their windows are."""

from dataclasses import dataclass
from typing import Any

import httpx

from rag_app.errors import LLMError

_REMEDY = "set llm.base_url to a vLLM server, or another one with OpenAI's endpoints"


@dataclass(frozen=True)
class ServedModel:
    """A model that a server offers.

    Attributes
    ----------
    name
        To ask for it by.
    window
        Tokens of prompt and answer together; None where the server does not say (vLLM does).
    source
        The folder or hub name that the server was started with; empty where it does not say.
    """

    name: str
    window: int | None
    source: str


def find_model(http: httpx.Client, asked: str) -> ServedModel:
    """Find a model by its name; the first one if that is empty.

    Raises
    ------
    LLMError
        If the server does not serve it, or does not answer as one.
    """
    listed = ask(http, "GET", "/v1/models").get("data")
    listed = listed if isinstance(listed, list) else []
    models = {str(each["id"]): each for each in listed if isinstance(each, dict) and "id" in each}
    if not models:
        raise LLMError(
            f"the server at {http.base_url} serves no model", "look into the server's log"
        )
    name = asked or next(iter(models))
    if name not in models:
        raise LLMError(
            f"the server at {http.base_url} does not serve llm.model = {name!r}; it serves "
            + ", ".join(map(repr, models)),
            "set llm.model to one of these, or leave it out for the first",
        )
    window, source = models[name].get("max_model_len"), models[name].get("root")
    return ServedModel(
        name,
        window if isinstance(window, int) and window > 0 else None,
        source if isinstance(source, str) else "",
    )


def ask(http: httpx.Client, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """Ask a server for an object of JSON.

    Raises
    ------
    LLMError
        If it does not answer with one.
    """
    try:
        answer = http.request(method, path, json=body).json()
    except (httpx.HTTPError, ValueError, RecursionError) as error:  # the last: deeply nested JSON
        raise LLMError(
            f"the server at {http.base_url} does not answer {path} as an LLM server: "
            f"{type(error).__name__}: {str(error)[:200]}",
            _REMEDY,
        ) from error
    if not isinstance(answer, dict):
        raise LLMError(
            f"the server at {http.base_url} answers {path} with {str(answer)[:80]!r}", _REMEDY
        )
    return answer
