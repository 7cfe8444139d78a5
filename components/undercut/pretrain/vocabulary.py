"""Train a tokenizer on a corpus: WordPiece (BERT) or byte-level BPE (GPT-2)."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from undercut import corpus, events
from undercut.tasks.masked_lm import SPECIAL

TOKENIZERS = ("wordpiece", "bpe")
# Enough for the frequencies that decide a vocabulary; bounds time and memory on large corpora.
SAMPLED_TEXTS = 2_000_000


def train_tokenizer(
    files: list[Path], kind: str, size: int, lowercase: bool, special: tuple[str, ...] = SPECIAL
) -> Tokenizer:
    """Return a tokenizer trained on up to two million texts taken evenly from ``files``.

    Args:
        files: shards of the unlabelled split.
        kind: ``wordpiece`` or ``bpe`` (byte-level: every text can be written in it and given back).
        size: tokens at most; fewer if the text has no more to offer.
        lowercase: fold case and accents (WordPiece only).
        special: special tokens, in order of their ids; with ``[CLS]`` among them texts are framed by it and
            ``[SEP]``.
    """
    events.message(f"training a {kind} tokenizer of {size:,} tokens")
    tokenizer = _wordpiece(lowercase) if kind == "wordpiece" else _bpe()
    tokenizer.train_from_iterator(_reported(corpus.sample(files, SAMPLED_TEXTS), files), _trainer(kind, size, special))
    if "[CLS]" in special:
        pair = [(name, tokenizer.token_to_id(name)) for name in ("[SEP]", "[CLS]")]
        tokenizer.post_processor = processors.BertProcessing(*pair)
    return tokenizer


def _wordpiece(lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _trainer(kind: str, size: int, special: tuple[str, ...]) -> trainers.Trainer:
    settings = {"vocab_size": size, "special_tokens": list(special), "show_progress": False}
    if kind == "wordpiece":
        return trainers.WordPieceTrainer(**settings)
    return trainers.BpeTrainer(**settings, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def _reported(batches: Iterable[list[str]], files: list[Path]) -> Iterator[list[str]]:
    total, done = min(SAMPLED_TEXTS, corpus.count_texts(files)), 0
    for batch in batches:
        yield batch
        done += len(batch)
        events.progress(done, max(done, total), "reading text for the tokenizer")
