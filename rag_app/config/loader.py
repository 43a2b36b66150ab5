"""Where the configuration's values come from: layers of command line, environment, profile, file.

Each layer is a flat mapping of dotted keys ("llm.temperature") to values; a later layer overrides
an earlier one key by key, and the name of the layer that won is kept for `rag-app config show` and
for error messages.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError

from rag_app.config.index_types import INDEX_TYPES
from rag_app.config.paths import (
    ENV_PREFIX,
    ConfigFile,
    find_config,
    put_default_paths,
    resolve,
    shipped_config,
)
from rag_app.config.sections import Config
from rag_app.errors import ConfigError, shortened

COMMAND_LINE = "command line"
"""Where a value came from that was given with this very call."""

MASK = "********"
"""In place of a secret, wherever one would be printed."""

_SECRET_NAME = re.compile(r"(^|_)(token|key|secret|password)$", re.IGNORECASE)


@dataclass(frozen=True)
class _Layer:
    """Values from one place: `name` for messages, `base` for the relative paths among them."""

    name: str
    values: Mapping[str, Any]
    base: Path
    are_text: bool = False


def load(path: str | Path | None, profile: str | None, overrides: Mapping[str, Any]) -> Config:
    """Load and merge the configuration; `rag_app.load.load_config` also checks combinations."""
    file = find_config(path)
    return _load(_read_toml(file.path), file, profile, overrides)


def load_text(text: str, file: Path, profile: str | None) -> Config:
    """Load what a configuration file would say if it held this text."""
    return _load(_parse_toml(text, file), ConfigFile(file, file.parent), profile, {})


def _load(
    table: dict[str, Any],
    file: ConfigFile,
    profile: str | None,
    overrides: Mapping[str, Any],
) -> Config:
    name, chosen_by = _choose_profile(profile, table, file.path)
    layers = [_Layer(file.path.name, dict(_flatten(table)), file.base)]
    if name:
        layers.append(_profile_layer(name, table, file.path, file.base))
    environment, typed = dict(_environment()), dict(overrides)
    # Variables are in capitals alone, and which parameter one means depends on the type that wins:
    # it is looked for before anything is merged.
    type_ = Config().index.type
    for values in [layer.values for layer in layers] + [environment, typed]:
        type_ = values.get("index.type", type_)
    environment = {_spelled(key, type_): value for key, value in environment.items()}
    layers.append(_Layer("environment", environment, Path.cwd(), are_text=True))
    layers.append(_Layer(COMMAND_LINE, typed, Path.cwd(), are_text=True))
    config = _merge(layers, name, file.path)
    config._origins["profile"] = chosen_by
    return config


def override(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return a configuration with other values of some dotted keys."""
    values = dict(_flatten(config.model_dump(exclude={"profile"})))
    file, here = Path("config.toml"), Path.cwd()  # every value is there: neither is looked at
    before = _Layer(file.name, values, here)
    changed = _merge([before, _Layer("override", changes, here)], config.profile, file)
    changed._origins.update({**config._origins, **dict.fromkeys(changes, "override")})
    return changed


def parse_assignment(text: str) -> tuple[str, str]:
    """Split "section.key=value", as ``--set`` takes it.

    Raises
    ------
    ConfigError
        If there is no "=" or no section.
    """
    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        raise ConfigError(
            f"--set {text!r} is not of the form section.key=value",
            "write for example --set retrieval.similarity_top_k=3",
        )
    return key.strip(), value.strip()


def config_rows(config: Config) -> list[dict[str, Any]]:
    """List every key with its value (secrets masked), where it came from, and what it means."""
    return list(_rows(config, config, ""))


def _rows(config: Config, section: BaseModel, prefix: str) -> Iterator[dict[str, Any]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        key = f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from _rows(config, value, f"{key}.")
            continue
        if isinstance(value, SecretStr):
            value = MASK if value.get_secret_value() else ""
        value = without_secrets(value)
        help_text = " ".join((field.description or "").split())
        yield {"key": key, "value": value, "origin": config.origin(key), "help": help_text}


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} cannot be read: {error}", "make it a readable UTF-8 file"
        ) from None
    return _parse_toml(text, file)


def _parse_toml(text: str, file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{file} is not valid TOML: {error}", "mend that line; text values need quotes"
        ) from None
    except ValueError as error:  # Python reads no whole number of more than 4,300 digits
        raise ConfigError(f"{file} cannot be read: {error}", "write a shorter number") from None


def _choose_profile(asked: str | None, table: dict[str, Any], file: Path) -> tuple[str, str]:
    """Return the profile that is on, empty for none, and what said so."""
    for value, by in (
        (asked, "--profile"),
        (os.environ.get(f"{ENV_PREFIX}PROFILE"), f"{ENV_PREFIX}PROFILE"),
        (table.get("profile"), file.name),
    ):
        if not value:
            continue
        known = _profiles(table, file)
        if not isinstance(value, str) or value not in known:
            raise ConfigError(
                f"there is no profile {value!r} (asked for by {by})",
                f"use one of {', '.join(sorted(known))}{_nearest(str(value), known)}",
            )
        return value, by
    return "", "default"


def _profiles(table: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return the shipped profiles with the file's own over them, each one whole."""
    shipped = {} if file == shipped_config() else _read_toml(shipped_config()).get("profiles", {})
    own = table.get("profiles", {})
    if not isinstance(own, dict) or not all(isinstance(value, dict) for value in own.values()):
        raise ConfigError(
            f"{file}: profiles is {own!r}, not tables", "write [profiles.NAME.section]"
        )
    return {**shipped, **own}


def _profile_layer(name: str, table: dict[str, Any], file: Path, base: Path) -> _Layer:
    values = dict(_flatten(_profiles(table, file)[name]))
    where = file.name if name in table.get("profiles", {}) else "shipped"
    return _Layer(f"profile {name} ({where})", values, base)


def _flatten(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield dotted keys down to the fields of sections; what lies in a field stays whole."""
    for section, content in table.items():
        if section in {"profile", "profiles"}:
            continue
        if not isinstance(content, dict) or section not in Config.model_fields:
            yield section, content
            continue
        yield from _flatten_section(Config.model_fields[section].annotation, content, section)


def _flatten_section(
    section: Any, content: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        field = section.model_fields.get(key)
        if field is not None and _is_section(field.annotation) and isinstance(value, dict):
            yield from _flatten_section(field.annotation, value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}", value


def _environment() -> Iterator[tuple[str, str]]:
    """Yield the keys set by RAG_APP_SECTION__KEY variables."""
    sections = [name for name in Config.model_fields if name != "profile"]
    for variable, value in os.environ.items():
        if not variable.startswith(ENV_PREFIX) or variable in {
            f"{ENV_PREFIX}CONFIG",
            f"{ENV_PREFIX}PROFILE",
        }:
            continue
        key = variable.removeprefix(ENV_PREFIX).lower()
        if "__" in key:
            yield key.replace("__", "."), value
        elif section := next((name for name in sections if key.startswith(f"{name}_")), None):
            fixed = f"{ENV_PREFIX}{section.upper()}__{key.removeprefix(f'{section}_').upper()}"
            raise ConfigError(
                f"environment variable {variable} sets nothing",
                f"write two underscores between section and key: {fixed}",
            )


def _spelled(key: str, type_: object) -> str:
    """Give an index parameter its capitals back: for HNSW, index.params.m is M."""
    table, _, name = key.rpartition(".")
    kind = INDEX_TYPES.get(str(type_))
    if kind is None or table not in {"index.params", "index.search_params"}:
        return key
    known = kind.params if table == "index.params" else kind.search_params
    return next((f"{table}.{each.name}" for each in known if each.name.lower() == name), key)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _field_annotation(key: str, origin: str) -> Any:
    """Return the type of a dotted key, or raise for one that does not exist."""
    model: Any = Config
    parts = key.split(".")
    for depth, part in enumerate(parts):
        fields = [name for name in model.model_fields if name != "profile"]
        if part not in fields:
            where = f"in [{'.'.join(parts[:depth])}]" if depth else "among the sections"
            raise ConfigError(
                f"{origin}: unknown key {key!r}",
                f"known {where}: {', '.join(fields)}{_nearest(part, fields)}",
            )
        annotation = model.model_fields[part].annotation
        if _is_section(annotation):
            model = annotation
            continue
        if depth + 1 < len(parts):  # a key inside a free table, e.g. llm.engine.seed
            if dict in (annotation, get_origin(annotation)):
                return Any
            raise ConfigError(
                f"{origin}: unknown key {key!r}", f"{'.'.join(parts[: depth + 1])} has no keys"
            )
        return annotation
    raise ConfigError(
        f"{origin}: {key!r} is a section and not a value",
        f"set one of its keys: {', '.join(f'{key}.{name}' for name in model.model_fields)}",
    )


def _nearest(word: str, known: Any) -> str:
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else ""


def _from_text(value: str, annotation: Any) -> Any:
    """Read text as TOML where the key is not itself a text; leave what is no TOML to validation."""
    kind = get_origin(annotation)
    # A text may look like a number, a date or a list, and is to stay a text.
    is_union_with_text = kind in {Union, UnionType} and str in get_args(annotation)
    if annotation in {str, SecretStr} or kind is Literal or is_union_with_text:
        return value
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except ValueError:  # no TOML, or a number of thousands of digits
        return value


def _merge(layers: list[_Layer], profile: str, file: Path) -> Config:
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for key, raw in layer.values.items():
            origin = f"{layer.name} {_variable(key)}" if layer.name == "environment" else layer.name
            annotation = _field_annotation(key, origin)
            value = _from_text(raw, annotation) if layer.are_text and isinstance(raw, str) else raw
            value = resolve(key, value, layer.base, origin)
            if annotation is SecretStr and isinstance(value, str):
                # From here on no message can show it.
                value = SecretStr(value)
            field = _put(merged, key, value)
            origins[field] = origins[key] = origin
    put_default_paths(merged, layers[0].base)
    try:
        config = Config.model_validate({**merged, "profile": profile})
    except ValidationError as error:
        # pydantic's own message shows the values, a secret among them.
        raise _as_config_error(error, origins, file) from None
    config._origins.update(origins)
    return config


def _variable(key: str) -> str:
    return ENV_PREFIX + key.upper().replace(".", "__")


def _put(merged: dict[str, Any], key: str, value: Any) -> str:
    """Set a dotted key in nested tables; return the dotted key of the field it belongs to."""
    *tables, last = key.split(".")
    table = merged
    model: Any = Config
    field = []
    for part in tables:
        table = table.setdefault(part, {})
        if model is not None:
            field.append(part)
            annotation = model.model_fields[part].annotation
            model = annotation if _is_section(annotation) else None
    table[last] = dict(value) if isinstance(value, dict) else value
    return ".".join([*field, last] if model is not None else field)


def without_secrets(value: Any) -> Any:
    """Mask what a free table, such as ``llm.engine``, holds under the name of a secret.

    A text that is a table or a list of JSON is looked into as well.
    """
    if isinstance(value, list):
        return [without_secrets(each) for each in value]
    if isinstance(value, str) and value.lstrip()[:1] in {"{", "["}:
        try:
            within = json.loads(value)
        except (ValueError, RecursionError):
            return value
        masked = without_secrets(within)
        return value if masked == within else json.dumps(masked)
    if not isinstance(value, dict):
        return value
    return {
        name: MASK if _SECRET_NAME.search(str(name)) and within else without_secrets(within)
        for name, within in value.items()
    }


def _mask(value: Any) -> str:
    """Show a value without a URL's password or a table's secret, and not all of a long one."""
    value = without_secrets(value)
    return shortened(re.sub(r"//[^/@\s]*@", f"//{MASK}@", repr(value)))


def _as_config_error(error: ValidationError, origins: Mapping[str, str], file: Path) -> ConfigError:
    """Turn pydantic's first complaint into one that names file, key, value and remedy."""
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"]]
    key = ".".join(parts)
    origin = next(
        (origins[k] for k in (key, ".".join(parts[:2]), ".".join(parts[:3])) if k in origins),
        file.name,
    )
    value = first["input"]
    # A table that could not be read is a text, with whatever secret the table was to hold.
    is_secret = isinstance(value, SecretStr) or first["type"] == "dict_type"
    shown = MASK if is_secret or parts[-1] in {"token", "api_key"} else _mask(value)
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        reason = "there is no such key"
    return ConfigError(
        f"{origin}: {key} = {shown} is wrong: {reason}",
        f"see what {key} takes: rag-app config show -v",
    )
