"""What cannot be combined in a configuration, though each value is right alone."""

import math

from rag_app.config import SPECIAL_TOKENS, Config
from rag_app.errors import ConfigError, InputError
from rag_app.indexes import INDEX_TYPES

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
    _check_prompt_room(config)


def _said(config: Config, key: str) -> str:
    section, name = key.split(".")
    value = getattr(getattr(config, section), name)
    return f"{key} = {value} ({config.origin(key)})"


def _check_runtime(config: Config) -> None:
    embedding = config.embedding
    if embedding.runtime == "torch":
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
    chosen = INDEX_TYPES[config.index.type]
    if config.vector_store.is_lite and not chosen.lite:
        raise ConfigError(
            f"{_said(config, 'index.type')} is not built by Milvus Lite "
            f"({_said(config, 'vector_store.uri')}), which would accept the name and could not "
            "load the collection again",
            "set index.type to one of "
            + ", ".join(name for name, kind in INDEX_TYPES.items() if kind.lite)
            + ', or vector_store.uri to a Milvus server ("http://host:19530")',
        )
    for key, allowed in (("params", chosen.params), ("search_params", chosen.search_params)):
        for name in getattr(config.index, key):
            if name not in allowed:
                raise ConfigError(
                    f"index.{key} has {name!r} ({config.origin(f'index.{key}')}), which "
                    f"{config.index.type} does not know",
                    f"use {', '.join(allowed)}" if allowed else f"leave index.{key} out",
                )


def _check_filter(config: Config) -> None:
    if not config.retrieval.filter.strip():
        return
    from rag_app.filter_text import parse_filter  # LlamaIndex: 1.3 s

    try:
        parse_filter(config.retrieval.filter)
    except InputError as error:
        origin = config.origin("retrieval.filter")
        raise ConfigError(f"retrieval.filter ({origin}): {error.message}", error.remedy) from None


def _check_prompt_room(config: Config) -> None:
    from rag_app.prompts import PromptTemplate

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
