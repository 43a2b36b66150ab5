#!/usr/bin/env python3
"""Measure what it costs processes to share the configured Milvus Lite database.

::

    python -m scripts.bench_shells "What do the parameters for HNSW mean?"

One-shot ``rag-app query`` commands that open the database themselves, and such that attach to
another process, turn by turn: seconds by the clock and of their own processor time. Then searches a
second, of one process that holds the database and of several at once, one of which does. Prints
Markdown.
"""

import argparse
import itertools
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from llama_index.core.vector_stores.types import VectorStoreQuery

from rag_app.load import load_config
from rag_app.milvus.store import open_store

READERS = (1, 2, 4)
SECONDS = 10.0
"""For which searches are counted."""

_SELF = (sys.executable, "-m", "scripts.bench_shells")


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("question")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--as", dest="role", choices=["holder", "reader"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role == "holder":
        open_store(load_config())
        print("open", flush=True)
        sys.stdin.read()
    elif options.role == "reader":
        read()
    else:
        report(options.question, options.rounds)


def report(question: str, rounds: int) -> None:
    """Measure, and print a table of each."""
    alone: list[tuple[float, float]] = []
    attached: list[tuple[float, float]] = []
    for _ in range(rounds):
        alone.append(one_shot(question))
        with process("holder"):
            attached.append(one_shot(question))
    print("| one-shot query | median, s | from | to | processor time, s |\n|---|---|---|---|---|")
    for name, measured in (("opens the database", alone), ("attaches", attached)):
        times, spent = zip(*measured, strict=True)
        print(
            f"| {name} | {statistics.median(times):.2f} | {min(times):.2f} | {max(times):.2f} "
            f"| {statistics.median(spent):.2f} |"
        )
    print("\n| processes that search | searches a second | of the holder | median, ms |")
    print("|---|---|---|---|")
    for number in READERS:
        told = [line.split() for line in at_once(number)]
        total = sum(int(count) for count, _ in told) / SECONDS
        middle = statistics.median(float(milliseconds) for _, milliseconds in told)
        print(f"| {number} | {total:.0f} | {int(told[0][0]) / SECONDS:.0f} | {middle:.1f} |")


def one_shot(question: str) -> tuple[float, float]:
    """Return the seconds that a command takes, by the clock and of processor time."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "rag_app", "query", question]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, spent


def at_once(number: int) -> Iterator[str]:
    """Let processes search at once; yield what each says, the holder first."""
    readers = []
    for _ in range(number):
        reader = subprocess.Popen(  # noqa: S603 - our own
            [*_SELF, "-", "--as", "reader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        readers.append(reader)
        if reader.stdout:
            reader.stdout.readline()
    for reader in readers:
        if reader.stdin:
            reader.stdin.write("begin\n")
            reader.stdin.flush()
    told = [reader.stdout.readline() if reader.stdout else "" for reader in readers]
    for reader in readers:
        reader.communicate("end\n")
    yield from told


def read() -> None:
    """Search by vectors of the collection; print how many searches that were, and their median."""
    store = open_store(load_config())
    vectors = list(itertools.islice(store.vectors(), 100))
    print("open", flush=True)
    sys.stdin.readline()
    times = []
    until = time.perf_counter() + SECONDS
    for vector in itertools.cycle(vectors):
        started = time.perf_counter()
        store.query(VectorStoreQuery(query_embedding=vector, similarity_top_k=5))
        times.append(time.perf_counter() - started)
        if time.perf_counter() > until:
            break
    print(len(times), 1000 * statistics.median(times), flush=True)
    sys.stdin.readline()  # it may be the holder


@contextmanager
def process(role: str) -> Iterator[None]:
    """Have a process that holds the database."""
    with subprocess.Popen(  # noqa: S603 - our own
        [*_SELF, "-", "--as", role], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        if running.stdout:
            running.stdout.readline()
        yield
        running.communicate()


if __name__ == "__main__":
    main()
