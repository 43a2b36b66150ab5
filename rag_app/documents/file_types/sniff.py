"""What a file is whose suffix does not tell, by how it begins; and what to do without a reader."""

import re

HEAD = 4096
"""Bytes that tell."""

_MAGIC = (
    (re.compile(rb"\s*\{\\rtf"), "rtf"),
    (re.compile(rb"%PDF-"), "pdf"),
    (re.compile(rb"\s*(?:<!--.{0,1000}?-->\s*)?<(?:!doctype\s+html|html)\b", re.I | re.S), "html"),
    (re.compile(rb"\s*(?:<\?xml\s|<svg[\s>]|<!doctype\s+svg)", re.I), "xml"),
    (re.compile(rb"(?:\xef\xbb\xbf)\s*(?:<\?xml\s|<svg[\s>])", re.I), "xml"),
)
_HEADER = re.compile(rb"([A-Za-z][A-Za-z0-9-]{1,60}):[ \t]")
_OF_MAIL = {
    *(b"return-path", b"received", b"delivered-to", b"message-id", b"mime-version", b"date"),
    *(b"from", b"to", b"subject", b"content-type"),
}
_ENOUGH = 4
"""Headers of a mail that a text has to begin with: a note may begin with "To:" and "Subject:"."""

_ADVICE = {
    (".pages", ".key", ".numbers"): "export it as an Office file or PDF",
    (".mobi", ".azw", ".azw3", ".djvu", ".lit"): "convert it to EPUB or PDF, e.g. with Calibre",
    (".one", ".vsd", ".vsdx", ".pub", ".mdb", ".accdb"): "export it as PDF",
    (".ps", ".eps", ".dvi"): "convert it to PDF",
    (".wpd", ".wps", ".sxw", ".sxc", ".sxi"): "soffice --headless --convert-to docx",
    (".ppt", ".pps", ".pot"): "soffice --headless --convert-to pptx, or save it as .pptx",
    (".xlsb",): "save it as .xlsx",
    (".7z", ".rar", ".lha", ".cab", ".iso", ".dmg"): "unpack it",
    (".pst", ".ost", ".dbx"): "export the mails as .eml or .mbox",
    (".mp3", ".wav", ".m4a", ".flac", ".ogg", ".mp4", ".mov", ".avi", ".mkv", ".webm"): (
        "a recording: ingest a transcript of it"
    ),
    (".parquet", ".feather", ".avro", ".sqlite", ".db", ".sqlite3", ".orc"): "export it as CSV",
}
_ADVICE_OF = {suffix: advice for suffixes, advice in _ADVICE.items() for suffix in suffixes}


def type_by_content(data: bytes) -> str | None:
    """Return the type of file that the first bytes tell, None if they tell none."""
    head = data[:HEAD]
    for magic, kind in _MAGIC:
        if magic.match(head):
            return kind
    return "mail" if _is_mail(head) else None


def _is_mail(head: bytes) -> bool:
    names: set[bytes] = set()
    for line in head.split(b"\n"):
        if line[:1] in b" \t" and names and line.strip():
            continue  # the header before goes on
        header = _HEADER.match(line)
        if header is None:
            break
        names.add(header[1].lower())
    return len(names & _OF_MAIL) >= _ENOUGH and b"from" in names


def advice_for(suffix: str) -> str:
    """Return what to do with files of a suffix that nothing reads; empty if nothing is known."""
    return _ADVICE_OF.get(suffix, "")
