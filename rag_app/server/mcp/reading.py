"""What the tools that change nothing do."""

from collections.abc import Sequence
from contextlib import aclosing

from llama_index.core.schema import BaseNode

from rag_app.answering.fencing import KNOWN_FAMILIES
from rag_app.app import RagApp
from rag_app.milvus.rows import StoredDocument
from rag_app.questions import check_question
from rag_app.schema import Source
from rag_app.server.answers import Answer, RagOptions, ask
from rag_app.server.conversation import Conversation, check_length
from rag_app.server.errors import RequestError
from rag_app.server.mcp.passages import line_of, title_of, window
from rag_app.server.mcp.results import (
    Answered,
    AnswerInput,
    AnswerSource,
    Collection,
    Collections,
    Document,
    Documents,
    Fetched,
    FetchInput,
    ListDocumentsInput,
    NoInput,
    Result,
    SearchInput,
    SearchResults,
)
from rag_app.server.mcp.visitor import Place, Visitor
from rag_app.server.searches import search_each
from rag_app.server.service import not_found
from rag_app.server.threads import in_thread

MOST_RESULTS = 10
"""Of a search: what a model has only titles of it can still look through."""

PAGE = 100
"""Documents listed at once."""


async def search(visitor: Visitor, asked: SearchInput) -> SearchResults:
    """Find the passages nearest to a query."""
    await visitor.app()  # refuses a collection that is not this key's
    query = _checked(visitor, asked.query)
    _, (found,) = await search_each(
        visitor.service,
        visitor.collection,
        visitor.key,
        [query],
        None,
        {"similarity_top_k": MOST_RESULTS},
        missing=not_found,
    )
    return SearchResults(results=[_result(visitor, each.node) for each in found])


async def fetch(visitor: Visitor, asked: FetchInput) -> Fetched:
    """Return the text of a document, or of the part of it round a passage."""
    place = Place.parse(asked.id)
    nodes = await visitor.nodes(place)
    if place.node and all(node.node_id != place.node for node in nodes):
        raise RequestError(404, f"there is no passage {asked.id!r}: search again")
    part = window(nodes, place.node)
    shown = nodes[part.first] if not place.node else _find(nodes, place.node)
    metadata = {
        "path": line_of(str(shown.metadata.get("path", ""))),
        "type": str(shown.metadata.get("type", "")),
        "passages": f"{part.first + 1}-{part.last + 1} of {len(nodes)}",
    }
    if shown.metadata.get("page"):
        metadata["page"] = str(shown.metadata["page"])
    if part.first > 0:
        metadata["previous"] = str(_place(place.collection, nodes[part.first - 1]))
    if part.last + 1 < len(nodes):
        metadata["next"] = str(_place(place.collection, nodes[part.last + 1]))
    return Fetched(
        id=asked.id,
        title=title_of(shown),
        text=part.text,
        url=_url(visitor, place, shown),
        metadata=metadata,
    )


async def answer(visitor: Visitor, asked: AnswerInput) -> Answered:
    """Answer a question from the documents."""
    app = await visitor.app(asked.collection)
    conversation = Conversation(_checked(visitor, asked.question))
    options = RagOptions(filter=asked.filter)
    with await visitor.service.admission.enter() as place:
        written = await ask(
            visitor.service,
            app.config.vector_store.collection,
            visitor.key,
            conversation,
            options,
            {},
            place.deadline,
        )
        # Closed also where the client cancels: the model's request ends with it.
        async with aclosing(written.pieces) as pieces:
            async for _ in pieces:
                pass
    return await _answered(visitor, app, written)


async def list_collections(visitor: Visitor, _: NoInput) -> Collections:
    """List the collections that can be asked."""
    infos = await visitor.service.collections(visitor.key)
    return Collections(
        collections=[
            Collection(
                name=info.name,
                passages=info.rows,
                is_default=info.name == visitor.collection,
                embedding_model=str(info.made_by.get("model", "")),
            )
            for info in infos
        ]
    )


async def list_documents(visitor: Visitor, asked: ListDocumentsInput) -> Documents:
    """List the documents of a collection, a page at a time."""
    collection = asked.collection or visitor.collection
    wanted = asked.contains.casefold()
    documents = [
        each
        for each in await visitor.documents(collection)
        if wanted in each.path.casefold() or wanted in each.title.casefold()
    ]
    start, end = page_of(asked.cursor, len(documents))
    return Documents(
        documents=[_document(visitor, collection, each) for each in documents[start:end]],
        total=len(documents),
        next_cursor=str(end) if end < len(documents) else "",
    )


def page_of(cursor: str, number: int) -> tuple[int, int]:
    """Return where a page begins and ends.

    Raises
    ------
    RequestError
        If the cursor is none of ours.
    """
    if not cursor:
        return 0, PAGE
    if not (cursor.isascii() and cursor.isdecimal()) or len(cursor) > 12 or int(cursor) > number:
        raise RequestError(400, f"the cursor {cursor!r} is none that a list returned")
    return int(cursor), int(cursor) + PAGE


async def _answered(visitor: Visitor, app: RagApp, written: Answer) -> Answered:
    ids = [source.id for source in written.sources]
    # Once more, as sources do not tell where the file lies and under which headings they stand.
    nodes = await in_thread(lambda: app.store.get_nodes(ids)) if ids else []
    by_id = {node.node_id: node for node in nodes}
    return Answered(
        answer=written.text,
        answered=bool(written.told.get("answered", True)),
        confidence=written.told.get("confidence"),
        sources=[
            _source(visitor, app.config.vector_store.collection, source, by_id[source.id])
            for source in written.sources
            if source.id in by_id
        ],
        notes=written.notes,
    )


def _checked(visitor: Visitor, question: str) -> str:
    longest = visitor.service.config.server.max_question
    return check_question(check_length(question, longest, "query"))


def _result(visitor: Visitor, node: BaseNode) -> Result:
    place = _place(visitor.collection, node)
    return Result(id=str(place), title=title_of(node), url=_url(visitor, place, node))


def _source(visitor: Visitor, collection: str, source: Source, node: BaseNode) -> AnswerSource:
    place = _place(collection, node)
    return AnswerSource(
        number=source.number,
        id=str(place),
        title=title_of(node),
        url=_url(visitor, place, node),
        path=line_of(source.path),
        page=source.page,
        score=source.score,
        text=KNOWN_FAMILIES(source.text),
    )


def _document(visitor: Visitor, collection: str, document: StoredDocument) -> Document:
    place = Place(collection, document.id)
    return Document(
        id=str(place),
        path=line_of(document.path),
        title=line_of(document.title),
        type=document.type,
        size=document.size,
        passages=document.nodes,
        url=visitor.url(place, document.root, document.path),
    )


def _place(collection: str, node: BaseNode) -> Place:
    return Place(collection, node.ref_doc_id or node.node_id, node.node_id)


def _url(visitor: Visitor, place: Place, node: BaseNode) -> str:
    about = node.metadata
    root, path = str(about.get("root", "")), str(about.get("path", ""))
    return visitor.url(place, root, path, about.get("page"))


def _find(nodes: Sequence[BaseNode], node_id: str) -> BaseNode:
    return next(node for node in nodes if node.node_id == node_id)
