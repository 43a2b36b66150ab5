"""A tiny BERT cross-encoder with random weights: it scores gibberish, but each pair in its way."""

from pathlib import Path

READS = 128
"""Tokens of question and text together."""

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def make_cross_encoder(folder: Path, labels: int = 1) -> Path:
    """Write the model and a WordPiece tokenizer that was trained on the licence.

    vLLM's attention on a CPU needs heads of at least 32 dimensions.
    """
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    licence = Path(__file__).parents[1] / "LICENSE"
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        [licence.read_text(encoding="utf-8")],
        trainers.WordPieceTrainer(vocab_size=512, special_tokens=SPECIAL, show_progress=False),
    )
    fast = BertTokenizer(tokenizer_object=tokenizer, model_max_length=READS)
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    model = BertForSequenceClassification(  # type: ignore[no-untyped-call]
        BertConfig(
            vocab_size=512,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=READS,
            initializer_range=0.3,  # scores well apart
            id2label={number: str(number) for number in range(labels)},
        )
    )
    model.save_pretrained(folder)
    return folder
