"""Which configuration file is read, and what the relative paths in it mean."""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from rag_app.config.sections import Config
from rag_app.errors import ConfigError

ENV_PREFIX = "RAG_APP_"
CONFIG_NAME = "config.toml"

_PACKAGE = Path(__file__).parent.parent
_PLACES = {
    "vector_store": ("uri",),
    "documents": ("web_folder",),
    "embedding": ("compiled_folder",),
    "server": ("keys_file", "uploads_folder", "feedback_folder", "reports_folder"),
}
"""Where something is stored, by default as well."""
_STORED = {f"{section}.{name}" for section, names in _PLACES.items() for name in names}
_MODEL_KEYS = {
    "embedding.model",
    "llm.model",
    "retrieval.reranker.model",
    "vector_store.embedded_by",
}


@dataclass(frozen=True)
class ConfigFile:
    """A configuration file.

    Attributes
    ----------
    base
        The folder that its relative paths are seen from: its own; of the package's file it is the
        one for the user's data, e.g. ``~/.local/share/rag_app``.
    is_packaged
        Whether it is the one that comes with rag_app, for want of one of the user's.
    """

    path: Path
    base: Path
    is_packaged: bool = False


def shipped_config() -> Path:
    """Return the ``config.toml`` that comes with the package.

    In the wheel it lies beside this module, in a checkout one folder up.
    """
    inside = _PACKAGE / CONFIG_NAME
    return inside if inside.is_file() else _PACKAGE.parent / CONFIG_NAME


def find_config(path: str | Path | None = None) -> ConfigFile:
    """Return the file that `load_config` reads.

    Raises
    ------
    ConfigError
        If a file was asked for and is not there.
    """
    asked, by = path, "--config"
    if asked is None and (asked := os.environ.get(f"{ENV_PREFIX}CONFIG")):
        by = f"{ENV_PREFIX}CONFIG"
    if asked is None:
        found = _look_upwards(Path.cwd()) or _data_folder() / CONFIG_NAME
        return ConfigFile(found, found.parent) if _is_file(found) else _packaged()
    found = Path(os.path.expanduser(asked)).resolve()  # noqa: PTH111 - leaves an unknown "~name"
    if not found.is_file():
        raise ConfigError(
            f"there is no configuration file {str(asked)!r} (asked for by {by})",
            f"name one that exists, or copy the shipped one: cp {shipped_config()} {asked}",
        )
    # Named by its path the package's file is the same: nothing is to be stored beside it.
    return _packaged() if found.parent == _PACKAGE else ConfigFile(found, found.parent)


def _data_folder() -> Path:
    return user_data_path("rag_app", appauthor=False)


def _packaged() -> ConfigFile:
    return ConfigFile(shipped_config(), _data_folder(), is_packaged=True)


def _look_upwards(folder: Path) -> Path | None:
    """Return the nearest ``config.toml``, in this folder or above.

    Other programs call theirs so too: above, one with none of our sections is passed over.

    Raises
    ------
    ConfigError
        If one above belongs to another user, who could have code run with it.
    """
    for above in (folder, *folder.parents):
        file = above / CONFIG_NAME
        if not _is_file(file):
            continue
        if above == folder:
            return file
        if not _may_be_ours(file):
            continue
        owner = file.stat().st_uid
        if owner not in {os.getuid(), 0}:
            raise ConfigError(
                f"the configuration file {file} belongs to another user (number {owner})",
                f"if you trust it, name it: --config {file}",
            )
        return file
    return None


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path's own raises for a folder that is closed


def _may_be_ours(file: Path) -> bool:
    """Whether it is empty, has a section of ours, or cannot be told."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError:
        return False
    # Not passed over: when it is read, what is wrong with it is told.
    except ValueError:
        return True
    return not table or bool({*Config.model_fields, "profiles"} & set(table))


def resolve(key: str, value: Any, base: Path, origin: str) -> Any:
    """Make a relative path absolute: seen from the file's folder, or from here if typed here.

    Raises
    ------
    ConfigError
        If it begins with the home folder of a user who does not exist.
    """
    if not isinstance(value, str) or not value:
        return value
    is_path = (
        (key in _STORED and "://" not in value)
        or key == "prompt.template"
        # A hub's name has a slash in it, too: only such a beginning makes a path of it.
        or (key in _MODEL_KEYS and value.startswith((".", "~", "/")))
    )
    if not is_path:
        return value
    try:
        return str(base / Path(value).expanduser())
    except RuntimeError:
        raise ConfigError(
            f"{origin}: {key} = {value!r} begins with the home folder of a user who is not here",
            "write the path in full, or ~/ for your own",
        ) from None


def put_default_paths(merged: dict[str, Any], base: Path) -> None:
    """Let what is stored by default lie beside the configuration file, as a written path would."""
    for section, names in _PLACES.items():
        for name in names:
            if name not in merged.setdefault(section, {}):
                default = getattr(Config.model_fields[section].default, name)
                merged[section][name] = str(base / default)
