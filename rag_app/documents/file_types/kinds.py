"""What type a file is."""

from pathlib import Path

from rag_app.documents.file_types.limits import UnreadableFileError

_SUFFIXES = {
    "markdown": (".md", ".markdown", ".mdx"),
    "html": (".html", ".htm", ".xhtml"),
    "pdf": (".pdf",),
    "docx": (".docx",),
    "csv": (".csv", ".tsv"),
    "json": (".json", ".jsonl", ".ndjson"),
    "notebook": (".ipynb",),
    "code": (
        *(".py", ".pyi", ".js", ".jsx", ".ts", ".tsx", ".java", ".kt", ".go", ".rs", ".swift"),
        *(".c", ".h", ".cc", ".cpp", ".hpp", ".cs", ".rb", ".php", ".scala", ".lua", ".pl", ".r"),
        *(".sh", ".bash", ".sql", ".toml", ".yaml", ".yml", ".ini", ".cfg", ".xml", ".css"),
        *(".proto", ".tf", ".mk", ".cmake"),
    ),
}
_TYPE_OF = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes}
_BINARY_TYPES = {"pdf", "docx"}


def file_type(path: Path, data: bytes) -> str:
    """Tell a file's type by its suffix; any other that holds UTF-8 text is "text".

    Raises
    ------
    UnreadableFileError
        If the file is binary without a reader for it, or text that is not UTF-8.
    """
    kind = _TYPE_OF.get(path.suffix.lower(), "text")
    if kind in _BINARY_TYPES:
        return kind
    if b"\0" in data[:8192] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableFileError(f"binary: no reader for {path.suffix or 'files without suffix'}")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(
            f"not UTF-8: byte 0x{data[error.start]:02x} at {error.start}; convert it with iconv"
        ) from None
    return kind
