"""A configuration on its way to another process: secrets of the environment stay behind."""

import os
from collections.abc import Sequence
from functools import reduce
from typing import Any, TypeVar

from pydantic import SecretStr

from rag_app.config.base import Section
from rag_app.config.sections import Config
from rag_app.errors import ConfigError

_ENVIRONMENT = "environment "
"""What the origin of a value begins with that an environment variable gave, before its name."""

S = TypeVar("S", bound=Section)


def without_secrets(config: Config) -> Config:
    """Return the configuration without the secrets that came from environment variables."""
    for key, _ in _secrets(config):
        config = _with(config, key.split("."), SecretStr(""))
    return config


def with_secrets(config: Config) -> Config:
    """Return a configuration of `without_secrets` with the secrets of this process's environment.

    Raises
    ------
    ConfigError
        If a variable is not set here.
    """
    for key, variable in _secrets(config):
        value = os.environ.get(variable)
        if value is None:
            raise ConfigError(
                f"{key} came from the environment variable {variable}, which is not set in this "
                "process",
                f"set {variable} here as well",
            )
        config = _with(config, key.split("."), SecretStr(value))
    return config


def _secrets(config: Config) -> list[tuple[str, str]]:
    """Return the keys of secrets that came from the environment, and their variables."""
    return [
        (key, origin.removeprefix(_ENVIRONMENT))
        for key, origin in config.origins.items()
        if origin.startswith(_ENVIRONMENT)
        and isinstance(reduce(_part, key.split("."), config), SecretStr)
    ]


def _part(section: Any, name: str) -> Any:
    return section.get(name) if isinstance(section, dict) else getattr(section, name, None)


def _with(section: S, path: Sequence[str], value: SecretStr) -> S:
    name, *rest = path
    return section.model_copy(
        update={name: _with(getattr(section, name), rest, value) if rest else value}
    )
