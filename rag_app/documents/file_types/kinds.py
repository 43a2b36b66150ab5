"""What type a file is, and who reads it."""

import os
from dataclasses import dataclass
from pathlib import Path

from rag_app.documents.file_types.archive import ArchiveReader
from rag_app.documents.file_types.asciidoc import AsciiDocReader
from rag_app.documents.file_types.base import FileReader
from rag_app.documents.file_types.code import CodeReader
from rag_app.documents.file_types.doc import DocReader
from rag_app.documents.file_types.docx import DocxReader
from rag_app.documents.file_types.encodings import encoding_of
from rag_app.documents.file_types.epub import EpubReader
from rag_app.documents.file_types.html import HTMLReader
from rag_app.documents.file_types.latex import LatexReader
from rag_app.documents.file_types.limits import Budget, UnreadableFileError
from rag_app.documents.file_types.mail import MailReader, MboxReader
from rag_app.documents.file_types.msg import MsgReader
from rag_app.documents.file_types.ocr import ImageReader, ScannedPdfReader
from rag_app.documents.file_types.odf import OdpReader, OdsReader, OdtReader
from rag_app.documents.file_types.org import OrgReader
from rag_app.documents.file_types.pptx import PptxReader
from rag_app.documents.file_types.records import CSVReader, JSONReader, NotebookReader
from rag_app.documents.file_types.rst import RstReader
from rag_app.documents.file_types.rtf import RtfReader
from rag_app.documents.file_types.sniff import HEAD, advice_for, type_by_content
from rag_app.documents.file_types.text import MarkdownReader, TextReader
from rag_app.documents.file_types.xls import XlsReader
from rag_app.documents.file_types.xlsx import XlsxReader
from rag_app.documents.file_types.xml import XmlReader
from rag_app.registry import Registry


@dataclass(frozen=True)
class _Kind:
    """A type of file: who reads it, the suffixes that tell it, and whether it is no text."""

    reader: type[FileReader]
    suffixes: tuple[str, ...] = ()
    is_binary: bool = False


_CODE = (
    *(
        ".py",
        ".pyi",
        ".js",
        ".jsx",
        ".mjs",
        ".cjs",
        ".ts",
        ".tsx",
        ".java",
        ".kt",
        ".go",
        ".rs",
        ".swift",
    ),
    *(".c", ".h", ".cc", ".cpp", ".hpp", ".cs", ".rb", ".php", ".scala", ".lua", ".pl", ".r"),
    *(".sh", ".bash", ".sql", ".toml", ".yaml", ".yml", ".ini", ".cfg", ".css"),
    *(".proto", ".tf", ".mk", ".cmake"),
)
_XML = (
    *(
        ".xml",
        ".svg",
        ".fb2",
        ".rss",
        ".atom",
        ".opml",
        ".docbook",
        ".dbk",
        ".tei",
        ".dita",
        ".ditamap",
    ),
    *(".xsd", ".xsl", ".xslt", ".wsdl", ".kml", ".gpx", ".resx", ".plist", ".xlf", ".xliff"),
    *(".xbrl", ".jats", ".nxml", ".musicxml"),
)
_IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif")
_KINDS = {
    "text": _Kind(TextReader),
    "code": _Kind(CodeReader, _CODE),
    "markdown": _Kind(MarkdownReader, (".md", ".markdown", ".mdx")),
    "html": _Kind(HTMLReader, (".html", ".htm", ".xhtml")),
    "pdf": _Kind(ScannedPdfReader, (".pdf",), is_binary=True),
    "image": _Kind(ImageReader, _IMAGES, is_binary=True),
    "docx": _Kind(DocxReader, (".docx",), is_binary=True),
    "pptx": _Kind(PptxReader, (".pptx",), is_binary=True),
    "xlsx": _Kind(XlsxReader, (".xlsx", ".xlsm"), is_binary=True),
    "xls": _Kind(XlsReader, (".xls", ".xlt"), is_binary=True),
    "odt": _Kind(OdtReader, (".odt", ".ott"), is_binary=True),
    "ods": _Kind(OdsReader, (".ods", ".ots"), is_binary=True),
    "odp": _Kind(OdpReader, (".odp", ".otp"), is_binary=True),
    "epub": _Kind(EpubReader, (".epub",), is_binary=True),
    "mail": _Kind(MailReader, (".eml", ".emlx", ".mht", ".mhtml"), is_binary=True),
    "msg": _Kind(MsgReader, (".msg",), is_binary=True),
    "mbox": _Kind(MboxReader, (".mbox", ".mbx"), is_binary=True),
    "archive": _Kind(ArchiveReader, (".zip", ".tar", ".tgz", ".tbz2", ".txz"), is_binary=True),
    "doc": _Kind(DocReader, (".doc", ".dot"), is_binary=True),
    "rtf": _Kind(RtfReader, (".rtf",), is_binary=True),
    "xml": _Kind(XmlReader, _XML),
    "asciidoc": _Kind(AsciiDocReader, (".adoc", ".asciidoc", ".asc")),
    "rst": _Kind(RstReader, (".rst", ".rest")),
    "org": _Kind(OrgReader, (".org",)),
    "latex": _Kind(LatexReader, (".tex", ".latex", ".ltx")),
    "csv": _Kind(CSVReader, (".csv", ".tsv")),
    "json": _Kind(JSONReader, (".json", ".jsonl", ".ndjson")),
    "notebook": _Kind(NotebookReader, (".ipynb",)),
}
_TYPE_OF = {suffix: name for name, kind in _KINDS.items() for suffix in kind.suffixes}

READERS: Registry[type[FileReader]] = Registry(
    "rag_app.readers",
    "reader",
    {name: kind.reader for name, kind in _KINDS.items()},
    takes="subclass of rag_app.documents.file_types.FileReader",
    fits=lambda found: isinstance(found, type) and issubclass(found, FileReader),
    # Ours come first: another package's reader of one of these would never be asked.
    reserved=[suffix.removeprefix(".") for suffix in _TYPE_OF],
)
"""By type. Another package's type is the suffix of its files, without the dot."""


def readers_by_suffix() -> dict[str, type[FileReader]]:
    """Return who reads the files of each suffix (".md"); others may be text, and may not."""
    ours = {suffix: _KINDS[name].reader for suffix, name in _TYPE_OF.items()}
    return ours | {f".{name}": READERS[name] for name in READERS.packages()}


def file_type(path: Path, data: bytes) -> str:
    """Tell a file's type by its suffix, or else by how it begins; other text is "text".

    Raises
    ------
    UnreadableFileError
        If the file is binary without a reader for it.
    ExtensionError
        If other packages' readers cannot be told apart.
    """
    suffix = suffix_of(path)
    kind = _TYPE_OF.get(suffix)
    if kind is None and (name := suffix.removeprefix(".")) in READERS.packages():
        return name  # whose reader says what it takes
    kind = kind or type_by_content(data) or "text"
    if _KINDS[kind].is_binary:
        return kind
    try:
        encoding_of(data)
    except UnreadableFileError:
        if kind == "text" and b"\0" in data[:8192]:
            what = path.suffix or "files without suffix"
            advice = advice_for(suffix)
            said = f"binary: no reader for {what}{advice and f': {advice}'}"
            raise UnreadableFileError(said) from None
        raise
    return kind


def suffix_of(path: Path) -> str:
    """Return a file's suffix, in lower case; that of a compressed archive is ".tgz"."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes[:1] == [".tar"] and len(suffixes) == 2:
        return {".gz": ".tgz", ".bz2": ".tbz2", ".xz": ".txz"}.get(suffixes[1], suffixes[1])
    return path.suffix.lower()


def is_plain(path: Path) -> bool:
    """Tell whether a file is read as it is, by code of ours that takes a time in its length.

    What cannot be opened is plain: reading it will say why.
    """
    suffix = suffix_of(path)
    if suffix in _TYPE_OF:
        return _TYPE_OF[suffix] == "markdown"
    if suffix.removeprefix(".") in READERS.packages():
        return False
    try:
        # As in `read`: never waiting for what is no file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            return type_by_content(file.read(HEAD) or b"") is None
    except OSError:
        return True


def _read_inside(file: Path, budget: Budget) -> tuple[str, str]:
    kind = file_type(file, file.read_bytes())
    text, _ = READERS[kind]().extract(file, budget)
    return kind, text


# From here: `base` cannot import the readers, which are made of it.
FileReader.read_inside = staticmethod(_read_inside)
