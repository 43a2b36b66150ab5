"""Config → a cross-encoder for natural language inference, which tells what a passage entails."""

from functools import cache
from threading import Lock
from typing import Any

import numpy as np

from rag_app.answering.support import Infer
from rag_app.config.support import SupportSection
from rag_app.embedding.locate import locate_source
from rag_app.errors import ModelUnavailableError, first_line

_KEY = "support.nli_model"


def build_inference(section: SupportSection) -> Infer | None:
    """Load the configured model; None if there is none.

    Raises
    ------
    ModelUnavailableError
        If it is not here and cannot be fetched, or tells no "entailment".
    """
    return _load(section.nli_model) if section.nli_model else None


@cache  # it is asked for with every query engine
def _load(model: str) -> Infer:
    source = locate_source(model, _KEY)

    from sentence_transformers import CrossEncoder  # 6 s

    from rag_app.embedding.torch import no_loading_bar

    try:
        with no_loading_bar():
            return _Inference(CrossEncoder(source, trust_remote_code=False))
    except Exception as error:  # damaged files end in whatever the library that reads them raises
        raise ModelUnavailableError(
            f"the inference model {model!r} cannot be loaded: {first_line(error)}",
            f"check {_KEY} and the network; a model that was copied here goes by its folder",
        ) from error


class _Inference:
    """Gives the probability of entailment; safe for threads, one at a time."""

    def __init__(self, encoder: Any) -> None:
        labels = {str(name).casefold(): at for at, name in encoder.config.id2label.items()}
        if "entailment" not in labels:
            raise ValueError(f"its labels are {', '.join(sorted(labels))}, none is entailment")
        self._place = int(labels["entailment"])
        self._encoder = encoder
        self._lock = Lock()  # its tokenizer is set to cut while it works

    def __call__(self, passage: str, said: str) -> float:
        with self._lock:
            (logits,) = self._encoder.predict([(passage, said)], show_progress_bar=False)
        odds = np.exp(logits - np.max(logits))
        return float(odds[self._place] / odds.sum())
