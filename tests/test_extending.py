"""What other packages add: the package of docs/extending.md, installed, and some that are wrong."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from rag_app import registry
from rag_app.app import RagApp
from rag_app.config.index_types import INDEX_TYPES
from rag_app.doctor import examine
from rag_app.documents.file_types import READERS
from rag_app.errors import ConfigError, ExtensionError
from rag_app.ingestion.run import ingest
from rag_app.llms import BACKENDS, build_llm
from rag_app.load import load_config
from rag_app.search.modes import MODES, find_mode
from tests.conftest import MakeConfig, make_files

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"
SUBTITLES = """1
00:00:01,000 --> 00:00:04,000
HNSW builds a graph.

2
00:00:05,500 --> 00:00:08,000
M is the degree of a node.
"""
LAST_WORD = """-c 'import sys; print("It is", sys.stdin.read().split()[-2])'"""
Add = Callable[..., None]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page's package is installed into."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    blocks = re.findall(r"^```(?:toml|python)\n# (\S+)\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    make_files(source, {"rag_app_examples/__init__.py": "", **dict(blocks)})
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    there = ["--no-build-isolation", "--target", str(target), str(source)]
    subprocess.run([*pip, *there], check=True, timeout=120)
    return target


@pytest.fixture
def _examples(installed: Path, _forgotten: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(installed)


@pytest.fixture
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is installed is looked for anew, and not known any more afterwards."""
    registry.find_offered.cache_clear()
    yield
    registry.find_offered.cache_clear()
    for name in [name for name in sys.modules if name.startswith("rag_app_examples")]:
        del sys.modules[name]


@pytest.fixture
def add(tmp_path: Path, _forgotten: None, monkeypatch: pytest.MonkeyPatch) -> Add:
    """A function that installs a package with one entry point."""
    folder = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(folder)

    def install(package: str, group: str, name: str, value: str) -> None:
        info = f"{package.replace('-', '_')}-1.0.dist-info"
        make_files(
            folder,
            {
                f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n",
                f"{info}/entry_points.txt": f"[{group}]\n{name} = {value}\n",
            },
        )

    return install


@pytest.mark.usefixtures("_examples", "fake_embedder")
def test_the_pages_package_ingests_and_answers(tmp_path: Path, make_config: MakeConfig) -> None:
    docs = make_files(tmp_path / "docs", {"talk.srt": SUBTITLES, "b.md": "Bread needs flour."})
    assert "rag_app_examples" not in sys.modules
    config = make_config(
        index__type="BRUTE_FORCE",
        retrieval__mode="both",
        retrieval__min_score=0.1,  # its scores can be compared
        llm__backend="command",
        llm__model=f"{sys.executable} {LAST_WORD}",
    )
    report = ingest(config, [docs])
    assert len(report.new) == 2
    with RagApp(config) as app:
        (talk,) = app.retriever().retrieve("what is a graph?")  # words that the other has not
        assert talk.text == "HNSW builds a graph.\n\nM is the degree of a node."
        assert talk.metadata["type"] == "srt"
        assert str(app.query_engine().query("Is it a graph?")) == "It is graph?"
        assert app.store.built_index.type == "BRUTE_FORCE"
    checks = {check.name: check for check in examine(config)}
    assert all(check.ok for check in checks.values())
    assert "reader srt of rag-app-examples 0.1" in checks["extensions"].finding
    assert "LLM backend command of rag-app-examples 0.1" in checks["extensions"].finding


@pytest.mark.usefixtures("_examples", "fake_embedder")
def test_another_version_of_a_reader_reads_again(
    installed: Path, tmp_path: Path, make_config: MakeConfig
) -> None:
    docs = make_files(tmp_path / "docs", {"talk.srt": SUBTITLES})
    ingest(make_config(), [docs])
    assert len(ingest(make_config(), [docs]).unchanged) == 1
    (metadata,) = installed.glob("*.dist-info/METADATA")
    before = metadata.read_text()
    try:
        metadata.write_text(before.replace("Version: 0.1", "Version: 0.2"))
        registry.find_offered.cache_clear()
        report = ingest(make_config(), [docs])
    finally:
        metadata.write_text(before)
    assert (len(report.changed), report.nodes_embedded) == (1, 0)


@pytest.mark.usefixtures("_examples")
def test_an_added_index_type_is_checked_as_ours_are(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="is not built by Milvus Lite"):
        make_config(index__type="IVF_RABITQ")
    server = {"vector_store__uri": "http://127.0.0.1:9", "index__type": "IVF_RABITQ"}
    assert make_config(**server, index__params={"nlist": 64}).index.params == {"nlist": 64}
    with pytest.raises(ConfigError, match="refine_type = 'SQ1'"):
        make_config(**server, index__params={"refine_type": "SQ1"})


def test_our_own_parts_need_no_look_at_the_packages(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "find_offered", lambda *_: pytest.fail("looked"))
    config = load_config(overrides={"llm.backend": "vllm-server", "index.type": "HNSW"})
    assert find_mode(config.retrieval.mode)
    assert READERS["html"]


def test_one_that_cannot_be_imported_is_named_with_its_package(
    add: Add, run: Callable[..., Result]
) -> None:
    add("rag-broken", "rag_app.retrieval_modes", "broken", "no_such_module:MODE")
    result = run("--set", "retrieval.mode=broken", "query", "what?")
    assert result.exit_code == 2
    assert "the retrieval mode 'broken' of rag-broken 1.0 (no_such_module:MODE)" in result.stderr
    assert "ModuleNotFoundError: No module named 'no_such_module'" in result.stderr
    assert "pip uninstall rag-broken" in result.stderr
    (check,) = [check for check in examine(load_config()) if check.name == "extensions"]
    assert not check.ok
    assert "rag-broken 1.0" in check.finding


def test_a_reader_that_cannot_be_imported_ends_the_ingest(
    add: Add, fake_embedder: object, tmp_path: Path, make_config: MakeConfig
) -> None:
    add("rag-broken", "rag_app.readers", "srt", "no_such_module:Reader")
    docs = make_files(tmp_path / "docs", {"talk.srt": SUBTITLES})
    with pytest.raises(ExtensionError, match=r"the reader 'srt' of rag-broken 1\.0"):
        ingest(make_config(), [docs])


@pytest.mark.parametrize(
    ("group", "use"),
    [
        ("rag_app.readers", lambda: READERS["x"]),
        ("rag_app.retrieval_modes", lambda: find_mode("x")),
        ("rag_app.index_types", lambda: INDEX_TYPES["x"]),
        ("rag_app.llms", lambda: build_llm(load_config(overrides={"llm.backend": "x"}).llm)),
    ],
)
def test_something_else_is_no_part(group: str, use: Callable[[], object], add: Add) -> None:
    add("rag-odd", group, "x", "math:pi")
    with pytest.raises(ExtensionError, match=r"'x' of rag-odd 1\.0 \(math:pi\) is no ") as caught:
        use()
    assert "3.14" in caught.value.message


def test_two_packages_cannot_have_one_name(add: Add) -> None:
    add("rag-one", "rag_app.retrieval_modes", "x", "math:pi")
    add("rag-two", "rag_app.retrieval_modes", "x", "math:e")
    with pytest.raises(ExtensionError, match="both offer a retrieval mode 'x'") as caught:
        load_config(overrides={"retrieval.mode": "x"})
    assert "rag-one 1.0" in caught.value.message
    assert "rag-two 1.0" in caught.value.message


@pytest.mark.parametrize(
    ("group", "name", "look"),
    [
        ("rag_app.readers", "html", READERS.packages),
        ("rag_app.readers", "md", READERS.packages),
        ("rag_app.retrieval_modes", "hybrid", MODES.packages),
        ("rag_app.index_types", "HNSW", INDEX_TYPES.packages),
        ("rag_app.llms", "extractive", BACKENDS.packages),
    ],
)
def test_no_package_can_stand_in_for_ours(
    group: str, name: str, look: Callable[[], object], add: Add
) -> None:
    add("rag-shadow", group, name, "math:pi")
    with pytest.raises(ExtensionError, match=rf"rag-shadow 1\.0 offers a .* '{name}'") as caught:
        look()
    assert "pip uninstall rag-shadow" in caught.value.remedy
    (check,) = [check for check in examine(load_config()) if check.name == "extensions"]
    assert not check.ok


def test_an_unknown_backend_is_refused_with_those_there_are(add: Add) -> None:
    add("rag-more", "rag_app.llms", "more", "math:sqrt")
    with pytest.raises(ConfigError, match=r"llm\.backend = 'vlm'") as caught:
        load_config(overrides={"llm.backend": "vlm"})
    assert "extractive, vllm, vllm-server, more" in caught.value.message
