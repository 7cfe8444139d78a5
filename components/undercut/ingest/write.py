"""Second pass: staged rows to a Parquet file or numbered shards a split, counting and keeping examples on the way."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from undercut import events
from undercut.artifacts import SPLITS
from undercut.ingest.rules import REPAIR_BITS, REPAIRED, Tally
from undercut.ingest.shards import Shards
from undercut.ingest.split import FATES, Fates
from undercut.ingest.staging import Staged


@dataclass(kw_only=True)
class Written:
    """What was written.

    ``rows`` has shape (sources, splits); ``lengths`` counts texts by their number of characters;
    ``counts`` has shape (splits, labels).
    """

    labels: list[str]
    rows: NDArray[np.int64]
    counts: NDArray[np.int64]
    lengths: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    repaired: Tally = field(default_factory=lambda: Tally(REPAIRED))

    @property
    def label_counts(self) -> dict[str, dict[str, int]]:
        """Return split to label to rows."""
        rows = self.counts.tolist()
        return {s: dict(zip(self.labels, row, strict=True)) for s, row in zip(SPLITS, rows, strict=True)}

    @property
    def characters(self) -> dict[str, int]:
        """Return the median, the 95th percentile and the maximum of the texts' lengths."""
        reached = np.cumsum(self.lengths) / self.lengths.sum()
        return {"p50": int(np.argmax(reached >= 0.5)), "p95": int(np.argmax(reached >= 0.95)), "max": len(reached) - 1}


def write_splits(staged: Staged, fates: Fates, files: Sequence[str], output: Path) -> Written:
    """Write the three splits and add the rows rejected by ``fates`` to the tally of ``staged``.

    Args:
        staged: the first pass's result.
        fates: each staged row's index into ``FATES``.
        files: the sources' names for examples.
        output: the dataset folder.
    """
    numbers, names, sets = np.frombuffer(staged.rows.labels, np.int32), list(staged.label_numbers), staged.sets
    by_split = [np.bincount(numbers[fates == split], minlength=len(sets.sizes)) for split in range(len(SPLITS))]
    counts = np.array([sets.label_rows(rows) for rows in by_split])
    kept = sorted(np.flatnonzero(counts.sum(axis=0)), key=lambda i: names[i])
    final = np.full(len(names), -1, np.int32)
    final[kept] = np.arange(len(kept))
    rows = np.zeros((len(files), len(SPLITS)), np.int64)
    written = Written(labels=[names[i] for i in kept], rows=rows, counts=counts[:, kept])
    form = pa.list_(pa.int32()) if staged.multi_label else pa.int32()
    labels_of = sets.lists(final) if staged.multi_label else pa.array(final)
    fields = [("row", pa.int64()), ("text", pa.string()), ("label", form)]
    schema = pa.schema([*fields, *((name, pa.string()) for name in staged.columns)])
    with contextlib.ExitStack() as stack:
        splits = [stack.enter_context(contextlib.closing(Shards(output, s, schema))) for s in SPLITS]
        stream = stack.enter_context(pa.ipc.open_stream(stack.enter_context(pa.OSFile(str(staged.path)))))
        start = 0
        for batch in stream:
            part = slice(start, start + batch.num_rows)
            start = part.stop
            label = labels_of.take(pa.array(numbers[part])).cast(form)
            batch_rows = pa.record_batch([batch["row"], batch["text"], label, *batch.columns[4:]], schema=schema)
            for i, file in enumerate(splits):
                file.append(batch_rows.filter(pa.array(fates[part] == i)))
            _count(written, batch, fates[part])
            _explain(staged, written, batch, files, part, fates)
            events.progress(start, len(fates), f"{start:,} rows written")
    return written


def _count(written: Written, batch: Any, fates: Fates) -> None:
    kept = fates < len(SPLITS)
    np.add.at(written.rows, (batch["file"].to_numpy()[kept], fates[kept]), 1)
    lengths = np.bincount(pc.utf8_length(batch["text"]).to_numpy()[kept], minlength=len(written.lengths))
    lengths[: len(written.lengths)] += written.lengths
    written.lengths = lengths


def _explain(staged: Staged, written: Written, batch: Any, files: Sequence[str], part: slice, fates: Fates) -> None:
    """Count the batch's rejected and repaired rows, with examples."""
    here, repairs = fates[part], np.frombuffer(staged.rows.repairs, np.uint8)[part]
    found = [(staged.rejected, FATES[i], here == i) for i in np.unique(here[here >= len(SPLITS)])]
    found += [(written.repaired, r, (repairs & bit > 0) & (here < len(SPLITS))) for r, bit in REPAIR_BITS.items()]
    for tally, reason, mask in found:
        if mask.any() and tally.add(reason, int(mask.sum())):
            for i in np.flatnonzero(mask)[:5].tolist():
                file = files[batch["file"][i].as_py()]
                tally.show(reason, file, batch["line"][i].as_py(), batch["text"][i].as_py())
