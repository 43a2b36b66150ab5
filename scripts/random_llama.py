#!/usr/bin/env python3
"""Make a Llama with random weights, a trained tokenizer and a chat template: nothing is downloaded.

It answers gibberish, at the speed and with the interface of a real model of its size. The tests and
`scripts/bench_llm.py` use it; `rag-app` takes its folder as ``llm.model``::

    python scripts/random_llama.py /tmp/llama --size tiny
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

SIZES = {
    # name: hidden size, feed-forward size, layers, heads, key-value heads, words known
    "tiny": (64, 128, 2, 2, 1, 1024),
    "0.1b": (640, 2560, 12, 10, 5, 32000),
    "0.5b": (1024, 4096, 24, 16, 8, 32000),
}
"""Shapes after Llama 3's; "0.5b" has 0.44 billion parameters, embeddings included. vLLM's attention
on a CPU needs heads of at least 32 dimensions."""

BEGIN, END = "<s>", "</s>"

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% if tools %}<|tools|>\n{{ tools | tojson }}{{ eos_token }}\n{% endif %}"
    "{% for message in messages %}"
    "<|{{ message['role'] }}|>\n{{ message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}"
    "<tool_call>\n{{ call['function'] | tojson }}\n</tool_call>"
    "{% endfor %}"
    "{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n"
    "{% if enable_thinking %}<think>\n{% endif %}{% endif %}"
)
"""Tools are called as Hermes's and Qwen's models call them (vLLM's parser "hermes"), and there is a
variable to turn on, as Qwen's has."""


def make_llama(
    folder: Path,
    corpus: Iterable[str],
    size: str = "tiny",
    window: int = 2048,
    chat: bool = True,
    seed: int = 0,
) -> int:
    """Write the model's weights, configuration and tokenizer into a folder.

    Parameters
    ----------
    folder
        Made if it is not there.
    corpus
        Texts that the byte-level BPE tokenizer is trained on.
    size
        A key of `SIZES`.
    window
        Tokens of prompt and answer together.
    chat
        Whether the tokenizer has a chat template.

    Returns
    -------
    int
        The number of parameters.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, feed_forward, layers, heads, kv_heads, words = SIZES[size]
    _train_tokenizer(folder, corpus, words, window, chat)
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.bfloat16 if size != "tiny" else torch.float32)
    try:
        model = LlamaForCausalLM(  # type: ignore[no-untyped-call]
            LlamaConfig(
                vocab_size=words,
                hidden_size=hidden,
                intermediate_size=feed_forward,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                num_key_value_heads=kv_heads,
                max_position_embeddings=window,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )
    finally:
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    return sum(weights.numel() for weights in model.parameters())


def _train_tokenizer(
    folder: Path, corpus: Iterable[str], words: int, window: int, chat: bool
) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=words,
            special_tokens=[BEGIN, END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    names = {"bos_token": BEGIN, "eos_token": END}
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, model_max_length=window, **names
    )
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)


def main() -> None:
    """Parse the command line and make the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--window", type=int, default=2048, help="tokens (default: 2048)")
    parser.add_argument(
        "--corpus", type=Path, nargs="*", help="files the tokenizer learns from (default: docs/)"
    )
    asked = parser.parse_args()
    files = asked.corpus or sorted(Path(__file__).parents[1].glob("docs/*.md"))
    texts = [file.read_text(encoding="utf-8") for file in files]
    number = make_llama(asked.folder, texts, asked.size, asked.window)
    print(f"{asked.folder}: {number / 1e6:.1f} million parameters")


if __name__ == "__main__":
    main()
