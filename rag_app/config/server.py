"""`[server]`: what `rag-app serve` listens on, and what it lets through."""

from ipaddress import ip_address

from pydantic import Field, field_validator

from rag_app.config.base import Section, check_url


class ServerSection(Section):
    """The server: who may ask, and how much at once."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on; any but this machine's own needs a key (rag-app keys add)."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port to listen on; 0: one that is free, which the first line says."""
    allowed_hosts: list[str] = []
    """Names by which browsers may call the server, besides localhost, `host` and addresses: a page
    elsewhere cannot reach it by a name of its own (DNS rebinding)."""
    cors_origins: list[str] = []
    """Pages of other servers that may call this one, e.g. "https://wiki.example.org"; none unless
    named."""
    public_url: str = ""
    """What links to passages begin with, behind a proxy; empty: the address that was called."""
    keys_file: str = Field(default="storage/keys.json", min_length=1)
    """File of the keys' hashes, which `rag-app keys` writes."""
    uploads_folder: str = Field(default="storage/uploads", min_length=1)
    """Folder of the files that clients upload."""
    max_key_files: int = Field(default=1_000, ge=0)
    """Uploads that a key may keep at a time."""
    max_key_mb: float = Field(default=1_000.0, ge=0)
    """Megabytes (10^6 bytes) that the uploads of a key may have together."""
    max_all_files: int = Field(default=10_000, ge=0)
    """Uploads that all keys together may keep."""
    max_all_mb: float = Field(default=10_000.0, ge=0)
    """Megabytes that all uploads may have together."""
    feedback_folder: str = Field(default="storage/feedback", min_length=1)
    """Folder of what people say of answers: questions for `rag-app eval`, a file by collection."""
    reports_folder: str = Field(default="storage/reports", min_length=1)
    """Folder of reports for the page, of `rag-app eval --html` and `index bench --picture`."""
    max_in_flight: int = Field(default=32, ge=1, le=4096)
    """Questions that are worked on at once."""
    max_queue: int = Field(default=64, ge=0, le=65536)
    """Questions that wait for that; the next one is refused (429, with Retry-After)."""
    deadline: float = Field(default=300.0, gt=0)
    """Seconds after which a question is given up, its waiting included."""
    max_body_mb: float = Field(default=2.0, gt=0)
    """Largest request in megabytes (10^6 bytes); uploads: `documents.max_file_size_mb`."""
    max_question: int = Field(default=20_000, ge=1)
    """Longest question in characters."""
    tracing: bool = False
    """Send spans of every request where OpenTelemetry's variables say
    (OTEL_EXPORTER_OTLP_ENDPOINT); needs the extra "otel"."""
    small_talk: bool = True
    """Answer "hi" and "thanks" without looking into the documents."""

    @field_validator("public_url")
    @classmethod
    def _url_is_http(cls, value: str) -> str:
        if value:
            check_url(value, ("http", "https"), "none: this URL is shown to everyone")
        # Paths that begin with a slash are put behind it.
        return value.rstrip("/")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        # A name may lead anywhere, and elsewhere tomorrow: only an address says what it is.
        except ValueError:
            return False
