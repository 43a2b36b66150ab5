"""A Milvus Lite database copied as it is at one moment, whoever has it open; and back."""

import shutil
from pathlib import Path

from rag_app.config.sections import VectorStoreSection
from rag_app.errors import InputError, VectorStoreError
from rag_app.milvus.lite import open_database
from rag_app.milvus.lite_check import find_database_faults, find_faults
from rag_app.milvus.lite_shared import share

_PATIENCE = 3600.0
"""Seconds for a large database to be copied."""


def back_up(section: VectorStoreSection, folder: Path) -> list[str]:
    """Copy the database into a folder that is not there yet; return the collections in it.

    Searches go on meanwhile, and writes wait.

    Raises
    ------
    InputError
        If it is a server's, or not there, or the folder is there already.
    VectorStoreError
        If it cannot be copied, or the copy is damaged.
    """
    _check_is_file(section)
    if not Path(section.uri).is_dir():
        raise InputError(
            f"there is no database {section.uri} yet",
            "ingest something first: rag-app ingest docs/",
        )
    if folder.exists():
        raise InputError(f"{folder} is there already", "name a folder that is not there yet")
    from rag_app.milvus.lite_server import BACK_UP

    open_database(Path(section.uri), section.lock_timeout)
    unfinished = folder.absolute().with_name(f"{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    share(Path(section.uri)).ask(BACK_UP, {"folder": str(unfinished)}, _PATIENCE)
    names = _checked(unfinished)
    unfinished.replace(folder)
    return names


def restore(section: VectorStoreSection, folder: Path) -> list[str]:
    """Copy a backup to where the database is to be; return the collections in it.

    Raises
    ------
    InputError
        If the database is a server's, or there already, or the folder holds no backup.
    VectorStoreError
        If the backup is damaged.
    """
    _check_is_file(section)
    database = Path(section.uri)
    if database.exists() and any(database.iterdir()):
        raise InputError(
            f"there is a database {section.uri} already, and a restore replaces nothing",
            f"end who uses it and move it away: mv {section.uri} {section.uri}.before",
        )
    if not (folder / "collections").is_dir():
        raise InputError(f"{folder} holds no backup", "rag-app backup DIR writes one")
    names = _checked(folder)
    unfinished = database.absolute().with_name(f"{database.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(folder, unfinished)
    if database.exists():
        database.rmdir()
    unfinished.replace(database)
    return names


def _checked(database: Path) -> list[str]:
    folders = sorted(path for path in (database / "collections").glob("*") if path.is_dir())
    faults = [*find_database_faults(database)]
    faults += [f"{path.name}: {fault}" for path in folders for fault in find_faults(path)]
    if faults:
        raise VectorStoreError(f"{database} is damaged: {'; '.join(faults)}", "use another backup")
    return [path.name for path in folders]


def _check_is_file(section: VectorStoreSection) -> None:
    if not section.is_file:
        raise InputError(
            f"{section.uri} is a Milvus server, whose data only it can copy",
            "use Zilliz's milvus-backup for it; or rag-app export FILE, which takes one collection",
        )
