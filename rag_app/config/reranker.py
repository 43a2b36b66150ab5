"""`[retrieval.reranker]`: what orders the hits anew."""

from pydantic import Field, SecretStr, field_validator

from rag_app.config.base import Section, check_url


class RerankerSection(Section):
    """A cross-encoder that reads question and context together, and orders the hits anew."""

    model: str = ""
    """A hub name ("BAAI/bge-reranker-base"), a folder, or "package:NAME"; with a server the served
    name, which may be left out. Empty without a server: no reranker."""
    base_url: str = ""
    """A vLLM server that runs the model ("http://127.0.0.1:8001/v1"); empty: in this process."""
    api_key: SecretStr = SecretStr("")
    """The server's key, if it asks for one. Never printed."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds that the server may take for one request."""

    @field_validator("base_url")
    @classmethod
    def _url_is_http(cls, value: str) -> str:
        if value:
            check_url(value, ("http", "https"), "RAG_APP_RETRIEVAL__RERANKER__API_KEY")
        return value

    @property
    def is_on(self) -> bool:
        """Whether there is one."""
        return bool(self.model or self.base_url)
