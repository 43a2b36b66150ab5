"""Reading questions, and what counts as a hit."""

import json
from pathlib import Path
from typing import Any

import pytest

from rag_app.errors import InputError
from rag_app.evaluation.questions import EvalQuestion, read_questions, sample
from rag_app.evaluation.relevance import BESIDE, Relevance, fold, is_same_file


def write(*lines: str, name: str = "q.jsonl") -> Path:
    path = Path(name)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def question(**values: Any) -> EvalQuestion:
    return EvalQuestion(1, "1", "?", **values)


def test_formats_of_the_labelled_sets() -> None:
    squad = {
        "id": "57",
        "question": "What is it?",
        "answers": ["Ogród Saski"],
        "file": "Warsaw.txt",
        "paragraph": "Nearby, in Ogród Saski",
    }
    milvus = {
        "id": "m",
        "question": "What?",
        "answers": ["ef"],
        "file": "index.md",
        "gold": {"index.md": ["ef"], "hnsw.md": ["M", "ef"]},
        "paragraph": "",
    }
    (first, second), bad = read_questions(write(json.dumps(squad), json.dumps(milvus)))
    assert not bad
    assert (first.line, first.id, first.question) == (1, "57", "What is it?")
    assert (first.answers, first.files) == (("Ogród Saski",), ("Warsaw.txt",))
    assert first.contexts == ("Nearby, in Ogród Saski",)
    assert second.files == ("index.md", "hnsw.md")
    assert second.gold == {"index.md": ("ef",), "hnsw.md": ("M", "ef")}
    assert second.contexts == ()


def test_csv_has_the_same_columns() -> None:
    path = write(
        "question,answers,file,gold,contexts",
        'Who?,Ada,a.md,,"one passage"',
        '"What, then?","[""a"", ""b""]",,"{""b.md"": [""k""]}","[""x"", ""y""]"',
        "Nobody?,[],,,",
        '"two\nlines?",yes,,,',
        name="q.csv",
    )
    questions, bad = read_questions(path)
    assert not bad
    assert [each.answers for each in questions] == [("Ada",), ("a", "b"), (), ("yes",)]
    assert [each.contexts for each in questions] == [("one passage",), ("x", "y"), (), ()]
    assert questions[1].gold == {"b.md": ("k",)}
    assert questions[2].is_unanswerable
    assert not questions[2].has_evidence


def test_csv_without_a_column_for_questions() -> None:
    with pytest.raises(InputError, match="no column 'question'"):
        read_questions(write("query,answers", "Who?,Ada", name="q.csv"))


def test_wrong_lines_are_told_with_number_and_reason() -> None:
    good = '{"question": "fine?"}'
    wrong = {
        "{not json": "not JSON",
        '["a"]': "not an object",
        '{"answers": ["a"]}': 'no text under "question"',
        '{"question": "  "}': 'no text under "question"',
        '{"question": "a?", "answers": [1]}': '"answers" is [1]',
        '{"question": "a?", "answers": {"a": 1}}': "not a list of texts",
        '{"question": "a?", "answers": [""]}': "write [] if the documents do not answer it",
        '{"question": "a?", "file": 3}': '"file" is 3',
        '{"question": "a?", "gold": ["k"]}': "not a map of file to keywords",
        '{"question": "a?", "gold": {"a.md": 1}}': '"a.md" is 1',
        '{"question": "a?", "contexts": [null]}': '"contexts" is [None]',
    }
    questions, bad = read_questions(write(good, "", *wrong, good))
    assert [each.line for each in questions] == [1, len(wrong) + 3]
    assert [line.line for line in bad] == list(range(3, len(wrong) + 3))
    for line, reason in zip(bad, wrong.values(), strict=True):
        assert reason in line.reason


def test_files_without_any_question() -> None:
    with pytest.raises(InputError, match=r"no question in q.jsonl"):
        read_questions(write(""))
    with pytest.raises(InputError, match="line 1: not JSON"):
        read_questions(write("{"))
    with pytest.raises(InputError, match="cannot be read"):
        read_questions(Path("absent.jsonl"))
    Path("latin.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        read_questions(Path("latin.jsonl"))


def test_sample_depends_on_the_seed_alone() -> None:
    many = [question(file=str(number)) for number in range(100)]
    first = sample(many, 10, 0)
    assert first == sample(many, 10, 0) != sample(many, 10, 1)
    assert first == sorted(first, key=many.index)
    assert sample(many, None, 0) == sample(many, 1000, 0) == many


def test_key_tells_questions_apart() -> None:
    assert question(answers=("a",)).key == EvalQuestion(9, "x", "?", ("a",)).key
    keys = {question(), question(answers=()), question(answers=("a",)), question(file="a")}
    assert len({each.key for each in keys}) == 4


PASSAGE = (
    "The garden was laid out in the baroque manner by Tylman. In 1745 Augustus had Ogród Saski "
    "opened to everybody, which made it one of the first parks of its kind in the world."
)


def test_answer_must_stand_beside_its_passage() -> None:
    relevance = Relevance(question(answers=("Ogród Saski",), file="w.txt", contexts=(PASSAGE,)))
    assert relevance.is_hit("w.txt", f"Before. {PASSAGE} After.")
    assert relevance.is_hit("w.txt", PASSAGE.upper().replace(" ", "\n  "))
    at = PASSAGE.index("Ogród")
    assert relevance.is_hit("w.txt", PASSAGE[at : at + len("Ogród Saski") + BESIDE])
    assert relevance.is_hit("w.txt", PASSAGE[at - BESIDE : at + len("Ogród Saski")])
    assert not relevance.is_hit("w.txt", PASSAGE[at - BESIDE + 4 : at + len("Ogród Saski") + 9])
    assert not relevance.is_hit("w.txt", "A café is called Ogród Saski as well, and is elsewhere.")
    assert not relevance.is_hit("v.txt", PASSAGE)


def test_answer_at_the_edge_of_a_short_passage() -> None:
    relevance = Relevance(question(answers=("Ada",), contexts=("It was Ada.",)))
    assert relevance.is_hit("any.md", "So: it was Ada. Or was it?")
    assert not relevance.is_hit("any.md", "Ada")
    start = Relevance(question(answers=("The garden",), contexts=(PASSAGE,)))
    assert start.is_hit("w.txt", PASSAGE[: len("The garden") + BESIDE])
    assert not start.is_hit("w.txt", "the garden")


def test_every_place_of_the_answer_in_the_passage_counts() -> None:
    passage = f"First it was {'a' * 50} Rome {'b' * 50}, then it was {'c' * 50} Rome {'d' * 50}."
    relevance = Relevance(question(answers=("Rome",), contexts=(passage,)))
    assert relevance.is_hit("x", f"{'b' * 9} then {'c' * 60} Rome {'d' * 40}")


def test_passage_without_the_answers_words() -> None:
    passage = (
        "Milvus builds a graph over the vectors. It is searched from the top. Links go both ways."
    )
    relevance = Relevance(question(answers=("by a hierarchical graph",), contexts=(passage,)))
    assert relevance.is_hit("a.md", passage)
    assert relevance.is_hit("a.md", passage[: passage.index("Links")])
    assert not relevance.is_hit("a.md", "Links go both ways.")


def test_keywords_of_a_file() -> None:
    gold = {"index.md": ("efConstruction",), "sub/other.md": ("a  B",)}
    relevance = Relevance(question(answers=("ef",), file="index.md", gold=gold))
    assert relevance.is_hit("index.md", "set EFCONSTRUCTION to 8")
    assert relevance.is_hit("docs/index.md", "efconstruction")
    assert relevance.is_hit("sub/other.md", "an A\nb c")
    assert not relevance.is_hit("index.md", "an a b c")
    assert not relevance.is_hit("another.md", "efConstruction")


def test_answers_alone_and_file_alone() -> None:
    assert Relevance(question(answers=("Ada",))).is_hit("x.md", "it was ADA")
    assert not Relevance(question(answers=("Ada",), file="y.md")).is_hit("x.md", "Ada")
    assert Relevance(question(file="x.md")).is_hit("docs/x.md", "anything")
    assert not Relevance(question(file="x.md")).is_hit("xx.md", "anything")


@pytest.mark.parametrize(
    ("path", "file", "same"),
    [
        ("a.md", "a.md", True),
        ("docs/a.md", "a.md", True),
        ("a.md", "docs/a.md", True),
        ("ba.md", "a.md", False),
        ("a/b.md", "c/b.md", False),
    ],
)
def test_paths_are_compared_by_their_ends(path: str, file: str, same: bool) -> None:
    assert is_same_file(path, file) is same


def test_reach_counts_the_characters_that_must_be_read() -> None:
    relevance = Relevance(question(answers=("Ada",)))
    assert relevance.reach([("x", "12345"), ("x", "it was Ada, yes")]) == 5 + len("it was Ada")
    assert relevance.reach([("x", "Ada"), ("x", "Ada")]) == 3
    assert relevance.reach([("x", "nothing")]) is None
    assert relevance.reach([]) is None


def test_fold() -> None:
    assert fold("  A\tb\n\nStraße ") == "a b strasse"
