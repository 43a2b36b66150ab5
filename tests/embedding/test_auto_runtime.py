"""``embedding.runtime = "auto"``: which runtime it is, and that another one's rows stay good."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_app.build import build_retriever
from rag_app.config.sections import EmbeddingSection
from rag_app.embedding import compilation, factory, runtimes
from rag_app.embedding.base import Embedder
from rag_app.embedding.compilation import CHECKED_TEXTS
from rag_app.embedding.factory import build_embedder, choose_runtime, describe
from rag_app.errors import ModelUnavailableError
from rag_app.ingestion.run import ingest
from rag_app.install import pip_install
from tests.conftest import MakeConfig

from .test_runtimes import save_model

EVERYTHING = {"openvino", "onnxruntime", "onnx", "onnxscript"}


def install(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: name if name in packages else None)


@pytest.mark.parametrize(
    ("packages", "gpu", "values", "runtime"),
    [
        (EVERYTHING, False, {}, "openvino"),
        (EVERYTHING, False, {"device": "cpu", "dtype": "bfloat16"}, "openvino"),
        (EVERYTHING, True, {}, "torch"),
        (EVERYTHING, True, {"device": "cpu"}, "openvino"),
        (EVERYTHING, False, {"device": "cuda:0,cuda:1"}, "torch"),
        (EVERYTHING - {"openvino"}, False, {}, "onnx"),
        (EVERYTHING - {"openvino"}, False, {"dtype": "bfloat16"}, "torch"),
        (EVERYTHING - {"onnxscript"}, False, {}, "torch"),
        (set(), False, {}, "torch"),
        (EVERYTHING, False, {"runtime": "torch"}, "torch"),
    ],
)
def test_the_fastest_that_is_installed_and_does_what_is_asked(
    packages: set[str],
    gpu: bool,
    values: dict[str, Any],
    runtime: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, *packages)
    monkeypatch.setattr(factory, "has_gpu", lambda: gpu)
    section = EmbeddingSection.model_validate({"compiled_folder": str(here), **values})
    assert choose_runtime(section) == runtime


def test_a_copy_that_is_there_needs_no_compiler(
    shipped: EmbeddingSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, "openvino")
    assert choose_runtime(shipped) == "openvino"


@pytest.fixture(scope="session")
def shipped() -> EmbeddingSection:
    """The embedder as shipped, compiled."""
    pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    found = build_embedder(section := _section())
    assert found.runtime == "openvino"
    return section


def _section() -> EmbeddingSection:
    return EmbeddingSection(compiled_folder=os.environ["RAG_APP_EMBEDDING__COMPILED_FOLDER"])


def test_vectors_are_torchs_to_five_digits(shipped: EmbeddingSection, embedder: Embedder) -> None:
    ours = np.asarray(build_embedder(shipped).get_text_embedding_batch(list(CHECKED_TEXTS)))
    torchs = np.asarray(embedder.get_text_embedding_batch(list(CHECKED_TEXTS)))
    assert np.abs(ours - torchs).max() < (1e-5 if embedder.dtype == "float32" else 1e-2)


@pytest.mark.parametrize(("first", "then"), [("torch", "auto"), ("auto", "torch")])
def test_what_one_ingested_the_other_searches_and_extends(
    first: str, then: str, shipped: EmbeddingSection, docs: Path, make_config: MakeConfig
) -> None:
    ingest(make_config(embedding__runtime=first), [docs])
    config = make_config(embedding__runtime=then)
    (best, *_) = build_retriever(config).retrieve("What is M in HNSW?")
    assert best.metadata["path"] == "index.md"
    (docs / "more.md").write_text("# More\n\nAnother page about graphs.\n", encoding="utf-8")
    assert ingest(config, [docs]).nodes_embedded == 1


def test_what_cannot_be_compiled_runs_on_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino")
    model = save_model(tmp_path / "other", "max")
    section = EmbeddingSection(model=str(model), compiled_folder=str(tmp_path / "compiled"))
    with caplog.at_level(logging.WARNING, logger="rag_app"):
        assert build_embedder(section).runtime == "torch"
    assert "cannot be compiled: its pooling is 'max'" in caplog.text
    assert "torch runs it instead" in caplog.text
    # Tried once: onnxruntime is told the same, and then nobody is asked any more.
    if choose_runtime(section) != "torch":
        assert build_embedder(section).runtime == "torch"
    monkeypatch.setattr(compilation, "compile_model", lambda *_: pytest.fail("tried again"))
    assert build_embedder(section).runtime == "torch"


def test_a_folder_that_cannot_be_written_is_torchs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "file").write_text("")
    section = EmbeddingSection(compiled_folder=str(tmp_path / "file/compiled"))
    with caplog.at_level(logging.WARNING, logger="rag_app"):
        assert build_embedder(section).runtime == "torch"
    assert "cannot be written into" in caplog.text


def test_a_model_that_is_not_there_is_one_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    section = EmbeddingSection(model="/no/such/model", compiled_folder=str(tmp_path))
    with pytest.raises(ModelUnavailableError, match="no such folder"):
        build_embedder(section)
    assert "torch runs it instead" not in caplog.text


def test_torch_for_want_of_another_is_told_the_command(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "pip install" not in describe(embedder, EmbeddingSection(runtime="torch"))
    install(monkeypatch)
    assert pip_install("openvino") in describe(embedder, EmbeddingSection())
