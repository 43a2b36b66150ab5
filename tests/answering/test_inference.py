"""A model for natural language inference that decides about support."""

import json
from pathlib import Path

import pytest

from rag_app.answering.inference import build_inference
from rag_app.config.support import SupportSection
from rag_app.errors import ModelUnavailableError
from tests.cross_encoder import make_cross_encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_cross_encoder(tmp_path_factory.mktemp("nli"), labels=3)
    file = made / "config.json"
    labels = ["contradiction", "entailment", "neutral"]
    settings = json.loads(file.read_text()) | {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: at for at, label in enumerate(labels)},
    }
    file.write_text(json.dumps(settings))
    return made


def test_without_a_model_there_is_none() -> None:
    assert build_inference(SupportSection()) is None


def test_probability_of_entailment(folder: Path) -> None:
    infer = build_inference(SupportSection(nli_model=str(folder)))
    assert infer is not None
    licence, other = infer("This License is granted.", "It is granted."), infer("A", "Work")
    assert 0 < licence < 1
    assert licence != other
    assert infer("A", "Work") == other


def test_a_model_without_entailment_is_refused(folder: Path, tmp_path: Path) -> None:
    reranker = make_cross_encoder(tmp_path, labels=3)
    with pytest.raises(ModelUnavailableError, match="none is entailment"):
        build_inference(SupportSection(nli_model=str(reranker)))
