"""Fixtures that all tests share: an isolated machine, embedders, and a small ingested collection.

No test reaches a model hub, and none reads or writes outside its temporary folder.
"""

import os

# Read once, when the libraries are imported: nothing here may be fetched from a hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import hashlib
import json
import math
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from llama_index.core.base.embeddings.base import BaseEmbedding
from pydantic import PrivateAttr

from rag_app import app as query_engine
from rag_app.cli import main
from rag_app.config.sections import Config, EmbeddingSection
from rag_app.embedding.base import Embedder
from rag_app.embedding.factory import build_embedder
from rag_app.evaluation import variants
from rag_app.ingestion import run as ingestion
from rag_app.load import load_config
from rag_app.milvus import lite_files as milvus_lite_files

pytest_plugins = ["tests.milvus_server"]

HNSW_PAGE = """---
title: "Index types"
---
# In-memory indexes

HNSW builds a graph of vectors. M is the maximum degree of a node in the graph. \
efConstruction is how many candidates are looked at while the graph is built. \
ef is how many candidates are looked at during a search.

IVF_FLAT divides vectors into nlist clusters. nprobe says how many clusters a search visits.
"""

CONSISTENCY_PAGE = """<html><head><title>Consistency</title></head><body>
<nav>Home Docs Blog</nav>
<main><h1>Consistency levels</h1>
<p>Strong consistency shows every write to every search. Bounded staleness tolerates delay.</p>
<button>Copy this page</button><svg><path d="M0 0"/></svg></main></body></html>
"""

RECIPES = "Bread needs flour, water, salt and yeast. Knead the dough for ten minutes.\n"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slow", action="store_true", help="all kills, histories, backends and sizes: an hour"
    )


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


class FakeEmbedder(BaseEmbedding):
    """A bag of words: vectors differ by text, and are near where words are shared."""

    device: str = "nowhere"
    dtype: str = "float32"
    runtime: str = "nothing"
    max_length: int = 256
    dimension: int = 64

    _embedded: list[str] = PrivateAttr(default_factory=list)

    @property
    def content_tokens(self) -> int:
        return self.max_length - 2

    @property
    def embedded(self) -> list[str]:
        """Texts (not questions) that were embedded so far."""
        return self._embedded

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+|[^\w\s]", text)

    def _vector(self, text: str) -> list[float]:
        vector = [0.0] * self.dimension
        for word in words(text):
            vector[int(hashlib.sha256(word.encode()).hexdigest(), 16) % self.dimension] += 1.0
        length = math.sqrt(sum(value * value for value in vector)) or 1.0
        return [value / length for value in vector]

    def _get_text_embedding(self, text: str) -> list[float]:
        self._embedded.append(text)
        return self._vector(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._vector(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._vector(query)

    def embed_queries(self, questions: Sequence[str]) -> list[list[float]]:
        return [self._vector(question) for question in questions]


@pytest.fixture(scope="session", autouse=True)
def _no_user_directories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("HOME", "USERPROFILE", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "HF_HOME"):
            patch.setenv(variable, str(home))
        for variable in [name for name in os.environ if name.startswith("RAG_APP_")]:
            patch.delenv(variable)
        # One for all tests and their processes: compiling takes half a minute.
        temporary = tmp_path_factory.getbasetemp()
        shared = temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary
        patch.setenv("RAG_APP_EMBEDDING__COMPILED_FOLDER", str(shared / "compiled"))
        yield


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder, where data lies as well; databases in it are closed afterwards."""
    folder = tmp_path / "rag_app"
    folder.mkdir()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.chdir(folder)
    yield folder
    release_databases(tmp_path)


def release_databases(folder: Path) -> None:
    if "milvus_lite" in sys.modules:
        for database in folder.rglob("*.db"):
            milvus_lite_files.release(str(database))


@contextmanager
def ordinary_user() -> Iterator[Path]:
    """Let root be "nobody" for a while, whom permissions do stop, in a folder that it yields.

    Python's own files may be out of reach then: whatever is imported late has to be there already.
    """
    before, nobody, here = os.geteuid(), 65_534, Path.cwd()
    home = Path(tempfile.mkdtemp(prefix="rag_app-nobody-"))
    try:
        if before == 0:
            os.chown(home, nobody, -1)
            try:
                os.seteuid(nobody)
            except OSError as error:
                pytest.skip(f"root cannot become an ordinary user here: {error}")
        os.chdir(home)
        yield home
    finally:
        os.seteuid(before)
        os.chdir(here)
        release_databases(home)
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    """The real MiniLM from its package, loaded once."""
    return build_embedder(EmbeddingSection(runtime="torch"))


@pytest.fixture
def real_embedder(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> Embedder:
    """The real MiniLM, in place of a freshly loaded one."""
    _use(monkeypatch, embedder)
    return embedder


@pytest.fixture
def fake_embedder(monkeypatch: pytest.MonkeyPatch) -> FakeEmbedder:
    """A `FakeEmbedder` in place of the configured model."""
    fake = FakeEmbedder(model_name="fake")
    _use(monkeypatch, fake)
    return fake


def _use(monkeypatch: pytest.MonkeyPatch, embedder: BaseEmbedding) -> None:
    for module in (ingestion, query_engine, variants):
        monkeypatch.setattr(module, "build_embedder", lambda _section: embedder)


def make_files(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files below a folder, making folders on the way."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A folder with one Markdown, one HTML and one text file."""
    return make_files(
        tmp_path / "docs",
        {
            "index.md": HNSW_PAGE,
            "guide/consistency.html": CONSISTENCY_PAGE,
            "kitchen/bread.txt": RECIPES,
        },
    )


MakeConfig = Callable[..., Config]


@pytest.fixture
def make_config(here: Path) -> MakeConfig:
    """A function of overrides ("section__key") that loads the shipped configuration."""

    def make(**overrides: Any) -> Config:
        return load_config(
            overrides={key.replace("__", "."): value for key, value in overrides.items()}
        )

    return make


@pytest.fixture
def ingested(fake_embedder: FakeEmbedder, docs: Path, make_config: MakeConfig) -> Config:
    """The configuration of a collection that holds `docs`, embedded by the fake."""
    config = make_config(chunking__size=40, chunking__overlap=0)
    ingestion.ingest(config, [docs])
    return config


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run the command line in this process."""

    def invoke(*arguments: str, **kwargs: Any) -> Result:
        return CliRunner().invoke(main, list(arguments), **kwargs)

    return invoke


def json_of(result: Result) -> Any:
    """Parse the whole standard output: nothing but the result may be on it."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
