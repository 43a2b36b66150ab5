"""`[chat]`: how many conversations are remembered, and for how long."""

from pydantic import Field

from rag_app.config.base import Section


class ChatSection(Section):
    """Conversations that go by a name, e.g. those of a web application's users."""

    max_sessions: int = Field(default=1000, ge=1)
    """How many are remembered; of more, the one that was silent the longest is forgotten."""
    max_idle_minutes: float = Field(default=120.0, gt=0)
    """Minutes of silence after which one is forgotten."""
