"""``rag-app promote``: a collection goes to another Milvus, killed on the way, and compared."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_app.config.loader import override
from rag_app.config.sections import Config
from rag_app.errors import InputError, VectorStoreError
from rag_app.ingestion.promote import missing_there, promote, target_of
from rag_app.ingestion.promote_check import compare
from rag_app.ingestion.run import ingest
from rag_app.load import load_config
from rag_app.milvus.lite_files import release
from rag_app.milvus.made_by import MADE_BY
from rag_app.milvus.store import connect, open_store
from tests.conftest import FakeEmbedder, json_of, make_files
from tests.milvus_server import MilvusServer

DRIVER = """
import sys
from pathlib import Path
from rag_app.milvus import copying
from rag_app.milvus.collection import CollectionStore

copying.DOCUMENTS_AT_ONCE = 2
marker, add, calls = Path(sys.argv.pop(1)), CollectionStore.add, []

def marked(self, nodes, **kwargs):
    calls.append(len(nodes))
    if len(calls) == 2:
        marker.touch()
    return add(self, nodes, **kwargs)

CollectionStore.add = marked
from rag_app.cli import main
main()
"""
"""The real command, a few documents at a time; it touches a file once the first are there."""

SMALL = {"chunking.size": 24, "chunking.overlap": 0}


def rows_of(config: Config) -> dict[str, tuple[str, Any, np.ndarray[Any, Any]]]:
    store = open_store(config)
    nodes = store.get_nodes([row.id for row in store.row_heads()])
    return {n.node_id: (n.get_content(), n.metadata, np.array(n.embedding)) for n in nodes}


def assert_same(one: Config, other: Config) -> None:
    wanted, found = rows_of(one), rows_of(other)
    assert found.keys() == wanted.keys()
    for id_, (text, metadata, vector) in wanted.items():
        assert found[id_][:2] == (text, metadata)
        assert np.allclose(found[id_][2], vector, atol=1e-6)


def page(topic: int) -> str:
    return "\n\n".join(
        f"## Part {part} of {topic}\n\nHere topic {topic} is told in part {part}, with word"
        f"{topic * 31 + part} and nothing else of note."
        for part in range(6)
    )


@pytest.fixture
def filled(tmp_path: Path, here: Path, fake_embedder: FakeEmbedder) -> Config:
    """A collection of 30 documents on Milvus Lite, named by a configuration with comments.

    Its index is exact: two graphs over the same rows may each pass over one.
    """
    (here / "config.toml").write_text(
        '# mine\n[vector_store]\nuri = "first.db" # on the laptop\n\n[chunking]\nsize = 24\n'
        'overlap = 0\n\n[index]\ntype = "FLAT"\n'
    )
    folder = make_files(tmp_path / "docs", {f"{i}.md": page(i) for i in range(30)})
    config = load_config()
    ingest(config, [folder])
    return config


def test_there_and_back(filled: Config, here: Path, run: Any, fake_embedder: FakeEmbedder) -> None:
    embedded = len(fake_embedder.embedded)
    told = json_of(run("promote", "--to", "second.db", "--write", "--json"))
    assert (told["documents"], told["rows"]) == (30, told["written"])
    assert (told["same_searches"], told["overlap"], told["missing"]) == (100, 1.0, [])
    text = (here / "config.toml").read_text()
    assert text.startswith("# mine\n[vector_store]\n")
    assert "# on the laptop" in text
    moved = load_config()
    assert moved.vector_store.uri == str(here / "second.db")
    assert_same(filled, moved)
    assert len(fake_embedder.embedded) == embedded, "nothing is embedded again"
    properties = connect(moved.vector_store).describe_collection("rag_app")["properties"]
    was = connect(filled.vector_store).describe_collection("rag_app")["properties"]
    assert json.loads(properties[MADE_BY]) == json.loads(was[MADE_BY])
    answer = json_of(run("retrieve", "word37 of topic 1", "--json"))
    assert answer, "words and vectors are searched together there"
    # Again: all is there, and nothing is written twice.
    again = promote(filled, target_of(filled, "second.db"))
    assert (again.written, again.deleted) == (0, 0)


def test_other_rows_are_left_alone(filled: Config, tmp_path: Path) -> None:
    target = target_of(filled, "second.db")
    ingest(target, [make_files(tmp_path / "others", {"x.md": "Something else."})])
    with pytest.raises(InputError, match="already, with other rows"):
        promote(filled, target)
    assert len(rows_of(target)) == 1
    with pytest.raises(InputError, match="already"):
        target_of(filled, "first.db")


def test_what_made_it_goes_along(filled: Config) -> None:
    other = override(filled, {"chunking.size": 200})
    promote(other, target_of(other, "second.db"))
    target = target_of(filled, "second.db")
    open_store(target, exact=True)  # as the rows were made, not as the configuration says now


def test_copy_that_is_not_the_original_is_told_of(filled: Config, run: Any, here: Path) -> None:
    target = target_of(filled, "second.db")
    promote(filled, target)
    copy = open_store(target)
    ids = [row.id for row in copy.row_heads()]
    victim = copy.get_nodes([min(ids, key=lambda id_: hashlib.blake2b(id_.encode()).digest())])[0]
    copy.delete_ids([victim.node_id])
    with pytest.raises(VectorStoreError, match="1 documents or rows are missing"):
        compare(open_store(filled), copy)
    copy.add([victim.model_copy(update={"embedding": [-x for x in victim.get_embedding()]})])
    samples = open_store(filled)
    # More than are compared one by one: of these, one that is.
    with pytest.raises(VectorStoreError, match="has another vector"):
        compare(samples, copy)


def test_token_comes_from_the_environment(filled: Config, run: Any) -> None:
    refused = run("promote", "--to", "http://127.0.0.1:1", "--token-env", "NO_SUCH_TOKEN")
    assert refused.exit_code == 2
    assert "there is no environment variable NO_SUCH_TOKEN" in refused.stderr
    overridden = run(
        "promote", "--to", "second.db", "--write", "--set", "vector_store.uri=first.db"
    )
    assert overridden.exit_code == 2
    assert "would override the file" in overridden.stderr
    assert not Path("second.db").exists(), "told before anything is copied"


def start(marker: Path, *arguments: str) -> subprocess.Popen[str]:
    marker.unlink(missing_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(marker), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_at_any_moment_goes_on(
    filled: Config, here: Path, request: pytest.FixtureRequest
) -> None:
    kills = 20 if request.config.getoption("--slow") else 2
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    release(filled.vector_store.uri)
    marker = here / "marker"
    command = ("promote", "--to", str(here / "second.db"), "--json")
    for _ in range(kills):
        process = start(marker, *command)
        with process:
            until = time.monotonic() + 300
            while not marker.exists() and process.poll() is None:
                assert time.monotonic() < until
                time.sleep(0.005)
            time.sleep(dice.uniform(0, 0.4))
            process.send_signal(signal.SIGKILL)
    with start(marker, *command) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    told = json.loads(out)
    assert told["same_searches"] == 100
    assert told["written"] < told["rows"], "it went on where the killed ones were"
    assert_same(filled, target_of(filled, "second.db"))


def test_to_a_shared_lite(filled: Config, shared_lite: str) -> None:
    target = target_of(filled, shared_lite)
    assert missing_there(filled, target) == []
    report = promote(filled, target)
    assert (report.same_searches, report.overlap) == (100, 1.0)
    assert_same(filled, target)


def test_to_a_server_and_back(
    filled: Config, here: Path, run: Any, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--slow"):
        pytest.skip("on a server with ./scripts/test.sh --slow: each flush takes it 3 s")
    milvus_server: MilvusServer = request.getfixturevalue("milvus_server")
    done = run("promote", "--to", milvus_server.uri, "--write")
    assert done.exit_code == 0, done.output
    assert "missing there: the Milvus server v2.3.5" in done.stderr
    assert "searches by words" in done.stderr
    moved = load_config()
    assert (moved.vector_store.uri, moved.retrieval.mode) == (milvus_server.uri, "dense")
    assert_same(filled, moved)
    back = promote(moved, target_of(moved, "third.db"))
    assert (back.rows, back.missing) == (back.written, ())
    third = override(filled, {"vector_store.uri": str(here / "third.db")})
    assert_same(filled, third)
