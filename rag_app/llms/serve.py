"""The command that serves the configured model to others, OpenAI-compatible."""

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from rag_app.config.loader import MASK, without_secrets
from rag_app.config.sections import LLMSection
from rag_app.errors import ConfigError
from rag_app.llms.engine_start import engine_arguments

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8000


@dataclass(frozen=True)
class ServerCommand:
    """What to run.

    Attributes
    ----------
    arguments
        The program and its arguments.
    environment
        Secrets, beside the variables that are set: other users' process lists do not show them.
    shown
        The arguments as they may be printed: what secrets are left in them is masked.
    """

    arguments: tuple[str, ...] = field(repr=False)
    environment: dict[str, str] = field(repr=False)
    shown: tuple[str, ...]

    def __str__(self) -> str:
        """Return the line to type into a shell, secrets masked."""
        return " ".join([*(f"{name}={MASK}" for name in self.environment), shlex.join(self.shown)])

    def run(self) -> None:
        """Become the server: this process is replaced, so that signals reach it and none is left.

        Does not return.
        """
        # What is still in Python's buffers would go with the process.
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, self.arguments, {**os.environ, **self.environment})  # noqa: S606


def server_command(
    section: LLMSection, host: str = LOOPBACK, port: int | None = None
) -> ServerCommand:
    """Make the command of ``llm.model``, ``llm.engine`` and ``llm.api_key``.

    Parameters
    ----------
    host
        Where to listen. Anywhere else than on this machine, others reach it.
    port
        None: the one of ``llm.base_url``.

    Raises
    ------
    ConfigError
        If ``llm.model`` is empty, or ``llm.engine`` has a key that vLLM does not know.
    LLMError
        If vLLM is not installed.
    """
    model = engine_arguments(section.model, section.engine)["model"]
    asked: dict[str, Any] = {"trust_remote_code": False}
    if section.tool_parser:
        asked |= {"enable_auto_tool_choice": True, "tool_call_parser": section.tool_parser}
    asked |= section.engine
    environment = {}
    if key := section.api_key.get_secret_value():
        environment["VLLM_API_KEY"] = key
    if isinstance(asked.get("hf_token"), str):  # True stands for the one that is logged in
        environment["HF_TOKEN"] = asked.pop("hf_token")
    fixed = (
        sys.executable,
        "-m",
        # "vllm serve" asks for the distribution "vllm", which the CPU build does not go by.
        "vllm.entrypoints.openai.api_server",
        *("--model", model, "--host", host),
        *("--port", str(port or urlsplit(section.base_url).port or DEFAULT_PORT)),
    )
    return ServerCommand(
        (*fixed, *_flags(asked)), environment, (*fixed, *_flags(without_secrets(asked)))
    )


def _flags(asked: Mapping[str, Any]) -> Iterator[str]:
    for name, value in asked.items():
        yield from _flag(name, value)


def _flag(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, dict):
        return [f"--{flag}", json.dumps(value)]
    if isinstance(value, list):
        return [f"--{flag}", *map(str, value)]
    if isinstance(value, str | int | float):
        return [f"--{flag}", str(value)]
    raise ConfigError(
        f"llm.engine.{name} is {value!r}, which is no value for a server's flag",
        "give it a text, a number, true or false, a list or a table",
    )
