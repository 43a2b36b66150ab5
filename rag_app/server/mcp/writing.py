"""The one tool that changes something: ingest a file or folder of this machine."""

from collections.abc import Sequence
from pathlib import Path
from threading import Event

import anyio

from rag_app.app import RagApp
from rag_app.errors import InputError
from rag_app.server.mcp.results import Ingested, IngestInput
from rag_app.server.mcp.tools import DocumentTool
from rag_app.server.mcp.visitor import Visitor
from rag_app.server.threads import in_thread


def ingest_tool(folders: Sequence[Path]) -> DocumentTool:
    """Return the tool.

    Parameters
    ----------
    folders
        Below which it may read, besides those that were ingested before: a model that was talked
        into it must not put any file of this machine into answers.
    """
    allowed = [folder.resolve() for folder in folders]

    async def ingest(visitor: Visitor, asked: IngestInput) -> Ingested:
        name = visitor.collection
        app = await visitor.service.app(name, visitor.key, to_write=True)
        path = Path(asked.path).expanduser().resolve()
        stop = Event()
        async with visitor.service.ingests.turn(name):
            await in_thread(lambda: _check(app, path, allowed))
            try:
                # Abandoned when the client cancels, so that `stop` is heard; it ends by itself.
                report = await anyio.to_thread.run_sync(
                    lambda: app.ingest([path], stop=stop), abandon_on_cancel=True
                )
            except anyio.get_cancelled_exc_class():
                stop.set()
                raise
        return Ingested(
            new=list(report.new),
            changed=list(report.changed),
            unchanged=list(report.unchanged),
            skipped={each.path: each.reason for each in report.skipped},
            passages_written=report.nodes_written,
        )

    return DocumentTool(
        "ingest",
        "Add documents",
        "Read a file or folder of the user's machine into the documents, or read it again after "
        "it changed. Only when the user asks for it. Returns which files are new, changed and "
        "unchanged, and why any was skipped. Nothing is removed from the documents.",
        IngestInput,
        Ingested,
        ingest,
        writes=True,
    )


def _check(app: RagApp, path: Path, allowed: Sequence[Path]) -> None:
    try:
        known = [document.folder for document in app.store.documents().values()]
    except InputError:  # nothing was ingested yet
        known = []
    if not any(path.is_relative_to(folder) for folder in {*allowed, *known}):
        raise InputError(
            f"{path} is in no folder that may be ingested here",
            f"let the user do it: rag-app ingest {path}, or rag-app mcp --write --folder "
            f"{path if path.is_dir() else path.parent}",
        )
