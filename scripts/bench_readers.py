"""Read a folder of real files with our readers and others', and compare what each makes of them.

python scripts/bench_readers.py FOLDER [--with markitdown=/venv/bin/python] [--json FILE]

Each contender goes over all files in a process of its own, of the Python that it is in. What
is expected of a file is told without any of them: the words in the XML of office files and e-books
(text runs, shared strings), or those of FILE.md beside a FILE. A contender's share is of
the distinct words of three letters and more that are in what it returns.
"""

import argparse
import json
import re
import resource
import signal
import subprocess
import sys
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SECONDS = 60
"""Of a file; what takes longer counts as not read."""

PAGE = 3000
"""Characters that count as a page."""

_WORD = re.compile(r"[^\W\d_]{3,}")
_RUNS = {
    ".docx": (
        r"word/(document|footnotes|endnotes|comments)\.xml",
        rb"<w:t(?:\s[^>]*)?>([^<]*)</w:t>",
    ),
    ".pptx": (r"ppt/(slides|notesSlides)/[^/]+\.xml", rb"<a:t(?:\s[^>]*)?>([^<]*)</a:t>"),
    ".xlsx": (r"xl/sharedStrings\.xml", rb"<t(?:\s[^>]*)?>([^<]*)</t>"),
    **dict.fromkeys((".odt", ".odp", ".ods"), (r"content\.xml", rb">([^<]+)<")),
    ".epub": (r".*\.x?html", rb">([^<]+)<"),
}


def expected_words(file: Path) -> set[str]:
    """Return the words that a file is known to hold; none where that is not known."""
    told = file.with_name(f"{file.name}.md")
    if told.is_file():
        return _words(re.sub(r"<!--.*?-->|!\[[^\]]*\]\([^)]*\)", " ", told.read_text("utf-8")))
    if file.suffix not in _RUNS:
        return set()
    names, run = _RUNS[file.suffix]
    text: list[bytes] = []
    try:
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if re.fullmatch(names, name):
                    text += re.findall(run, archive.read(name))
    except Exception:  # it is damaged: nothing is known of it
        return set()
    return _words(b" ".join(text).decode("utf-8", "replace"))


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


# --- the contenders, each imported where it is installed -----------------------------------------


def rag_app() -> Callable[[Path], str]:
    """Our readers, in this process."""
    from rag_app.documents.file_types import Limits
    from rag_app.documents.read import parse

    return lambda file: parse(file, Limits())[0]


def markitdown() -> Callable[[Path], str]:
    """MarkItDown, without plugins."""
    from markitdown import MarkItDown  # type: ignore[import-not-found]

    converter = MarkItDown(enable_plugins=False)
    return lambda file: str(converter.convert(str(file)).markdown)


def docling() -> Callable[[Path], str]:
    """Docling's simple pipelines, which take no model."""
    from docling.document_converter import DocumentConverter  # type: ignore[import-not-found]

    converter = DocumentConverter()
    return lambda file: str(converter.convert(file).document.export_to_markdown())


CONTENDERS = {each.__name__: each for each in (rag_app, markitdown, docling)}


def child(name: str, folder: Path) -> None:
    """Read all files, and print a line for each and one for the whole."""

    def late(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    started = time.perf_counter()
    convert = CONTENDERS[name]()
    print(json.dumps({"start": time.perf_counter() - started}), flush=True)
    for file in files_in(folder):
        started = time.process_time()
        signal.alarm(SECONDS)
        try:
            text, why = convert(file), ""
        except BaseException as error:  # whatever a library raises
            text, why = "", f"{type(error).__name__}: {error}"[:200]
        finally:
            signal.alarm(0)
        expected = expected_words(file)
        found = len(expected & _words(text))
        line = {"file": file.relative_to(folder).as_posix(), "read": bool(text.strip()), "why": why}
        line |= {"seconds": time.process_time() - started, "characters": len(text)}
        line |= {"expected": len(expected), "found": found, "tables": text.count("| ---")}
        print(json.dumps(line), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"peak_mb": peak / 1000}), flush=True)


def files_in(folder: Path) -> Iterator[Path]:
    """Yield the files to read, in order."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not (file.suffix == ".md" and file.with_suffix("").is_file()):
            yield file


def run(name: str, python: str, folder: Path) -> list[dict[str, Any]]:
    """Run a contender in a process of its own, and return its lines."""
    done = subprocess.run(  # noqa: S603 - the caller's own Python
        [python, __file__, "--child", name, str(folder)], stdout=subprocess.PIPE, text=True
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return the comparison as Markdown: a row for each kind of file, then speed and memory."""
    kinds: defaultdict[str, defaultdict[str, list[dict[str, Any]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for name, lines in results.items():
        for line in lines:
            if "file" in line:
                kinds[Path(line["file"]).suffix][name].append(line)
                kinds["all"][name].append(line)
    rows = [f"| kind | files | {' | '.join(results)} |", "|---|---|" + "---|" * len(results)]
    for kind, by_name in sorted(kinds.items(), key=lambda item: (item[0] == "all", item[0])):
        cells = []
        for name in results:
            lines = by_name[name]
            read = sum(line["read"] for line in lines)
            expected = sum(line["expected"] for line in lines)
            found = sum(line["found"] for line in lines)
            share = f", {found / expected:.3f}" if expected else ""
            cells.append(f"{read}{share}")
        files = max(map(len, by_name.values()))
        rows.append(f"| {kind} | {files} | {' | '.join(cells)} |")
    for what, of in {"pages/s": _pages_per_second, "peak MB": _peak, "start s": _start}.items():
        rows.append(f"| {what} | | {' | '.join(of(lines) for lines in results.values())} |")
    return "\n".join(rows)


def _pages_per_second(lines: list[dict[str, Any]]) -> str:
    read = [line for line in lines if line.get("read")]
    seconds = sum(line["seconds"] for line in read)
    return f"{sum(line['characters'] for line in read) / PAGE / max(seconds, 1e-9):.0f}"


def _peak(lines: list[dict[str, Any]]) -> str:
    return next((f"{line['peak_mb']:.0f}" for line in lines if "peak_mb" in line), "died")


def _start(lines: list[dict[str, Any]]) -> str:
    return next((f"{line['start']:.1f}" for line in lines if "start" in line), "-")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--with", dest="others", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--json", type=Path, help="Write every line of every contender there.")
    parser.add_argument("--child", choices=sorted(CONTENDERS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.folder)
        return
    contenders = {"rag_app": sys.executable, **dict(each.split("=", 1) for each in given.others)}
    results = {name: run(name, python, given.folder) for name, python in contenders.items()}
    if given.json:
        given.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
