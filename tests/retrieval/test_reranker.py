"""The reranker in this process: a tiny cross-encoder, and what is said when it is not there."""

import asyncio
import contextlib
import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from llama_index.core.postprocessor import SentenceTransformerRerank
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode
from pydantic import SecretStr
from sentence_transformers import CrossEncoder

from rag_app import build_retriever, ingest
from rag_app.config.loader import MASK, config_rows
from rag_app.config.reranker import RerankerSection
from rag_app.config.sections import EmbeddingSection
from rag_app.errors import ConfigError, ModelUnavailableError, ServiceError
from rag_app.evaluation.timing import stages_traced
from rag_app.retrieval.reranker import build_reranker
from rag_app.retrieval.retriever import Retriever
from tests.answering.spans import collected
from tests.conftest import FakeEmbedder, MakeConfig, json_of, make_files
from tests.cross_encoder import READS, make_cross_encoder

QUESTION = "Who may use the work?"
TEXTS = [
    "Grant of a patent licence.",
    "Bread needs flour.",
    "Redistribution of derivative works.",
    "",
    "licence " * (2 * READS),  # more than the model reads
    "You may add your own notice.",
]
DEAD = "http://127.0.0.1:9/v1"
KEY_VARIABLE = "RAG_APP_RETRIEVAL__RERANKER__API_KEY"

Build = Callable[..., Retriever]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cross_encoder(tmp_path_factory.mktemp("cross-encoder"))


@pytest.fixture(scope="session")
def scores(model: Path) -> Callable[[str, list[str]], list[float]]:
    """What sentence-transformers' own class says."""
    encoder = CrossEncoder(str(model))
    return lambda question, texts: encoder.predict([(question, text) for text in texts]).tolist()


@pytest.fixture
def build(fake_embedder: FakeEmbedder, tmp_path: Path, make_config: MakeConfig) -> Build:
    """A function of ``[retrieval]`` that builds a retriever over `TEXTS`."""
    files = {f"{number}.txt": text for number, text in enumerate(TEXTS) if text}
    whole = {"chunking__parents": False}  # else what is handed over is not what was ranked
    ingest(make_config(**whole), [make_files(tmp_path / "docs", dict(files))])

    def make(**retrieval: object) -> Retriever:
        given = {f"retrieval__{key}": value for key, value in retrieval.items()}
        return build_retriever(make_config(**whole, **given))

    return make


def nodes() -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text, id_=text), score=0.5) for text in TEXTS]


def order(found: list[NodeWithScore]) -> list[str]:
    return [node.node.node_id for node in found]


# --- in this process -----------------------------------------------------------------------------


def test_nodes_come_in_the_order_of_the_cross_encoders_scores(
    model: Path, scores: Callable[[str, list[str]], list[float]]
) -> None:
    reranker = build_reranker(RerankerSection(model=str(model)), top_n=4)
    assert isinstance(reranker, SentenceTransformerRerank)
    found = reranker.postprocess_nodes(nodes(), query_str=QUESTION)
    expected = sorted(zip(scores(QUESTION, TEXTS), TEXTS, strict=True), reverse=True)[:4]
    assert [node.text for node in found] == [text for _, text in expected]
    assert [node.score for node in found] == pytest.approx([s for s, _ in expected], abs=1e-5)
    assert json.dumps([node.score for node in found])  # numbers, not numpy's
    assert reranker.postprocess_nodes([], query_str=QUESTION) == []


def test_the_reranker_tells_llamaindex_what_it_does(model: Path) -> None:
    reranker = build_reranker(RerankerSection(model=str(model)), top_n=1000)
    assert reranker is not None
    with collected() as trace:
        found = reranker.postprocess_nodes(nodes(), query_str=QUESTION)
    assert trace.tree() == "LocalReranker._postprocess_nodes ReRankStart ReRankEnd"
    (span,) = trace.spans
    start, end = span.event("ReRankStartEvent"), span.event("ReRankEndEvent")
    assert (start.query.query_str, start.top_n, start.model_name) == (QUESTION, 6, str(model))
    assert [(node.text, node.score) for node in start.nodes] == [(text, 0.5) for text in TEXTS]
    assert end.nodes == found
    assert [node.score for node in end.nodes] != [0.5] * len(TEXTS)


def test_there_is_none_unless_one_is_configured(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not make_config().retrieval.reranker.is_on
    assert build_reranker(RerankerSection(), 5) is None


def test_a_retriever_hands_candidates_over_and_keeps_the_best(
    build: Build, model: Path, scores: Callable[[str, list[str]], list[float]]
) -> None:
    settings = {"mode": "dense", "candidates": 5, "similarity_top_k": 2}
    every = build(mode="dense", candidates=5, similarity_top_k=5).retrieve(QUESTION)
    assert len(every) == 5
    contents = [node.get_content(MetadataMode.EMBED) for node in every]
    ranked = sorted(zip(scores(QUESTION, contents), order(every), strict=True), reverse=True)
    retriever = build(**settings, reranker__model=str(model))
    found = retriever.retrieve(QUESTION)
    assert order(found) == [node_id for _, node_id in ranked[:2]] != order(every)[:2]
    assert found[0].score == pytest.approx(ranked[0][0], abs=1e-5)
    # Two candidates only: the reranker sees no others.
    fewer = build(**{**settings, "candidates": 2}, reranker__model=str(model)).retrieve(QUESTION)
    assert set(order(fewer)) == set(order(every)[:2])

    assert order(asyncio.run(retriever.aretrieve(QUESTION))) == order(found)
    other = "What does bread need?"
    assert [order(each) for each in retriever.retrieve_each([QUESTION, other])] == [
        order(found),
        order(retriever.retrieve(other)),
    ]
    least = (ranked[0][0] + ranked[1][0]) / 2
    (only,) = build(**settings, reranker__model=str(model), min_score=least).retrieve(QUESTION)
    assert only.node.node_id == ranked[0][1]


@pytest.mark.parametrize("mode", ["text", "hybrid", "mmr"])
def test_every_mode_is_reranked(build: Build, model: Path, mode: str) -> None:
    found = build(mode=mode, reranker__model=str(model)).retrieve("licence works notice")
    scores = [node.score or 0.0 for node in found]
    assert scores == sorted(scores, reverse=True)
    assert len(found) >= 3


async def test_many_at_once(build: Build, model: Path) -> None:
    retriever = build(mode="dense", reranker__model=str(model))
    expected = order(retriever.retrieve(QUESTION))
    found = await asyncio.gather(*(retriever.aretrieve(QUESTION) for _ in range(8)))
    assert [order(each) for each in found] == [expected] * 8


def test_its_time_is_measured_once(model: Path) -> None:
    reranker = build_reranker(RerankerSection(model=str(model)), 5)
    assert reranker is not None
    with stages_traced() as spans:
        began = time.perf_counter()
        reranker.postprocess_nodes(nodes(), query_str=QUESTION)
        whole = time.perf_counter() - began
        assert 0 < spans.take()["rerank"] <= whole


def test_the_command_line_shows_its_scores(
    build: Build, model: Path, run: Callable[..., Any]
) -> None:
    settings = ["--set", f"retrieval.reranker.model={model}", "--set", "retrieval.mode=dense"]
    found = json_of(run(*settings, "retrieve", QUESTION, "--json"))
    assert found[0]["score"] == pytest.approx(
        build(mode="dense", reranker__model=str(model)).retrieve(QUESTION)[0].score
    )


def test_a_model_in_a_package(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "packages/a_reranker").mkdir(parents=True)
    (tmp_path / "packages/a_reranker/__init__.py").touch()
    (tmp_path / "packages/a_reranker/model").symlink_to(model)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    reranker = build_reranker(RerankerSection(model="package:a_reranker"), 1)
    assert reranker is not None
    assert len(reranker.postprocess_nodes(nodes(), query_str=QUESTION)) == 1


def test_a_relative_folder_is_seen_from_the_files_own(tmp_path: Path, run: Any) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[retrieval.reranker]\nmodel = "./reranker"\n')
    rows = json_of(run("--config", str(file), "config", "show", "--json"))
    assert str(tmp_path / "reranker") in json.dumps(rows)


# --- not there -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("/no/such/folder", "there is no such folder"),
        ("./nothing", "there is no such folder"),
        ("package:no_such_package", "the package 'no_such_package' is not installed"),
        ("nobody/no-such-model", "'nobody/no-such-model' cannot be loaded"),
    ],
)
def test_a_model_that_is_not_there_is_said_at_once(
    name: str, match: str, here: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(_: HfApi, model: str, timeout: float) -> None:
        raise ConnectionRefusedError(model)

    monkeypatch.setattr(HfApi, "model_info", no_network)
    began = time.monotonic()
    with pytest.raises(ModelUnavailableError, match=match) as caught:
        build_reranker(RerankerSection(model=name), 5)
    assert time.monotonic() - began < 5
    assert "offline" not in caught.value.remedy  # which is about the embedding model
    if not name.startswith("nobody"):
        assert "retrieval.reranker.model" in caught.value.message


def test_a_damaged_model_is_an_error(model: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelUnavailableError, match="cannot be loaded"):
        build_reranker(RerankerSection(model=str(tmp_path / "model")), 5)
    for file in model.iterdir():
        (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelUnavailableError, match="cannot be loaded"):
        build_reranker(RerankerSection(model=str(tmp_path / "model")), 5)


def test_a_model_that_is_no_cross_encoder_is_refused(tmp_path: Path) -> None:
    """It would be given a random head, and order nodes at random."""
    with pytest.raises(ModelUnavailableError, match="no cross-encoder, but a BertModel"):
        build_reranker(RerankerSection(model=EmbeddingSection().model), 5)
    three = make_cross_encoder(tmp_path, labels=3)
    with pytest.raises(ModelUnavailableError, match="gives 3 scores"):
        build_reranker(RerankerSection(model=str(three)), 5)


def test_no_question_is_answered_without_the_configured_reranker(build: Build, run: Any) -> None:
    settings = ["--set", "retrieval.reranker.model=/no/such/folder"]
    result = run(*settings, "query", QUESTION)
    assert result.exit_code == 1
    assert "no such folder" in result.stderr
    assert result.stdout == ""
    settings = ["--set", f"retrieval.reranker.base_url={DEAD}"]
    result = run(*settings, "query", QUESTION)
    assert result.exit_code == 1
    assert f"{DEAD}/rerank cannot be reached" in result.stderr
    assert result.stdout == ""


# --- servers that fail ---------------------------------------------------------------------------


class _Answer(http.server.BaseHTTPRequestHandler):
    status, body = 200, b""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[Callable[[int, str], str]]:
    """A function that starts a server which always gives the same answer."""
    servers = []

    def start(status: int, body: str) -> str:
        handler = type("Handler", (_Answer,), {"status": status, "body": body.encode()})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, "<html>a web page</html>"),
        (200, "[]"),
        (200, '{"results": []}'),
        (200, '{"results": [{"index": 0}]}'),
        (200, '{"results": ["a"]}'),
        (200, '{"results": [{"index": 0, "relevance_score": null}]}'),
        (400, '{"error": "what?"}'),
        (500, "out of memory"),
        (307, ""),
    ],
)
def test_an_answer_that_is_none_is_an_error(
    status: int, body: str, answering: Callable[[int, str], str]
) -> None:
    reranker = build_reranker(RerankerSection(base_url=answering(status, body)), 5)
    assert reranker is not None
    with pytest.raises(ServiceError, match=rf"/rerank does: {status}") as caught:
        reranker.postprocess_nodes(nodes(), query_str=QUESTION)
    assert "--set llm.engine.runner=pooling llm serve" in caught.value.remedy


@pytest.mark.parametrize(
    ("key", "match"),
    [("", "asks for an API key"), ("a-secret\r\n", "refuses the key"), ("a-sécret", "refuses the")],
)
@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_is_not_told(
    status: int, key: str, match: str, answering: Callable[[int, str], str]
) -> None:
    section = RerankerSection(base_url=answering(status, ""), api_key=SecretStr(key))
    reranker = build_reranker(section, 5)
    assert reranker is not None
    with pytest.raises(ServiceError, match=match) as caught:
        reranker.postprocess_nodes(nodes(), query_str=QUESTION)
    assert KEY_VARIABLE in caught.value.remedy
    assert "cret" not in str(caught.value)


def trickle(server: socket.socket, head: bytes) -> None:
    """Answer the one request that comes, a byte every tenth of a second."""
    connection, _ = server.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(head)
        with contextlib.suppress(OSError):  # the other side has gone
            while True:
                connection.sendall(b"x")
                time.sleep(0.1)


@pytest.mark.parametrize("head", [None, b"", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_no_server_is_waited_for_longer_than_configured(head: bytes | None) -> None:
    """Whether it is silent, or trickles its headers or its body."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        if head is not None:
            threading.Thread(target=trickle, args=(server, head), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        reranker = build_reranker(RerankerSection(base_url=url, timeout=0.5), 5)
        assert reranker is not None
        began = time.monotonic()
        with pytest.raises(ServiceError, match=r"not answered within 0\.5 seconds") as caught:
            reranker.postprocess_nodes(nodes(), query_str=QUESTION)  # within an event loop
    assert time.monotonic() - began < 5
    assert "retrieval.reranker.timeout" in caught.value.remedy


def test_an_answer_without_end_is_not_read(
    answering: Callable[[int, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag_app.retrieval.reranker.MOST_BYTES", 1000)
    reranker = build_reranker(RerankerSection(base_url=answering(200, "x" * 100_000)), 5)
    assert reranker is not None
    with pytest.raises(ServiceError, match=r"has more than \d+ bytes"):
        reranker.postprocess_nodes(nodes(), query_str=QUESTION)


@pytest.mark.parametrize("url", [DEAD, "http://no.such.host"])
def test_an_address_where_nothing_is(url: str) -> None:
    reranker = build_reranker(RerankerSection(base_url=url), 5)
    assert reranker is not None
    with pytest.raises(ServiceError, match="cannot be reached") as caught:
        reranker.postprocess_nodes(nodes(), query_str=QUESTION)
    assert "retrieval.reranker.base_url" in caught.value.remedy


# --- configuration -------------------------------------------------------------------------------


def test_the_key_is_set_from_the_environment_and_never_shown(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, run: Any, tmp_path: Path
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "a-secret")
    config = make_config()
    assert config.retrieval.reranker.api_key == SecretStr("a-secret")
    (row,) = [row for row in config_rows(config) if row["key"] == "retrieval.reranker.api_key"]
    assert row["value"] == MASK
    assert row["origin"] == f"environment {KEY_VARIABLE}"
    for arguments in (["config", "show"], ["config", "show", "--json"]):
        assert "a-secret" not in run(*arguments).output
    assert "a-secret" not in repr(config)
    file = tmp_path / "wrong.toml"
    file.write_text("[retrieval.reranker]\napi_key = 1234567\n")
    monkeypatch.delenv(KEY_VARIABLE)
    result = run("--config", str(file), "config", "show")
    assert result.exit_code == 2
    assert "retrieval.reranker.api_key" in result.stderr
    assert "1234567" not in result.output


@pytest.mark.parametrize("url", ["127.0.0.1:8001", "http://user:a-secret@127.0.0.1:8001"])
def test_an_address_that_cannot_be_is_refused(url: str, make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"retrieval\.reranker\.base_url") as caught:
        make_config(retrieval__reranker__base_url=url)
    assert "a-secret" not in str(caught.value)


def test_doctor_names_the_reranker(
    build: Build, model: Path, run: Any, answering: Callable[[int, str], str]
) -> None:
    def check(*settings: str) -> dict[str, Any] | None:
        chosen = [text for setting in settings for text in ("--set", setting)]
        found = json.loads(run(*chosen, "doctor", "--json").stdout)
        return next((each for each in found if each["name"] == "reranker"), None)

    assert check() is None
    local = check(f"retrieval.reranker.model={model}")
    assert local is not None
    assert local["ok"]
    assert local["finding"] == f"{model}: in {model}"
    missing = check("retrieval.reranker.model=/no/such/folder")
    assert missing is not None
    assert not missing["ok"]
    assert "no such folder" in missing["finding"]
    one = '{"model": "tiny", "results": [{"index": 0, "relevance_score": 0.5}]}'
    url = answering(200, one)
    served = check(f"retrieval.reranker.base_url={url}")
    assert served is not None
    assert served["ok"]
    assert served["finding"] == f"tiny, served at {url}"
    dead = check(f"retrieval.reranker.base_url={DEAD}")
    assert dead is not None
    assert not dead["ok"]
    assert "llm serve" in dead["remedy"]


def test_a_server_needs_no_torch(tmp_path: Path) -> None:
    """Nor does importing the module: a question with a served reranker starts as fast."""
    code = (
        "import sys; from rag_app.retrieval.reranker import build_reranker; "
        "from rag_app.config.reranker import RerankerSection; "
        f"build_reranker(RerankerSection(base_url={DEAD!r}), 5); "
        "sys.exit('torch' in sys.modules or 'sentence_transformers' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
