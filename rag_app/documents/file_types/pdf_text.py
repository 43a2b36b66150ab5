"""What PDFium tells of a page: runs of text with their places and sizes, and ruled lines."""

import ctypes
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rag_app.documents.file_types.limits import Budget

if TYPE_CHECKING:
    from pypdfium2 import PdfPage

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in points, from the top left corner of the page as it is shown."""

_LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st", "\xa0": " "}
)
_HYPHENS = "\x02\xad\ufffe"
"""What PDFium makes of a hyphen that ends a line."""

_WIDE = 1.2
"""Heights of a letter between two runs of one line: more than a space, even a stretched one."""

_MAX_LINES = 5_000
"""Ruled lines of a page that are looked at; drawings have more."""


@dataclass(slots=True)
class Run:
    """Letters of one line without a wide gap.

    Attributes
    ----------
    size
        Of the letters, in points.
    """

    text: str
    box: Box
    size: float
    is_bold: bool = False
    is_sideways: bool = False

    @property
    def middle(self) -> float:
        """Its middle from the top of the page."""
        return (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class Place:
    """Turns PDFium's points, from the bottom of a sheet, into those of the page as it is shown."""

    width: float
    height: float
    left: float
    bottom: float
    rotation: int

    @classmethod
    def of(cls, page: "PdfPage") -> "Place":
        """Tell it of a page, which may be cropped and turned."""
        # Not `get_cropbox`: what a page has from its parent PDFium does not tell there, and a sheet
        # of American paper is told instead.
        left, bottom, right, top = page.get_bbox()
        return cls(right - left, top - bottom, left, bottom, page.get_rotation() % 360)

    def box(self, left: float, bottom: float, right: float, top: float) -> Box:
        """Return the box with these edges."""
        x0, x1 = sorted((left - self.left, right - self.left))
        y0, y1 = sorted((bottom - self.bottom, top - self.bottom))
        if self.rotation == 90:
            return y0, x0, y1, x1
        if self.rotation == 180:
            return self.width - x1, y0, self.width - x0, y1
        if self.rotation == 270:
            return self.height - y1, self.width - x1, self.height - y0, self.width - x0
        return x0, self.height - y1, x1, self.height - y0


def runs_of(page: "PdfPage", place: Place, budget: Budget) -> list[Run]:
    """Return the runs of a page in the order in which they are drawn."""
    import pypdfium2.raw as pdfium

    textpage = page.get_textpage()
    try:
        raw = textpage.raw
        count = textpage.count_chars()
        budget.check_text(count)
        return list(_join(_letters(pdfium, raw, count, place, budget)))
    finally:
        textpage.close()


def _letters(
    pdfium: Any, raw: Any, count: int, place: Place, budget: Budget
) -> Iterator[tuple[Run, bool] | None]:
    """Yield letters as runs of one, with whether a space is before them; None where a line ends."""
    rect = pdfium.FS_RECTF()
    space = False
    size, bold, sideways, object_before = 0.0, False, False, None
    for at in range(count):
        budget.tick()
        code = pdfium.FPDFText_GetUnicode(raw, at)
        if code in (10, 13):
            yield None
            space = False
            continue
        letter = chr(code) if not 0xD800 <= code <= 0xDFFF else "\ufffd"
        if letter.isspace() or code == 0:
            space = True
            continue
        if not pdfium.FPDFText_GetLooseCharBox(raw, at, ctypes.byref(rect)):
            continue
        corners = (rect.left, rect.bottom, rect.right, rect.top)
        if not all(map(math.isfinite, corners)):
            continue
        box = place.box(*corners)
        height = box[3] - box[1] if place.rotation in (0, 180) else box[2] - box[0]
        # Bold or not is said of each piece of text as a whole, and asking takes long.
        drawn = pdfium.FPDFText_GetTextObject(raw, at)
        address = ctypes.cast(drawn, ctypes.c_void_p).value if drawn else None
        if address != object_before:
            object_before = address
            bold = _is_bold(pdfium, raw, at)
            angle = math.degrees(pdfium.FPDFText_GetCharAngle(raw, at)) - place.rotation
            sideways = 45 < angle % 180 < 135
            size = height
        yield Run(letter, box, size or height, bold, sideways), space
        space = False


def _join(letters: Iterator[tuple[Run, bool] | None]) -> Iterator[Run]:
    run: Run | None = None
    written: list[str] = []
    for each in letters:
        letter, space = each or (None, False)
        if run and letter and _goes_on(run, letter):
            gap = letter.box[0] - run.box[2]
            written.append(f" {letter.text}" if space or gap > 0.25 * run.size else letter.text)
            x0, y0, x1, y1 = run.box
            box = (min(x0, letter.box[0]), min(y0, letter.box[1]))
            run.box = (*box, max(x1, letter.box[2]), max(y1, letter.box[3]))
            run.is_bold = run.is_bold and letter.is_bold
            # A bullet, or an initial, has a size of its own; small capitals do not count.
            run.size = letter.size if len(written) <= 2 else max(run.size, letter.size)
            continue
        if run:
            yield _done(run, "".join(written))
        run, written = letter, [letter.text] if letter else []
    if run:
        yield _done(run, "".join(written))


def _goes_on(run: Run, letter: Run) -> bool:
    """Whether a letter stands right behind a run, and on the same line."""
    if run.is_sideways or letter.is_sideways:
        # It is one line as far as PDFium says so, which tells where lines end.
        return run.is_sideways and letter.is_sideways
    high = max(run.box[3] - run.box[1], letter.box[3] - letter.box[1], 1.0)
    shared = min(run.box[3], letter.box[3]) - max(run.box[1], letter.box[1])
    least = min(run.box[3] - run.box[1], letter.box[3] - letter.box[1])
    return shared > 0.3 * least and -2 * high < letter.box[0] - run.box[2] <= _WIDE * high


def _done(run: Run, written: str) -> Run:
    text = written.translate(_LIGATURES)
    if text[-1:] in _HYPHENS and len(text) > 1:
        text = f"{text[:-1]}-"
    for hyphen in _HYPHENS:
        text = text.replace(hyphen, "")
    run.text = text.replace("\0", "")
    return run


def _is_bold(pdfium: Any, raw: Any, at: int) -> bool:
    flags = ctypes.c_int()
    name = ctypes.create_string_buffer(128)
    length = pdfium.FPDFText_GetFontInfo(raw, at, name, len(name), ctypes.byref(flags))
    words = name.value.lower() if 0 < length <= len(name) else b""
    return any(word in words for word in (b"bold", b"black", b"heavy", b"cmbx"))


def ruled_lines(page: "PdfPage", place: Place, budget: Budget) -> list[Box]:
    """Return the lines of a page that go straight down or across, as thin boxes."""
    import pypdfium2.raw as pdfium

    lines: list[Box] = []
    x, y = ctypes.c_float(), ctypes.c_float()
    for drawn in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_PATH], max_depth=2):
        matrix = drawn.get_matrix()
        before: tuple[float, float] | None = None
        first: tuple[float, float] | None = None
        for number in range(pdfium.FPDFPath_CountSegments(drawn.raw)):
            budget.tick()
            if len(lines) > _MAX_LINES:
                return []
            segment = pdfium.FPDFPath_GetPathSegment(drawn.raw, number)
            pdfium.FPDFPathSegment_GetPoint(segment, ctypes.byref(x), ctypes.byref(y))
            point = matrix.on_point(x.value, y.value)
            kind = pdfium.FPDFPathSegment_GetType(segment)
            if kind == pdfium.FPDF_SEGMENT_MOVETO:
                first = point
            elif kind == pdfium.FPDF_SEGMENT_LINETO and before:
                lines += _straight(place, before, point)
            before = point
            if pdfium.FPDFPathSegment_GetClose(segment) and first:
                lines += _straight(place, point, first)
    return lines


def _straight(place: Place, one: tuple[float, float], other: tuple[float, float]) -> list[Box]:
    if not all(map(math.isfinite, (*one, *other))):
        return []
    x0, y0, x1, y1 = place.box(one[0], one[1], other[0], other[1])
    return [(x0, y0, x1, y1)] if min(x1 - x0, y1 - y0) < 1.5 < max(x1 - x0, y1 - y0) else []
