"""``rag-app mcp install``: other programs' files, which are theirs."""

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_app.server.mcp import clients
from rag_app.server.mcp.jsonc import with_entry
from tests.conftest import json_of

ENTRY = {"command": "python", "args": ["-m", "rag_app", "mcp"]}

VS_CODE = """\
// My servers
{
\t"servers": {
\t\t/* the one that I need */
\t\t"github": { "command": "npx", "args": ["-y", "x // not a comment"] }, // last
\t},
\t"inputs": [], // of "servers": {
}
"""


def test_comments_commas_and_order_stay() -> None:
    changed = with_entry(VS_CODE, "servers", "rag_app", ENTRY)
    assert changed == VS_CODE.replace(
        "// last\n",
        '// last\n\t\t"rag_app": {\n\t\t\t"command": "python",\n\t\t\t"args": [\n\t\t\t\t"-m",\n'
        '\t\t\t\t"rag_app",\n\t\t\t\t"mcp"\n\t\t\t]\n\t\t},\n',
    )
    again = with_entry(changed, "servers", "rag_app", {"command": "other"})
    assert again.startswith(changed[: changed.index('"rag_app"')])
    assert again.endswith('"inputs": [], // of "servers": {\n}\n')
    assert with_entry(changed, "servers", "rag_app", ENTRY) == changed


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("", {}),
        ("\n", {}),
        ("// nothing yet\n", {}),
        ("{}", {}),
        ("{ }\r\n", {}),
        ('\ufeff{"a": 1}', {}),
        ('{"s": {}}', {}),
        ('{"s":{"b":1}}', {"b": 1}),
    ],
)
def test_any_beginning_will_do(text: str, others: dict[str, int]) -> None:
    changed = with_entry(text, "s", "rag_app", ENTRY)
    bare = "".join(line for line in changed.splitlines() if not line.startswith("//"))
    assert json.loads(bare.removeprefix("\ufeff"))["s"] == {**others, "rag_app": ENTRY}
    assert changed.startswith("\ufeff") == text.startswith("\ufeff")
    assert ("\r\n" in changed) == ("\r\n" in text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "no JSON object"),
        ('{"s": []}', "no object"),
        ('{"s": {}', "its end is missing"),
        ("{} x", "behind its end"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": 1 "b": 2}', "comma is missing"),
        ("{'a': 1}", "where a name should"),
        ('{"a": "x\ny"}', "line 1"),
    ],
)
def test_what_is_not_understood_is_not_touched(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        with_entry(text, "s", "rag_app", ENTRY)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None)  # a machine may be busy
@given(
    before=st.dictionaries(st.text(), VALUES, max_size=4),
    servers=st.dictionaries(st.text(), VALUES, max_size=3),
    indent=st.sampled_from([None, 2, "\t"]),
)
def test_all_else_reads_as_before(before: Any, servers: Any, indent: Any) -> None:
    text = json.dumps({**before, "s": servers}, indent=indent)
    changed = json.loads(with_entry(text, "s", "rag_app", ENTRY))
    assert changed == {**before, "s": {**servers, "rag_app": ENTRY}}


@pytest.mark.parametrize(
    ("platform", "claude", "code"),
    [
        ("linux", ".config/Claude", ".config/Code/User"),
        ("darwin", "Library/Application Support/Claude", "Library/Application Support/Code/User"),
        ("win32", "AppData/Roaming/Claude", "AppData/Roaming/Code/User"),
    ],
)
def test_each_system_has_its_places(
    monkeypatch: pytest.MonkeyPatch, platform: str, claude: str, code: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    for variable in ("XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.delenv(variable, raising=False)
    home = Path.home()
    assert clients.config_file("claude") == home / claude / "claude_desktop_config.json"
    assert clients.config_file("vscode") == home / code / "mcp.json"
    assert clients.config_file("cursor") == home / ".cursor/mcp.json"


def test_at_a_shell(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    file = clients.config_file("vscode")
    file.parent.mkdir(parents=True)
    file.write_text(VS_CODE)
    file.chmod(0o600)
    command = ("mcp", "install", "vscode", "--set", "vector_store.uri=x.db", "--write")
    refused = run(*command)
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert file.read_text() == VS_CODE
    printed = run(*command, "--print")
    assert '// last\n\t\t"rag_app": {' in printed.stdout
    assert file.read_text() == VS_CODE
    done = run(*command, "--yes")
    assert done.exit_code == 0, done.output
    assert '+\t\t"rag_app": {' in done.stdout
    assert file.read_text() == printed.stdout
    (copy,) = file.parent.glob("*.bak")
    assert copy.read_text() == VS_CODE
    assert stat.S_IMODE(copy.stat().st_mode) == stat.S_IMODE(file.stat().st_mode) == 0o600
    told = json_of(run(*command, "--yes", "--json"))
    assert not told["changed"]
    assert told["entry"]["type"] == "stdio"
    # Whole paths: the program starts it in another folder.
    assert f"vector_store.uri={Path('x.db').absolute()}" in told["entry"]["args"]
    assert told["entry"]["args"][-2:] == ["mcp", "--write"]


def test_damaged_file_is_left_alone(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = clients.config_file("claude")
    file.parent.mkdir(parents=True)
    file.write_text('{"mcpServers": {')
    refused = run("mcp", "install", "claude", "--yes")
    assert refused.exit_code == 2
    assert "is not changed: its end is missing" in refused.stderr
    assert file.read_text() == '{"mcpServers": {'
