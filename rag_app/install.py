"""The command that adds something to this installation, wherever it came from."""

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

_CHECKOUT = Path(__file__).parents[1]


def pip_install(extra: str = "") -> str:
    """Return the pip command that installs rag_app again, with an extra, from where it came.

    A checkout, a repository and a file are written down where pip installed them from (PEP 610);
    the name alone would do only where an index has the package.
    """
    extras = f"[{extra}]" if extra else ""
    came = _direct_url()
    url = str(came.get("url", ""))
    if "dir_info" in came:
        folder = Path(url2pathname(urlsplit(url).path))
        return _from_folder(folder, extras, editable=bool(came["dir_info"].get("editable")))
    if "vcs_info" in came:
        url = f"{came['vcs_info'].get('vcs', 'git')}+{url}"
    # A checkout that pip knows nothing of, e.g. in PYTHONPATH.
    if not url and (_CHECKOUT / "pyproject.toml").is_file():
        return _from_folder(_CHECKOUT, extras, editable=True)
    named = f"rag-app{extras} @ {url}" if url else f"rag-app{extras}"
    return f"pip install {shlex.quote(named)}"  # shells take [extra] for a pattern


def _direct_url() -> dict[str, Any]:
    """Return what pip wrote down of where it took the package from; nothing, from an index."""
    try:
        text = distribution("rag-app").read_text("direct_url.json")
        came = json.loads(text) if text else {}
    except (PackageNotFoundError, ValueError):
        return {}
    return came if isinstance(came, dict) else {}


def _from_folder(folder: Path, extras: str, *, editable: bool) -> str:
    place = "." if folder == Path.cwd() else str(folder)
    return f"pip install {'-e ' * editable}{shlex.quote(place + extras)}"
