"""Raw text to unlabelled shards: ``unlabelled-00000.parquet`` and on, a part held out for validation.

Two passes, as for labelled text: the first reads, cleans and stages every paragraph and keeps 13 bytes of
it in memory; then it is decided by those which are kept and which are held out (at most 24 bytes a paragraph more);
the second pass writes.
"""

import contextlib
import tempfile
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from undercut import events, storage
from undercut.errors import ConfigurationError
from undercut.ingest import paragraphs
from undercut.ingest.clean import Rejected, text_keys
from undercut.ingest.held_out import HELD_OUT_SHARE, hold_out
from undercut.ingest.quality import Quality
from undercut.ingest.raw_rules import (
    BITS,
    CUT,
    FATES,
    IN_TEST,
    NEAR_PARAGRAPH,
    REPAIRS,
    REPEATED_PARAGRAPH,
    RULES,
    SPLITS,
)
from undercut.ingest.rules import Tally
from undercut.ingest.shards import Shards
from undercut.ingest.split import in_parts
from undercut.ingest.stream import RowStream
from undercut.ingest.text_rules import TextRules

STAGED = "staged-"  # how the folder of an attempt's temporary files begins
MINIMUM_PARAGRAPHS = 2
_PROGRESS_ROWS, _PROGRESS_SECONDS = 1024, 0.5

_KEYS = [("file", pa.int32()), ("document", pa.int64()), ("paragraph", pa.int32()), ("line", pa.int64())]
_STAGED = pa.schema([*_KEYS, ("text", pa.string()), ("language", pa.string())])
_NUMBERED = [("row", pa.int64()), ("text", pa.string()), ("document", pa.string()), ("paragraph", pa.int32())]
SCHEMA = pa.schema(_NUMBERED)


@dataclass
class _Read:
    """The first pass's result: a value a paragraph in the first three, the broken rule a document in ``faults``."""

    words: "array[int]" = field(default_factory=lambda: array("Q"))
    documents: "array[int]" = field(default_factory=lambda: array("I"))
    repairs: "array[int]" = field(default_factory=lambda: array("B"))
    faults: "array[int]" = field(default_factory=lambda: array("B"))
    rejected: Tally = field(default_factory=lambda: Tally(RULES))
    repaired: Tally = field(default_factory=lambda: Tally(REPAIRS))
    rows: int = 0


def ingest_raw_text(
    uri: str,
    output: Path,
    rules: TextRules,
    quality: bool,
    near_duplicates: float,
    seed: int,
    labelled: NDArray[np.uint64],
) -> dict[str, Any]:
    """Write a folder's or file's paragraphs as the splits ``unlabelled`` and ``unlabelled_validation``.

    Args:
        uri: a folder, searched with its subfolders, or a file: .txt, .md, .jsonl, also .gz.
        output: the dataset folder.
        rules: what is done to each paragraph; one of more than its max_characters is cut at white space.
        quality: reject documents by the rules of ``quality.py``.
        near_duplicates: the similarity from which paragraphs count as one; 0 for off.
        seed: chooses what is held out.
        labelled: words keys of labelled rows that no paragraph may repeat, shape (rows,).

    Returns:
        What the manifest says of it.

    Raises:
        ConfigurationError: there is no raw text, a file is damaged, or nothing usable is left.
    """
    path, shown = storage.local_path(uri, "unlabelled_source"), storage.without_pin(uri)
    files, others = paragraphs.find_files(path, "unlabelled_source", shown)
    with tempfile.TemporaryDirectory(prefix=STAGED, dir=output) as folder:
        staged = Path(folder) / "paragraphs.arrow"
        read = _stage(files, staged, rules, quality, shown)
        fates = _reject(read, labelled)
        if near_duplicates:
            _reject_near(fates, staged, near_duplicates)
        words, documents = np.frombuffer(read.words, np.uint64), np.frombuffer(read.documents, np.uint32)
        usable = len(read.faults) - sum(1 for fault in read.faults if fault)
        unit = hold_out(fates, words, documents, usable, seed)
        names = [p.relative_to(path).as_posix() if path.is_dir() else p.name for p in files]
        characters = _write(read, fates, staged, names, output, bool(rules.wanted))
    counts = np.bincount(fates, minlength=len(FATES))
    if counts[: len(SPLITS)].min() < 1:
        reasons = ", ".join(f"{entry['count']:,} for '{entry['reason']}'" for entry in read.rejected.content())
        got = f"{shown} with {int(counts[:2].sum())} usable paragraphs of {read.rows} read"
        remedy = f"Add text; rejected: {reasons or 'none'}"
        raise ConfigurationError("unlabelled_source", got, f"at least {MINIMUM_PARAGRAPHS} paragraphs", remedy)
    kept = int(counts[: len(SPLITS)].sum())
    assert read.rows == kept + read.rejected.total, f"{read.rows} read, {kept} kept, {read.rejected.total} rejected"
    return {
        "rows": dict(zip(SPLITS, counts[: len(SPLITS)].tolist(), strict=True)),
        "paragraphs_read": read.rows,
        "paragraphs_kept": kept,
        "paragraphs_rejected": read.rejected.total,
        "documents": len(read.faults),
        "documents_rejected": sum(1 for fault in read.faults if fault),
        "characters": dict(zip(SPLITS, characters, strict=True)),
        "rejected": read.rejected.content(),
        "repaired": read.repaired.content(),
        "files": len(files),
        "files_passed_over": others,
        "source": {"uri": shown, "sha256": storage.digest(path)},
        "held_out": {"share": HELD_OUT_SHARE, "by": unit, "seed": seed},
    }


def _stage(files: list[Path], staged: Path, rules: TextRules, quality: bool, uri: str) -> _Read:
    read, done, total = _Read(), 0, sum(path.stat().st_size for path in files)
    reported = time.monotonic()
    with contextlib.closing(RowStream(staged, _STAGED)) as stream:
        for number, path in enumerate(files):
            document, measured = -1, Quality()
            found = paragraphs.read(path, "unlabelled_source", uri, rules.max_characters)
            for paragraph in rules.ahead(found, lambda p: None if p.fault else p.text, lambda p: len(p.text)):
                if paragraph.document != document:
                    _end_document(read, measured, quality and document >= 0)
                    document, measured = paragraph.document, Quality()
                    read.faults.append(0)
                read.rows += 1
                _stage_one(read, stream, number, paragraph, path.name, rules)
                if quality:
                    measured.add(paragraph.text)
                if read.rows % _PROGRESS_ROWS == 0 and time.monotonic() - reported > _PROGRESS_SECONDS:
                    reported = time.monotonic()
                    events.progress(done, total, f"{read.rows:,} paragraphs read, now in {path.name}")
            _end_document(read, measured, quality and document >= 0)
            done += path.stat().st_size
            events.progress(done, total, f"{read.rows:,} paragraphs read")
    return read


def _stage_one(
    read: _Read, stream: RowStream, number: int, paragraph: paragraphs.Paragraph, name: str, rules: TextRules
) -> None:
    try:
        if paragraph.fault:
            raise Rejected(paragraph.fault)
        text, repairs, language = rules.clean(paragraph.text)
    except Rejected as rejected:
        if read.rejected.add(str(rejected)):
            read.rejected.show(str(rejected), name, paragraph.line, paragraph.text)
        return
    read.words.append(text_keys(text)[1])
    read.documents.append(len(read.faults) - 1)
    read.repairs.append(repairs | (BITS[CUT] if paragraph.cut else 0))
    stream.append((number, paragraph.document, paragraph.number, paragraph.line, text, language), len(text))


def _end_document(read: _Read, measured: Quality, applies: bool) -> None:
    if applies and (fault := measured.fault()):
        read.faults[-1] = FATES.index(fault)


def _reject(read: _Read, labelled: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return each staged paragraph's index into ``FATES``: 0, or a reason."""
    words, documents = np.frombuffer(read.words, np.uint64), np.frombuffer(read.documents, np.uint32)
    fates = np.frombuffer(read.faults, np.uint8)[documents]
    labelled = np.append(np.unique(labelled), np.uint64(2**64 - 1))  # sorted, and with an end for the search
    for rows in in_parts(words):
        rows = rows[fates[rows] == 0]
        in_test = labelled[np.searchsorted(labelled[:-1], words[rows])] == words[rows]
        fates[rows[in_test]] = FATES.index(IN_TEST)
        rows = rows[~in_test]
        first = rows[np.unique(words[rows], return_index=True)[1]]
        fates[np.setdiff1d(rows, first, assume_unique=True)] = FATES.index(REPEATED_PARAGRAPH)
    return fates


def _reject_near(fates: NDArray[np.uint8], staged: Path, threshold: float) -> None:
    # Imported here: only where near-duplicates are looked for does it cost its import.
    from undercut.ingest.near_duplicates import NearDuplicates, write_keys, write_signatures

    signatures = write_signatures(staged, staged.with_name("signatures"), len(fates))
    keys = write_keys(signatures, staged.with_name("keys"), threshold)
    label, fate = np.zeros(len(fates), np.int32), FATES.index(NEAR_PARAGRAPH)
    near = NearDuplicates(signatures=signatures, keys=keys, label=label, threshold=threshold, fate=fate, splits=1)
    near.reject(fates)


def _write(
    read: _Read, fates: NDArray[np.uint8], staged: Path, names: list[str], output: Path, languages: bool
) -> list[int]:
    """Write the shards, count what became of the paragraphs, and return each split's characters."""
    characters, start, repairs = [0] * len(SPLITS), 0, np.frombuffer(read.repairs, np.uint8)
    schema = SCHEMA.append(pa.field("language", pa.string())) if languages else SCHEMA
    with contextlib.ExitStack() as stack:
        shards = [stack.enter_context(contextlib.closing(Shards(output, s, schema, numbered=True))) for s in SPLITS]
        stream = stack.enter_context(pa.ipc.open_stream(stack.enter_context(pa.OSFile(str(staged)))))
        for batch in stream:
            part = slice(start, start + batch.num_rows)
            numbers, document = pa.array(np.arange(start, part.stop)), paragraphs.documents(batch, names)
            columns = [numbers, batch["text"], document, batch["paragraph"], batch["language"]]
            rows = pa.record_batch(columns[: len(schema)], schema=schema)
            start = part.stop
            for i, shard in enumerate(shards):
                chosen = rows.filter(pa.array(fates[part] == i))
                shard.append(chosen)
                characters[i] += pc.sum(pc.utf8_length(chosen["text"])).as_py() or 0
            _explain(read, batch, fates[part], repairs[part], names)
            events.progress(start, len(fates), f"{start:,} paragraphs written")
    return characters


def _explain(read: _Read, batch: Any, fates: NDArray[np.uint8], repairs: NDArray[np.uint8], names: list[str]) -> None:
    kept = fates < len(SPLITS)
    found = [(read.rejected, FATES[i], fates == i) for i in np.unique(fates[~kept])]
    found += [(read.repaired, reason, kept & (repairs & bit > 0)) for reason, bit in BITS.items()]
    for tally, reason, mask in found:
        if mask.any() and tally.add(reason, int(mask.sum())):
            for i in np.flatnonzero(mask)[:5].tolist():
                tally.show(reason, names[batch["file"][i].as_py()], batch["line"][i].as_py(), batch["text"][i].as_py())
