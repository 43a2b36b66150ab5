"""OpenAI's sampling parameters → those of ``[llm]``. What is not named here is refused by name."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Sampling(BaseModel):
    """The parameters that a model here heeds; an answer is always one (``n = 1``)."""

    model_config = ConfigDict(extra="forbid")

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)

    def overrides(self) -> dict[str, Any]:
        """Return what is given, by the names of ``[llm]``."""
        asked = {name: getattr(self, name) for name in Sampling.model_fields}
        if isinstance(self.stop, str):
            asked["stop"] = [self.stop]
        return {name: value for name, value in asked.items() if value is not None}
