"""``rag-app export``, ``import``, ``backup`` and ``restore``: what one keeps or takes away."""

from pathlib import Path

import click

from rag_app.cli.common import common_options, echo, load, print_json, progress_bar, wants_json


@click.command(
    "export",
    epilog="\b\nExamples:\n"
    "  rag-app export manual.parquet\n"
    "  python -c \"import pandas; print(pandas.read_parquet('manual.parquet').text[0])\"",
)
@click.argument("file")
@common_options
def export_command(file: str) -> None:
    """Write the collection into FILE, as Parquet: ids, texts, metadata, vectors, what made it."""
    config = load()
    from rag_app.milvus.parquet import export_collection  # LlamaIndex, Milvus: 3 s

    with progress_bar("exporting") as progress:
        rows = export_collection(config, Path(file), progress)
    if wants_json():
        print_json({"file": file, "rows": rows})
    else:
        echo(f"exported {rows:,} rows of {config.vector_store.collection} to {file}")


@click.command(
    "import",
    epilog="\b\nExamples:\n"
    "  rag-app --set vector_store.uri=http://milvus:19530 import manual.parquet",
)
@click.argument("file")
@common_options
def import_command(file: str) -> None:
    """Write the rows of FILE, which rag-app export made, into the collection, on any backend.

    The collection is made if it is not there; rows that are there are replaced.
    """
    config = load()
    from rag_app.milvus.parquet import import_collection

    with progress_bar("importing") as progress:
        rows = import_collection(config, Path(file), progress)
    if wants_json():
        print_json({"collection": config.vector_store.collection, "rows": rows})
    else:
        echo(f"imported {rows:,} rows into {config.vector_store.collection}")


@click.command("backup", epilog="\b\nExamples:\n  rag-app backup /backups/monday")
@click.argument("folder", metavar="DIR")
@common_options
def backup_command(folder: str) -> None:
    """Copy the Milvus Lite database to DIR, as it is at one moment, while others use it.

    Searches go on, and writes wait. Of a Milvus server use Zilliz's milvus-backup.
    """
    config = load()
    from rag_app.milvus.backup import back_up

    names = back_up(config.vector_store, Path(folder))
    if wants_json():
        print_json({"folder": folder, "collections": names})
    else:
        echo(f"copied {config.vector_store.uri} to {folder}: {', '.join(names) or 'no collection'}")


@click.command("restore", epilog="\b\nExamples:\n  rag-app restore /backups/monday")
@click.argument("folder", metavar="DIR")
@common_options
def restore_command(folder: str) -> None:
    """Copy the backup in DIR to where the configuration has its database; that must be free."""
    config = load()
    from rag_app.milvus.backup import restore

    names = restore(config.vector_store, Path(folder))
    if wants_json():
        print_json({"database": config.vector_store.uri, "collections": names})
    else:
        echo(f"restored {config.vector_store.uri}: {', '.join(names) or 'no collection'}")
