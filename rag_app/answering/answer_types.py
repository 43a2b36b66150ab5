"""What kind of thing a question asks for, told by its question words, and whether a text has one.

"When" wants a date, "how many" a number, "who" a name. In the languages where these words are few
and certain; a question of another kind, or another language, wants nothing in particular.
"""

import re

_MONTHS = (
    "January|February|March|April|May|June|July|August|September|October|November|December"
    "|Januar|Februar|März|Mai|Juni|Juli|Oktober|Dezember|janvier|février|mars|avril|juin|juillet"
    "|août|septembre|octobre|décembre|enero|febrero|marzo|abril|mayo|junio|julio|agosto"
    "|septiembre|octubre|noviembre|diciembre"
)
_DATE = re.compile(
    rf"\b1\d{{3}}\b|\b20\d\d\b|\b(?:{_MONTHS})\b|\b(?:century|Jahrhundert|siècle|siglo)"
    r"|\b(?:век|год|года|году)\b|[年月]|\u4e16\u7eaa"
)
_NUMBER = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|hundreds?|thousands?"
    r"|millions?|billions?|dozens?|half|third|quarter|zwei|drei|vier|fünf|sechs|sieben|acht|neun"
    r"|zehn|elf|zwölf|hundert|tausend|deux|trois|quatre|cinq|dix|cent|mille|dos|tres|cuatro|cinco"
    r"|diez|cien|mil|два|две|три|четыре|пять|шесть|семь|восемь|девять|десять|сто|тысяч\w*"
    r"|миллион\w*)\b|[一二三四五六七八九十百千万亿]",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"(?<=[\w,] )[^\W\d_a-z\u0430-\u044f\u00df-\u00ff]\w+|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
)
"""A capital letter that does not begin the sentence; scripts without capitals always have one."""

_KINDS = (
    (
        re.compile(
            r"\b(?:when|(?:what|which) (?:year|month|day|date|century|decade)"
            r"|wann|welche[mns]? jahr|quand|quelle (?:année|date)|cuándo|qué (?:año|fecha)"
            r"|когда|каком году)\b"
            r"|什么时候|何时|哪一?年|いつ|언제",
            re.IGNORECASE,
        ),
        _DATE,
    ),
    (
        re.compile(
            r"\b(?:how (?:many|much|long|old|far|large|big|high|tall|fast|deep|often)"
            r"|what (?:percentage|percent|number)|wie ?viele?|wie (?:lange|hoch|groß|oft|alt|weit)"
            r"|combien|cuánt[oa]s?|сколько|как (?:долго|часто))\b|多少|几|幾|いくつ|얼마|몇",
            re.IGNORECASE,
        ),
        _NUMBER,
    ),
    (
        re.compile(
            r"\b(?:who|whom|whose|wer|wem|wen|wessen|qui|quién|кто|кого|кем|кому)\b|谁|誰|누구"
        ),
        _NAME,
    ),
)


def wanted(question: str) -> re.Pattern[str] | None:
    """Return what an answer to the question must have; None: nothing in particular."""
    return next((kind for asks, kind in _KINDS if asks.search(question.lower())), None)
