"""The documents as resources: listed in pages, and read whole or round a passage."""

from urllib.parse import unquote

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)

from rag_app.errors import InputError
from rag_app.server.errors import RequestError
from rag_app.server.mcp.passages import Window, line_of, window
from rag_app.server.mcp.reading import page_of
from rag_app.server.mcp.visitor import Place, Visitor, resource_uri

_SCHEME = "rag-app://documents/"

TEMPLATES = ListResourceTemplatesResult(
    resource_templates=[
        ResourceTemplate(
            uri_template=_SCHEME + "{collection}/{document}",
            name="document",
            title="A document",
            description="The whole text of a document, as it was read.",
            mime_type="text/plain",
        ),
        ResourceTemplate(
            uri_template=_SCHEME + "{collection}/{document}/{passage}",
            name="passage",
            title="A passage",
            description="A passage of a document, with what stands round it.",
            mime_type="text/plain",
        ),
    ]
)


async def list_resources(visitor: Visitor, cursor: str) -> ListResourcesResult:
    """List the documents of the visitor's collection.

    Raises
    ------
    MCPError
        If the cursor is none of ours.
    """
    try:
        documents = await visitor.documents()
    # Nothing was ingested yet: there are no documents, and a client lists them without being asked.
    except (InputError, RequestError):
        return ListResourcesResult(resources=[])
    try:
        start, end = page_of(cursor, len(documents))
    except RequestError as error:
        raise MCPError(INVALID_PARAMS, error.message) from None
    return ListResourcesResult(
        resources=[
            Resource(
                uri=resource_uri(Place(visitor.collection, each.id)),
                name=line_of(each.path),
                title=line_of(each.title or each.path),
                mime_type="text/plain",  # of what is read here; the file's own may be any
            )
            for each in documents[start:end]
        ],
        next_cursor=str(end) if end < len(documents) else None,
    )


async def read_resource(visitor: Visitor, uri: str) -> ReadResourceResult:
    """Read a document, or a passage with what stands round it.

    Raises
    ------
    MCPError
        If it is not there, or not for this key.
    """
    try:
        place = _parse(uri)
        nodes = await visitor.nodes(place)
    except (InputError, RequestError) as error:
        raise MCPError(INVALID_PARAMS, error.message, {"uri": uri}) from None
    whole = Window(nodes, 0, len(nodes) - 1)
    text = (window(nodes, place.node) if place.node else whole).text
    return ReadResourceResult(
        contents=[TextResourceContents(uri=uri, mime_type="text/plain", text=text)]
    )


def _parse(uri: str) -> Place:
    parts = uri.removeprefix(_SCHEME).split("/")
    if not uri.startswith(_SCHEME) or len(parts) not in {2, 3} or not all(parts):
        raise RequestError(404, f"there is no resource {uri!r}")
    return Place(*map(unquote, parts))
