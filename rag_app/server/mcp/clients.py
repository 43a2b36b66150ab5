"""The programs that start ``rag-app mcp``: where each keeps its servers, and the entry for it."""

import difflib
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_app.errors import InputError
from rag_app.schema import Record
from rag_app.server.mcp.jsonc import with_entry


@dataclass(frozen=True)
class Client:
    """A program.

    Attributes
    ----------
    section
        Of its file: the object of all servers, by name.
    extra
        What its entries have besides command and arguments.
    """

    title: str
    section: str
    extra: Mapping[str, str]

    def entry(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Return the entry that starts rag-app with these arguments."""
        # Not the command's name: programs with windows have another PATH than shells.
        return {**self.extra, "command": sys.executable, "args": ["-m", "rag_app", *arguments]}


CLIENTS = {
    "claude": Client("Claude Desktop", "mcpServers", {}),
    "cursor": Client("Cursor", "mcpServers", {}),
    "vscode": Client("VS Code", "servers", {"type": "stdio"}),
}


@dataclass(frozen=True)
class Change(Record):
    """What putting an entry into a program's file comes to.

    Attributes
    ----------
    old, new
        The file's text; `old` is empty if there is no file.
    """

    client: str
    file: str
    entry: dict[str, Any]
    old: str
    new: str

    @property
    def diff(self) -> str:
        """The change as lines of a unified diff; empty: there is none."""
        lines = difflib.unified_diff(
            self.old.splitlines(), self.new.splitlines(), self.file, self.file, lineterm=""
        )
        return "\n".join(lines)

    def write(self) -> str:
        """Write the file, and return the path of the copy of what was there; empty: nothing was.

        Raises
        ------
        InputError
            If it cannot be written, or was changed meanwhile.
        """
        file = Path(self.file)
        try:
            if _read(file) != self.old:
                raise InputError(f"{file} was changed meanwhile", "look at the change again")
            file.parent.mkdir(parents=True, exist_ok=True)
            copy = _keep_copy(file) if file.exists() else ""
            _replace(file, self.new)
        except OSError as error:
            raise InputError(
                f"{file} cannot be written: {error.strerror}", "make it and its folder writable"
            ) from None
        return copy


def plan_change(client: str, name: str, arguments: Sequence[str]) -> Change:
    """Say what the program's file would become.

    Raises
    ------
    InputError
        If the file cannot be read, or is no JSON that could be changed safely.
    """
    chosen = CLIENTS[client]
    file = config_file(client)
    # A link to where people keep such files stays one.
    file = file.resolve() if file.is_symlink() else file
    entry = chosen.entry(arguments)
    try:
        old = _read(file)
        new = with_entry(old, chosen.section, name, entry)
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}"
        raise InputError(message, "make it readable") from None
    except ValueError as error:
        raise InputError(
            f"{file} is not changed: {error}",
            f"mend it, or put in by hand what this prints: rag-app mcp install {client} --print",
        ) from None
    return Change(client, str(file), entry, old, new)


def config_file(client: str) -> Path:
    """Return where a program keeps its servers, for this user on this system."""
    if client == "cursor":
        return Path.home() / ".cursor" / "mcp.json"
    if client == "claude":
        return _application_data() / "Claude" / "claude_desktop_config.json"
    return _application_data() / "Code" / "User" / "mcp.json"


def _application_data() -> Path:
    """Return the folder in which programs of Electron keep their settings."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _read(file: Path) -> str:
    # As bytes: line ends are to stay as they are.
    return file.read_bytes().decode("utf-8") if file.exists() else ""


def _keep_copy(file: Path) -> str:
    copy = file.with_name(f"{file.name}.{time.strftime('%Y%m%d-%H%M%S')}.bak")
    number = 1
    while copy.exists():
        number += 1
        copy = copy.with_name(f"{file.name}.{time.strftime('%Y%m%d-%H%M%S')}-{number}.bak")
    # Such files hold keys of other servers: the copy is to be as private as the file.
    descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.stat().st_mode & 0o777)
    with os.fdopen(descriptor, "wb") as out:
        out.write(file.read_bytes())
    return str(copy)


def _replace(file: Path, text: str) -> None:
    """Write a file so that a killed process leaves the old one or the new one."""
    number, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(number, "wb") as out:
            out.write(text.encode("utf-8"))
            out.flush()
            os.fsync(out.fileno())
        if file.exists():
            Path(name).chmod(file.stat().st_mode)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
