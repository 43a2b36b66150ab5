"""Draws a PDF for `rag_app.server.pdf_pages`, in a process of its own that may fail or be killed.

Run as a file, so that nothing of rag_app has to be imported: ``pdf_worker.py FILE [PAGE PIXELS]``.
Without a page it writes the sizes of the pages in points as JSON, else that page as PNG.
"""

import json
import resource
import sys

import pypdfium2

MOST_PAGES = 5_000
"""Whose sizes are told."""
_MOST_MEMORY = 2 << 30
_MOST_SECONDS = 30


def main(file: str, page: str = "", pixels: str = "") -> None:
    """Write what was asked for to standard output."""
    # A small file can ask for a picture of any size, or for work without end.
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_SECONDS, _MOST_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    pdf = pypdfium2.PdfDocument(file)
    if not page:
        sizes = [pdf.get_page_size(number) for number in range(min(len(pdf), MOST_PAGES))]
        sys.stdout.write(json.dumps(sizes))
        return
    drawn = pdf[int(page) - 1]
    scale = int(pixels) / max(drawn.get_size())
    picture = drawn.render(scale=scale, may_draw_forms=False).to_pil().convert("RGB")
    # Few colours are enough for text, and a third of the bytes.
    picture.quantize(128).save(sys.stdout.buffer, "PNG")


if __name__ == "__main__":
    main(*sys.argv[1:])
