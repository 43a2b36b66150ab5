"""Opening a Milvus Lite database in this process, or saying why that cannot be."""

import shutil
from pathlib import Path

from rag_app.errors import VectorStoreError
from rag_app.milvus import lite_client
from rag_app.milvus.lite_check import has_content
from rag_app.milvus.lite_engine import teach_engine
from rag_app.milvus.lite_files import collection_folder
from rag_app.milvus.lite_locks import CAN_LOCK
from rag_app.milvus.lite_shared import share


def open_database(path: Path, timeout: float) -> None:
    """Make a database usable: open it in this process, or attach to the one that holds it.

    Raises
    ------
    VectorStoreError
        If the path cannot be a database, if it is damaged, or if a program that does not share it
        still holds it after ``timeout`` seconds; it names that process.
    """
    lite_client.install()
    prepare(path)
    if _is_shared(path):
        share(path).reach(timeout)
    else:
        teach_engine()


def collection_faults(uri: str, name: str) -> list[str]:
    """Return what is wrong with a collection's files, before Milvus Lite opens them.

    Later they change under its hands, so each is looked at once while the database is open, by the
    process that holds it.
    """
    return share(Path(uri)).faults(name) if _is_shared(Path(uri)) else []


def _is_shared(path: Path) -> bool:
    # Without locks nobody can tell who serves; what was opened alone has a server already.
    return CAN_LOCK and not lite_client.is_opened_alone(str(path))


def check_collection(uri: str, name: str) -> None:
    """Refuse a collection whose files are damaged.

    Raises
    ------
    VectorStoreError
        Naming the files, and what to do.
    """
    if faults := collection_faults(uri, name):
        folder = collection_folder(uri, name)
        raise VectorStoreError(
            f"the collection {name!r} in {uri} is damaged, and was left as it is: "
            f"{'; '.join(faults)}",
            f"restore {folder} from a backup; or make it anew: rag-app collections drop {name}, "
            "then rag-app ingest the documents",
        )


def clear_leftover(uri: str, name: str) -> None:
    """Delete the empty folder that a process leaves when it is killed as it makes a collection."""
    folder = collection_folder(uri, name)
    if folder.is_dir() and not has_content(folder):
        shutil.rmtree(folder)


def remove_collection(uri: str, name: str) -> None:
    """Delete the files of a collection that is too damaged for Milvus Lite to drop it."""
    shutil.rmtree(collection_folder(uri, name))


def prepare(path: Path) -> None:
    """Make the folder of a database.

    Raises
    ------
    VectorStoreError
        If the path cannot be one.
    """
    if path.exists() and not path.is_dir():
        raise VectorStoreError(
            f"vector_store.uri is {path}, a file; a Milvus Lite database is a folder",
            "set vector_store.uri to another path, or move the file away",
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VectorStoreError(
            f"the folder of vector_store.uri = {path} cannot be made: {error.strerror}",
            "set vector_store.uri to a path in a folder that can be written to",
        ) from None
