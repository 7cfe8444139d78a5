"""Unlabelled text of a dataset folder: the split ``unlabelled``, or else the training rows; tokens packed on disk.

The text is read shard by shard and batch by batch, tokenised once, and appended to two flat files of
token ids (two bytes a token for vocabularies up to 65,536): the rows to train on and the held-out ones.
Training reads them through a memory map, so neither text nor tokens need to fit in memory, and any
position is found again after an interruption.

Held out is every k-th block of texts, spread evenly over the corpus: at most 5 %. Texts that follow each
other with the same ``document`` are one document.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tokenizers import Tokenizer

from undercut import artifacts, events
from undercut.errors import ConfigurationError
from undercut.tasks.protocol import Encoded

SPLIT, FALLBACK = "unlabelled", "train"
READ_ROWS = 1024
MAXIMUM_BLOCK, BLOCKS, MINIMUM_PERIOD = 64, 160, 20
PARTS = ("train", "held_out")


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Packed text: rows to train on, held-out rows, and how many tokens and texts each came from."""

    train: Encoded
    held_out: Encoded
    tokens: dict[str, int]
    texts: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class HoldOut:
    """Which texts are held out: of every ``period`` blocks of ``block`` texts the last one."""

    block: int
    period: int

    @classmethod
    def of(cls, texts: int) -> "HoldOut":
        """Return blocks of up to 64 texts, 160 of them or 5 %, whichever is less."""
        block = min(MAXIMUM_BLOCK, max(1, texts // 400))
        return cls(block=block, period=max(MINIMUM_PERIOD, texts // (block * BLOCKS)))

    def __contains__(self, number: int) -> bool:
        return (number // self.block) % self.period == self.period - 1


def split_of(data: Path) -> str:
    """Return the split that holds the text: ``unlabelled``, or ``train`` where no text came without labels.

    The labels are not looked at. Validation and test rows stay unread, so that they can judge what comes of it.
    """
    return SPLIT if artifacts.split_files(data, SPLIT) else FALLBACK


def announce(data: Path) -> None:
    """Say so if the text is that of the training rows."""
    if split_of(data) == FALLBACK:
        events.message("no text without labels: the training rows' own text is used")


def shards(data: Path) -> list[Path]:
    """Return the Parquet files of the split that holds the text.

    Raises:
        ConfigurationError: there are none, a file has no column ``text``, or there are fewer than 20 texts.
    """
    files = artifacts.split_files(data, split_of(data))
    if not files:
        raise ConfigurationError(
            "data", str(data), f"a dataset folder with {SPLIT}.parquet or {FALLBACK}.parquet", "Ingest text first"
        )
    for path in files:
        if "text" not in pq.read_schema(path).names:
            raise ConfigurationError("data", f"{path.name} without it", "a column named text")
    if (texts := count_texts(files)) < MINIMUM_PERIOD:
        raise ConfigurationError("data", f"{texts} texts", f"at least {MINIMUM_PERIOD}", "Some have to be held out")
    return files


def count_texts(files: list[Path]) -> int:
    """Return how many texts the shards hold, from their footers."""
    return sum(pq.read_metadata(p).num_rows for p in files)


def batches(path: Path) -> Iterator[tuple[list[str], list[object]]]:
    """Yield a shard's texts and documents (None: a document alone), some at a time."""
    columns = [name for name in ("text", "document") if name in pq.read_schema(path).names]
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(READ_ROWS, columns=columns):
            texts = ["" if text is None else text for text in batch["text"].to_pylist()]
            yield texts, batch["document"].to_pylist() if "document" in columns else [None] * len(texts)


def sample(files: list[Path], texts: int) -> Iterator[list[str]]:
    """Yield about ``texts`` of the texts, in batches taken evenly from the whole corpus."""
    every = max(1, count_texts(files) // texts)
    number = 0
    for path in files:
        for batch, _ in batches(path):
            if number % every == 0:
                yield batch
            number += 1


class _Writer:
    """Appends tokens to the two flat files; the state between two shards is enough to go on."""

    def __init__(self, folder: Path, begin: int | None, end: int, size: int) -> None:
        self.dtype = np.dtype(np.uint16 if size <= 1 << 16 else np.uint32)
        self._folder, self._begin, self._end = folder, begin, end
        folder.mkdir(parents=True, exist_ok=True)
        self.state: dict[str, Any] = {"shards": 0, "number": 0, "previous": None, "tokens": {}, "texts": {}}
        if (folder / "state.json").is_file():
            self.state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        for part in PARTS:
            path = self.path(part)
            path.touch()
            with path.open("r+b") as stream:
                stream.truncate(self.state["tokens"].get(part, 0) * self.dtype.itemsize)

    def path(self, part: str) -> Path:
        return self._folder / f"{part}.bin"

    def append(self, tokenizer: Tokenizer, path: Path, hold_out: HoldOut) -> None:
        """Append one shard and remember that it is done."""
        for texts, documents in batches(path):
            found: dict[str, list[int]] = {part: [] for part in PARTS}
            joined = [self._joined(text, document, hold_out) for text, document in zip(texts, documents, strict=True)]
            encodings = tokenizer.encode_batch_fast([text for _, text, _ in joined], add_special_tokens=False)
            for (part, _, continues), encoding in zip(joined, encodings, strict=True):
                found[part] += [] if continues else self._boundary(part, found[part])
                found[part] += encoding.ids
                self.state["texts"][part] = self.state["texts"].get(part, 0) + 1
            self._write(found)
        self.state["shards"] += 1
        artifacts.write_json(self._folder / "state.json", self.state)

    def _joined(self, text: str, document: object, hold_out: HoldOut) -> tuple[str, str, bool]:
        part = PARTS[self.state["number"] in hold_out]
        here = None if document is None else [part, str(document)]
        continues = here is not None and here == self.state["previous"]
        self.state["number"] += 1
        self.state["previous"] = here
        # A paragraph's break is part of the text for tokenizers that see white space.
        return part, f"\n\n{text}" if continues else text, continues

    def _boundary(self, part: str, waiting: list[int]) -> list[int]:
        started = waiting or self.state["tokens"].get(part, 0)
        return ([self._end] if started else []) + ([] if self._begin is None else [self._begin])

    def _write(self, found: dict[str, list[int]]) -> None:
        for part, tokens in found.items():
            with self.path(part).open("ab") as stream:
                stream.write(np.array(tokens, dtype=self.dtype).tobytes())
            self.state["tokens"][part] = self.state["tokens"].get(part, 0) + len(tokens)

    def finish(self, files: int) -> None:
        """End the last document of each part."""
        if self.state["shards"] == files:
            self._write({part: [self._end] for part in PARTS})
            self.state["shards"] += 1
            artifacts.write_json(self._folder / "state.json", self.state)


def tokenize(
    data: Path, tokenizer: Tokenizer, folder: Path, length: int, begin: int | None, end: int, held_out_rows: int
) -> Corpus:
    """Tokenise a dataset folder's text into ``folder`` and return it packed in rows of ``length`` tokens.

    Goes on where an interrupted call ended, at the granularity of shards.

    Args:
        data: dataset folder.
        tokenizer: adds no special tokens here.
        folder: where the flat files go, about two bytes a token.
        length: tokens of a row.
        begin: id put before a document, or None.
        end: id put after a document.
        held_out_rows: held-out rows kept at most, taken evenly.

    Raises:
        ConfigurationError: there is too little text for one row to train on and one to hold out.
    """
    files = shards(data)
    texts = count_texts(files)
    writer, hold_out = _Writer(folder, begin, end, tokenizer.get_vocab_size()), HoldOut.of(texts)
    for path in files[writer.state["shards"] :]:
        writer.append(tokenizer, path, hold_out)
        events.progress(writer.state["number"], texts, f"{writer.state['number']:,} texts tokenised")
    writer.finish(len(files))
    tokens = writer.state["tokens"]
    for part in PARTS:
        if tokens[part] < length:
            raise ConfigurationError(
                "data", f"{tokens[part]} {part} tokens", f"at least {length}", "Add text, or lower sequence_length"
            )
    train, held = (_rows(writer.path(part), writer.dtype, length) for part in PARTS)
    keep = np.unique(np.linspace(0, len(held) - 1, min(held_out_rows, len(held))).astype(np.int64))
    return Corpus(train=packed(train), held_out=packed(held[keep]), tokens=tokens, texts=writer.state["texts"])


def _rows(path: Path, dtype: np.dtype[Any], length: int) -> NDArray[Any]:
    flat = np.memmap(path, dtype=dtype, mode="r")
    return flat[: len(flat) // length * length].reshape(-1, length)


def packed(rows: NDArray[Any]) -> Encoded:
    """Return rows of token ids, shape (rows, length), as what a task collates; no memory of their own."""
    count, length = rows.shape
    return Encoded(
        ids=rows,
        lengths=np.broadcast_to(np.int64(length), (count,)),
        labels=np.broadcast_to(np.int64(0), (count,)),
    )
