"""Tell whose stemming and stop words a text asks for, from the text itself.

A word in a script of its own goes by that script: Cyrillic by Russian, Greek by Greek, and so on.
Words in Latin letters go by the language most of whose stop words stand in the text: they are so
frequent that a passage of any language has several, and hardly one of another's (Grefenstette,
"Comparing two language identification schemes", 1995).
"""

from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

FALLBACK = "english"
"""Of rows that do not tell."""

LATIN = (
    *("english", "german", "french", "spanish", "italian", "portuguese", "dutch", "danish"),
    *("norwegian", "swedish", "finnish", "hungarian", "romanian", "turkish", "catalan", "basque"),
    "indonesian",
)
"""Languages with stop words to tell them by, and a stemmer."""

_SCRIPTS = (
    ("\u0370", "\u03ff", "greek"),
    ("\u1f00", "\u1fff", "greek"),
    ("\u0400", "\u052f", "russian"),
    ("\u0530", "\u058f", "armenian"),
    ("\u0600", "\u077f", "arabic"),
    ("\u0900", "\u097f", "hindi"),
    ("\u0b80", "\u0bff", "tamil"),
)

_SURE = 2
"""Different stop words that tell a language; a single one may be a name's, as in Los Angeles."""


def of_script(word: str) -> str | None:
    """Return the language that stands for a word's script; None: Latin letters, or another."""
    first = word[0]
    if first < _SCRIPTS[0][0]:  # Latin: no need to look at each
        return None
    return next((language for low, high, language in _SCRIPTS if low <= first <= high), None)


def likeliest(words: Iterable[str]) -> tuple[str, ...]:
    """Return the language of `LATIN` with most stop words among folded words.

    Returns
    -------
    tuple of str
        Several where as many are of each; none where the words do not tell.
    """
    known = _languages_by_stop_word()
    found = Counter(language for word in set(words) for language in known.get(word, ()))
    most = max(found.values(), default=0)
    return tuple(language for language in LATIN if most >= _SURE and found[language] == most)


@cache
def stop_words(language: str) -> frozenset[str]:
    """Read the stop words that NLTK has for a language, which come with LlamaIndex."""
    list_ = (
        files("llama_index.core") / "_static" / "nltk_cache" / "corpora" / "stopwords" / language
    )
    return frozenset(list_.read_text("utf-8").split()) if list_.is_file() else frozenset()


@cache
def _languages_by_stop_word() -> dict[str, tuple[str, ...]]:
    by_word: dict[str, tuple[str, ...]] = {}
    for language in LATIN:
        for word in stop_words(language):
            by_word[word] = (*by_word.get(word, ()), language)
    return by_word
