"""The connections of one LLM to its servers, by the configuration."""

import httpx

from rag_app.config.sections import LLMSection
from rag_app.llms.replicas import BYTES_PER_TOKEN, CONNECT_SECONDS, MOST_BYTES, Replicas
from rag_app.llms.transport import ReplicaTransport


class ServerConnection:
    """Connections to the configured servers; nothing is sent yet.

    Attributes
    ----------
    section
        The configuration.
    replicas
        Which servers there are, and which of them answer.
    transport
        Sends requests to them.
    http
        A client on it.
    key
        The API key; empty: none.
    """

    def __init__(self, section: LLMSection) -> None:
        self.section = section
        self.key = section.api_key.get_secret_value().strip()  # of a file's last line end
        self.replicas = Replicas(
            [section.base_url, *section.replicas],
            section.retries,
            bool(self.key),
            deadline=section.deadline,
            most_bytes=MOST_BYTES + BYTES_PER_TOKEN * section.max_tokens,
        )
        self.transport = ReplicaTransport(self.replicas)
        self.http = httpx.Client(
            transport=self.transport,
            base_url=self.replicas.roots[0],
            headers={"Authorization": f"Bearer {self.key}"} if self.key else {},
            timeout=timeouts(section.timeout),
            trust_env=False,
        )


def timeouts(seconds: float) -> httpx.Timeout:
    """Return how long to wait for an answer, and to connect."""
    return httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))
