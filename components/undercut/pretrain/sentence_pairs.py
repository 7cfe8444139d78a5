"""Pairs of sentences for next-sentence prediction, packed in rows on disk (Devlin et al. 2019, section 3.1).

A pair is ``[CLS] A [SEP] B [SEP]``; A and B are one sentence or more, together as long as a row where their
document allows it. In half of the pairs B is what follows A in its document, in the others it comes from
another document, as in BERT's own data preparation: a document of one sentence always gets another's.
Consecutive texts with the same ``document`` are one document, a text without one is a document alone; a
document ends where held-out text begins, so that no pair reaches over the gap. Pairs too long for a row lose
the start of A or the end of B, the longer first: the place where they meet stays.

Short pairs share a row; what a row has left over is padding. Pairs are drawn once, from the seed, and are the
same in every epoch; masks are not. Tokens are kept shard by shard, so that an interrupted call goes on.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from undercut import corpus, events
from undercut.errors import ConfigurationError
from undercut.pretrain.sentences import split_sentences
from undercut.tasks.next_sentence import MAXIMUM_PAIRS
from undercut.tasks.protocol import Encoded

SPECIAL_TOKENS = 3
MINIMUM_DOCUMENTS = 2

Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """A corpus by sentences: ``tokens[shard[i]][start[i]:stop[i]]`` are sentence i's.

    Piece p of a document has the sentences ``first[p]`` to ``first[p + 1]``; ``document[p]`` says of which,
    ``held_out[p]`` for what. ``texts`` counts texts by part.
    """

    tokens: list[NDArray[Any]]
    shard: Ids
    start: Ids
    stop: Ids
    first: Ids
    document: NDArray[np.uint64]
    held_out: NDArray[np.bool_]
    texts: dict[str, int]

    def ids(self, sentence: int) -> list[int]:
        """Return a sentence's token ids."""
        found: list[int] = self.tokens[self.shard[sentence]][self.start[sentence] : self.stop[sentence]].tolist()
        return found


def sentence_pairs(
    data: Path, tokenizer: Tokenizer, folder: Path, length: int, special: tuple[int, int, int], seed: int, held: int
) -> corpus.Corpus:
    """Return the unlabelled split as packed pairs; ``labels`` tell which of a row's pairs belong together.

    Args:
        data: dataset folder.
        tokenizer: adds no special tokens here.
        folder: where tokens and rows go, about four bytes a token.
        length: tokens of a row.
        special: ids of ``[CLS]``, ``[SEP]`` and ``[PAD]``.
        seed: of the choice of pairs.
        held: held-out rows kept at most, taken evenly.

    Raises:
        ConfigurationError: there are too few documents with two sentences or more.
    """
    sentences = _sentences(data, tokenizer, folder)
    found: dict[str, Encoded] = {}
    tokens: dict[str, int] = {}
    for number, part in enumerate(corpus.PARTS):
        pieces = np.flatnonzero(sentences.held_out == bool(number))
        _refuse_single_sentences(sentences, pieces, part)
        rows = folder / f"{part}.npy"
        if not rows.is_file():
            drawn = _pairs(sentences, pieces, length, seed + number)
            packed, labels = _pack(drawn, length, special, sentences.tokens[0].dtype)
            np.save(folder / f"{part}.labels.npy", labels)
            np.save(folder / "rows.partial.npy", packed)
            (folder / "rows.partial.npy").replace(rows)
        ids, labels = np.load(rows, mmap_mode="r"), np.load(folder / f"{part}.labels.npy")
        tokens[part] = int((ids != special[2]).sum())
        share = 1 - tokens[part] / ids.size
        pairs = sum(int(label).bit_length() - 1 for label in labels)
        events.message(f"{part}: {pairs:,} pairs of sentences in {len(ids):,} rows, {share:.0%} of them padding")
        kept = np.unique(np.linspace(0, len(ids) - 1, min(held, len(ids))).astype(np.int64)) if number else slice(None)
        found[part] = Encoded(ids=ids[kept], lengths=np.full(len(labels[kept]), length), labels=labels[kept])
    return corpus.Corpus(train=found["train"], held_out=found["held_out"], tokens=tokens, texts=sentences.texts)


def _sentences(data: Path, tokenizer: Tokenizer, folder: Path) -> Sentences:
    """Split and tokenise shard by shard, passing over those that an interrupted call had done."""
    files = corpus.shards(data)
    texts, number = corpus.count_texts(files), 0
    folder.mkdir(parents=True, exist_ok=True)
    marks, tokens = [], []
    for i, path in enumerate(files):
        target = folder / f"{i:05d}.safetensors"
        if not target.is_file():
            _tokenize(path, tokenizer, number, target)
        marks.append(load_file(target))
        tokens.append(np.load(target.with_suffix(".npy"), mmap_mode="r"))
        number += len(marks[-1]["documents"])
        events.progress(number, texts, f"{number:,} texts tokenised")
    counts, documents = (np.concatenate([m[name] for m in marks]) for name in ("counts", "documents"))
    hold_out = corpus.HoldOut.of(texts)
    held = np.fromiter((i in hold_out for i in range(texts)), np.bool_, texts)
    begins = np.append(True, (documents[1:] != documents[:-1]) | (held[1:] != held[:-1]))
    before = np.append(0, np.cumsum(counts))
    stops = [np.cumsum(m["lengths"]) for m in marks]
    return Sentences(
        tokens=tokens,
        shard=np.repeat(np.arange(len(marks)), [len(s) for s in stops]),
        start=np.concatenate([np.append(0, s[:-1])[: len(s)] for s in stops]),
        stop=np.concatenate(stops),
        first=np.append(before[:-1][begins], before[-1]),
        document=documents[begins],
        held_out=held[begins],
        texts={"train": int((~held).sum()), "held_out": int(held.sum())},
    )


def _tokenize(path: Path, tokenizer: Tokenizer, number: int, target: Path) -> None:
    """Write a shard's tokens and, of each text, its document and count of sentences, with their lengths."""
    ids: list[NDArray[Any]] = []
    lengths, counts, documents = list[int](), list[int](), list[int]()
    dtype = np.dtype(np.uint16 if tokenizer.get_vocab_size() <= 1 << 16 else np.uint32)
    for texts, names in corpus.batches(path):
        split = [split_sentences(text) for text in texts]
        flat = iter(tokenizer.encode_batch_fast([s for part in split for s in part], add_special_tokens=False))
        for part, name in zip(split, names, strict=True):
            found = [encoding.ids for encoding in (next(flat) for _ in part) if encoding.ids]
            ids += [np.array(sentence, dtype) for sentence in found]
            lengths += [len(sentence) for sentence in found]
            counts.append(len(found))
            documents.append(_key(f"name {name}" if name is not None else f"number {number + len(documents)}"))
    np.save(target.with_suffix(".npy"), np.concatenate(ids) if ids else np.empty(0, dtype))
    marks = {"lengths": np.array(lengths, np.int64), "counts": np.array(counts, np.int64)}
    save_file(marks | {"documents": np.array(documents, np.uint64)}, target.with_suffix(".partial"))
    target.with_suffix(".partial").replace(target)


def _key(document: str) -> int:
    return int.from_bytes(hashlib.sha256(document.encode()).digest()[:8], "little")


def _refuse_single_sentences(sentences: Sentences, pieces: Ids, part: str) -> None:
    several = pieces[np.diff(sentences.first)[pieces] > 1]
    documents = len(np.unique(sentences.document[several]))
    if documents < MINIMUM_DOCUMENTS:
        raise ConfigurationError(
            "next_sentence",
            f"True with {documents} {part.replace('_', '-')} documents of two sentences or more",
            f"True with at least {MINIMUM_DOCUMENTS}",
            "Ingest whole documents, or leave next_sentence off",
        )


def _pairs(sentences: Sentences, pieces: Ids, length: int, seed: int) -> Iterator[tuple[list[int], list[int], bool]]:
    """Yield A, B and whether B follows A, document by document."""
    generator, room = np.random.default_rng(seed), length - SPECIAL_TOKENS
    pieces = pieces[np.diff(sentences.first)[pieces] > 0]

    def other(document: np.uint64) -> int:
        while sentences.document[piece := int(generator.choice(pieces))] == document:
            continue
        return int(generator.integers(sentences.first[piece], sentences.first[piece + 1]))

    for done, piece in enumerate(pieces.tolist()):
        if done % 1000 == 0:
            events.progress(done, len(pieces), "pairing sentences")
        at, end = int(sentences.first[piece]), int(sentences.first[piece + 1])
        while at < end:
            stop = _filled(sentences, at, end, room)
            middle = int(generator.integers(at + 1, stop)) if stop - at > 1 else stop
            follows = stop - at > 1 and generator.random() < 0.5
            a = _joined(sentences, at, middle)
            if follows:
                b = _joined(sentences, middle, stop)
            else:
                start = other(sentences.document[piece])
                last = int(sentences.first[np.searchsorted(sentences.first, start, side="right")])
                b = _joined(sentences, start, _filled(sentences, start, last, room - len(a)))
            # What A did not use of its document is the start of the next pair.
            at = stop if follows else middle
            yield (*_fitted(a, b, room), follows)


def _filled(sentences: Sentences, start: int, end: int, room: int) -> int:
    """Return where a run of sentences from ``start`` ends that fills the room, at least one sentence long."""
    stop, size = start, 0
    while stop < end and (size < room or stop == start):
        size += int(sentences.stop[stop] - sentences.start[stop])
        stop += 1
    return stop


def _joined(sentences: Sentences, start: int, stop: int) -> list[int]:
    return [token for i in range(start, stop) for token in sentences.ids(i)]


def _fitted(a: list[int], b: list[int], room: int) -> tuple[list[int], list[int]]:
    """Take from the start of A and the end of B, the longer first, until both fit."""
    short = room // 2
    kept_a = min(len(a), max(short, room - len(b)))
    kept_b = min(len(b), room - kept_a)
    return a[len(a) - kept_a :], b[:kept_b]


def _pack(
    pairs: Iterator[tuple[list[int], list[int], bool]], length: int, special: tuple[int, int, int], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], Ids]:
    """Return rows of ids, shape (rows, length), and labels, shape (rows,).

    A label's bits, from the lowest, tell of each pair whether B follows; a last bit of one ends them.
    """
    begin, end, padding = special
    rows: list[NDArray[Any]] = []
    labels: list[int] = []
    filled = length
    for a, b, follows in pairs:
        pair = [begin, *a, end, *b, end]
        if filled + len(pair) > length or labels[-1] >> MAXIMUM_PAIRS:
            rows.append(np.full(length, padding, dtype))
            labels.append(1)
            filled = 0
        rows[-1][filled : filled + len(pair)] = pair
        filled += len(pair)
        place = labels[-1].bit_length() - 1
        # The ending one moves up a place and leaves the answer where it was.
        labels[-1] += (2 if follows else 1) << place
    return np.stack(rows), np.array(labels, dtype=np.int64)
