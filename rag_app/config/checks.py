"""What cannot be combined in a configuration, though each value is right alone."""

import math

from rag_app.config.sections import SPECIAL_TOKENS, Config
from rag_app.errors import ConfigError, InputError
from rag_app.index.checks import Fault, faults

CHARACTERS_PER_TOKEN = 4
"""Rule of thumb for English text (OpenAI's tokenizer help page), for checks made before any
tokenizer is loaded. Wherever a tokenizer is at hand, tokens are counted."""


def check_combinations(config: Config) -> None:
    """Refuse values that are right alone and impossible together.

    Raises
    ------
    ConfigError
        Naming the keys, their values, where they came from, and the remedy.
    """
    _check_runtime(config)
    _check_chunking(config)
    _check_index(config)
    _check_filter(config)
    _check_retrieval(config)
    _check_prompt_room(config)


def _said(config: Config, key: str) -> str:
    section, name = key.split(".")
    value = getattr(getattr(config, section), name)
    return f"{key} = {value} ({config.origin(key)})"


def _check_runtime(config: Config) -> None:
    embedding = config.embedding
    if embedding.runtime in {"auto", "torch"}:
        return
    if embedding.device not in {"auto", "cpu"}:
        raise ConfigError(
            f"{_said(config, 'embedding.device')}, and {_said(config, 'embedding.runtime')} runs "
            "on the processor only",
            'set embedding.runtime = "torch", or leave embedding.device out',
        )
    if embedding.runtime == "onnx" and embedding.dtype not in {"auto", "float32"}:
        raise ConfigError(
            f"{_said(config, 'embedding.dtype')}, and {_said(config, 'embedding.runtime')} "
            "computes in float32 only",
            'set embedding.dtype = "auto", or embedding.runtime = "openvino"',
        )


def _check_chunking(config: Config) -> None:
    chunking = config.chunking
    if chunking.overlap >= chunking.size:
        raise ConfigError(
            f"{_said(config, 'chunking.overlap')} is not smaller than "
            f"{_said(config, 'chunking.size')}",
            f"set chunking.overlap to {chunking.size // 10} (a tenth of the size)",
        )
    reads = config.embedding.known_max_length()
    if reads is None:
        return
    most = reads - SPECIAL_TOKENS
    if chunking.unit == "characters":
        most *= CHARACTERS_PER_TOKEN
    if chunking.size > most:
        raise ConfigError(
            f"{_said(config, 'chunking.size')} {chunking.unit} is more than the embedder "
            f"{config.embedding.model} reads: {reads} tokens, {SPECIAL_TOKENS} of them special; "
            "the rest of each node would never be found",
            f"set chunking.size to at most {most}, or embedding.model to one that reads more",
        )


def _check_index(config: Config) -> None:
    index = config.index
    found = faults(
        index.type,
        index.metric,
        index.params,
        index.search_params,
        top_k=config.retrieval.similarity_top_k,
        lite=config.vector_store.is_lite,
    )
    for fault in found:
        raise index_error(config, fault)


def index_error(config: Config, fault: Fault, asked: str = "") -> ConfigError:
    """Say what is wrong with a key of ``[index]``: its value, where it is from, what will do.

    Parameters
    ----------
    asked
        An index type that ``--types`` names, in place of the configured one.
    """
    if asked and fault.key == "type":
        return ConfigError(f"index.type = {asked} (--types) {fault.reason}", fault.remedy)
    key = f"index.{fault.key}"
    is_table = fault.key in {"params", "search_params"}
    said = f"{key} ({config.origin(key)})" if is_table else _said(config, key)
    return ConfigError(f"{said} {fault.reason}", fault.remedy)


def _check_filter(config: Config) -> None:
    if not config.retrieval.filter.strip():
        return
    from rag_app.retrieval.filter_text import parse_filter  # LlamaIndex: 1.3 s

    try:
        parse_filter(config.retrieval.filter)
    except InputError as error:
        origin = config.origin("retrieval.filter")
        raise ConfigError(f"retrieval.filter ({origin}): {error.message}", error.remedy) from None


def _check_retrieval(config: Config) -> None:
    retrieval = config.retrieval
    chooses = retrieval.mode in {"hybrid", "mmr"} or retrieval.reranker.is_on
    if chooses and retrieval.candidates < retrieval.similarity_top_k:
        raise ConfigError(
            f"{_said(config, 'retrieval.candidates')} is less than "
            f"{_said(config, 'retrieval.similarity_top_k')}",
            f"set retrieval.candidates to {retrieval.similarity_top_k} or more",
        )
    comparable = retrieval.mode in {"dense", "mmr"} or retrieval.reranker.is_on
    if retrieval.min_score is not None and not comparable:
        raise ConfigError(
            f"{_said(config, 'retrieval.min_score')}, and scores of "
            f"{_said(config, 'retrieval.mode')} cannot be compared from question to question",
            'set retrieval.mode = "dense", configure retrieval.reranker, or leave it out',
        )


def _check_prompt_room(config: Config) -> None:
    from rag_app.answering.prompts import PromptTemplate

    template = PromptTemplate.load(config.prompt.template)
    window = config.llm.known_context_window
    if config.llm.backend == "extractive" or window is None:
        return
    fixed = math.ceil(len(template.render([], "")) / CHARACTERS_PER_TOKEN)
    if fixed + config.llm.max_tokens >= window:
        raise ConfigError(
            f"the prompt (about {fixed} tokens without contexts) and "
            f"{_said(config, 'llm.max_tokens')} leave no room for contexts in the window of "
            f"{window} tokens",
            f"set llm.max_tokens to at most {max(1, (window - fixed) // 2)}, or raise the window "
            "(llm.context_window or llm.engine.max_model_len)",
        )
