"""What the tools take and return: the models behind their JSON schemas."""

from pydantic import BaseModel, ConfigDict, Field


class Input(BaseModel):
    """Base of what tools take: an argument that is not there is an error, not passed over."""

    model_config = ConfigDict(extra="forbid")


class SearchInput(Input):
    """Of `search`."""

    query: str = Field(
        min_length=1,
        description="What to look for: a whole question or a few telling words, in any language.",
    )


class FetchInput(Input):
    """Of `fetch`."""

    id: str = Field(
        min_length=1,
        description="An id that search, answer, list_documents or a fetch before returned.",
    )


_COLLECTION = Field(
    default="", description="A name from list_collections; leave it out for the usual one."
)


class AnswerInput(Input):
    """Of `answer`."""

    question: str = Field(
        min_length=1,
        description="A whole question, which can be understood without the conversation.",
    )
    collection: str = _COLLECTION
    filter: str = Field(
        default="",
        description='Only documents like this, e.g. type = "pdf" and modified >= "2026-01-01" '
        "(fields: path, title, type, page, modified); leave it out for all.",
    )


class ListDocumentsInput(Input):
    """Of `list_documents`."""

    collection: str = _COLLECTION
    contains: str = Field(
        default="", description="Only documents with this in their path or title."
    )
    cursor: str = Field(default="", description="next_cursor of the page before.")


class NoInput(Input):
    """Of a tool that takes nothing."""


class IngestInput(Input):
    """Of `ingest`."""

    path: str = Field(min_length=1, description="A file or folder, as an absolute path.")


class Result(BaseModel):
    """Something that was found: as little as OpenAI's connectors expect."""

    id: str
    title: str
    url: str = Field(min_length=1, description="To cite it by.")


class SearchResults(BaseModel):
    """What `search` returns."""

    results: list[Result]


class Fetched(BaseModel):
    """What `fetch` returns."""

    id: str
    title: str
    text: str
    url: str = Field(min_length=1)
    metadata: dict[str, str] = Field(
        description="path, type, page; passages: which of how many; next, previous: ids to fetch "
        "where the text goes on."
    )


class AnswerSource(BaseModel):
    """A passage that an answer was written from."""

    number: int = Field(description="As the answer cites it, [1].")
    id: str
    title: str
    url: str
    path: str
    page: int | None
    score: float | None
    text: str


class Answered(BaseModel):
    """What `answer` returns."""

    answer: str
    answered: bool = Field(
        description="False: the documents do not answer it, and the sources are what is nearest."
    )
    confidence: float | None = Field(
        description="How likely the documents hold the answer, 0 to 1; null: not known."
    )
    sources: list[AnswerSource]
    notes: list[str]


class Collection(BaseModel):
    """A collection."""

    name: str
    passages: int
    is_default: bool
    embedding_model: str


class Collections(BaseModel):
    """What `list_collections` returns."""

    collections: list[Collection]


class Document(BaseModel):
    """A document in a list."""

    id: str
    path: str
    title: str
    type: str
    size: int = Field(description="In bytes.")
    passages: int
    url: str


class Documents(BaseModel):
    """What `list_documents` returns."""

    documents: list[Document]
    total: int
    next_cursor: str = Field(description="For the next page; empty: this was the last.")


class Ingested(BaseModel):
    """What `ingest` returns."""

    new: list[str]
    changed: list[str]
    unchanged: list[str]
    skipped: dict[str, str] = Field(description="Path and why.")
    passages_written: int
