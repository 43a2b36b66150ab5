"""Many files, large files, and memory that does not grow. With ``--slow``; smaller without."""

import subprocess
import sys
from pathlib import Path

import pytest

from rag_app.ingestion.run import ingest
from rag_app.load import load_config
from tests.conftest import FakeEmbedder, make_files
from tests.ingestion.test_ingestion_changes import page


def test_many_tiny_files(
    tmp_path: Path, here: Path, fake_embedder: FakeEmbedder, request: pytest.FixtureRequest
) -> None:
    number = 10_000 if request.config.getoption("--slow") else 1_000
    folder = make_files(
        tmp_path / "tiny", {f"{i % 100}/{i}.txt": f"Tiny file {i}." for i in range(number)}
    )
    config = load_config(overrides={"vector_store.uri": str(here / "tiny.db")})
    assert len(ingest(config, [folder]).new) == number
    again = ingest(config, [folder])
    assert (len(again.unchanged), again.rows) == (number, number)


def test_one_large_file(
    tmp_path: Path, here: Path, fake_embedder: FakeEmbedder, request: pytest.FixtureRequest
) -> None:
    megabytes = 50 if request.config.getoption("--slow") else 1
    file = tmp_path / "large.txt"
    line = "A large file has many lines, of which this is number {}, and they are all different. "
    with file.open("w") as stream:
        for number in range(megabytes * 11_000):
            stream.write(line.format(number) + ("\n\n" if number % 5 == 0 else ""))
    config = load_config(
        overrides={"vector_store.uri": str(here / "large.db"), "documents.max_file_size_mb": 100}
    )
    report = ingest(config, [file])
    assert report.new == ("large.txt",)
    assert report.rows == report.nodes_written == report.nodes["new"] > megabytes * 500
    assert ingest(config, [file]).unchanged == ("large.txt",)


MEASURE = """
import resource, sys
from rag_app import load_config
from rag_app.ingestion import pipeline, run as ingestion
from tests.conftest import FakeEmbedder

fake = FakeEmbedder(model_name="fake")
config = load_config(overrides={"vector_store.uri": sys.argv[2]})
pipeline.WINDOW = 256
report = ingestion.ingest(config, [sys.argv[1]], make_embedder=lambda: fake)
fake.embedded.clear()
print(report.rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(
    "not config.getoption('--slow')", reason="memory is measured with ./scripts/test.sh --slow"
)
def test_ten_times_the_corpus_takes_the_same_memory(tmp_path: Path, here: Path) -> None:
    peaks = []
    for times in (1, 10):
        folder = make_files(
            tmp_path / f"docs{times}",
            {f"{i}.md": page(f"n{i}", 200) for i in range(60 * times)},
        )
        measured = subprocess.run(
            [sys.executable, "-c", MEASURE, str(folder), str(here / f"memory{times}.db")],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        rows, peak = map(int, measured.stdout.split())
        assert rows > 500 * times
        peaks.append(peak)
    assert peaks[1] <= 1.15 * peaks[0]
