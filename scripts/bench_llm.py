#!/usr/bin/env python3
"""Measure our vLLM engine against vLLM's own methods, on the same engine and the same prompts.

::

    python -m scripts.bench_llm > table.md

A Llama of realistic shape with random weights is made on the spot, documents are generated and
ingested into Milvus Lite, and 64 questions are answered: by `vllm.LLM.generate` on the ready-made
prompts, by our whole batch path (embedding, search, packing, engine), and one by one. Prefix caches
are emptied before each run. On a CPU expect half an hour; nothing else should run meanwhile.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rag_app import Config, ingest, load_config
from rag_app.answering.batch import Answer, Batch
from rag_app.build import build_batch
from rag_app.llms.vllm_engine import VllmEngine
from rag_app.questions import Question
from scripts.random_llama import make_llama

QUESTIONS = 64
SHARED_TOPICS = 16
WORDS_PER_DOCUMENT = 150
SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo zu".split()  # noqa: SIM905


def documents(folder: Path, seed: int = 0) -> list[str]:
    """Write a document for each of 64 topics; return the topics' names."""
    chance = random.Random(seed)  # noqa: S311
    words = ["".join(chance.choices(SYLLABLES, k=chance.randint(2, 4))) for _ in range(2000)]
    topics = words[:QUESTIONS]
    for topic in topics:
        sentences = []
        for _ in range(WORDS_PER_DOCUMENT // 10):
            sentence = [topic, *chance.choices(words[QUESTIONS:], k=9)]
            sentences.append(" ".join(sentence).capitalize() + ".")
        text = f"# The {topic}\n\n" + " ".join(sentences) + "\n"
        (folder / f"{topic}.md").write_text(text, encoding="utf-8")
    return topics


def distinct_questions(topics: Sequence[str]) -> list[Question]:
    """Ask one question about each topic."""
    return [Question(n, None, f"What is the {topic}?") for n, topic in enumerate(topics, start=1)]


def shared_questions(topics: Sequence[str]) -> list[Question]:
    """Ask four questions about each of 16 topics, in no order."""
    forms = ("What is the {}?", "Tell me what the {} is.", "The {}: what is it?", "Say: what's {}?")
    texts = [form.format(topic) for topic in topics[:SHARED_TOPICS] for form in forms]
    random.Random(1).shuffle(texts)  # noqa: S311
    return [Question(number, None, text) for number, text in enumerate(texts, start=1)]


class Bench:
    """The pipeline under test, and vLLM's own object in it, which only we use meanwhile."""

    def __init__(self, batch: Batch, engine: VllmEngine, max_tokens: int) -> None:
        self.batch = batch
        self.engine = engine
        self.vllm = engine.engine
        self.max_tokens = max_tokens

    def prompts(self, questions: Sequence[Question]) -> list[str]:
        """Render what the batch path would ask."""
        found = self.batch.retriever.retrieve_each([question.text for question in questions])
        return [
            self.batch.synthesizer.pack(question.text, nodes).prompt
            for question, nodes in zip(questions, found, strict=True)
        ]

    def ready_made(self, prompts: Sequence[str]) -> list[dict[str, Any]]:
        """Return prompts as token ids, chat template included."""
        return [{"prompt_token_ids": self.engine._tokens_of_prompt(prompt)} for prompt in prompts]

    def sampling(self, streaming: bool = False) -> Any:
        """Return vLLM's sampling parameters: exactly `max_tokens`, always the likeliest token."""
        kwargs = {"temperature": 0.0, "ignore_eos": True, "max_tokens": self.max_tokens}
        return self.engine._request([1], kwargs, streaming=streaming).sampling

    def raw(self, prompts: Sequence[str]) -> None:
        """Answer by vLLM's own `generate`."""
        self.vllm.generate(self.ready_made(prompts), self.sampling(), use_tqdm=False)

    def ours(self, questions: Sequence[Question], group: bool = True) -> None:
        """Answer by the whole batch path."""
        self.batch.group = group
        answers = list(self.batch.run(questions))
        if not all(isinstance(answer, Answer) for answer in answers):
            raise SystemExit(f"not answered: {answers}")

    def one_by_one(self, prompts: Sequence[str]) -> None:
        """Answer one prompt after the other."""
        for prompt in prompts:
            self.engine.complete(prompt)

    def timed(self, what: Callable[[], None]) -> float:
        """Return the seconds that something takes with an empty prefix cache."""
        self.vllm.reset_prefix_cache()
        began = time.perf_counter()
        what()
        return time.perf_counter() - began

    def first_token_ours(self, prompt: str) -> float:
        """Return the seconds until our stream's first piece."""
        began = time.perf_counter()
        stream = self.engine.stream_complete(prompt, max_tokens=2, ignore_eos=True)
        next(iter(stream))
        seconds = time.perf_counter() - began
        list(stream)
        return seconds

    def first_token_raw(self, prompt: str) -> float:
        """Return the seconds until the first output of vLLM's own request and steps."""
        sampling = self.sampling(streaming=True)
        sampling.max_tokens = 2
        engine = self.vllm.llm_engine
        began = time.perf_counter()
        (ready,) = engine.renderer.render_cmpl(self.ready_made([prompt]))
        engine.add_request(f"bench-{began}", ready, sampling)
        while not engine.step():
            pass
        seconds = time.perf_counter() - began
        while engine.has_unfinished_requests():
            engine.step()
        return seconds


@dataclass
class Runs:
    """What runs of the same took, in seconds: by the clock, and of this process's processor time.

    The latter depends less on what else the machine does.
    """

    scale: float = 1.0
    walls: list[float] = field(default_factory=list)
    processors: list[float] = field(default_factory=list)

    def add(self, bench: Bench, what: Callable[[], None]) -> None:
        """Run it once."""
        before = time.process_time()
        self.walls.append(bench.timed(what) * self.scale)
        self.processors.append((time.process_time() - before) * self.scale)

    @property
    def wall(self) -> float:
        """The mean by the clock."""
        return statistics.mean(self.walls)

    @property
    def processor(self) -> float:
        """The mean of processor time."""
        return statistics.mean(self.processors)

    def __str__(self) -> str:
        each = ", ".join(f"{seconds:.1f}" for seconds in self.walls)
        return f"{each} s ({self.processor:.0f} s of processor time)"


def rows(
    bench: Bench, topics: Sequence[str], rounds: int, singles: int, repeats: int
) -> Iterator[str]:
    """Run everything, and yield the table's rows as they are measured."""
    distinct, shared = distinct_questions(topics), shared_questions(topics)
    prompts = bench.prompts(distinct)
    tokens = statistics.mean(bench.engine.count_tokens(prompt) for prompt in prompts)
    yield f"| {len(prompts)} prompts | {tokens:.0f} tokens on average | |"
    bench.timed(lambda: bench.one_by_one(prompts[:1]))  # warm up

    pairs = []
    bench.first_token_raw(prompts[0])
    for number in range(repeats):  # the prompt is cached, so that the overhead shows
        first, second = bench.first_token_raw, bench.first_token_ours
        if number % 2:
            second_seconds, first_seconds = second(prompts[0]), first(prompts[0])
        else:
            first_seconds, second_seconds = first(prompts[0]), second(prompts[0])
        pairs.append((first_seconds, second_seconds))
    own, streamed = (statistics.median(values) * 1000 for values in zip(*pairs, strict=True))
    yield (
        f"| first token, vLLM's own steps / our stream ({repeats} each, medians) | {own:.1f} / "
        f"{streamed:.1f} ms | {streamed - own:+.1f} ms |"
    )

    raw, ours = Runs(), Runs()
    for number in range(rounds):  # in turns, and each first as often as second: machines drift
        turns = [(raw, lambda: bench.raw(prompts)), (ours, lambda: bench.ours(distinct))]
        for runs, what in turns if number % 2 == 0 else reversed(turns):
            runs.add(bench, what)
    yield f"| `LLM.generate`, prompts ready made | {raw} | 1.00 |"
    yield (
        f"| our batch path, from the question | {ours} | {raw.wall / ours.wall:.2f} of raw by the "
        f"clock, {raw.processor / ours.processor:.2f} by processor time |"
    )
    alone = Runs(scale=len(prompts) / singles)
    alone.add(bench, lambda: bench.one_by_one(prompts[:singles]))
    yield (
        f"| one by one ({singles} measured, scaled to {len(prompts)}) | {alone} | batch "
        f"{alone.wall / ours.wall:.2f} times as fast |"
    )

    for group in (False, True):
        seconds = bench.timed(lambda group=group: bench.ours(shared, group))  # type: ignore[misc]
        rate = bench.batch.summary.cache_hit_rate or 0.0
        yield (
            f"| 4 questions share contexts, grouping {'on' if group else 'off'} "
            f"| {seconds:.1f} s | prefix cache hit rate {rate:.1%} |"
        )


def configure(work: Path, model: Path, max_tokens: int, dtype: str) -> Config:
    """Return the configuration: offline embeddings, Milvus Lite, the random Llama."""
    return load_config(
        profile="offline",
        overrides={
            "vector_store.uri": str(work / "milvus.db"),
            "retrieval.similarity_top_k": 4,
            "llm.backend": "vllm",
            "llm.model": str(model),
            "llm.temperature": 0.0,
            "llm.max_tokens": max_tokens,
            "llm.timeout": 600.0,
            "llm.sampling.ignore_eos": True,
            "llm.engine.dtype": dtype,
            "llm.engine.enforce_eager": True,
            "llm.engine.max_model_len": 2048,
        },
    )


def main() -> None:
    """Parse the command line, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", default="0.5b", help="of the random Llama (default: 0.5b)")
    parser.add_argument("--dtype", default="bfloat16", help="of its weights (default: bfloat16)")
    parser.add_argument("--max-tokens", type=int, default=64, help="per answer (default: 64)")
    parser.add_argument("--rounds", type=int, default=2, help="of raw and batch (default: 2)")
    parser.add_argument("--singles", type=int, default=16, help="asked one by one (default: 16)")
    parser.add_argument("--repeats", type=int, default=30, help="of first tokens (default: 30)")
    parser.add_argument(
        "--cache-gib", default="1", help="for keys and values on a CPU (default: 1)"
    )
    asked = parser.parse_args()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", asked.cache_gib)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (folder := work / "documents").mkdir()
        topics = documents(folder)
        corpus = [file.read_text(encoding="utf-8") for file in folder.iterdir()]
        parameters = make_llama(work / "llama", corpus, asked.size, window=2048)
        config = configure(work, work / "llama", asked.max_tokens, asked.dtype)
        ingest(config, [folder])
        batch = build_batch(config)
        engine = batch.synthesizer._llm
        if not isinstance(engine, VllmEngine):
            raise SystemExit("the engine is not the one in this process")
        print(f"| {parameters / 1e9:.2f} billion parameters, {asked.dtype} | time | ratio |")
        print("|---|---|---|")
        bench = Bench(batch, engine, asked.max_tokens)
        for row in rows(bench, topics, asked.rounds, asked.singles, asked.repeats):
            print(row, flush=True)
        engine.close()


if __name__ == "__main__":
    main()
