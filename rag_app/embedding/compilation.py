"""Compile an embedding model: export it, check it against the original, put it in its place.

The one module of the compiled runtimes that needs torch. Pooling goes into the exported model;
scaling vectors to length 1 is done outside, in float32, whatever the model computes in.
"""

import logging
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from rag_app.config.sections import EmbeddingSection
from rag_app.embedding.compiled import (
    COMPILED_VERSION,
    TOKENIZER,
    AboutCompiled,
    CompiledEmbedder,
)
from rag_app.embedding.runtimes import (
    COMPILERS,
    IDS,
    MASK,
    VECTOR,
    CannotCompileError,
    NotCompiledError,
    Runtime,
)
from rag_app.embedding.torch import TorchEmbedder, load_with_torch
from rag_app.errors import RagAppError, first_line

LOWEST_COSINE = 0.999
"""A compiled model is refused if one of the checked texts' vectors is further from the original's:
one collection may be written by one runtime and searched by another."""

_UNUSED_AFTER = 3600.0
"""Seconds after which a folder that a compilation left half-made is taken for abandoned."""

_PARAGRAPH = (
    "The river had been rising since Tuesday, and the ferry, which in other years ran until the "
    "end of October, was tied up below the mill; whoever wanted to cross walked to the bridge at "
    "Ansel, eleven kilometres upstream. Prices in the market went up by a tenth, then by a third. "
)

CHECKED_TEXTS = (
    "",
    "x",
    "HNSW",
    "What do the parameters for HNSW mean?",
    _PARAGRAPH,
    _PARAGRAPH * 3,
    _PARAGRAPH * 30,
    "def area(radius: float) -> float:\n    return math.pi * radius**2  # in m²\n",
    "| index | metric |\n|---|---|\n| IVF_FLAT | L2 |\n",
    "Die Fähre fuhr wegen des Hochwassers nicht; bis zur Brücke waren es elf Kilometer.",
    "Le bac ne circulait plus, et le pont le plus proche était à onze kilomètres en amont.",
    "Из-за паводка паром не ходил, и до моста было одиннадцать километров.",
    "因为河水上涨,渡船停运,最近的桥在上游十一公里处。",
    "増水のため渡し船は止まり、一番近い橋は十一キロ上流にあった。",
    "강물이 불어 나룻배가 멈췄고 가장 가까운 다리는 11킬로미터 위에 있었다.",
    "توقفت العبّارة بسبب ارتفاع النهر، وأقرب جسر على بعد أحد عشر كيلومترًا.",
    "बाढ़ के कारण नाव बंद थी, और सबसे पास का पुल ग्यारह किलोमीटर दूर था।",
    "🚢 ➜ 🌉 11 km ↑",
)
"""Short, long, longer than any model reads, code, tables, nine languages."""

_TIMED_TEXTS = [_PARAGRAPH * 2] * 8
"""About a thousand tokens."""


class _Pooled(torch.nn.Module):
    """A transformer with its pooling, from token ids to vectors."""

    def __init__(self, transformer: Any, pooling: str) -> None:
        super().__init__()
        self.transformer = transformer
        self.pooling = pooling

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return vectors (texts by dimensions)."""
        output = self.transformer(input_ids=input_ids, attention_mask=attention_mask)
        states: torch.Tensor = output.last_hidden_state
        if self.pooling == "cls":
            return states[:, 0]
        weights = attention_mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def compile_model(section: EmbeddingSection, runtime: Runtime, folder: Path) -> None:
    """Compile the configured model into `folder`, all or nothing.

    It is made beside and renamed when it is whole, so that a process killed on the way leaves
    nothing that could be taken for a model, and two processes at once end with one.

    Raises
    ------
    CannotCompileError
        If the model is built of what cannot be compiled, does not compile, or gives vectors that
        are not the original's.
    NotCompiledError
        If there is no room for its copy.
    ModelUnavailableError
        If the model is not here.
    """
    runtime.require(*COMPILERS)
    # No instruction: the copy keeps the model's own, since it serves whatever is configured.
    plain = section.model_copy(
        update={"runtime": "torch", "device": "cpu", "dtype": "float32", "query_instruction": None}
    )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder.parent)
        making = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    except OSError as error:
        raise NotCompiledError(
            f"the compiled model cannot be written into {folder.parent}: {error.strerror}",
            "set embedding.compiled_folder to a folder that can be written to",
        ) from None
    try:
        original = load_with_torch(plain)
        pooling = _pooling_of(original._model, section.model)
        about = _about(section, runtime, original, pooling)
        _export(original._model, pooling, runtime, making)
        original._counter.save(str(making / TOKENIZER))
        # Before the check as well: the embedder that is checked reads it.
        about.write(making)
        compiled = CompiledEmbedder(making, section)
        about = _check(about, original, compiled)
        about.write(making)
        making.chmod(0o755)  # `mkdtemp` lets in its owner alone
        _put_in_place(making, folder)
    except RagAppError:
        raise
    except (OSError, MemoryError) as error:  # of this moment, not of the model
        raise NotCompiledError(
            f"{section.model} could not be compiled for {runtime.name}: {first_line(error)}",
            f"make room for it in memory and in {folder.parent}, or set embedding.runtime = "
            '"torch"',
        ) from error
    except Exception as error:  # torch.export, onnx and the runtimes raise their own
        raise CannotCompileError(
            f"{section.model} cannot be compiled for {runtime.name}: {first_line(error)}",
            'set embedding.runtime = "torch"',
        ) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _pooling_of(model: SentenceTransformer, name: str) -> str:
    """Return how token vectors become one, or refuse what the exported model would not do."""
    stack = [type(module).__name__ for module in model]
    mode = getattr(model[1], "pooling_mode", None) if len(stack) > 1 else None
    ignores_prompt = mode is not None and not getattr(model[1], "include_prompt", True)
    if stack not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        reason = f"it is built of {', '.join(stack)}, not of Transformer, Pooling and Normalize"
    elif mode not in {"mean", "cls"}:
        reason = f'its pooling is {mode!r}, not "mean" or "cls"'
    elif ignores_prompt:
        reason = "its pooling leaves the prompt out"
    else:
        return str(mode)
    raise CannotCompileError(
        f"{name} cannot be compiled: {reason}", 'set embedding.runtime = "torch"'
    )


def _export(model: SentenceTransformer, pooling: str, runtime: Runtime, folder: Path) -> None:
    transformer: Any = model[0]
    pooled = _Pooled(transformer.auto_model, pooling).eval()
    # Two texts: torch takes a dimension of 1 for a constant.
    ids = torch.ones((2, 16), dtype=torch.int64)
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    exported = folder / "exported"
    exported.mkdir()
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of operators of torchvision, which nothing here has
    try:
        with warnings.catch_warnings():
            # torch's exporter calls what torch and copyreg deprecate; nothing of it is ours.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                pooled,
                (),
                exported / "model.onnx",
                kwargs={IDS: ids, MASK: torch.ones_like(ids)},
                input_names=[IDS, MASK],
                output_names=[VECTOR],
                dynamic_shapes={IDS: dynamic, MASK: dynamic},
                dynamo=True,
                external_data=True,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    runtime.store(exported / "model.onnx", folder)
    shutil.rmtree(exported)


def _about(
    section: EmbeddingSection, runtime: Runtime, original: TorchEmbedder, pooling: str
) -> AboutCompiled:
    packages = ("torch", "transformers", "sentence-transformers", "onnx", "onnxscript")
    return AboutCompiled(
        version=COMPILED_VERSION,
        model=section.identity,
        runtime=runtime.name,
        dtype=runtime.choose_dtype(section.dtype),
        dimension=original.dimension,
        max_length=original.max_length,
        pad_id=int(original._model.tokenizer.pad_token_id or 0),
        pooling=pooling,
        query_instruction=original.query_instruction or "",
        made_with={
            **{package: version(package) for package in packages},
            runtime.package: runtime.package_version,
        },
    )


def _check(
    about: AboutCompiled, original: TorchEmbedder, compiled: CompiledEmbedder
) -> AboutCompiled:
    """Compare both models' vectors, time both, and write down the figures."""
    cosines = _cosines(
        original.get_text_embedding_batch(list(CHECKED_TEXTS)),
        compiled.get_text_embedding_batch(list(CHECKED_TEXTS)),
    )
    lowest = float(cosines.min())
    if not lowest >= LOWEST_COSINE:  # so that NaN is refused as well
        text = CHECKED_TEXTS[int(cosines.argmin())]
        raise CannotCompileError(
            f"{about.model} compiled for {about.runtime} in {about.dtype} gives other vectors than "
            f"the original: cosine {lowest:.4f} for {text[:40]!r}, and {LOWEST_COSINE} is asked",
            'set embedding.dtype = "float32", or embedding.runtime = "torch"',
        )
    seconds = {
        "torch": _processor_seconds(original.get_text_embedding_batch),
        about.runtime: _processor_seconds(compiled.get_text_embedding_batch),
    }
    return replace(
        about,
        lowest_cosine=round(lowest, 6),
        checked_texts=len(CHECKED_TEXTS),
        processor_seconds=seconds,
    )


def _cosines(
    ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]
) -> NDArray[np.float64]:
    one, other = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines: NDArray[np.float64] = (one * other).sum(axis=1) / lengths
    return cosines


def _processor_seconds(embed: Callable[[list[str]], object]) -> float:
    """Time the same texts twice, and return the better time, of all threads together."""
    times = []
    for _ in range(2):
        started = time.process_time()
        embed(_TIMED_TEXTS)
        times.append(time.process_time() - started)
    return round(min(times), 4)


def _put_in_place(making: Path, folder: Path) -> None:
    try:
        making.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster, and its model is as good
            raise


def _remove_abandoned(parent: Path) -> None:
    """Remove what killed compilations left."""
    for left in parent.glob(".making-*"):
        if time.time() - left.stat().st_mtime > _UNUSED_AFTER:
            shutil.rmtree(left, ignore_errors=True)
