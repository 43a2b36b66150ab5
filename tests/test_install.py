"""The command that a message tells to type installs from where this installation came."""

import json
from importlib.metadata import Distribution, PackageNotFoundError, PathDistribution
from pathlib import Path
from typing import Any

import pytest

from rag_app import install
from rag_app.embedding import runtimes
from rag_app.errors import LLMError, ModelUnavailableError
from rag_app.llms import engine_start

EDITABLE = {"url": "file:///srv/my%20rag", "dir_info": {"editable": True}}


@pytest.mark.parametrize(
    ("came", "command"),
    [
        (EDITABLE, "pip install -e '/srv/my rag[vllm]'"),
        ({"url": "file:///srv/rag", "dir_info": {}}, "pip install '/srv/rag[vllm]'"),
        (
            {"url": "https://host/rag", "vcs_info": {"vcs": "git", "commit_id": "1f"}},
            "pip install 'rag-app[vllm] @ git+https://host/rag'",
        ),
        (
            {"url": "file:///tmp/rag_app-1-py3-none-any.whl", "archive_info": {}},
            "pip install 'rag-app[vllm] @ file:///tmp/rag_app-1-py3-none-any.whl'",
        ),
        (None, "pip install 'rag-app[vllm]'"),
        ("damaged", "pip install 'rag-app[vllm]'"),
    ],
)
def test_command_by_where_it_came_from(
    came: Any, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "rag_app-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: rag-app\nVersion: 1\n")
    if came is not None:
        text = came if isinstance(came, str) else json.dumps(came)
        (info / "direct_url.json").write_text(text)
    monkeypatch.setattr(install, "distribution", lambda _: PathDistribution(info))
    monkeypatch.setattr(install, "_CHECKOUT", tmp_path)
    assert install.pip_install("vllm") == command


def test_checkout_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    def nothing(_: str) -> Distribution:
        raise PackageNotFoundError

    monkeypatch.setattr(install, "distribution", nothing)
    monkeypatch.setattr(install, "_CHECKOUT", here)
    (here / "pyproject.toml").write_text("")
    assert install.pip_install("vllm") == "pip install -e '.[vllm]'"
    monkeypatch.chdir(tmp_path)
    assert install.pip_install("vllm") == f"pip install -e '{here}[vllm]'"
    assert install.pip_install() == f"pip install -e {here}"


def test_messages_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (engine_start, runtimes):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(LLMError) as caught:
        engine_start.engine_arguments("some/model", {})
    assert install.pip_install("vllm") in caught.value.remedy
    with pytest.raises(ModelUnavailableError) as missing:
        runtimes.RUNTIMES["openvino"].require()
    assert install.pip_install("openvino") in missing.value.remedy
