"""The names that the package offers, and what importing them costs."""

import subprocess
import sys
from pathlib import Path

import pytest

import rag_app

ANSWERING = tuple(f"rag_app.{name}" for name in ("answering", "retrieval", "llms", "app"))
HEAVY = ("llama_index", "torch", "pymilvus", "transformers", "sentence_transformers", "pydantic")


def modules_after(code: str) -> set[str]:
    """Run code in a process of its own; return the modules it imported."""
    report = "import sys; print('\\n'.join(sys.modules))"
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(ended.stdout.split())


def test_an_ingest_imports_nothing_that_answers(docs: Path) -> None:
    """Nor does its help, and that imports no library but click."""
    ingest = "from rag_app.cli import main; main({}, standalone_mode=False)"
    offered = modules_after(ingest.format(["ingest", "--help"]))
    assert offered.isdisjoint(HEAVY)
    arguments = ["--set", "embedding.runtime=torch", "ingest", str(docs)]
    used = modules_after(ingest.format(arguments))
    assert "rag_app.ingestion.pipeline" in used
    assert {name for name in offered | used if name.startswith(ANSWERING)} == set()


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert modules_after("import rag_app; dir(rag_app)").isdisjoint(HEAVY)


def test_loading_a_configuration_loads_no_other_heavy_library() -> None:
    loaded = modules_after("from rag_app import load_config; load_config()")
    assert "pydantic" in loaded
    assert loaded.isdisjoint(set(HEAVY) - {"pydantic"})


@pytest.mark.parametrize("name", rag_app.__all__)
def test_every_name_is_there(name: str) -> None:
    found = getattr(rag_app, name)
    assert found.__name__ == name
    assert found.__doc__


def test_names_are_those_of_the_readme() -> None:
    from rag_app import build_query_engine, build_retriever, ingest, load_config

    assert all(map(callable, (build_query_engine, build_retriever, ingest, load_config)))
    assert set(rag_app.__all__) == set(rag_app._HOMES)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'rag_app' has no attribute 'ingets'"):
        rag_app.ingets  # noqa: B018


def test_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert rag_app.__version__ == version("rag-app")
