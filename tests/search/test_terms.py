"""What BM25 counts of a text."""

import re

import pytest

from rag_app.config.languages import LANGUAGES, STEMMED
from rag_app.milvus.words import MAX_BYTES, fit
from rag_app.search.terms import TermAnalyzer

english = TermAnalyzer("english")


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Indexes are indexed by the index.", "index index index"),
        ("the and of", ""),
        ("", ""),
        ("?!… —", ""),
        ("efConstruction", "efconstruct ef construct"),
        ("load_collection()", "load_collect load collect"),
        ("HNSW_SQ8", "hnsw_sq8 hnsw sq 8"),
        ("HTTPServer", "httpserver http server"),
        ("café naïve", "cafe naiv"),
        ("\ufb01le \uff2dilvus", "file milvus"),
        ("向量数据库", "向量 量数 数据 据库"),
        ("云", "云"),
        ("벡터를 검색", "벡터 터를 검색"),
        ("Milvus向量 2.5", "milvus 向量 2 5"),
        ("ดัชนี", "ดe31 e31ช ชน นe35"),
        ("a" * 200, "a" * 64),
        ("NUL\0 and\ttab", "nul tab"),
    ],
)
def test_terms_of_english_and_of_scripts_without_spaces(text: str, terms: str) -> None:
    assert english(text) == terms


@pytest.mark.parametrize("text", ["สวัสดีชาวโลก", "ສະບາຍດີ", "សួស្តីពិភពលោក", "向量数据库", "🦜 parrot "])
def test_terms_fit_a_row_whole(text: str) -> None:
    longest = english(text * (16_000 // len(text)))
    fitting = fit(longest)
    assert len(fitting.encode()) <= MAX_BYTES
    assert longest.split(" ")[: len(fitting.split(" "))] == fitting.split(" ")
    if len(longest.encode()) > MAX_BYTES:
        assert len(fitting.encode()) > MAX_BYTES - 100
    assert fit(english(text)) == english(text)


@pytest.mark.parametrize("over", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("last", ["e", "é", "ก", "𠀀"])
def test_terms_are_cut_between_two_of_them_at_the_very_byte(over: int, last: str) -> None:
    short = last * 10
    size = len(short.encode())
    before = "a" * ((MAX_BYTES + over - size - 1) % 64) or "b"
    terms = " ".join([before, *["c" * 63] * 2000])[: MAX_BYTES + over - size - 1] + " " + short
    assert len(terms.encode()) == MAX_BYTES + over
    assert fit(terms) == (terms if over <= 0 else terms.rpartition(" ")[0])


def test_standard_neither_stems_nor_drops() -> None:
    assert TermAnalyzer("standard")("The indexes are built") == "the indexes are built"


def test_each_language_stems_its_own() -> None:
    assert TermAnalyzer("german")("die Häuser") == "haus"
    assert TermAnalyzer("french")("les vecteurs") == "vecteur"
    assert TermAnalyzer("hindi")("कुत्ते") == TermAnalyzer("hindi")("कुत्ता")
    assert TermAnalyzer("russian")("векторы и вектор") == "вектор вектор"


auto = TermAnalyzer("auto")


@pytest.mark.parametrize(
    ("language", "row", "question"),
    [
        (
            "english",
            "The indexes are built when the rows are there.",
            "When are the indexes built?",
        ),
        ("german", "Die Häuser sind in der Stadt gebaut worden.", "Wann sind die Häuser gebaut?"),
        (
            "french",
            "Les vecteurs sont dans la base de données.",
            "Où sont les vecteurs dans la base?",
        ),
        ("russian", "Векторы хранятся в базе данных.", "Где хранятся векторы?"),
        ("armenian", "Վեկտորները պահվում են բազայում", "Որտեղ են վեկտորները"),
    ],
)
def test_each_text_tells_its_own_language(language: str, row: str, question: str) -> None:
    own = TermAnalyzer(language)
    assert auto(row) == own(row)
    assert auto.of_question(question) == own.of_question(question) == own(question)


def test_words_of_another_script_go_by_it() -> None:
    assert auto("The index of векторы and векторов") == "index вектор вектор"


def test_rows_that_do_not_tell_are_english() -> None:
    for text in ("Index types: HNSW, IVF", "Los Angeles", "", "向量 indexes"):
        assert auto(text) == english(text)


@pytest.mark.parametrize("language", ["english", "german", "french"])
@pytest.mark.parametrize("question", ["Häuser", "vecteurs", "indexes Los Angeles", "index"])
def test_a_question_that_does_not_tell_finds_rows_of_any_language(
    language: str, question: str
) -> None:
    own = TermAnalyzer(language)(question).split()
    assert set(own) <= set(auto.of_question(question).split())


def test_a_stem_that_languages_share_counts_once() -> None:
    assert auto.of_question("HNSW") == "hnsw"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_gives_terms_that_split_at_spaces_alone(language: str) -> None:
    terms = TermAnalyzer(language)("Milvus, efConstruction: 向量 कुत्ते résumé İstanbul")
    assert re.findall(r"\w+", terms) == terms.split(" ")  # as Milvus Lite does
    assert "efconstruct" in terms


def test_languages_are_those_of_the_stemmer() -> None:
    import Stemmer

    assert set(STEMMED) <= set(Stemmer.algorithms())


def test_a_question_has_each_word_once_by_what_stands_for_it() -> None:
    analyze = TermAnalyzer("english")
    assert analyze.alternatives("Which machine3 is the machine3 built?") == [
        frozenset({"machine3"}),
        frozenset({"built"}),
    ]
    assert analyze.alternatives("efConstruction") == [frozenset({"efconstruct", "ef", "construct"})]
    # What only asks is in no answer.
    asked = TermAnalyzer("auto").alternatives("国王什么时候去世?")
    assert asked == [frozenset({"国王"}), frozenset({"去世"})]
