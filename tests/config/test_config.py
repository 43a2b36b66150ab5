"""Where values come from, what they may be, and what is never printed."""

import json
import os
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from rag_app.config import paths
from rag_app.config.loader import parse_assignment
from rag_app.config.paths import ConfigFile, find_config, shipped_config
from rag_app.config.sections import Config, EmbeddingSection
from rag_app.errors import ConfigError
from rag_app.load import load_config
from tests.conftest import json_of

PROFILES = ["blog", "cpu", "gpu", "offline"]


def write(text: str, name: str = "config.toml") -> Path:
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


# --- precedence ----------------------------------------------------------------------------------

LAYERED = """
profile = "mine"
[llm]
temperature = 0.1
[profiles.mine.llm]
temperature = 0.3
"""


def test_default_is_lowest() -> None:
    config = load_config(write(""))
    assert config.llm.temperature == 0.2
    assert config.origin("llm.temperature") == "default"


def test_file_overrides_default() -> None:
    config = load_config(write("[llm]\ntemperature = 0.1"))
    assert config.llm.temperature == 0.1
    assert config.origin("llm.temperature") == "config.toml"


def test_profile_overrides_file() -> None:
    config = load_config(write(LAYERED))
    assert config.llm.temperature == 0.3
    assert config.origin("llm.temperature") == "profile mine (config.toml)"


def test_environment_overrides_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_APP_LLM__TEMPERATURE", "0.5")
    config = load_config(write(LAYERED))
    assert config.llm.temperature == 0.5
    assert config.origin("llm.temperature") == "environment RAG_APP_LLM__TEMPERATURE"


def test_command_line_overrides_environment(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    monkeypatch.setenv("RAG_APP_LLM__TEMPERATURE", "0.5")
    write(LAYERED)
    rows = json_of(run("config", "show", "--json", "--set", "llm.temperature=0.7"))
    row = next(row for row in rows if row["key"] == "llm.temperature")
    assert (row["value"], row["origin"]) == (0.7, "command line")


def test_the_last_of_two_assignments_wins(run: Any) -> None:
    rows = json_of(
        run("--set", "llm.max_tokens=5", "config", "show", "--json", "--set", "llm.max_tokens=9")
    )
    assert {row["key"]: row["value"] for row in rows}["llm.max_tokens"] == 9


def test_profile_is_chosen_by_option_then_environment_then_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load_config().profile == "offline"
    monkeypatch.setenv("RAG_APP_PROFILE", "cpu")
    assert load_config().profile == "cpu"
    assert load_config(profile="blog").profile == "blog"


def test_file_without_profile_line_has_none_on() -> None:
    assert load_config(write("")).profile == ""


def test_config_is_found_by_option_then_environment_then_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("[llm]\nmax_tokens = 1")
    write("[llm]\nmax_tokens = 2", "other/by_environment.toml")
    write("[llm]\nmax_tokens = 3", "other/by_option.toml")
    assert load_config().llm.max_tokens == 1
    monkeypatch.setenv("RAG_APP_CONFIG", "other/by_environment.toml")
    assert load_config().llm.max_tokens == 2
    assert load_config("other/by_option.toml").llm.max_tokens == 3


# --- shipped and own profiles --------------------------------------------------------------------


def test_shipped_profiles_are_those_of_the_design() -> None:
    table = tomllib.loads(shipped_config().read_text(encoding="utf-8"))
    assert table["profile"] == "offline"
    assert sorted(table["profiles"]) == PROFILES


@pytest.mark.parametrize("profile", PROFILES)
def test_each_shipped_profile_loads(profile: str) -> None:
    assert load_config(profile=profile).profile == profile


def test_plain_sections_as_shipped_agree_with_the_defaults() -> None:
    table = tomllib.loads(shipped_config().read_text(encoding="utf-8"))
    default = Config().model_dump()
    for section in set(table) - {"profile", "profiles"}:
        for key, value in table[section].items():
            assert default[section][key] == value, f"{section}.{key}"


def test_offline_profile_is_the_default_too() -> None:
    """Without any file, the same runs as on a fresh clone, but for paths: the folder differs."""
    here: dict[str, Any] = {
        "profile": True,
        "documents": {"web_folder"},
        "vector_store": {"uri"},
        "embedding": {"compiled_folder"},
        "server": {"keys_file", "uploads_folder", "feedback_folder", "reports_folder"},
    }
    bare, shipped = load_config(write("")), load_config(shipped_config())
    assert bare.model_dump(exclude=here) == shipped.model_dump(exclude=here)


def test_blog_profile_has_the_walk_throughs_parameters() -> None:
    config = load_config(profile="blog")
    assert (config.chunking.unit, config.chunking.size) == ("characters", 512)
    assert config.chunking.overlap == 51
    assert config.embedding.model == "BAAI/bge-large-en-v1.5"
    assert config.embedding.normalize
    assert (config.index.type, config.vector_store.consistency) == ("AUTOINDEX", "Eventually")
    assert config.retrieval.similarity_top_k == 2
    assert config.llm.model == "meta-llama/Meta-Llama-3.1-8B-Instruct"
    assert (config.llm.temperature, config.llm.top_p) == (0.2, 0.95)
    assert config.llm.engine == {
        "enforce_eager": True,
        "dtype": "bfloat16",
        "gpu_memory_utilization": 0.5,
        "max_model_len": 1000,
        "seed": 415,
        "max_num_batched_tokens": 3000,
    }


def test_own_file_can_use_a_shipped_profile() -> None:
    config = load_config(write('profile = "blog"'))
    assert config.retrieval.similarity_top_k == 2
    assert config.origin("retrieval.similarity_top_k") == "profile blog (shipped)"


def test_own_profile_replaces_the_shipped_one_of_its_name() -> None:
    config = load_config(write("[profiles.blog.llm]\nmax_tokens = 7"), profile="blog")
    assert config.llm.max_tokens == 7
    assert config.retrieval.similarity_top_k == 5


# --- paths ---------------------------------------------------------------------------------------


def test_relative_paths_in_a_file_are_seen_from_its_folder(here: Path) -> None:
    write("{{ contexts }} {{ sources }} {{ question }}", "project/own.jinja")
    file = write(
        '[vector_store]\nuri = "data/x.db"\n[prompt]\ntemplate = "own.jinja"', "project/mine.toml"
    )
    config = load_config(file)
    assert config.vector_store.uri == str(here / "project/data/x.db")
    assert config.prompt.template == str(here / "project/own.jinja")


def test_default_database_lies_beside_an_own_file(here: Path) -> None:
    config = load_config(write("", "project/mine.toml"))
    assert config.vector_store.uri == str(here / "project/storage/milvus.db")


def test_without_a_file_data_lies_in_the_users_folder(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the command is run from."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "data/rag_app").mkdir(parents=True)
    monkeypatch.delenv("RAG_APP_EMBEDDING__COMPILED_FOLDER", raising=False)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for folder in (here, elsewhere):
        monkeypatch.chdir(folder)
        config = load_config()
        assert config.vector_store.uri == str(tmp_path / "data/rag_app/storage/milvus.db")
        assert config.embedding.compiled_folder == str(tmp_path / "data/rag_app/storage/compiled")
        assert find_config().is_packaged
    own = Path(shutil.copy(shipped_config(), tmp_path / "data/rag_app"))
    assert find_config() == ConfigFile(own, own.parent)
    assert load_config().vector_store.uri == config.vector_store.uri
    write("", str(elsewhere / "config.toml"))
    assert find_config().base == elsewhere


def test_the_file_in_the_wheel_is_not_where_data_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages/rag_app"
    package.mkdir(parents=True)
    file = Path(shutil.copy(shipped_config(), package))
    monkeypatch.setattr(paths, "_PACKAGE", package)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for asked in (None, file):
        config = load_config(asked)
        assert config.vector_store.uri == str(tmp_path / "data/rag_app/storage/milvus.db")
        assert config.origin("llm.temperature") == "config.toml"


def test_the_file_is_looked_for_upwards(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("[llm]\nmax_tokens = 1", "project/config.toml")
    inner = here / "project/src/deep"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    config = load_config()
    assert config.llm.max_tokens == 1
    assert config.vector_store.uri == str(here / "project/storage/milvus.db")
    assert find_config().path == here / "project/config.toml"
    typed = load_config(overrides={"vector_store.uri": "typed.db"})
    assert typed.vector_store.uri == str(inner / "typed.db")
    write("[llm]\nmax_tokens = 2", str(here / "project/src/config.toml"))
    assert load_config().llm.max_tokens == 2, "the nearest"


@pytest.mark.parametrize(
    ("text", "is_ours"),
    [
        ('baseURL = "https://example.org"\n[params]\nsize = 3', False),
        ("", True),
        ('profile = "cpu"', True),
        ("[llm]\nmax_tokens = 1\n[chunkin]\nsize = 3", True),
        ("[llm", True),
    ],
)
def test_a_file_of_another_program_above_is_passed_over(
    text: str, is_ours: bool, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(here / "data"))
    write(text)
    (here / "below").mkdir()
    monkeypatch.chdir(here / "below")
    assert find_config().is_packaged is not is_ours


def test_a_file_of_another_user_above_is_not_trusted(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("[embedding]\ntrust_remote_code = true")
    (here / "below").mkdir()
    monkeypatch.chdir(here / "below")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    if os.stat(here).st_uid == 0:  # noqa: PTH116
        assert not find_config().is_packaged, "root's may be used"
        os.chown(here / "config.toml", 54321, -1)
    with pytest.raises(ConfigError, match="belongs to another user") as caught:
        find_config()
    assert f"--config {here / 'config.toml'}" in caught.value.remedy
    assert load_config(here / "config.toml").embedding.trust_remote_code


def test_relative_paths_typed_here_are_seen_from_here(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write("", "project/mine.toml")
    config = load_config(file, overrides={"vector_store.uri": "typed.db"})
    assert config.vector_store.uri == str(here / "typed.db")
    monkeypatch.setenv("RAG_APP_VECTOR_STORE__URI", "environment.db")
    assert load_config(file).vector_store.uri == str(here / "environment.db")


def test_a_servers_uri_stays_as_it_is() -> None:
    overrides = {"vector_store.uri": "http://milvus:19530"}
    config = load_config(overrides=overrides)
    assert config.vector_store.uri == "http://milvus:19530"
    assert not config.vector_store.is_file


# --- text values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("llm.temperature", "0", 0.0),
        ("llm.max_tokens", "12", 12),
        ("documents.hidden", "true", True),
        ("documents.exclude", '["*.log", "drafts/*"]', ["*.log", "drafts/*"]),
        ("index.search_params", "{ef = 64}", {"ef": 64}),
        ("llm.model", "true", "true"),
        ("llm.model", "123", "123"),
        ("chunking.unit", "characters", "characters"),
        ("embedding.max_length", "128", 128),
        ("embedding.query_instruction", "1.5", "1.5"),
        ("llm.extractive.max_sentences", "1", 1),
        ("llm.engine.seed", "3", {"seed": 3}),
        ("llm.engine.dtype", "bfloat16", {"dtype": "bfloat16"}),
    ],
)
def test_text_is_read_by_the_keys_type(
    key: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = key if not key.startswith("llm.engine.") else "llm.engine"
    extra: dict[str, object] = {"index.type": "HNSW", "chunking.size": 100}

    def of(config: Config) -> object:
        found: Any = config
        for part in field.split("."):
            found = getattr(found, part)
        return found

    by_option = load_config(overrides={**extra, key: text})
    assert (of(by_option), by_option.origin(key)) == (value, "command line")
    variable = f"RAG_APP_{key.upper().replace('.', '__')}"
    monkeypatch.setenv(variable, text)
    by_environment = load_config(overrides=extra)
    assert (of(by_environment), by_environment.origin(key)) == (value, f"environment {variable}")


def test_parameters_of_an_index_in_the_environment_have_their_capitals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAG_APP_INDEX__PARAMS__M", "8")
    monkeypatch.setenv("RAG_APP_INDEX__PARAMS__EFCONSTRUCTION", "40")
    monkeypatch.setenv("RAG_APP_INDEX__SEARCH_PARAMS__EF", "32")
    config = load_config(overrides={"index.type": "HNSW"})
    assert config.index.params == {"M": 8, "efConstruction": 40}
    assert config.index.search_params == {"ef": 32}
    assert config.origin("index.params.M") == "environment RAG_APP_INDEX__PARAMS__M"
    typed = {"index.type": "HNSW", "index.params.M": 4}
    assert load_config(overrides=typed).index.params == {"M": 4, "efConstruction": 40}


def test_parameters_whose_names_differ_by_a_capital_are_told_by_the_index(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAG_APP_INDEX__PARAMS__M", "8")
    server = {"vector_store.uri": "http://milvus:19530"}
    pq = load_config(overrides={"index.type": "IVF_PQ", **server})
    assert pq.index.params == {"m": 8}
    assert load_config(overrides={"index.type": "HNSW", **server}).index.params == {"M": 8}


def test_an_assignments_value_may_hold_equals_signs() -> None:
    assert parse_assignment("llm.model=a=b") == ("llm.model", "a=b")


def test_engine_tables_of_profile_and_command_line_are_merged() -> None:
    config = load_config(profile="blog", overrides={"llm.engine.seed": 1})
    assert config.llm.engine["seed"] == 1
    assert config.llm.engine["max_model_len"] == 1000


def test_overrides_may_be_python_values() -> None:
    config = load_config(overrides={"retrieval.similarity_top_k": 3, "documents.exclude": ["*.x"]})
    assert config.retrieval.similarity_top_k == 3
    assert config.documents.exclude == ["*.x"]


# --- secrets -------------------------------------------------------------------------------------

SECRET = "root:Hu5h-Hu5h"
SECRETS = f'[vector_store]\ntoken = "{SECRET}"\n[llm]\napi_key = "{SECRET}"\n'


@pytest.mark.parametrize("options", [[], ["--json"], ["-v"], ["-v", "--json"]])
def test_config_show_masks_secrets(options: list[str], run: Any) -> None:
    write(SECRETS)
    result = run("config", "show", *options)
    assert result.exit_code == 0
    assert SECRET not in result.output
    assert "Hu5h" not in result.output
    assert result.output.count("********") == 2


def test_unset_secrets_are_shown_as_empty(run: Any) -> None:
    rows = {row["key"]: row["value"] for row in json_of(run("config", "show", "--json"))}
    assert rows["vector_store.token"] == ""
    assert rows["llm.api_key"] == ""


@pytest.mark.parametrize(
    "text",
    [
        SECRETS + "nonsense = 1",
        SECRETS + "temperature = 9.0",
        SECRETS.replace(f'"{SECRET}"', '["Hu5h"]'),
        SECRETS.replace(f'"{SECRET}"', '{ key = "Hu5h" }'),
        SECRETS + "[chunking]\noverlap = 5000",
        f'[llm]\napi_key = "{SECRET}',
        f"[llm]\napi_key = {SECRET}",
    ],
)
def test_no_error_shows_a_secret(text: str, run: Any) -> None:
    write(text)
    result = run("config", "show", "-v")
    assert result.exit_code == 2, result.output
    assert "Hu5h" not in result.output


def test_no_error_shows_a_secret_of_environment_or_command_line(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_APP_VECTOR_STORE__TOKEN", SECRET)
    result = run("config", "show", "--set", f"llm.api_key={SECRET}", "--set", "llm.top_p=7")
    assert result.exit_code == 2
    assert "Hu5h" not in result.output
    result = run("config", "show", "--set", f"llm.api_keys={SECRET}")
    assert result.exit_code == 2
    assert "Hu5h" not in result.output


def test_a_secret_inside_the_engines_arguments_is_masked(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for broken in (f'{{hf_token = "{SECRET}"', f"hf_token={SECRET}", f'["{SECRET}"]'):
        monkeypatch.setenv("RAG_APP_LLM__ENGINE", broken)
        result = run("config", "show")
        assert result.exit_code == 2
        assert "llm.engine" in result.output
        assert "Hu5h" not in result.output
    monkeypatch.setenv("RAG_APP_LLM__ENGINE", f'{{hf_token = "{SECRET}", max_num_seqs = 2}}')
    shown = run("config", "show", "--json").stdout
    assert "Hu5h" not in shown
    assert "max_num_seqs" in shown


def test_a_secret_is_no_part_of_the_configs_repr() -> None:
    config = load_config(write(SECRETS))
    assert "Hu5h" not in f"{config!r} {config}"
    assert config.vector_store.token.get_secret_value() == SECRET


# --- config show ---------------------------------------------------------------------------------


def test_config_show_lists_every_key_with_its_origin(run: Any) -> None:
    rows = json_of(run("--profile", "blog", "config", "show", "--json"))
    by_key = {row["key"]: row for row in rows}
    for key in (
        "vector_store.uri",
        "vector_store.collection",
        "index.type",
        "retrieval.mode",
        "retrieval.similarity_top_k",
        "embedding.model",
        "chunking.size",
        "llm.backend",
        "llm.extractive.max_sentences",
    ):
        assert key in by_key
    assert by_key["profile"]["value"] == "blog"
    assert by_key["chunking.size"]["origin"] == "profile blog (config.toml)"
    assert by_key["llm.extractive.max_sentences"]["origin"] == "default"
    assert [row["key"] for row in rows if not row["help"]] == []


def test_config_show_prints_values_as_toml(run: Any) -> None:
    result = run("config", "show", "--profile", "blog", "--set", 'documents.exclude=["a\\"b"]')
    lines = [line.rpartition("  (")[0] or line for line in result.stdout.splitlines()]
    table = tomllib.loads("\n".join(line for line in lines if not line.endswith(" = unset")))
    assert table["profile"] == "blog"
    assert table["llm"]["engine"]["max_num_batched_tokens"] == 3000
    assert table["llm"]["engine"]["enforce_eager"] is True
    assert table["documents"]["exclude"] == ['a"b']


def test_verbose_config_show_explains_each_key(run: Any) -> None:
    result = run("config", "show", "-v")
    assert "# Longest answer, in tokens; taken off the window" in result.stdout


# --- errors: each names file or variable, key, value and remedy ----------------------------------

ERRORS: list[tuple[str, str, list[str], list[str]]] = [
    (
        "unknown key, the nearest one named",
        "[chunking]\nsiz = 100",
        [],
        ["config.toml", "'chunking.siz'", "did you mean 'size'?"],
    ),
    (
        "unknown key in an inner section",
        "[llm.extractive]\nmax_sentence = 2",
        [],
        ["config.toml", "'llm.extractive.max_sentence'", "did you mean 'max_sentences'?"],
    ),
    (
        "unknown key in a profile",
        "[profiles.mine.llm]\ntemprature = 1",
        ["--profile", "mine"],
        ["profile mine (config.toml)", "'llm.temprature'", "did you mean 'temperature'?"],
    ),
    (
        "unknown section",
        "[chunkin]\nsize = 100",
        [],
        ["config.toml", "'chunkin'", "did you mean 'chunking'?"],
    ),
    (
        "unknown key above the sections",
        "similarity_top_k = 3",
        [],
        ["config.toml", "'similarity_top_k'", "retrieval"],
    ),
    (
        "a value where a section belongs",
        "chunking = 5",
        [],
        ["config.toml", "'chunking'", "chunking.size"],
    ),
    (
        "a key below one that is no table",
        "",
        ["--set", "chunking.size.most=5"],
        ["command line", "'chunking.size.most'", "chunking.size has no keys"],
    ),
    (
        "wrong type",
        '[retrieval]\nsimilarity_top_k = "many"',
        [],
        ["config.toml", "retrieval.similarity_top_k", "'many'", "integer", "config show -v"],
    ),
    (
        "wrong type: a quoted number",
        '[retrieval]\nsimilarity_top_k = "3"',
        [],
        ["config.toml", "retrieval.similarity_top_k", "'3'", "integer"],
    ),
    (
        "wrong type: a truth value for a number",
        "[retrieval]\nsimilarity_top_k = true",
        [],
        ["config.toml", "retrieval.similarity_top_k", "True", "integer"],
    ),
    (
        "wrong type on the command line",
        "",
        ["--set", "llm.temperature=warm"],
        ["command line", "llm.temperature", "'warm'", "number"],
    ),
    (
        "wrong type inside a table",
        "[index.params]\nM = [1]",
        [],
        ["config.toml", "index.params.M", "[1]"],
    ),
    (
        "out of range",
        "[llm]\ntemperature = 2.5",
        [],
        ["config.toml", "llm.temperature", "2.5", "less than or equal to 2"],
    ),
    (
        "out of range in a profile",
        "[profiles.mine.retrieval]\nsimilarity_top_k = 0",
        ["--profile", "mine"],
        ["profile mine", "retrieval.similarity_top_k", "0", "greater than or equal to 1"],
    ),
    (
        "not a choice",
        '[chunking]\nunit = "words"',
        [],
        ["config.toml", "chunking.unit", "'words'", "'tokens' or 'characters'"],
    ),
    (
        "not a number",
        "[llm]\ntemperature = nan",
        [],
        ["config.toml", "llm.temperature", "nan"],
    ),
    (
        "unknown profile",
        "",
        ["--profile", "offlien"],
        ["'offlien'", "--profile", "blog, cpu, gpu, offline", "did you mean 'offline'?"],
    ),
    (
        "unknown profile in the file",
        'profile = "gpus"',
        [],
        ["'gpus'", "config.toml", "did you mean 'gpu'?"],
    ),
    (
        "profile of a wrong type",
        "profile = 5",
        [],
        ["5", "config.toml", "blog, cpu, gpu, offline"],
    ),
    (
        "profiles of a wrong type",
        'profiles = "blog"\nprofile = "blog"',
        [],
        ["config.toml", "'blog'", "[profiles.NAME.section]"],
    ),
    (
        "malformed TOML, with its line",
        "[llm]\n\nmodel = Qwen\n",
        [],
        ["config.toml", "not valid TOML", "line 3", "quotes"],
    ),
    (
        "the same key twice",
        "[llm]\nmax_tokens = 1\nmax_tokens = 2\n",
        [],
        ["config.toml", "not valid TOML", "line 3"],
    ),
    (
        "missing file",
        "",
        ["--config", "nowhere.toml"],
        ["'nowhere.toml'", "--config", "cp "],
    ),
    (
        "a folder for a file",
        "",
        ["--config", "."],
        ["'.'", "--config"],
    ),
    (
        "nodes longer than the embedder reads, in tokens",
        "[chunking]\nsize = 300",
        [],
        ["chunking.size = 300 (config.toml)", "256 tokens", "at most 254"],
    ),
    (
        "nodes longer than the embedder reads, in characters",
        '[chunking]\nunit = "characters"\nsize = 1017',
        [],
        ["chunking.size = 1017 (config.toml)", "256 tokens", "at most 1016"],
    ),
    (
        "nodes longer than the embedder is told to read",
        "[embedding]\nmax_length = 64\n[chunking]\noverlap = 0",
        [],
        ["chunking.size = 224 (default)", "64 tokens", "at most 62"],
    ),
    (
        "overlap not smaller than size",
        "[chunking]\nsize = 100\noverlap = 100",
        [],
        ["chunking.overlap = 100 (config.toml)", "chunking.size = 100", "chunking.overlap to 10"],
    ),
    (
        "prompt that leaves no room in the window",
        '[llm]\nbackend = "vllm"\nmodel = "m"\nmax_tokens = 950\ncontext_window = 1000',
        [],
        ["llm.max_tokens = 950 (config.toml)", "1000 tokens", "set llm.max_tokens to at most"],
    ),
    (
        "prompt that leaves no room in the engine's window",
        '[llm]\nbackend = "vllm"\nmodel = "m"\nengine = { max_model_len = 300 }',
        [],
        ["llm.max_tokens = 256 (default)", "300 tokens", "llm.engine.max_model_len"],
    ),
    (
        "template that is not there",
        '[prompt]\ntemplate = "nowhere.jinja"',
        [],
        ["nowhere.jinja", "cannot be read", "prompt.template"],
    ),
    (
        "index type that nobody knows",
        '[index]\ntype = "HSNW"',
        [],
        ["config.toml", "index.type", "'HSNW'", "HNSW_SQ"],
    ),
    (
        "metric that nobody knows",
        '[index]\nmetric = "cosine"',
        [],
        ["config.toml", "index.metric", "'cosine'", "COSINE, IP, L2"],
    ),
    (
        "index type that Milvus Lite does not build",
        '[index]\ntype = "IVF_PQ"',
        [],
        ["index.type = IVF_PQ (config.toml)", "Milvus Lite", "HNSW_SQ", "vector_store.uri"],
    ),
    (
        "index parameter of another type",
        '[index]\ntype = "HNSW"\nparams = { nlist = 5 }',
        [],
        ["index.params (config.toml) has 'nlist'", "HNSW", "M (a whole", "efConstruction"],
    ),
    (
        "search parameter of another type",
        '[index]\ntype = "IVF_FLAT"\nsearch_params = { ef = 5 }',
        [],
        ["index.search_params (config.toml) has 'ef'", "IVF_FLAT", "nprobe"],
    ),
    (
        "parameter of an index without parameters",
        '[index]\ntype = "FLAT"\nparams = { M = 5 }',
        [],
        ["index.params", "'M'", "FLAT", "leave index.params out"],
    ),
    (
        "database that is neither path nor server",
        '[vector_store]\nuri = "data/milvus"',
        [],
        ["config.toml", "vector_store.uri", "milvus'", '".db"', "http://"],
    ),
    (
        "scheme that Milvus does not have",
        '[vector_store]\nuri = "ftp://milvus"',
        [],
        ["config.toml", "vector_store.uri", "'ftp://milvus'", "http://"],
    ),
    (
        "name that Milvus does not take",
        '[vector_store]\ncollection = "my-docs"',
        [],
        ["config.toml", "vector_store.collection", "'my-docs'"],
    ),
    (
        "endpoint that is no URL",
        '[llm]\nbase_url = "localhost:8000"',
        [],
        ["config.toml", "llm.base_url", "'localhost:8000'", "http://"],
    ),
    (
        "port that no URL can have",
        '[llm]\nbase_url = "http://127.0.0.1:99999/v1"',
        [],
        ["config.toml", "llm.base_url", "99999", "ports are from 1 to 65535"],
    ),
    (
        "port that no URL can have, of a replica",
        "",
        ["--set", 'llm.replicas=["http://a:8000/v1", "http://b:0/v1"]'],
        ["command line", "llm.replicas", "ports are from 1 to 65535"],
    ),
    (
        "port that no URL can have, of Milvus",
        '[vector_store]\nuri = "http://127.0.0.1:99999"',
        [],
        ["config.toml", "vector_store.uri", "99999", "ports are from 1 to 65535"],
    ),
    (
        "port that no URL can have, of the reranker",
        '[retrieval.reranker]\nbase_url = "http://127.0.0.1:port/v1"',
        [],
        ["config.toml", "retrieval.reranker.base_url", "port", "ports are from 1 to 65535"],
    ),
    (
        "URL without a host",
        '[llm]\nbase_url = "http:///v1"',
        [],
        ["config.toml", "llm.base_url", "'http:///v1'", "http://HOST:PORT"],
    ),
    (
        "home folder of nobody, for the database",
        '[vector_store]\nuri = "~nosuchuser/x.db"',
        [],
        ["config.toml", "vector_store.uri", "'~nosuchuser/x.db'", "~/ for your own"],
    ),
    (
        "home folder of nobody, for a model",
        "",
        ["--set", "embedding.model=~nosuchuser/x"],
        ["command line", "embedding.model", "'~nosuchuser/x'", "~/ for your own"],
    ),
    (
        "home folder of nobody, for the file",
        "",
        ["--config", "~nosuchuser/x.toml"],
        ["'~nosuchuser/x.toml'", "--config"],
    ),
    (
        "number of more digits than Python reads",
        "[retrieval]\nsimilarity_top_k = " + 5000 * "9",
        [],
        ["config.toml", "4300", "write a shorter number"],
    ),
    (
        "number of more digits than Python reads, on the command line",
        "",
        ["--set", "retrieval.similarity_top_k=" + 5000 * "9"],
        ["command line", "retrieval.similarity_top_k = '999", "…"],
    ),
    (
        "number of more digits than Python reads, in a filter",
        "",
        ["--set", f"retrieval.filter=page = {5000 * '9'}"],
        ["retrieval.filter (command line)", "at character 8", "more than 100 digits", "…"],
    ),
    (
        "--set without an equals sign",
        "",
        ["--set", "llm.temperature"],
        ["--set", "'llm.temperature'", "--set retrieval.similarity_top_k=3"],
    ),
    (
        "--set without a section",
        "",
        ["--set", "temperature=0"],
        ["--set", "'temperature=0'", "section.key=value"],
    ),
    (
        "--set of a whole section",
        "",
        ["--set", "llm.extractive=1"],
        ["command line", "'llm.extractive'", "llm.extractive.max_sentences"],
    ),
]


@pytest.mark.parametrize(
    ("text", "options", "said"), [case[1:] for case in ERRORS], ids=[case[0] for case in ERRORS]
)
def test_error_names_place_key_value_and_remedy(
    text: str, options: list[str], said: list[str], run: Any
) -> None:
    write(text)
    result = run("config", "show", *options)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "\n  try: " in result.stderr
    for part in said:
        assert part in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ sources }} {{ question }}", ["lacks the variable 'contexts'", "{{ contexts }}"]),
        ("{{ contexts }} {{ question }}", ["lacks the variable 'sources'", "{{ sources }}"]),
        ("{{ contexts }} {{ sources }}", ["lacks the variable 'question'", "{{ question }}"]),
        (
            "{{ contexts }} {{ sources }} {{ question }} {{ querry }}",
            ["unknown variable 'querry'", "contexts, sources, question"],
        ),
        ("{{ contexts }}\n{% for source in sources %}\n{{ question }", ["not valid Jinja", "line"]),
        ("{{ contexts | nofilter }} {{ sources }} {{ question }}", ["not valid Jinja", "nofilter"]),
    ],
)
def test_a_template_that_cannot_be_is_an_error(template: str, said: list[str], run: Any) -> None:
    write(template, "own.jinja")
    result = run("config", "show", "--set", "prompt.template=own.jinja")
    assert result.exit_code == 2, result.output
    for part in ["own.jinja", *said, "\n  try: "]:
        assert part in result.stderr


def test_a_template_that_is_not_utf8_is_an_error(run: Any) -> None:
    Path("own.jinja").write_bytes(b"\xff{{ contexts }}")
    result = run("config", "show", "--set", "prompt.template=own.jinja")
    assert result.exit_code == 2
    assert "own.jinja" in result.stderr
    assert "UTF-8" in result.stderr


def test_a_config_that_is_not_utf8_is_an_error(run: Any) -> None:
    Path("config.toml").write_bytes(b'[llm]\nmodel = "\xe9"')
    result = run("config", "show")
    assert result.exit_code == 2
    assert "config.toml" in result.stderr
    assert "UTF-8" in result.stderr


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("RAG_APP_LLM_TEMPERATURE", "0", ["RAG_APP_LLM__TEMPERATURE", "two underscores"]),
        ("RAG_APP_LLM__TEMPRATURE", "0", ["RAG_APP_LLM__TEMPRATURE", "did you mean 'temperature'"]),
        ("RAG_APP_LLM__TEMPERATURE", "hot", ["RAG_APP_LLM__TEMPERATURE", "'hot'", "number"]),
        ("RAG_APP_LM__TEMPERATURE", "0", ["RAG_APP_LM__TEMPERATURE", "did you mean 'llm'"]),
        ("RAG_APP_PROFILE", "gpuu", ["'gpuu'", "RAG_APP_PROFILE", "did you mean 'gpu'"]),
        ("RAG_APP_CONFIG", "nowhere.toml", ["'nowhere.toml'", "RAG_APP_CONFIG"]),
    ],
)
def test_error_names_the_environment_variable(
    variable: str, value: str, said: list[str], run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    result = run("config", "show")
    assert result.exit_code == 2, result.output
    for part in [*said, "\n  try: "]:
        assert part in result.stderr


def test_an_error_of_overrides_is_a_user_error() -> None:
    with pytest.raises(ConfigError, match=r"command line: unknown key 'llm\.tempo'"):
        load_config(overrides={"llm.tempo": 1})


def test_impossible_combinations_of_a_model_in_a_folder(here: Path) -> None:
    folder = here / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 128}))
    assert EmbeddingSection(model=str(folder)).known_max_length() == 128
    with pytest.raises(ConfigError, match="at most 126"):
        load_config(overrides={"embedding.model": "./model"})


def test_a_template_may_use_only_part_of_the_window() -> None:
    """The shipped profiles' windows leave room; an extractive answer needs none."""
    load_config(overrides={"llm.max_tokens": 100_000, "llm.context_window": 64})


def test_configurations_are_immutable() -> None:
    config = load_config()
    with pytest.raises(ValueError, match="frozen"):
        config.llm.temperature = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("vector_store.uri", "http://root:hunter2@127.0.0.1:19530"),
        ("llm.base_url", "http://me:hunter2@127.0.0.1:8000/v1"),
    ],
)
def test_password_in_a_url_is_refused_and_not_printed(
    run: Callable[..., Result], key: str, url: str
) -> None:
    result = run("config", "show", "--set", f"{key}={url}")
    assert result.exit_code == 2
    assert "a password does not belong here; set RAG_APP_" in result.stderr
    assert "hunter2" not in result.output
