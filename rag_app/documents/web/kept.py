"""The index of pages that are kept: which URL a file is of, and what its server said of it."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

INDEX = "pages.json"


@dataclass
class Page:
    """A page that is kept."""

    url: str
    etag: str = ""
    last_modified: str = ""


def url_of(file: Path, web_folder: str) -> str:
    """Return the URL of a file that was kept from the web; empty for any other.

    Only what lies in the folder that is ours says of itself that it is from the web.
    """
    folder = Path(web_folder).absolute()
    if not file.is_relative_to(folder):
        return ""
    page = pages_in(folder).get(file.relative_to(folder).as_posix())
    return page.url if page else ""


@lru_cache(maxsize=16)
def pages_in(folder: Path) -> dict[str, Page]:
    """Return the pages in a folder by their paths; none where no page was ever kept."""
    try:
        kept = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return {path: Page(**about) for path, about in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
