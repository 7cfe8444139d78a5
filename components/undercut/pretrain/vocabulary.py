"""Train a tokenizer on a corpus: WordPiece (BERT) or byte-level BPE (GPT-2)."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from undercut import corpus, events
from undercut.tasks.masked_lm import SPECIAL

# Enough for the frequencies that decide a vocabulary; bounds time and memory on large corpora.
SAMPLED_TEXTS = 2_000_000
# Different characters kept; the trainer's own 1,000 are too few for Chinese or Japanese.
ALPHABET = 20_000


def train_tokenizer(
    files: list[Path], kind: str, size: int, lowercase: bool, special: tuple[str, ...] = SPECIAL
) -> Tokenizer:
    """Return a tokenizer trained on up to two million texts taken evenly from ``files``.

    Args:
        files: shards of the unlabelled split.
        kind: ``wordpiece`` or ``bpe`` (byte-level: every text can be written in it and given back).
        size: tokens at most; fewer if the text has no more to offer.
        lowercase: fold case and accents (WordPiece only).
        special: special tokens of a BPE vocabulary, in order of their ids. With ``[CLS]`` among them, and in
            WordPiece, texts are framed by it and ``[SEP]``.
    """
    events.message(f"training a {kind} tokenizer of {size:,} tokens")
    return _wordpiece(files, size, lowercase) if kind == "wordpiece" else _bpe(files, size, special)


def _wordpiece(files: list[Path], size: int, lowercase: bool) -> Tokenizer:
    """Train in two passes: the trainer numbers a word's inner letters in an order that differs from run to run.

    The first pass finds those letters; the second gets them in sorted order as if they were special tokens,
    which are numbered first, so that ties between merges fall the same way each time.
    """
    tokenizer = _wordpiece_of({})
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    for tokens in (0, size):
        inner = sorted(token for token in tokenizer.get_vocab() if token.startswith("##"))
        trainer = trainers.WordPieceTrainer(
            vocab_size=tokens, special_tokens=[*SPECIAL, *inner], show_progress=False, limit_alphabet=ALPHABET
        )
        tokenizer.train_from_iterator(_reported(corpus.sample(files, SAMPLED_TEXTS), files), trainer)
    trained = _wordpiece_of(json.loads(tokenizer.to_str())["model"]["vocab"])
    trained.normalizer = tokenizer.normalizer
    trained.add_special_tokens(list(SPECIAL))
    return _framed(trained)


def _wordpiece_of(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _bpe(files: list[Path], size: int, special: tuple[str, ...]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_reported(corpus.sample(files, SAMPLED_TEXTS), files), trainer)
    return _framed(tokenizer) if "[CLS]" in special else tokenizer


def _framed(tokenizer: Tokenizer) -> Tokenizer:
    """Put ``[CLS]`` before and ``[SEP]`` after a text."""
    vocabulary = tokenizer.get_vocab()
    separator, classifier = (("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    tokenizer.post_processor = processors.BertProcessing(separator, classifier)
    return tokenizer


def _reported(batches: Iterable[list[str]], files: list[Path]) -> Iterator[list[str]]:
    total, done = min(SAMPLED_TEXTS, corpus.count_texts(files)), 0
    for batch in batches:
        yield batch
        done += len(batch)
        events.progress(done, max(done, total), "reading text for the tokenizer")
