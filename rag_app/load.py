"""`load_config`: the configuration as everyone gets it, loaded and checked.

What cannot be combined, though each value is right alone, is told by the packages that use it:
filters, templates and indexes each know their own.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rag_app.config import loader
from rag_app.config.index_checks import faults, index_error
from rag_app.config.sections import SPECIAL_TOKENS, Config
from rag_app.errors import ConfigError, InputError
from rag_app.search.modes import find_mode

CHARACTERS_PER_TOKEN = 4
"""Rule of thumb for English text (OpenAI's tokenizer help page), for checks made before any
tokenizer is loaded. Wherever a tokenizer is at hand, tokens are counted."""


def load_config(
    path: str | Path | None = None,
    profile: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Load, merge and check the configuration.

    Parameters
    ----------
    path
        A TOML file; None: RAG_APP_CONFIG, the nearest ``config.toml`` in the current folder or
        above, the one in the user's data folder, or the package's own. Relative paths in it are
        seen from its folder (in the package's own: from the user's data folder).
    profile
        The profile to switch on; None: RAG_APP_PROFILE, or the file's ``profile`` line.
    overrides
        Dotted keys and their values, e.g. ``{"llm.temperature": 0}``; they win over everything.
        Text is read as in the environment ("0", "true", "[1, 2]") where the key is not a text.

    Raises
    ------
    ConfigError
        Naming file, key, value and remedy.
    """
    config = loader.load(path, profile, overrides or {})
    check_combinations(config)
    return config


def check_file_text(text: str, file: Path, profile: str | None) -> None:
    """Check that a configuration file could be loaded if it held this text. Raises as that."""
    check_combinations(loader.load_text(text, file, profile))


def override(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return a configuration with other values of some dotted keys, checked as a file's are.

    Raises
    ------
    ConfigError
        Naming key, value and remedy.
    """
    changed = loader.override(config, changes)
    check_combinations(changed)
    return changed


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


def _check_runtime(config: Config) -> None:
    embedding = config.embedding
    if embedding.runtime in {"auto", "torch"}:
        return
    if embedding.device not in {"auto", "cpu"}:
        raise ConfigError(
            f"{config.said('embedding.device')}, and {config.said('embedding.runtime')} runs "
            "on the processor only",
            'set embedding.runtime = "torch", or leave embedding.device out',
        )
    if embedding.runtime == "onnx" and embedding.dtype not in {"auto", "float32"}:
        raise ConfigError(
            f"{config.said('embedding.dtype')}, and {config.said('embedding.runtime')} "
            "computes in float32 only",
            'set embedding.dtype = "auto", or embedding.runtime = "openvino"',
        )


def _check_chunking(config: Config) -> None:
    chunking = config.chunking
    if chunking.overlap >= chunking.size:
        raise ConfigError(
            f"{config.said('chunking.overlap')} is not smaller than {config.said('chunking.size')}",
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
            f"{config.said('chunking.size')} {chunking.unit} is more than the embedder "
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
        lite=config.vector_store.is_file,
    )
    for fault in found:
        raise index_error(config, fault)


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
    try:
        mode = find_mode(retrieval.mode)
    except ConfigError as error:
        origin = config.origin("retrieval.mode")
        raise ConfigError(f"retrieval.mode ({origin}): {error.message}", error.remedy) from None
    chooses = mode.takes_candidates or retrieval.reranker.is_on
    if chooses and retrieval.candidates < retrieval.similarity_top_k:
        raise ConfigError(
            f"{config.said('retrieval.candidates')} is less than "
            f"{config.said('retrieval.similarity_top_k')}",
            f"set retrieval.candidates to {retrieval.similarity_top_k} or more",
        )
    comparable = mode.is_comparable or retrieval.reranker.is_on
    if retrieval.min_score is not None and not comparable:
        raise ConfigError(
            f"{config.said('retrieval.min_score')}, and scores of "
            f"{config.said('retrieval.mode')} cannot be compared from question to question",
            'set retrieval.mode = "dense", configure retrieval.reranker, or leave it out',
        )


def _check_prompt_room(config: Config) -> None:
    is_asked = config.llm.backend != "extractive"
    if not (is_asked or config.prompt.template):
        return  # an ingest needs nothing of what answers
    from rag_app.answering.prompts import PromptTemplate

    # Loaded wherever one is named: a mistake in it shows now, whoever answers.
    template = PromptTemplate.load(config.prompt.template)
    window = config.llm.known_context_window
    if not is_asked or window is None:
        return
    fixed = math.ceil(len(template.render([], "")) / CHARACTERS_PER_TOKEN)
    if fixed + config.llm.max_tokens >= window:
        raise ConfigError(
            f"the prompt (about {fixed} tokens without contexts) and "
            f"{config.said('llm.max_tokens')} leave no room for contexts in the window of "
            f"{window} tokens",
            f"set llm.max_tokens to at most {max(1, (window - fixed) // 2)}, or raise the window "
            "(llm.context_window or llm.engine.max_model_len)",
        )
