"""Numbers as a spreadsheet shows them (ECMA-376, part 1, section 18.8.30 and 18.8.31)."""

import re
from datetime import datetime, timedelta
from functools import lru_cache

EPOCH_1900 = datetime(1899, 12, 30)
"""Excel takes 1900 for a leap year: counted from here its days are right from March 1900 on."""

EPOCH_1904 = datetime(1904, 1, 1)

_MAX_DAY = 2_958_465
"""31 December 9999, as Excel counts days."""

_BUILT_IN = {
    **{1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%", 11: "0.00E+00"},
    **{15: "d-mmm-yy", 16: "d-mmm", 17: "mmm-yy", 18: "h:mm AM/PM", 19: "h:mm:ss AM/PM"},
    **{20: "h:mm", 21: "h:mm:ss", 37: "#,##0", 38: "#,##0", 39: "#,##0.00", 40: "#,##0.00"},
    **{45: "mm:ss", 46: "[h]:mm:ss", 47: "mm:ss.0", 48: "##0.0E+0"},
}
_LOCAL_DATES = {14, 22, *range(27, 37), *range(50, 59)}
"""Shown as each machine writes dates: here as ISO 8601."""

_QUOTED = re.compile(r'"([^"]*)"|\\(.)|_.|\*.|\[\$([^\]-]*)[^\]]*\]|\[(?!h|m|s)[^\]]*\]', re.I)
_TIME_TOKEN = re.compile(
    r"\[h+\]|\[m+\]|\[s+\]|y+|m+|d+|h+|s+(?:\.0+)?|am/pm|a/p|\x00[^\x00]*\x00|.", re.I | re.S
)
_NUMBER = re.compile(r"[#0?,.]*[#0?][#0?,.]*(?:[eE][+-][0#?]+)?")
_MAX_FORMAT = 255


def format_of(number: int, custom: str | None) -> str:
    """Return the code of a format: "iso" for dates of the machine's own kind, "" for plain."""
    if custom is None and number in _LOCAL_DATES:
        return "iso"
    return (_BUILT_IN.get(number, "") if custom is None else custom)[:_MAX_FORMAT]


def shown(value: float, code: str, epoch: datetime = EPOCH_1900) -> str:
    """Return a number as a format shows it; as it is, where the format is none that is known."""
    if code == "iso":
        return _iso(value, epoch)
    if not code or code.lower() == "general" or code == "@":
        return f"{value:.15g}"
    sections = _sections(code)
    negative = value < 0 and len(sections) > 1
    section = sections[1] if negative else sections[2] if len(sections) > 2 and not value else None
    section = sections[0] if section is None else section
    if _is_date(section):
        return _date(value, section, epoch)
    return _number(abs(value) if negative else value, section)


@lru_cache(maxsize=1000)
def _sections(code: str) -> tuple[str, ...]:
    """Return a format's parts for positive, negative and zero; what is quoted between NULs."""

    def keep(found: re.Match[str]) -> str:
        text = found[1] or found[2] or found[3] or ""
        return f"\0{text}\0" if text else ""

    return tuple(_QUOTED.sub(keep, code.replace("\0", "")).split(";"))


@lru_cache(maxsize=1000)
def _is_date(section: str) -> bool:
    code = re.sub("\0[^\0]*\0|general", "", section, flags=re.I).lower()
    return any(mark in code for mark in "ydhs") or bool(re.search(r"\bm+\b", code))


def _iso(value: float, epoch: datetime) -> str:
    if not 0 <= value <= _MAX_DAY:
        return f"{value:.15g}"
    moment = epoch + timedelta(seconds=round(value * 86_400))
    return moment.date().isoformat() if value == int(value) else moment.isoformat(" ")


def _date(value: float, section: str, epoch: datetime) -> str:
    if not 0 <= value <= _MAX_DAY:
        return f"{value:.15g}"
    moment = epoch + timedelta(seconds=round(value * 86_400))
    tokens = _TIME_TOKEN.findall(section)
    is_noon = any(token.lower() in {"am/pm", "a/p"} for token in tokens)
    out: list[str] = []
    for at, token in enumerate(tokens):
        kind = token.lower()
        before = next((t.lower() for t in reversed(tokens[:at]) if t.strip("[]").isalpha()), "")
        after = next((t.lower() for t in tokens[at + 1 :] if t[0].isalpha()), "")
        if token[0] == "\0":
            out.append(token.strip("\0"))
        elif kind[0] == "m" and (before.strip("[")[:1] == "h" or after[:1] == "s"):
            out.append(f"{moment.minute:02}")
        else:
            out.append(_token(kind, token, moment, value, is_noon=is_noon))
    return "".join(out).strip()


def _token(kind: str, token: str, moment: datetime, value: float, *, is_noon: bool) -> str:
    """Return what stands for one token of a date's format."""
    hour = (moment.hour % 12 or 12) if is_noon else moment.hour
    simple = {
        **{"y": f"{moment:%y}", "yy": f"{moment:%y}", "yyy": f"{moment.year:04}"},
        **{"yyyy": f"{moment.year:04}", "m": str(moment.month), "mm": f"{moment.month:02}"},
        **{"mmm": f"{moment:%b}", "mmmm": f"{moment:%B}", "mmmmm": f"{moment:%b}"[:1]},
        **{"d": str(moment.day), "dd": f"{moment.day:02}", "ddd": f"{moment:%a}"},
        **{"dddd": f"{moment:%A}", "h": str(hour), "hh": f"{hour:02}", "s": str(moment.second)},
        **{"ss": f"{moment.second:02}", "am/pm": "AM" if moment.hour < 12 else "PM"},
        "a/p": "A" if moment.hour < 12 else "P",
    }
    if kind in simple:
        return simple[kind]
    if kind.startswith("[h"):
        return str(int(value * 24 + 1e-9))
    if kind.startswith("[m"):
        return str(int(value * 1440 + 1e-9))
    return f"{moment.second:02}" if kind.startswith("s") else token


def _number(value: float, section: str) -> str:
    found = _NUMBER.search(section)
    if found is None:
        literal = section.replace("\0", "").strip()
        return literal if literal and literal != "@" else f"{value:.15g}"
    code = found[0]
    percents = section.count("%")
    value *= 100**percents
    whole, _, decimals = code.partition(".")
    places = len(re.sub("[^0#?]", "", re.split("[eE]", decimals)[0]))
    required = len(re.sub("[^0]", "", re.split("[eE]", decimals)[0]))
    if "e" in code.lower():
        text = f"{value:.{places}E}"
    elif "/" in section or places > 20:
        return f"{value:.15g}"
    else:
        # A comma behind the digits divides by a thousand.
        scale = len(code) - len(code.rstrip(","))
        grouped = "," if "," in whole.rstrip(",") else ""
        text = f"{value / 1000**scale:{grouped}.{places}f}"
        if places > required:
            head, point, tail = text.partition(".")
            tail = tail[:required] + tail[required:].rstrip("0")
            text = head + (point if tail else "") + tail
    before, after = section[: found.start()], section[found.end() :]
    return f"{before}{text}{after}".replace("\0", "").strip()
