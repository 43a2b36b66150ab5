"""The small reader: its made-up facts, its tokens, and that training writes what vLLM loads."""

import json
from pathlib import Path

import pytest

from scripts.made_up_facts import NOT_THERE, Facts, is_held_out, write_set
from scripts.train_reader import Lessons, encode, make_tokenizer, train


def test_answers_stand_in_the_context_that_they_cite() -> None:
    facts = Facts(0, held_out=False)
    seen = set()
    for _ in range(50):
        example = facts.example(contexts=3, facts=3, questions=4, absent=0.3)
        for question, answer in example.asked:
            seen.add(answer == NOT_THERE)
            if answer != NOT_THERE:
                said, _, number = answer.removesuffix("].").rpartition(" [")
                assert f"{said}." in example.contexts[int(number) - 1]
                assert said.split()[1] in question
    assert seen == {True, False}


def test_names_of_the_test_are_never_read_in_training(tmp_path: Path) -> None:
    write_set(tmp_path, documents=20, questions=40)
    lines = (tmp_path / "questions.jsonl").read_text().splitlines()
    questions = [json.loads(line) for line in lines]
    assert sum(not each["answers"] for each in questions) == 10
    for each in questions:
        if each["answers"]:
            assert each["answers"][0] in (tmp_path / "docs" / each["file"]).read_text()
    names = {file.read_text().split()[1] for file in (tmp_path / "docs").iterdir()}
    assert len(names) == 20
    assert all(map(is_held_out, names))
    trained = Facts(0, held_out=False)
    assert not any(is_held_out(trained.place(2).name.split()[1]) for _ in range(100))


def test_tokens_say_what_was_written_and_know_every_word() -> None:
    tokenizer = make_tokenizer()
    example = Facts(0, held_out=True).example(4, 3, 4, 0.25)
    ids, marks = encode(tokenizer, example)
    said = tokenizer.decode(ids)
    assert all(context in said for context in example.contexts)
    assert tokenizer.unk_token_id not in ids
    answers = tokenizer.decode([id_ for id_, mark in zip(ids, marks, strict=True) if mark])
    assert answers == "".join(f" {answer}</s>" for _, answer in example.asked)


def test_the_next_lesson_begins_when_one_is_learnt() -> None:
    lessons = Lessons(make_tokenizer(), seed=0)
    assert not any(lessons.note(0.5) for _ in range(100))
    assert any(lessons.note(1.0) for _ in range(100))
    assert lessons.level == 1
    assert all(len(ids) == len(marks) for ids, marks in lessons.batch(1))


def test_training_writes_a_llama(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    train(tmp_path, minutes=0.02, width=32, layers=1, seed=0, from_lesson=0)
    assert "million parameters" in capsys.readouterr().out
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config.architectures
    assert len(AutoTokenizer.from_pretrained(tmp_path)) > 500
    assert "{{ question }}" in (tmp_path / "reader.jinja").read_text()
