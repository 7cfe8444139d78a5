"""Near-duplicates by MinHash and locality-sensitive hashing: pairs of texts whose shingles overlap.

A text is the set of its five-byte shingles in lower case (Leskovec, Rajaraman, Ullman, "Mining of
Massive Datasets", section 3.2). Its signature is 128 minima of hashes of them (Broder 1997), by rensa,
cut to 16 bits each (Li and König 2010, "b-Bit Minwise Hashing"); the share of equal ones estimates the
Jaccard similarity, with a standard error of 0.035 at 0.8. Texts that agree in a band of the signature
are compared, and only those.

Signatures lie on disk, 256 bytes a row, and a key for each band, 144 bytes a row at 0.8, laid band by band: a band
reads its own keys and no more. Memory holds 16 bytes a row while a band is worked on. Nothing but looking at
candidates happens in Python: shingles are made by NumPy from Arrow's own buffer.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rensa import RMinHash

from undercut import events
from undercut.ingest.split import Fates, in_parts, shuffled, starts_of_groups

SHINGLE_BYTES, SIGNATURE = 5, 128
MINIMUM_RECALL = 0.95
# A band that many different texts share is compared with so many of them, one after the other.
MAXIMUM_ROUNDS = 32
_CHUNK_ROWS, _CHUNK_BYTES = 1 << 14, 1 << 20
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def band_rows(threshold: float) -> int:
    """Return the most minima a band can have and still find 95 % of the pairs at the threshold."""
    found = [r for r in range(1, SIGNATURE + 1) if 1 - (1 - threshold**r) ** (SIGNATURE // r) >= MINIMUM_RECALL]
    return max(found)


def write_signatures(staged: Path, path: Path, rows: int) -> NDArray[np.uint16]:
    """Compute the signatures of the staged texts.

    Args:
        staged: an Arrow stream with a column ``text``.
        path: the file to write.
        rows: how many texts there are.

    Returns:
        The file as an array of shape (rows, 128).
    """
    signatures = np.memmap(path, np.uint16, "w+", shape=(max(1, rows), SIGNATURE))
    start = 0
    with pa.OSFile(str(staged)) as file, pa.ipc.open_stream(file) as stream:
        for batch in stream:
            # Shingling takes some 50 bytes a byte of text, and a signature's way here 4 KB a row.
            step = max(1, min(_CHUNK_ROWS // 4, _CHUNK_BYTES * batch.num_rows // max(1, batch.nbytes)))
            for at in range(0, batch.num_rows, step):
                texts = batch["text"].slice(at, step)
                signatures[start : start + len(texts)] = _signatures(texts, start)
                start += len(texts)
            events.progress(start, rows, f"{start:,} rows compared: signatures")
    return signatures


def write_keys(signatures: NDArray[np.uint16], path: Path, threshold: float) -> NDArray[np.uint64]:
    """Hash each band of the signatures to a key.

    Args:
        signatures: shape (rows, 128).
        path: the file to write.
        threshold: the Jaccard similarity to find.

    Returns:
        The file as an array of shape (bands, rows).
    """
    width, rows = band_rows(threshold), len(signatures)
    keys = np.memmap(path, np.uint64, "w+", shape=(SIGNATURE // width, rows))
    for at in range(0, rows, _CHUNK_ROWS):
        part = np.asarray(signatures[at : at + _CHUNK_ROWS])
        for band, values in enumerate(keys[:, at : at + _CHUNK_ROWS]):
            values[:] = 0
            for column in part[:, band * width : (band + 1) * width].T:
                values[:] = (values ^ column) * _MULTIPLIER
                values ^= values >> np.uint64(29)
        if at % (64 * _CHUNK_ROWS) == 0:
            events.progress(at, rows, f"{at:,} rows compared: keys")
    return keys


def _signatures(texts: pa.StringArray, first_row: int) -> NDArray[np.uint16]:
    hashes, counts = _shingles(texts)
    offsets = np.r_[0, np.cumsum(counts)].astype(np.uint64)
    minima = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, SIGNATURE, 0).to_rows()
    found = np.array(minima, np.uint32).astype(np.uint16)
    for row in np.flatnonzero(counts == 0).tolist():  # no shingle: like no other text
        own = shuffled(np.arange(SIGNATURE, dtype=np.uint64), first_row + row + 1)
        found[row] = own.astype(np.uint16)
    return found


def _shingles(texts: pa.StringArray) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return all texts' shingle hashes one after the other, and how many each text has."""
    lower = pa.concat_arrays([pc.utf8_lower(texts)])  # one array of its own, that starts at offset 0
    _, offsets, data = lower.buffers()
    edges = np.frombuffer(offsets, np.int32, len(lower) + 1).astype(np.int64)
    content = np.frombuffer(data, np.uint8, edges[-1]) if data else np.empty(0, np.uint8)
    counts = np.maximum(np.diff(edges) - SHINGLE_BYTES + 1, 0)
    length = max(0, len(content) - SHINGLE_BYTES + 1)
    values = np.zeros(length, np.uint64)
    for i in range(SHINGLE_BYTES):
        values = (values << np.uint64(8)) | content[i : i + length]
    inside = np.repeat(edges[:-1] - np.r_[0, np.cumsum(counts)[:-1]], counts) + np.arange(counts.sum())
    return shuffled(values[inside], 0), counts


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Rejects the lesser of each pair of texts at or above a Jaccard similarity.

    ``signatures`` has shape (rows, 128), ``keys`` (bands, rows), ``label`` (rows,); ``fate`` is what a rejected row
    gets.
    """

    signatures: NDArray[np.uint16]
    keys: NDArray[np.uint64]
    label: NDArray[np.int32]
    threshold: float
    fate: int
    splits: int

    def reject(self, fates: Fates, across_only: bool = False) -> None:
        """Change the fates of rows that lose.

        In two splits, the row of the earlier one loses, whatever the labels; in one split the later row
        loses to one of the same label.

        Args:
            fates: each row's split, or a reason above all splits; changed in place.
            across_only: leave pairs within a split alone.
        """
        for band, of_band in enumerate(self.keys):
            alive = np.flatnonzero(fates < self.splits)
            keys = of_band[alive]
            for part in in_parts(keys):
                self._compare(fates, alive[part], keys[part], across_only)
            events.progress(
                band + 1, len(self.keys), f"{len(alive):,} rows compared: band {band + 1} of {len(self.keys)}"
            )

    def _compare(self, fates: Fates, rows: NDArray[np.int64], keys: NDArray[np.uint64], across_only: bool) -> None:
        """Compare all rows of one key with the first; what is unlike the first, with the next that is."""
        order = np.lexsort((rows, -fates[rows].astype(np.int8), keys))
        rows, keys = rows[order], keys[order]
        for _ in range(MAXIMUM_ROUNDS):
            if not len(rows):
                return
            starts = starts_of_groups(keys[1:] != keys[:-1])
            sizes = np.diff(np.r_[starts, len(rows)])
            first = np.repeat(rows[starts], sizes)
            others = np.repeat(sizes > 1, sizes) & (first != rows)
            rows, keys, first = rows[others], keys[others], first[others]
            lost = self._similar(rows, first)
            within = fates[rows] == fates[first]
            lost &= ~within if across_only else ~within | (self.label[rows] == self.label[first])
            fates[rows[lost]] = self.fate
            rows, keys = rows[~lost], keys[~lost]

    def _similar(self, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        similar = np.empty(len(rows), np.bool_)
        for at in range(0, len(rows), _CHUNK_ROWS):
            part = slice(at, at + _CHUNK_ROWS)
            equal = (self.signatures[rows[part]] == self.signatures[others[part]]).mean(axis=1)
            similar[part] = equal >= self.threshold
        return similar
