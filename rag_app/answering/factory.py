"""Config → what answers from retrieved nodes."""

from collections.abc import Mapping
from typing import Any

from rag_app.answering.base import RagSynthesizer
from rag_app.answering.confidence import Judge
from rag_app.answering.extractive import Extractor
from rag_app.answering.inference import build_inference
from rag_app.answering.prompts import PromptTemplate
from rag_app.answering.support import SupportChecker
from rag_app.answering.synthesizer import ExtractiveSynthesizer, PromptSynthesizer
from rag_app.config.sections import Config
from rag_app.embedding.base import Embedder
from rag_app.embedding.factory import build_embedder
from rag_app.llms import PackableLLM, build_llm
from rag_app.runner import Runner


def make_synthesizer(
    config: Config,
    embedder: Embedder | None = None,
    *,
    streaming: bool = False,
    llm: PackableLLM | None = None,
    sampling: Mapping[str, Any] | None = None,
    runner: Runner | None = None,
) -> RagSynthesizer:
    """Return what answers from retrieved nodes.

    Parameters
    ----------
    embedder, llm
        Those that are there already; None: what the backend needs is built.
    sampling
        Sampling parameters that differ from those that the LLM was built with.
    runner
        Where blocking steps run.

    Raises
    ------
    LLMError
        If the configured backend cannot run here.
    """
    judge = Judge(config.answer)
    # An LLM that is given is asked, whatever the configuration says.
    if llm is None and config.llm.backend == "extractive":
        extractor = make_extractor(config, embedder)
        return ExtractiveSynthesizer(extractor, streaming=streaming, runner=runner, judge=judge)
    return PromptSynthesizer(
        llm or build_llm(config.llm),
        PromptTemplate.load(config.prompt.template),
        streaming=streaming,
        order=config.prompt.order,
        sampling=sampling,
        instructions=config.prompt.instructions,
        runner=runner,
        # No embedder: it marks what words mark, and takes time (docs/answers.md).
        checker=SupportChecker(config.retrieval.language, infer=build_inference(config.support)),
        strict=config.prompt.strict,
        judge=judge,
    )


def make_extractor(config: Config, embedder: Embedder | None = None) -> Extractor:
    """Return what quotes, with this embedder or the configured one."""
    return Extractor(
        config.llm.extractive,
        embedder or build_embedder(config.embedding),
        config.retrieval.language,
    )
