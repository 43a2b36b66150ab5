"""Texts in other encodings than UTF-8 are read, and the report says which was guessed."""

import codecs
from pathlib import Path

import pytest

from rag_app.config.sections import DocumentsSection
from rag_app.documents.discover import SourceFile
from rag_app.documents.file_types import UnreadableFileError
from rag_app.documents.file_types.encodings import encoding_of
from rag_app.documents.read import content_hash, read

GERMAN = "Die Größe des Hauses ist für die Bürger wichtig: „Übrigens“ kostet es 100 €.\r\n"
RUSSIAN = "Это русский текст, который нужно правильно прочитать.\n"
JAPANESE = "これは日本語のテキストです。検索のための文書を読み込みます。\n"
CHINESE = "向量数据库为大规模的非结构化数据提供检索。这是一个测试文档。\n"
TRADITIONAL = "向量資料庫為大規模的非結構化資料提供檢索。這是一個測試文件。\n"
KOREAN = "이것은 한국어 텍스트입니다. 데이터베이스에 문서를 저장합니다.\n"
POLISH = "Zażółć gęślą jaźń. Wszystkie dokumenty są w bazie danych.\n"
GREEK = "Αυτό είναι ένα ελληνικό κείμενο που πρέπει να διαβαστεί σωστά.\n"  # noqa: RUF001
ENGLISH = "All of it is ASCII, as most of English is.\n" * 2000


def told(path: Path, data: bytes) -> tuple[str, list[str]]:
    path.write_bytes(data)
    file = SourceFile(path.name, path.parent)
    warned: list[str] = []
    text = read(file, DocumentsSection(), warned).text
    assert content_hash(file, DocumentsSection())
    return text, warned


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "cp1252"),
        ("Müller, café\n", "latin-1"),
        (ENGLISH + "Müller said so.\n" + ENGLISH, "latin-1"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8_r"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (JAPANESE.replace("\n", "") * 5000, "shift_jis"),
        (CHINESE, "gbk"),
        (TRADITIONAL, "big5"),
        (KOREAN, "euc_kr"),
        (POLISH, "cp1250"),
        (GREEK, "cp1253"),
        (GERMAN * 3, "utf-16-le"),
        (GERMAN * 3, "utf-16-be"),
    ],
)
def test_guessed_encoding_is_read_and_said(text: str, encoding: str, tmp_path: Path) -> None:
    found, warned = told(tmp_path / "a.txt", text.encode(encoding))
    assert found == text.replace("\r\n", "\n")
    (warning,) = warned
    assert "a guess" in warning


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + GERMAN.encode(),
        GERMAN.encode("utf-16"),
        codecs.BOM_UTF16_BE + GERMAN.encode("utf-16-be"),
        GERMAN.encode("utf-32"),
        GERMAN.encode(),
    ],
    ids=["UTF-8", "UTF-16-LE", "UTF-16-BE", "UTF-32", "UTF-8 without mark"],
)
def test_what_a_text_itself_tells_is_no_guess(data: bytes, tmp_path: Path) -> None:
    assert told(tmp_path / "a.md", data) == (GERMAN.replace("\r\n", "\n"), [])


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ("<html><head><meta charset={}></head>", "shift_jis"),
        ('<meta http-equiv=Content-Type content="text/html; charset={}">', "iso-8859-2"),
        ('<?xml version="1.0" encoding="{}"?>', "windows-1251"),
    ],
)
def test_page_is_taken_at_its_word(head: str, encoding: str, tmp_path: Path) -> None:
    text = {"shift_jis": JAPANESE, "iso-8859-2": POLISH}.get(encoding, RUSSIAN).strip()
    data = f"{head.format(encoding)}<p>{text}</p>".encode(encoding)
    found, warned = told(tmp_path / ("a.xml" if "xml" in head else "a.html"), data)
    assert text in found
    assert not [warning for warning in warned if "guess" in warning]


def test_latin_1_means_what_it_means_to_browsers() -> None:
    page = "<meta charset=iso-8859-1><p>“quoted” 5 €</p>"
    assert encoding_of(page.encode("cp1252")).decode(page.encode("cp1252")) == page


def test_page_that_lies_is_guessed(tmp_path: Path) -> None:
    data = f"<meta charset=euc-kr><p>{RUSSIAN * 5}</p>".encode("cp1251")
    found, warned = told(tmp_path / "a.html", data)
    assert RUSSIAN.strip() in found
    assert any("cp1251, which is a guess" in warning for warning in warned)


def test_damaged_utf_8_is_not_taken_for_another_encoding(tmp_path: Path) -> None:
    before, after = RUSSIAN.encode(), (RUSSIAN * 50).encode()
    text, warned = told(tmp_path / "a.txt", before + b"\xff" + after)
    assert text == f"{RUSSIAN}\ufffd{RUSSIAN * 50}"
    assert warned == ["1 place in it is not UTF-8, and is replaced"]
    text, warned = told(
        tmp_path / "b.txt", codecs.BOM_UTF16_LE + ("abc" * 9).encode("utf-16-le") + b"d"
    )
    assert text.startswith("abc")
    assert "it is marked as UTF-16" in warned[0]


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 40,
        bytes(range(1, 256)) * 40,
        b"\x89PNG\r\n\x1a\n" + bytes(2000),
        b"a\0b" * 500,
    ],
)
def test_what_is_no_text_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError):
        told(tmp_path / "a.bin", data)


def test_readers_of_every_kind_of_text_read_it(tmp_path: Path) -> None:
    for name, text in {
        "a.csv": "Name,Größe\nMüller,5\nJäger,6\n",
        "a.json": '{"Größe": "für Müller und Jäger"}',
        "a.ipynb": '{"cells": [{"cell_type": "markdown", "source": "Größe für Müller",'
        ' "metadata": {}}],'
        ' "metadata": {}, "nbformat": 4, "nbformat_minor": 5}',
        "a.py": "# Größe für Müller und Jäger\n",
    }.items():
        for encoding in ("utf-16", "cp1252"):
            assert "Größe" in told(tmp_path / name, text.encode(encoding))[0]
