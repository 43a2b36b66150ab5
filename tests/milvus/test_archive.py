"""What is exported, imported, backed up and restored is what was there."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rag_app.config.sections import Config
from rag_app.errors import InputError
from rag_app.load import load_config, override
from rag_app.milvus.backup import back_up, restore
from rag_app.milvus.copying import contents
from rag_app.milvus.lite_files import release
from rag_app.milvus.parquet import export_collection, import_collection
from rag_app.milvus.store import open_store
from tests.milvus import sharing
from tests.milvus.sharing import start, wait_until


def nodes(config: Config) -> dict[str, Any]:
    pages = open_store(config).pages_of_nodes(vectors=True)
    return {node.node_id: (node.to_dict(), node.embedding) for page in pages for node in page}


def test_a_collection_goes_out_as_parquet_and_in_elsewhere(ingested: Config, here: Path) -> None:
    file = here / "out.parquet"
    rows = export_collection(ingested, file)
    table = pq.read_table(file)
    assert table.column_names == ["id", "doc_id", "text", "metadata", "node", "vector"]
    assert table.num_rows == rows == open_store(ingested).count()
    assert json.loads(table["metadata"][0].as_py())["path"]
    elsewhere = override(ingested, {"vector_store.uri": str(here / "other.db")})
    assert import_collection(elsewhere, file) == rows
    assert import_collection(elsewhere, file) == rows  # again: nothing is there twice
    assert nodes(elsewhere) == nodes(ingested)
    assert contents(open_store(elsewhere)) == contents(open_store(ingested))


def test_rows_of_another_configuration_are_not_mixed_in(ingested: Config, here: Path) -> None:
    file = here / "out.parquet"
    export_collection(ingested, file)
    with pytest.raises(InputError, match=r"chunking\.size = 40"):
        import_collection(override(ingested, {"chunking.size": 41}), file)
    file.write_bytes(b"PAR1 of something else")
    with pytest.raises(InputError, match="no exported collection"):
        import_collection(ingested, file)


def test_a_database_that_another_process_has_open_is_backed_up_and_restored(here: Path) -> None:
    database, log, stop = here / "a.db", here / "log", here / "stop"
    config = sharing.make(database)
    before = set(sharing.rows(open_store(config)))
    release(str(database))
    holder = start(sharing.hold, database, log, stop)
    wait_until(lambda: sharing.lines(log))
    open_store(config).add(sharing.batch(1))  # in the holder's memory only
    assert back_up(config.vector_store, here / "copy") == ["rag_app"]
    with pytest.raises(InputError, match="there already"):
        back_up(config.vector_store, here / "copy")
    with pytest.raises(InputError, match="replaces nothing"):
        restore(config.vector_store, here / "copy")
    stop.touch()
    holder.join(30)
    restored = load_config(overrides={"vector_store.uri": str(here / "b.db")})
    assert restore(restored.vector_store, here / "copy") == ["rag_app"]
    assert set(sharing.rows(open_store(restored))) == before | sharing.ids(sharing.batch(1))
    with pytest.raises(InputError, match="milvus-backup"):
        back_up(override(config, {"vector_store.uri": "http://x:1"}).vector_store, here / "c")
