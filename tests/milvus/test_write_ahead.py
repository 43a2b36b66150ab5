"""What a killed process wrote last: all there when it is opened again, or refused by name."""

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rag_app.errors import VectorStoreError
from rag_app.milvus.lite_files import release
from rag_app.milvus.lite_seals import LOG_SEAL
from rag_app.milvus.store import open_store
from tests.conftest import MakeConfig

KILLED = """
import os
from rag_app.load import load_config
from rag_app.milvus.store import create_store
from tests.milvus.test_store import node

store = create_store(load_config(), dimension=64)
for start in (0, 40):
    store.add([node(f"text {number}", number) for number in range(start, start + 40)])
store.delete_ids([f"{number:032x}" for number in range(5)])
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def killed(here: Path, make_config: MakeConfig) -> Path:
    """The folder of the write-ahead files of a process that was killed before it flushed."""
    ended = subprocess.run(
        [sys.executable, "-c", KILLED], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    log = Path(make_config().vector_store.uri) / "collections" / "rag_app" / "wal"
    assert {path.suffix for path in log.iterdir()} == {".arrow", LOG_SEAL}
    return log


def test_whatever_is_changed_in_it_is_noticed(killed: Path, make_config: MakeConfig) -> None:
    config = make_config()
    uri = Path(config.vector_store.uri)
    whole = uri.with_name("whole")
    shutil.copytree(uri, whole)
    assert open_store(config).count() == 75
    release(str(uri))

    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for name in sorted(path.name for path in (whole / killed.relative_to(uri)).glob("*.arrow")):
        content = (whole / killed.relative_to(uri) / name).read_bytes()
        damaged = [content[: dice.randrange(len(content))], b""]
        for _ in range(4):
            flipped = bytearray(content)
            flipped[dice.randrange(len(content))] ^= dice.randrange(1, 256)
            damaged.append(bytes(flipped))
        for each in damaged:
            shutil.rmtree(uri)
            shutil.copytree(whole, uri)
            (killed / name).write_bytes(each)
            with pytest.raises(VectorStoreError) as caught:
                open_store(config)
            release(str(uri))
            assert f"wal/{name} " in caught.value.message
            assert "delete it" in caught.value.message

    (killed / name).unlink()  # the deletions, as told: the rows are there then
    (killed / f"{name}{LOG_SEAL}").unlink()
    assert open_store(config).count() == 80


def test_a_write_that_was_not_finished_is_no_damage(killed: Path, make_config: MakeConfig) -> None:
    for file in killed.glob("wal_data_*.arrow"):
        with file.open("ab") as log:
            log.write(b"\xff\xff\xff\xff\x10")
    for seal in killed.glob(f"wal_data_*{LOG_SEAL}"):
        with seal.open("ab") as checksums:
            checksums.write(b"\x00\x01")
    store = open_store(make_config())
    assert store.count() == 75
    store.flush()
    assert not list(killed.glob("*.arrow"))
    assert not list(killed.glob(f"*{LOG_SEAL}")), "they go with what they are of"
