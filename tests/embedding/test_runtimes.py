"""OpenVINO and onnxruntime: real models, compiled once, against the same models run by torch."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers import BertConfig, BertModel

from rag_app.build import build_retriever
from rag_app.config.sections import EmbeddingSection
from rag_app.embedding import compilation, runtimes
from rag_app.embedding import compiled as compiled_embeddings
from rag_app.embedding.base import Embedder
from rag_app.embedding.compilation import CHECKED_TEXTS
from rag_app.embedding.compiled import ABOUT, CompiledEmbedder, compiled_folder
from rag_app.embedding.factory import build_embedder, describe
from rag_app.embedding.runtimes import RUNTIMES
from rag_app.errors import ConfigError, ModelUnavailableError
from rag_app.ingestion.run import ingest
from rag_app.install import pip_install
from tests.conftest import MakeConfig, json_of, make_files

BGE_INSTRUCTION = "Represent this sentence for searching relevant passages: "

LIBRARIES = {"openvino": "openvino", "onnx": "onnxruntime"}
INSTALLED = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            find_spec(library) is None or find_spec("onnxscript") is None,
            reason=f"{library} is not installed: pip install 'rag-app[{name}]'",
        ),
    )
    for name, library in LIBRARIES.items()
]

TEXTS = [
    *CHECKED_TEXTS,
    *(f"Question {number}: " + "how deep is the harbour? " * number for number in range(0, 40, 5)),
]


@pytest.fixture(scope="session", params=INSTALLED)
def runtime(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def compiled_models() -> Path:
    return Path(os.environ["RAG_APP_EMBEDDING__COMPILED_FOLDER"])


@pytest.fixture(scope="session")
def section(runtime: str, compiled_models: Path) -> EmbeddingSection:
    return EmbeddingSection.model_validate(
        {"runtime": runtime, "compiled_folder": str(compiled_models)}
    )


def load_compiled(section: EmbeddingSection) -> CompiledEmbedder:
    embedder = build_embedder(section)
    assert isinstance(embedder, CompiledEmbedder)
    return embedder


@pytest.fixture(scope="session")
def compiled(section: EmbeddingSection) -> CompiledEmbedder:
    """The real MiniLM, compiled."""
    return load_compiled(section)


@pytest.fixture(scope="session")
def bge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model built as BGE is, with random weights: BERT, the first token's vector, length 1."""
    folder = tmp_path_factory.mktemp("models") / "bge-small-en-v1.5"
    return save_model(folder, "cls", normalize=True)


def save_model(folder: Path, pooling: str, *, normalize: bool = False, dense: bool = False) -> Path:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.5,  # so that different texts get different vectors
    )
    plain = folder.with_name(f"{folder.name}-transformer")
    BertModel(config).save_pretrained(plain)  # type: ignore[no-untyped-call]
    source = EmbeddingSection().folder
    assert source is not None
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(source / name, plain)
    modules: list[Any] = [Transformer(str(plain)), Pooling(32, pooling_mode=pooling)]
    if dense:
        modules.append(Dense(32, 16))
    if normalize:
        modules.append(Normalize())
    SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    return folder


def cosines(one: list[list[float]], other: list[list[float]]) -> NDArray[np.float64]:
    return compilation._cosines(one, other)


# --- vectors -------------------------------------------------------------------------------------


def test_vectors_are_those_of_torch(compiled: CompiledEmbedder, embedder: Embedder) -> None:
    ours = compiled.get_text_embedding_batch(TEXTS)
    assert cosines(ours, embedder.get_text_embedding_batch(TEXTS)).min() > 0.999
    assert np.linalg.norm(ours, axis=1) == pytest.approx(1, abs=1e-5)
    apart = compiled.get_text_embedding_batch(["An apple pie.", "The treaty of 1648."])
    assert cosines(apart[:1], apart[1:]).max() < 0.5


def test_a_text_has_the_same_vector_alone_and_among_others(compiled: CompiledEmbedder) -> None:
    together = compiled.get_text_embedding_batch(TEXTS)
    for at in (0, 4, 6, len(TEXTS) - 1):
        assert cosines([compiled.get_text_embedding(TEXTS[at])], [together[at]]).min() > 0.9999


def test_it_counts_as_torch_does(compiled: CompiledEmbedder, embedder: Embedder) -> None:
    assert compiled.dimension == embedder.dimension == 384
    assert compiled.max_length == embedder.max_length == 256
    assert compiled.content_tokens == embedder.content_tokens == 254
    for text in CHECKED_TEXTS:
        assert compiled.tokenize(text) == embedder.tokenize(text)
    assert len(compiled.tokenize("word " * 1000)) == 1000


def test_it_says_what_it_is(compiled: CompiledEmbedder, section: EmbeddingSection) -> None:
    said = describe(compiled, section)
    assert f"by {section.runtime} on cpu in {compiled.dtype}" in said
    assert "384 dimensions, 256 tokens" in said


def test_questions_carry_the_instruction(
    compiled: CompiledEmbedder, section: EmbeddingSection
) -> None:
    instructed = build_embedder(section.model_copy(update={"query_instruction": "Find: "}))
    asked = instructed.get_query_embedding("a bridge")
    assert cosines([asked], [compiled.get_text_embedding("Find: a bridge")]).min() > 0.9999
    assert instructed.embed_queries(["a bridge"]) == [asked]
    assert cosines([asked], [compiled.get_query_embedding("a bridge")]).max() < 0.99


async def test_it_works_in_event_loops_and_threads(compiled: CompiledEmbedder) -> None:
    expected = compiled.get_text_embedding_batch(TEXTS[:8])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(compiled.get_text_embedding, TEXTS[:8]))
    assert cosines(found, expected).min() > 0.9999
    assert cosines([await compiled.aget_query_embedding("x")], [expected[1]]).min() > 0.9999
    assert cosines(await compiled.aget_text_embedding_batch(TEXTS[:8]), expected).min() > 0.9999


def test_a_model_with_cls_pooling(bge: Path, section: EmbeddingSection) -> None:
    update = {"model": str(bge)}
    ours = load_compiled(section.model_copy(update=update))
    torchs = build_embedder(EmbeddingSection(runtime="torch", model=str(bge), dtype="float32"))
    assert ours.about.pooling == "cls"
    assert ours.max_length == torchs.max_length == 64
    vectors = ours.get_text_embedding_batch(TEXTS)
    assert cosines(vectors, torchs.get_text_embedding_batch(TEXTS)).min() > 0.9999
    # The instruction is found by the folder's name, when it is compiled.
    assert ours.about.query_instruction == BGE_INSTRUCTION
    assert cosines([ours.get_query_embedding("x")], [torchs.get_query_embedding("x")]).min() > 0.999


def test_vectors_are_left_as_they_are_if_asked(
    tmp_path: Path, section: EmbeddingSection, compiled_models: Path
) -> None:
    model = save_model(tmp_path / "plain", "mean")
    update = {"model": str(model), "normalize": False}
    ours = build_embedder(section.model_copy(update=update))
    torchs = build_embedder(
        EmbeddingSection(runtime="torch", model=str(model), normalize=False, dtype="float32")
    )
    expected = np.linalg.norm(torchs.get_text_embedding_batch(TEXTS), axis=1)
    assert expected.min() > 1.5
    found = np.linalg.norm(ours.get_text_embedding_batch(TEXTS), axis=1)
    assert found == pytest.approx(expected, rel=1e-3)


def test_passes_hold_the_budget_and_every_text_once() -> None:
    lengths = [3, 500, 8, 9, 256, 0, 4000, *([20] * 300)]
    passes = list(compiled_embeddings._passes(lengths))
    assert sorted(at for of_pass in passes for at in of_pass) == list(range(len(lengths)))
    assert lengths[passes[0][0]] == 4000
    for of_pass in passes[1:]:
        assert len(of_pass) * max(lengths[at] for at in of_pass) <= 2048


def test_short_texts_are_not_padded_to_long_ones() -> None:
    lengths = [200, 30, 31, 28, 150, 29, 27, 40]
    padding = [
        sum(max(lengths[at] for at in of_pass) - lengths[at] for at in of_pass)
        for of_pass in compiled_embeddings._passes(lengths)
    ]
    assert sum(padding) <= sum(lengths) / 8
    assert len(padding) <= len(lengths) / 2


# --- compiled once, whole, and checked -----------------------------------------------------------


def test_it_is_compiled_once(
    compiled: CompiledEmbedder, section: EmbeddingSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "compile_model", lambda *_: pytest.fail("compiled again"))
    assert build_embedder(section).get_query_embedding("x")


def test_it_is_told_what_was_compiled_and_how_it_was_checked(
    compiled: CompiledEmbedder, section: EmbeddingSection
) -> None:
    folder = compiled_folder(section, RUNTIMES[section.runtime])
    about = json.loads((folder / ABOUT).read_text())
    assert about["model"] == section.identity
    assert about["lowest_cosine"] >= 0.999
    assert about["checked_texts"] == len(CHECKED_TEXTS)
    assert about["made_with"]["torch"] == torch.__version__
    assert set(about["processor_seconds"]) == {"torch", section.runtime}


def test_another_model_length_or_type_is_another_copy(section: EmbeddingSection) -> None:
    runtime = RUNTIMES[section.runtime]
    sections = [
        section,
        section.model_copy(update={"max_length": 128}),
        section.model_copy(update={"model": "BAAI/bge-small-en-v1.5"}),
    ]
    if section.runtime == "openvino":
        sections.append(section.model_copy(update={"dtype": "bfloat16"}))
    assert len({compiled_folder(each, runtime) for each in sections}) == len(sections)
    assert compiled_folder(section.model_copy(update={"batch_size": 1}), runtime) == (
        compiled_folder(section, runtime)
    )


def test_other_vectors_than_the_originals_are_refused(
    bge: Path, section: EmbeddingSection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(compilation._Pooled):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return super().forward(input_ids, attention_mask) + 3.0

    monkeypatch.setattr(compilation, "_Pooled", Wrong)
    update = {"model": str(bge), "compiled_folder": str(tmp_path / "compiled")}
    with pytest.raises(ModelUnavailableError, match=r"cosine -?0\.\d+ for .* 0\.999 is asked"):
        build_embedder(section.model_copy(update=update))
    assert list((tmp_path / "compiled").iterdir()) == []


def test_a_killed_compilation_leaves_nothing_half_made(
    bge: Path, section: EmbeddingSection, tmp_path: Path
) -> None:
    folder = tmp_path / "compiled"
    update = {"model": str(bge), "compiled_folder": str(folder)}
    asked = section.model_copy(update=update)
    code = (
        "import sys; from rag_app.config.sections import EmbeddingSection as S;"
        "from rag_app.embedding.factory import build_embedder;"
        "build_embedder(S.model_validate_json(sys.argv[1]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, asked.model_dump_json()])
    deadline = time.monotonic() + 120
    while not list(folder.glob(".making-*/*")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [path.name[:8] for path in folder.iterdir()] == [".making-"]
    (left,) = folder.iterdir()
    os.utime(left, (0, 0))  # abandoned for long
    assert build_embedder(asked).dimension == 32
    assert [path.name[:4] for path in folder.iterdir()] == ["bge-"]


def test_two_at_once_end_with_one(tmp_path: Path) -> None:
    for name in ("making", "other", "done"):
        make_files(tmp_path / name, {"model": name})
    compilation._put_in_place(tmp_path / "making", tmp_path / "done")
    assert (tmp_path / "done/model").read_text() == "done"
    compilation._put_in_place(tmp_path / "other", tmp_path / "new")
    assert (tmp_path / "new/model").read_text() == "other"


def test_damaged_copy_is_an_error_with_its_folder(
    bge: Path, section: EmbeddingSection, tmp_path: Path
) -> None:
    asked = section.model_copy(update={"model": str(bge), "compiled_folder": str(tmp_path)})
    source = compiled_folder(
        section.model_copy(update={"model": str(bge)}), RUNTIMES[section.runtime]
    )
    folder = compiled_folder(asked, RUNTIMES[section.runtime])
    shutil.copytree(source, folder)
    for file in folder.glob("model.*"):
        file.write_bytes(b"")
    with pytest.raises(ModelUnavailableError, match="cannot be used") as caught:
        build_embedder(asked)
    assert f"rm -r '{folder}'" in caught.value.remedy


# --- what cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pooling", "dense", "said"),
    [("max", False, "its pooling is 'max'"), ("mean", True, "Transformer, Pooling, Dense")],
)
def test_model_of_other_modules_is_refused_by_name(
    pooling: str, dense: bool, said: str, section: EmbeddingSection, tmp_path: Path
) -> None:
    model = save_model(tmp_path / "other", pooling, dense=dense)
    with pytest.raises(ModelUnavailableError, match=said) as caught:
        build_embedder(section.model_copy(update={"model": str(model)}))
    assert 'embedding.runtime = "torch"' in caught.value.remedy


@pytest.mark.parametrize("name", LIBRARIES)
def test_runtime_that_is_not_installed_is_an_error_with_the_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda _: None)
    section = EmbeddingSection.model_validate({"runtime": name})
    with pytest.raises(ModelUnavailableError, match=f"{LIBRARIES[name]} is not inst") as caught:
        build_embedder(section)
    assert pip_install(name) in caught.value.remedy


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"embedding__runtime": "onnx", "embedding__device": "cuda"}, "embedding.device = cuda"),
        ({"embedding__runtime": "onnx", "embedding__dtype": "bfloat16"}, "embedding.dtype = bf"),
        ({"embedding__runtime": "tensorrt"}, "embedding.runtime = 'tensorrt'"),
    ],
)
def test_what_does_not_go_together(
    overrides: dict[str, str], said: str, make_config: MakeConfig
) -> None:
    with pytest.raises(ConfigError, match=said):
        make_config(**overrides)


def test_copies_lie_beside_the_configuration_unless_set(
    tmp_path: Path, make_config: MakeConfig, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAG_APP_EMBEDDING__COMPILED_FOLDER")
    assert make_config().embedding.compiled_folder == str(here / "storage/compiled")
    elsewhere = make_config(embedding__compiled_folder=str(tmp_path / "x"))
    assert elsewhere.embedding.compiled_folder == str(tmp_path / "x")


@pytest.mark.parametrize(
    ("flags", "dtype"), [("avx512_bf16", "float32"), ("amx_bf16 amx_tile", "bfloat16")]
)
def test_openvino_takes_bfloat16_only_where_there_is_amx(
    flags: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"flags : fpu sse {flags}\n")
    assert RUNTIMES["openvino"].choose_dtype("auto") == dtype
    assert RUNTIMES["openvino"].choose_dtype("float16") == "float16"
    assert RUNTIMES["onnx"].choose_dtype("auto") == "float32"


# --- the whole application -----------------------------------------------------------------------


def test_one_collection_for_all_runtimes(
    embedder: Embedder,
    compiled: CompiledEmbedder,
    section: EmbeddingSection,
    docs: Path,
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("rag_app.ingestion.run.build_embedder", lambda _: embedder)
        ingest(make_config(), [docs])
    config = make_config(
        embedding__runtime=section.runtime, embedding__compiled_folder=section.compiled_folder
    )
    (best, *_) = build_retriever(config).retrieve("What is M in HNSW?")
    assert best.metadata["path"] == "index.md"
    assert ingest(config, [docs]).nodes_embedded == 0


def test_answers_come_without_torch(
    compiled: CompiledEmbedder,
    section: EmbeddingSection,
    docs: Path,
    here: Path,
    run: Callable[..., Result],
) -> None:
    chosen = {
        "RAG_APP_EMBEDDING__RUNTIME": section.runtime,
        "RAG_APP_EMBEDDING__COMPILED_FOLDER": section.compiled_folder,
    }
    home = here / "home"
    home.mkdir()
    environment = {**os.environ, **chosen, "HOME": str(home), "XDG_CACHE_HOME": ""}
    code = (
        "import sys; from rag_app.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('heavy:', *({'torch', 'transformers', 'sentence_transformers'}"
        " & set(sys.modules)), file=sys.stderr)"
    )
    for arguments in (["ingest", str(docs)], ["retrieve", "HNSW?"], ["query", "What is M?"]):
        result = subprocess.run(
            [sys.executable, "-c", code, *arguments, "--json"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)
        assert result.stderr.splitlines()[-1].strip() == "heavy:"
    # OpenVINO and onnxruntime each keep an id there, under which they would report usage.
    assert [path.name for path in home.rglob("*") if path.is_file()] == []


def test_doctor_names_the_fastest_runtime(
    compiled: CompiledEmbedder,
    section: EmbeddingSection,
    run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for folder, said in (
        (section.compiled_folder, rf"measured when .*{section.runtime} \d\.\d\d"),
        ("nothing-here", "by rule"),
    ):
        monkeypatch.setenv("RAG_APP_EMBEDDING__COMPILED_FOLDER", folder)
        (check,) = [each for each in json_of(run("doctor", "--json")) if each["name"] == "runtime"]
        assert check["ok"]
        assert re.search(f"fastest here: .*{said}", check["finding"])


def test_what_comes_out_of_a_pickle_opens_the_compiled_model_again(
    compiled: CompiledEmbedder,
) -> None:
    again = pickle.loads(pickle.dumps(compiled))
    assert again.get_query_embedding("What is HNSW?") == compiled.get_query_embedding(
        "What is HNSW?"
    )
