"""Text → the terms that BM25 counts: the same for rows and questions, and on every backend.

Milvus's own analyzers differ: Milvus Lite's neither stems nor splits Chinese, a server's have to be
told the language of each field. So texts are analysed here, and Milvus counts the terms, which it
splits at white space.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from itertools import pairwise

from rag_app.config.languages import AUTO, STANDARD
from rag_app.search.languages import FALLBACK, LATIN, likeliest, of_script, stop_words

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"  # Hangul
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # Kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
"""Scripts whose words are not told apart by spaces, or (Hangul) carry their particles with them."""

_MARKS = "\u0300-\u036f\u0900-\u0963\u0966-\u0dff"
"""Accents and the vowel signs of India's scripts, which Python's ``\\w`` leaves out."""

_RUN = re.compile(rf"([{_UNSPACED}]+)|((?:(?![{_UNSPACED}])[\w{_MARKS}])+)")
_PARTS = re.compile(rf"(?:[^\W\d_]|[{_MARKS}])+|\d+")
_NO_WORD = re.compile(r"\W")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_LETTER_AND_DIGIT = re.compile(r"[^\W\d_]\d|\d[^\W\d_]")
_LONGEST = 64
"""Characters of a term; what is longer (a digest, a data URL) is cut."""

_ASKING = re.compile(
    r"\b(?:many|much|mean|means|happen|happens|happened|wer|wen|wem|wessen|wann|wo|woher|wohin|wovon"
    r"|wof[uü]r|worauf|woran|womit|wodurch|warum|weshalb|wieso|wie|viele?|heißt|bedeutet|quien|quién"
    r"|cuándo|cuánto|cuántos|dónde|quel|quelle|quels|quelles|combien|pourquoi|quand|сколько|каков|как"
    r"|какова|каково|каковы|какой|какая|какое|какие|когда|где|почему|зачем|чем|кто|что)\b"
    r"|[是在叫有为]?什么(?:时候|地方)?|多少|[是在]?哪[个一里些种]?|何时|如何|怎[么样]+|为何|是?谁|有多"
    r"|무엇(?:인가요|인가|을|이)?|어떤|어떻게|언제|어디|얼마나|왜|누구|何|いつ|どこ|どの|なぜ|誰",
    re.IGNORECASE,
)
"""Words and phrases that only ask, where stop words do not have them already."""


class TermAnalyzer:
    """Turns text into terms, separated by spaces.

    Words are folded (Unicode NFKC, lower case), stop words dropped, the rest stemmed and stripped
    of accents. An identifier counts as a whole and by its parts: ``efConstruction`` is also ``ef``
    and ``construction``. Chinese, Japanese, Korean, Thai, Lao, Khmer and Burmese become pairs of
    characters, in any language's documents (as Lucene's ``CJKAnalyzer`` does).

    Parameters
    ----------
    language
        One of `LANGUAGES`. "auto": each text tells its own (`rag_app.search.languages`).
    """

    def __init__(self, language: str) -> None:
        self._language = language
        # No decorator of the method: its cache would keep every analyzer, and be one for all.
        self._terms_of_word = lru_cache(maxsize=65_536)(self._analyze)

    def __call__(self, text: str, languages: tuple[str, ...] = ()) -> str:
        """Return a row's terms in order, with their repetitions.

        Parameters
        ----------
        languages
            What `languages_of` the whole says, for a piece of it; empty: the text tells its own.
        """
        text = unicodedata.normalize("NFKC", text)
        languages = languages or self.languages_of(text)
        return " ".join(self._terms(text, languages, languages))

    def languages_of(self, text: str) -> tuple[str, ...]:
        """Return whose stems and stop words a row's text has: a tuple of one."""
        return self._languages(text)[:1] or (FALLBACK,)

    def of_question(self, text: str) -> str:
        """Return a question's terms.

        One that is too short to tell its language is stemmed in all of them: what is no term of any
        row finds nothing.
        """
        text = unicodedata.normalize("NFKC", text)
        languages = self._languages(text)
        return " ".join(self._terms(text, languages or LATIN, languages or (FALLBACK,)))

    def alternatives(self, text: str) -> list[frozenset[str]]:
        """Return each of a question's words once, as the terms that stand for it.

        One that is too short to tell its language has a stem of each; a text has the word if it has
        one of them. Words that only ask ("wann", "多少") are left out: no answer has them.
        """
        text = unicodedata.normalize("NFKC", text)
        languages = self._languages(text)
        stemming, ignored = languages or LATIN, languages or (FALLBACK,)
        found: list[frozenset[str]] = []
        for run in _RUN.finditer(_ASKING.sub(" ", text)):
            if unspaced := run[1]:
                found += (frozenset((_spell(pair),)) for pair in _pairs(unspaced))
            elif terms := self._terms_of_word(run[2], stemming, ignored):
                # "machine3" is no other machine.
                whole = [term for term in terms if _LETTER_AND_DIGIT.search(term)]
                found.append(frozenset(whole or terms))
        return list(dict.fromkeys(found))

    def _languages(self, text: str) -> tuple[str, ...]:
        if self._language != AUTO:
            return (self._language,)
        return likeliest(run[2].lower() for run in _RUN.finditer(text) if run[2])

    def _terms(
        self, text: str, languages: tuple[str, ...], ignored: tuple[str, ...]
    ) -> Iterator[str]:
        """Yield terms: stems of these languages, without the stop words of `ignored`."""
        for run in _RUN.finditer(text):
            if unspaced := run[1]:
                yield from map(_spell, _pairs(unspaced))
            else:
                yield from self._terms_of_word(run[2], languages, ignored)

    def _analyze(
        self, word: str, languages: tuple[str, ...], ignored: tuple[str, ...]
    ) -> tuple[str, ...]:
        parts = [part for piece in _PARTS.findall(word) for part in _CAMEL.split(piece)]
        terms: list[str] = []
        for each in parts if parts == [word] else [word, *parts]:
            folded = each.lower()
            of_word = of_script(folded) if self._language == AUTO else None
            dropping, stemming = ((of_word,),) * 2 if of_word else (ignored, languages)
            if not any(folded in stop_words(language) for language in dropping):
                stems = (_stemmer(language)(folded) for language in stemming)
                terms += dict.fromkeys(_spell(stem[:_LONGEST]) for stem in stems)
        return tuple(terms)


def _pairs(run: str) -> Iterator[str]:
    if len(run) == 1:
        yield run
    for one, other in pairwise(run):
        yield one + other


def _spell(term: str) -> str:
    """Write signs at which Milvus Lite's tokenizer would split a term as their code points."""
    return _NO_WORD.sub(lambda sign: f"{ord(sign[0]):x}", term)


@cache
def _stemmer(language: str) -> Callable[[str], str]:
    if language == STANDARD:
        return _without_accents
    import Stemmer

    stem = Stemmer.Stemmer(language).stemWord

    def stemmed(word: str) -> str:
        return _without_accents(stem(word))

    return stemmed


def _without_accents(word: str) -> str:
    if word.isascii():
        return word
    decomposed = unicodedata.normalize("NFD", word)
    return "".join(character for character in decomposed if unicodedata.combining(character) == 0)
