"""Text to a dataset folder: read, clean, split, write, say what became of every row.

Two passes. The first (``staging``) reads each source once and stages the cleaned rows on disk; then
``split`` decides by 22 bytes a row where each goes; the second pass copies the staged rows to each
split's Parquet files, batch by batch. No text stays in memory longer than its batch, so a source may
be larger than the memory; it needs about its own size of free disk, and 400 bytes a row more where near-duplicates are
looked for. Raw text is ``raw_text.py``'s.
"""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undercut import artifacts, events
from undercut.artifacts import SPLITS
from undercut.errors import ConfigurationError
from undercut.ingest.label_sets import check_separator
from undercut.ingest.raw_rules import SPLITS as RAW_SPLITS
from undercut.ingest.raw_text import STAGED, ingest_raw_text
from undercut.ingest.read import Source, open_source
from undercut.ingest.rules import MINIMUM_LABEL_ROWS, NEAR_DUPLICATE
from undercut.ingest.split import FATES, TEST, TRAIN, VALIDATION, Fates, Keys, RejectNear, decide
from undercut.ingest.staging import Staged, stage
from undercut.ingest.text_rules import TextRules
from undercut.ingest.write import Written, write_splits
from undercut.label_sets import TASK as MULTI_LABEL

MAX_CHARACTERS_LIMIT = 1_000_000
MINIMUM_SIMILARITY = 0.5
MINIMUM_ROWS = {"train": 8, "validation": 2, "test": 4}


@dataclass(frozen=True, kw_only=True)
class IngestConfig:
    """Settings: where the rows come from and how they are split.

    ``split`` is ``stratified`` (70/10/20 by label), ``column:NAME`` (a column that says train,
    validation or test) or ``time:NAME`` (the oldest 70 % to train, the newest 20 % to test). What a
    source or a column gives is not cut again: only splits without a row are cut off the training rows.
    ``label_separator`` stands between the labels of a cell where a row may have several or none; lists
    of labels (JSON, Parquet) need none. ``unlabelled_source`` is raw text beside the labelled rows, or
    alone; ``quality_filter`` is for it.
    ``near_duplicates`` is the Jaccard similarity from which texts count as one; 0 for off.
    ``languages`` are codes with commas between them, or "any" to tell each text's and keep all.

    Raises:
        ConfigurationError: a value is not allowed.
    """

    source: str = ""
    unlabelled_source: str = ""
    validation_source: str = ""
    test_source: str = ""
    text_column: str = ""
    label_column: str = ""
    label_separator: str = ""
    split: str = "stratified"
    max_characters: int = 20000
    near_duplicates: float = 0.0
    quality_filter: bool = False
    languages: str = ""
    mask_pii: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.source and (not self.unlabelled_source or self.validation_source or self.test_source):
            remedy = "Raw text alone is given as unlabelled_source"
            raise ConfigurationError("source", self.source, "a CSV, TSV, JSONL or Parquet file", remedy)
        kind, _, column = self.split.partition(":")
        if self.split != "stratified" and not (kind in ("column", "time") and column):
            raise ConfigurationError("split", self.split, "stratified, column:NAME or time:NAME")
        check_separator(self.label_separator)
        if not 1 <= self.max_characters <= MAX_CHARACTERS_LIMIT:
            raise ConfigurationError("max_characters", self.max_characters, f"from 1 to {MAX_CHARACTERS_LIMIT:,}")
        if self.near_duplicates and not MINIMUM_SIMILARITY <= self.near_duplicates <= 1:
            allowed = f"0 for off, or a similarity from {MINIMUM_SIMILARITY} to 1"
            raise ConfigurationError("near_duplicates", self.near_duplicates, allowed)
        if self.seed < 0:
            raise ConfigurationError("seed", self.seed, "a whole number, zero or more")


def ingest(config: IngestConfig, output: Path) -> artifacts.Manifest:
    """Write a sealed dataset folder.

    Args:
        config: the settings.
        output: the folder, made if it is not there.

    Returns:
        The manifest, ``dataset.json``.

    Raises:
        ConfigurationError: a source is missing, unreadable, damaged, empty, or of an unknown format;
            a column is not found; or what is left has one label only or too few rows.
    """
    sources = _open(config)
    rules = TextRules(config.max_characters, config.languages, config.mask_pii)
    output.mkdir(parents=True, exist_ok=True)
    _remove_earlier(output)
    content: dict[str, Any] = {"task": "language-modelling", "labels": [], "rows": {}, "columns": []}
    labelled = np.empty(0, np.uint64)
    if sources:
        content, labelled = _ingest_labelled(config, sources, rules, output)
    if config.unlabelled_source:
        raw = ingest_raw_text(
            config.unlabelled_source,
            output,
            rules=rules,
            quality=config.quality_filter,
            near_duplicates=config.near_duplicates,
            seed=config.seed,
            labelled=labelled,
        )
        content = content | {"rows": content["rows"] | raw["rows"], "unlabelled": raw}
    if config.mask_pii:
        content["masked"] = dict(sorted(rules.masked.items()))
    events.progress(0, 1, "digests of the files written")
    manifest = artifacts.seal(output, artifacts.DATASET, content)
    events.message(_summary(manifest))
    return manifest


def _remove_earlier(output: Path) -> None:
    """Remove what an earlier attempt left: a killed one its staged rows, which would be sealed with the rest."""
    (output / artifacts.DATASET).unlink(missing_ok=True)
    for folder in output.glob(f"{STAGED}*/"):
        shutil.rmtree(folder)
    for split in (*SPLITS, *RAW_SPLITS):
        for path in artifacts.split_files(output, split):
            path.unlink()


def _ingest_labelled(
    config: IngestConfig, sources: list[Source], rules: TextRules, output: Path
) -> tuple[dict[str, Any], NDArray[np.uint64]]:
    """Write the three splits; return what the manifest says of them, and the held-out rows' words keys."""
    with tempfile.TemporaryDirectory(prefix=STAGED, dir=output) as folder:
        several = bool(config.label_separator) or any(source.lists for source in sources)
        separator = config.label_separator if several else None
        staged = stage(sources, Path(folder) / "rows.arrow", rules, config.split, separator)
        _check_read(staged, sources)
        keys = staged.keys
        near = _near_duplicates(staged, keys, config.near_duplicates) if config.near_duplicates else None
        events.progress(0, 1, f"{len(keys.text):,} rows: which split, which repeated")
        fates, cut = decide(keys, config.seed, near)
        _check_kept(staged, keys, sources, fates)
        written = write_splits(staged, fates, [source.uri for source in sources], output)
    given = [split for i, split in enumerate(SPLITS) if (keys.given == i).any()]
    how = {"method": config.split, "seed": config.seed, "given": given, "cut_off_training": cut}
    held_out = keys.words[(fates == VALIDATION) | (fates == TEST)]
    return _content(sources, staged, written) | {"split": how}, held_out


def _near_duplicates(staged: Staged, keys: Keys, threshold: float) -> RejectNear:
    # Imported here: only where near-duplicates are looked for does it cost its import.
    from undercut.ingest.near_duplicates import NearDuplicates, write_keys, write_signatures

    signatures = write_signatures(staged.path, staged.path.with_name("signatures"), len(keys.text))
    return NearDuplicates(
        signatures=signatures,
        keys=write_keys(signatures, staged.path.with_name("keys"), threshold),
        label=keys.label,
        threshold=threshold,
        fate=FATES.index(NEAR_DUPLICATE),
        splits=len(SPLITS),
    ).reject


def _open(config: IngestConfig) -> list[Source]:
    """Open all sources before any is read, so that a fault in the last costs nothing."""
    uris = {f: getattr(config, f) for f in ("source", "validation_source", "test_source")}
    return [open_source(f, uri, config.text_column, config.label_column) for f, uri in uris.items() if uri]


def _check_read(staged: Staged, sources: list[Source]) -> None:
    if len(staged.label_numbers) < 2:
        found = f"one label ('{next(iter(staged.label_numbers))}')" if staged.label_numbers else "no usable row"
        reasons = _main_reasons(staged.rejected.counts)
        raise ConfigurationError("source", f"{sources[0].uri} with {found}", "at least two labels", reasons)


def _check_kept(staged: Staged, keys: Keys, sources: list[Source], fates: Fates) -> None:
    """Refuse what could be neither learned nor measured."""
    counts = dict(zip(FATES, np.bincount(fates, minlength=len(FATES)).tolist(), strict=True))
    reasons = _main_reasons(staged.rejected.counts | {r: n for r, n in counts.items() if r not in SPLITS and n})
    sets = staged.sets
    labels = np.flatnonzero(sets.label_rows(np.bincount(keys.label[fates == TRAIN], minlength=len(sets.sizes))))
    if len(labels) < 2:
        got = f"{sources[0].uri} with {len(labels)} label(s) left to train on"
        raise ConfigurationError("source", got, f"two labels of {MINIMUM_LABEL_ROWS} rows or more", reasons)
    for split, minimum in MINIMUM_ROWS.items():
        if counts[split] < minimum:
            field = next((s.field for s in sources if s.field == f"{split}_source"), "source")
            got = f"{counts[split]} {split} rows of {sum(staged.rows_read)} rows read"
            raise ConfigurationError(field, got, f"at least {minimum} {split} rows", f"Add rows; {reasons}")


def _main_reasons(counts: Mapping[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: -item[1])[:3]
    return "rows rejected: " + (", ".join(f"{count:,} for '{reason}'" for reason, count in most) or "none")


def _content(sources: list[Source], staged: Staged, written: Written) -> dict[str, Any]:
    events.progress(0, 1, "digests of the files read")
    read, kept, rejected = sum(staged.rows_read), int(written.rows.sum()), staged.rejected.total
    assert read == kept + rejected, f"{read} rows read, {kept} kept, {rejected} rejected"
    return {
        "task": MULTI_LABEL if staged.multi_label else "text-classification",
        "labels": written.labels,
        "rows": dict(zip(SPLITS, written.rows.sum(axis=0).tolist(), strict=True)),
        "columns": staged.columns,
        "rows_read": read,
        "rows_kept": kept,
        "rows_rejected": rejected,
        "rejected": staged.rejected.content(),
        "repaired": written.repaired.content(),
        "sources": [
            {
                "uri": source.uri,
                "sha256": artifacts.file_digest(source.path),
                "rows": rows,
                "split": ", ".join(split for split, count in zip(SPLITS, counts, strict=True) if count),
            }
            for source, rows, counts in zip(sources, staged.rows_read, written.rows.tolist(), strict=True)
        ],
        "label_counts": written.label_counts,
        "characters": written.characters,
    }


def _summary(manifest: artifacts.Manifest) -> str:
    rows = ", ".join(f"{count:,} {split}" for split, count in manifest["rows"].items())
    parts = [part for part in (manifest, manifest.get("unlabelled", {})) if "rejected" in part]
    read = sum(part.get("rows_read", 0) + part.get("paragraphs_read", 0) for part in parts)
    rejected = ", ".join(f"{entry['count']:,} {entry['reason']}" for part in parts for entry in part["rejected"])
    return f"{read:,} rows read: {rows}; rejected: {rejected or 'none'}"
