"""What the page is made of, without a browser."""

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from rag_app.config.sections import Config
from tests.server.conftest import Serve

PAGES = Path(str(files("rag_app.server").joinpath("pages")))
LANGUAGES = sorted(PAGES.glob("texts/*.json"))


def texts(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def test_policy_lets_nothing_in_from_elsewhere(ingested: Config, serve: Serve) -> None:
    with serve(ingested) as server, server.http() as client:
        for path in ("/", "/assets/main.js"):
            response = client.get(path)
            policy = response.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "require-trusted-types-for 'script'" in policy
        assert client.get("/assets/main.js").headers["content-type"].startswith("text/javascript")
        for path in ("nothing.js", "../page.py", "%2e%2e/page.py", "//etc/passwd"):
            assert client.get(f"/assets/{path}").status_code == 404


def test_nothing_is_loaded_from_elsewhere_and_nothing_becomes_markup() -> None:
    for file in [*PAGES.rglob("*.js"), *PAGES.rglob("*.css"), *PAGES.rglob("*.html")]:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
        # The namespace of SVG is a name, and no address.
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text))
        assert addresses <= {"http://www.w3.org"}, file
        assert len(text.splitlines()) < 300, file


@pytest.mark.parametrize("file", LANGUAGES, ids=lambda file: file.stem)
def test_languages_say_the_same(file: Path) -> None:
    english, other = texts(PAGES / "texts/en.json"), texts(file)
    assert other.keys() == english.keys()
    for key, text in english.items():
        values = set(re.findall(r"\{(\w+)\}", json.dumps(text)))
        assert set(re.findall(r"\{(\w+)\}", json.dumps(other[key]))) == values, key


def test_texts_are_those_that_the_page_says() -> None:
    scripts = "\n".join(file.read_text(encoding="utf-8") for file in PAGES.rglob("*.js"))
    english = texts(PAGES / "texts/en.json")
    named = set(re.findall(r"""\bt\((?:[^"`()]*\?\s*)?"([\w.]+)""", scripts))
    assert named <= english.keys()
    # By a part of their name: `answer.${state}`.
    made = set(re.findall(r"\bt\(`([\w.]+)\$", scripts))
    literal = set(re.findall(r'"([\w.]+)"', scripts))
    assert {
        key for key in english if key not in literal and not any(key.startswith(m) for m in made)
    } == set()
