"""Facts about places that do not exist, and questions about them: what a small reader learns on.

"The Korvan bridge was opened in 1931." Names are put together of syllables, and every fifth of them
(`is_held_out`) is kept for the test: a model that answers about those has read, not remembered.
"""

import json
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NOT_THERE = "The documents do not answer this."

KINDS = (
    *("bridge", "tower", "museum", "theatre", "library", "station", "castle", "market"),
    *("school", "harbour"),
)
FIRST = (
    *("Kor", "Mel", "Tar", "Bren", "Sol", "Vin", "Dar", "Hal", "Jor", "Lum", "Nar", "Pel", "Quin"),
    *("Ros", "Sev", "Tul", "Ul", "Ver", "Wil", "Yar", "Zan", "Al", "Bor", "Cas", "Del", "Er"),
    *("Fal", "Gor", "Hes", "Il", "Jas", "Kel", "Lor", "Mir", "Nol", "Or", "Pra", "Ras", "Sten"),
)
LAST = (
    *("van", "dor", "mir", "len", "tas", "gard", "wick", "burg", "lin", "sen", "ford", "ton"),
    *("nos", "bek", "rad", "vel", "mund", "hart", "stad", "fell", "gate", "rin", "lak", "dun"),
    *("berg", "holm", "by", "thal", "mar", "nik", "ros", "vik", "zel", "pan", "kov", "das"),
)
YEARS = range(1900, 2020)
NUMBERS = range(11, 200)


@dataclass(frozen=True)
class Relation:
    """A kind of fact: how it is told and asked for. ``{x}`` is the place, ``{v}`` the value.

    What is told names the relation before the value: a small causal model reads on, not back.
    """

    said: str
    asked: tuple[str, ...]
    value: str


RELATIONS = (
    Relation(
        "{x} was opened in {v}", ("When was {x} opened?", "In which year was {x} opened?"), "year"
    ),
    Relation(
        "{x} was closed in {v}", ("When was {x} closed?", "In which year was {x} closed?"), "year"
    ),
    Relation(
        "{x} has a length of {v}", ("How long is {x}?", "What is the length of {x}?"), "metres"
    ),
    Relation(
        "{x} has a height of {v}", ("How high is {x}?", "What is the height of {x}?"), "metres"
    ),
    Relation("{x} had a price of {v}", ("How much did {x} cost?",), "crowns"),
    Relation("{x} was seen by {v}", ("How many visitors did {x} have?",), "visitors"),
    Relation("{x} was designed by {v}", ("Who designed {x}?",), "person"),
    Relation("{x} belongs to {v}", ("Who owns {x}?", "To whom does {x} belong?"), "person"),
    Relation("{x} stands in {v}", ("Where does {x} stand?", "In which town is {x}?"), "town"),
)


def is_held_out(name: str) -> bool:
    """Tell whether a name is kept for the test."""
    return zlib.crc32(name.encode()) % 5 == 0


@dataclass(frozen=True)
class Place:
    """A place and what is told of it: by the number of the relation, the value."""

    name: str
    facts: dict[int, str]

    def told(self) -> str:
        """Return its document."""
        return " ".join(f"{self.fact(number)}." for number in self.facts)

    def fact(self, relation: int) -> str:
        """Return one fact, without its full stop."""
        return RELATIONS[relation].said.format(x=self.name, v=self.facts[relation])


@dataclass(frozen=True)
class Example:
    """Contexts in prompt order, and questions with the answers that these contexts give."""

    contexts: tuple[str, ...]
    asked: tuple[tuple[str, str], ...]


class Facts:
    """Makes places, and examples of reading.

    Parameters
    ----------
    held_out
        Whether places have the names that are kept for the test.
    """

    def __init__(self, seed: int, *, held_out: bool) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._held_out = held_out

    def place(self, facts: int, like: Place | None = None) -> Place:
        """Make a place; one that is `like` another has its kind and a fact of the same relation."""
        chance = self._random
        numbers = chance.sample(range(len(RELATIONS)), facts)
        kind = chance.choice(KINDS)
        if like is not None:
            kind = like.name.rsplit(" ", 1)[1]
            shared = chance.choice(list(like.facts))
            if shared not in numbers:
                numbers[chance.randrange(facts)] = shared
        name = f"The {self._name()} {kind}"
        return Place(name, {number: self._value(RELATIONS[number].value) for number in numbers})

    def example(self, contexts: int, facts: int, questions: int, absent: float) -> Example:
        """Make contexts of places, and ask about them.

        Parameters
        ----------
        facts
            At most so many of each place.
        absent
            Share of questions whose answer stands in no context: the place's, but of another
            relation, or another place's.
        """
        chance = self._random
        places = [self.place(chance.randint(1, facts))]
        while len(places) < contexts:
            like = chance.choice(places) if chance.random() < 0.7 else None
            other = self.place(chance.randint(1, facts), like)
            if all(other.name != each.name for each in places):
                places.append(other)
        chance.shuffle(places)
        told = [(at, number) for at, place in enumerate(places) for number in place.facts]
        chance.shuffle(told)
        asked = []
        for at, number in told[:questions]:
            if chance.random() < absent:
                asked.append((self._absent(places), NOT_THERE))
            else:
                answer = f"{places[at].fact(number)} [{at + 1}]."
                asked.append((self.ask(places[at].name, number), answer))
        return Example(tuple(place.told() for place in places), tuple(asked))

    def ask(self, name: str, relation: int) -> str:
        """Return a question."""
        inside = name[0].lower() + name[1:]  # "The" within a sentence
        return self._random.choice(RELATIONS[relation].asked).format(x=inside)

    def _absent(self, places: Sequence[Place]) -> str:
        chance = self._random
        place = chance.choice(places)
        missing = [number for number in range(len(RELATIONS)) if number not in place.facts]
        if chance.random() < 0.5:
            return self.ask(place.name, chance.choice(missing))
        other = self.place(1, place)
        while any(other.name == each.name for each in places):
            other = self.place(1, place)
        return self.ask(other.name, next(iter(other.facts)))

    def _name(self) -> str:
        while True:
            name = self._random.choice(FIRST) + self._random.choice(LAST)
            if is_held_out(name) is self._held_out:
                return name

    def _value(self, kind: str) -> str:
        if kind == "year":
            return str(self._random.choice(YEARS))
        if kind == "town":
            return self._name()
        if kind == "person":
            return f"{self._name()} {self._name()}"
        return f"{self._random.choice(NUMBERS)} {kind}"


def write_set(folder: Path, documents: int, questions: int, seed: int = 1) -> None:
    """Write a labelled set about held-out places: ``docs/`` and ``questions.jsonl``.

    A fourth of the questions have no answer in the documents.
    """
    facts = Facts(seed, held_out=True)
    chance = random.Random(seed)  # noqa: S311 - no secret
    places: dict[str, Place] = {}
    names: set[str] = set()
    while len(places) < documents:
        like = chance.choice(list(places.values())) if places and len(places) % 3 else None
        place = facts.place(3, like)
        # Of two kinds with one name the reader never read.
        if (name := place.name.split()[1]) not in names:
            names.add(name)
            places[place.name] = place
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    files = {}
    for number, (name, place) in enumerate(places.items()):
        files[name] = f"{number:04}.txt"
        (folder / "docs" / files[name]).write_text(place.told() + "\n", encoding="utf-8")
    lines = []
    for number in range(questions):
        place = chance.choice(list(places.values()))
        known = list(place.facts)
        if number % 4 == 3:
            missing = [each for each in range(len(RELATIONS)) if each not in known]
            question = facts.ask(place.name, chance.choice(missing))
            line = {"question": question, "answers": []}
        else:
            relation = chance.choice(known)
            question = facts.ask(place.name, relation)
            answers = [place.facts[relation], place.fact(relation)]
            line = {"question": question, "answers": answers, "file": files[place.name]}
        lines.append(json.dumps({"id": str(number), **line}))
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
