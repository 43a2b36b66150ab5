#!/usr/bin/env python3
"""Train a small Llama that reads: it copies what is asked for from the contexts, and cites.

::

    python -m scripts.train_reader /tmp/reader --minutes 90
    python -m scripts.train_reader /tmp/reader --write-set /tmp/facts

The first makes the model's folder (weights, tokenizer, and ``reader.jinja``, the prompt that it
learnt), which vLLM loads as any Llama; the second a labelled set about places that it never read
of. Contexts, questions and answers are `scripts.made_up_facts`'; nothing is downloaded. A question
whose answer stands in no context is answered "The documents do not answer this."

The model is small for its trade: matching a name and copying what follows it is done by two layers
of attention ("induction heads", Olsson et al., 2022). Lessons go from one context with one fact to
four with three each, as it learns them; several questions are asked of the same contexts, which
costs little more than one.
"""

import argparse
import math
import random
import time
from collections import deque
from pathlib import Path
from typing import Any

from scripts.made_up_facts import (
    FIRST,
    KINDS,
    LAST,
    NOT_THERE,
    NUMBERS,
    RELATIONS,
    YEARS,
    Example,
    Facts,
    write_set,
)

BEGIN, END, PAD = "<s>", "</s>", "<pad>"
WINDOW = 1024
TEMPLATE = (
    "{{ sources | length }} passages:\n"
    "{% for context in contexts %}[{{ context.number }}] {{ context.text }}\n{% endfor %}"
    "Question: {{ question }}\nAnswer:"
)
LESSONS = (
    (1, 2, 1, 0.0, 0.5),
    (1, 3, 2, 0.0, 0.25),
    (2, 3, 4, 0.0, 0.25),
    (2, 3, 4, 0.25, 0.1),
    (3, 3, 5, 0.25, 0.0),
    (4, 3, 6, 0.25, 0.0),
)
"""Contexts, facts of each, questions, share of them without an answer, share of repetitions."""
LEARNT = 0.94
"""Share of an answer's tokens that are right, at which the next lesson begins."""
TOKENS = 3000
"""Of a batch, about."""
REPEATED = 24
"""Tokens of a random sequence that comes twice: what teaches to copy fastest."""
CHECKPOINT_SECONDS = 300
IGNORED = -100


def make_tokenizer() -> Any:
    """Return a tokenizer whose tokens are words, syllables, numbers and, for the rest, characters.

    Unigram with equal scores takes the fewest tokens: "Korvan" is "Kor" and "van", whatever it is
    beside, so that a name that was never seen is copied as those that were.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    said = " ".join(text for each in RELATIONS for text in (each.said, *each.asked))
    said += f" {NOT_THERE} Question: Answer: passages: metres crowns visitors The the "
    said += " ".join(KINDS)
    words = {word.strip("?.:") for word in said.split() if "{" not in word}
    pieces = [f"▁{word}" for word in sorted(words)]
    pieces += ["Question", "Answer", *(f"▁{first}" for first in FIRST), *sorted(LAST)]
    pieces += [f"▁{number}" for number in (*NUMBERS, *YEARS)]
    pieces += [f"[{number}]" for number in range(1, 10)] + [f"▁[{n}]" for n in range(1, 10)]
    characters = ["▁", "\n", *map(chr, range(33, 127))]
    vocabulary = [(token, 0.0) for token in (BEGIN, END, PAD, "<unk>")]
    vocabulary += [(piece, -1.0) for piece in dict.fromkeys(pieces)]
    known = {piece for piece, _ in vocabulary}
    vocabulary += [(each, -1.5) for each in characters if each not in known]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        model_max_length=WINDOW,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        unk_token="<unk>",  # noqa: S106 - no password
    )


def make_model(tokenizer: Any, width: int, layers: int) -> Any:
    """Return a Llama with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(  # type: ignore[no-untyped-call]
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            # vLLM's attention on a CPU needs heads of at least 32 dimensions.
            num_attention_heads=width // 32,
            num_key_value_heads=width // 32,
            max_position_embeddings=WINDOW,
            # What is copied is the embedding of what was read.
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=2,
        )
    )


def encode(tokenizer: Any, example: Example) -> tuple[list[int], list[int]]:
    """Return the tokens of contexts, questions and answers, and 1 for those of answers."""
    contexts = "".join(f"[{at}] {text}\n" for at, text in enumerate(example.contexts, start=1))
    texts, answers = [f"{len(example.contexts)} passages:\n{contexts}"], [False]
    for question, answer in example.asked:
        texts += [f"Question: {question}\nAnswer:", f" {answer}"]
        answers += [False, True]
    ids: list[int] = []
    marks: list[int] = []
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    for tokens, is_answer in zip(encoded, answers, strict=True):
        tokens = [*tokens, 1] if is_answer else tokens
        ids += tokens
        marks += [int(is_answer)] * len(tokens)
    return ids, marks


class Lessons:
    """Which examples come next: mostly those of the present lesson, some of the one before."""

    def __init__(self, tokenizer: Any, seed: int) -> None:
        self._tokenizer = tokenizer
        self._facts = Facts(seed, held_out=False)
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self.level = 0
        self._right: deque[float] = deque(maxlen=60)

    def batch(self, step: int) -> list[tuple[list[int], list[int]]]:
        """Make a batch; all of it of one lesson, so that the sequences are about equally long."""
        level = self.level if step % 4 else max(0, self.level - 1)
        contexts, facts, questions, absent, repeated = LESSONS[level]
        rows: list[tuple[list[int], list[int]]] = []
        while sum(len(ids) for ids, _ in rows) < TOKENS:
            if self._random.random() < repeated:
                rows.append(self._repetition())
            else:
                example = self._facts.example(contexts, facts, questions, absent)
                rows.append(encode(self._tokenizer, example))
        return rows

    def _repetition(self) -> tuple[list[int], list[int]]:
        some = self._random.choices(range(4, len(self._tokenizer)), k=REPEATED)
        return some + some, [0] * (REPEATED + 1) + [1] * (REPEATED - 1)

    def note(self, right: float) -> bool:
        """Note the share of right tokens; tell whether a lesson was learnt."""
        self._right.append(right)
        enough = len(self._right) == self._right.maxlen
        if enough and sum(self._right) / len(self._right) >= LEARNT:
            self._right.clear()
            self.level = min(self.level + 1, len(LESSONS) - 1)
            return True
        return False


def train(
    folder: Path, minutes: float, width: int, layers: int, seed: int, from_lesson: int
) -> None:
    """Train for a time, and write the model every five minutes.

    Parameters
    ----------
    from_lesson
        0 for a new model; else the one in the folder goes on from there.
    """
    import torch
    from torch.nn import functional

    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    if from_lesson:
        from transformers import LlamaForCausalLM

        model = LlamaForCausalLM.from_pretrained(folder)
    else:
        model = make_model(tokenizer, width, layers)
    save(folder, model, tokenizer)
    size = sum(weights.numel() for weights in model.parameters())
    print(f"{size / 1e6:.2f} million parameters, {len(tokenizer)} tokens", flush=True)
    lessons = Lessons(tokenizer, seed)
    lessons.level = from_lesson
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.05)
    started = saved = time.monotonic()
    step, read = 0, 0
    while (share := (time.monotonic() - started) / (60 * minutes)) < 1:
        rows = lessons.batch(step)
        longest = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([row + [2] * (longest - len(row)) for row, _ in rows])
        marks = torch.tensor([row + [0] * (longest - len(row)) for _, row in rows])
        # What is padded comes last, where nothing that counts can see it.
        logits = model(input_ids=ids).logits[:, :-1]
        wanted = ids[:, 1:]
        losses = functional.cross_entropy(
            logits.transpose(1, 2),
            wanted.masked_fill(wanted == 2, IGNORED),
            reduction="none",
        )
        answers = marks[:, 1:].bool()
        others = (wanted != 2) & ~answers
        # The rest teaches what a name is followed by, and is soon learnt.
        loss = losses[answers].mean() + 0.2 * losses[others].mean()
        optimizer.param_groups[0]["lr"] = rate(step, share)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step, read = step + 1, read + ids.numel()
        with torch.no_grad():
            right = (logits.argmax(-1) == wanted)[answers].float().mean().item()
        if lessons.note(right):
            print(f"step {step}: lesson {lessons.level}", flush=True)
        if step % 100 == 0:
            line = f"step {step} lesson {lessons.level} loss {loss.item():.3f} right {right:.3f}"
            speed = read / (time.monotonic() - started)
            print(f"{line} {speed:.0f} tokens/s {100 * share:.0f}%", flush=True)
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            save(folder, model, tokenizer)
            saved = time.monotonic()
    save(folder, model, tokenizer)


def rate(step: int, share: float) -> float:
    """Return the learning rate: up in 200 steps, level, and down in the last third of the time."""
    return 2e-3 * min(1.0, step / 200) * min(1.0, math.cos(math.pi / 2 * max(0, share - 2 / 3) * 3))


def save(folder: Path, model: Any, tokenizer: Any) -> None:
    """Write what vLLM and `rag-app` load."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "reader.jinja").write_text(TEMPLATE, encoding="utf-8")


def main() -> None:
    """Parse the command line, and train or write a set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the model")
    parser.add_argument("--minutes", type=float, default=90, help="default: 90")
    parser.add_argument("--width", type=int, default=128, help="default: 128")
    parser.add_argument("--layers", type=int, default=4, help="default: 4")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--from-lesson", type=int, default=0, help="go on with the folder's model")
    parser.add_argument("--write-set", type=Path, help="write a labelled set instead")
    asked = parser.parse_args()
    if asked.write_set:
        write_set(asked.write_set, documents=200, questions=400)
        return
    import torch

    torch.set_num_threads(asked.threads)
    train(asked.folder, asked.minutes, asked.width, asked.layers, asked.seed, asked.from_lesson)


if __name__ == "__main__":
    main()
