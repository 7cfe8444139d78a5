"""The data card: where the rows come from, what became of each, which labels they have."""

from typing import Any

from undercut.artifacts import SPLITS, Manifest
from undercut.registry import shown


def data_card(card: Manifest) -> dict[str, Any]:
    """Return what the section shows of ``dataset.json``; addresses lose their passwords."""
    return {
        "sources": [source | {"uri": shown(source["uri"])} for source in card["sources"]],
        "read": card["rows_read"],
        "kept": card["rows_kept"],
        "rejected_rows": card["rows_rejected"],
        "rejected": [_without_passwords(entry) for entry in card["rejected"]],
        "repaired": [_without_passwords(entry) for entry in card["repaired"]],
        "rows": {split: card["rows"][split] for split in SPLITS},
        "unlabelled": sum(count for split, count in card["rows"].items() if split not in SPLITS),
        "split": card["split"],
        "columns": card["columns"],
        "characters": card["characters"],
        "labels": label_rows(card["labels"], card["label_counts"]),
    }


def label_rows(labels: list[str], counts: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    """Return each label's rows by split, the most frequent first, with its ``share`` of the most frequent."""
    rows: list[dict[str, Any]] = [
        {"label": label, **{split: counts[split][label] for split in SPLITS}} for label in labels
    ]
    totals = {row["label"]: sum(row[split] for split in SPLITS) for row in rows}
    most = max(totals.values())
    found = [row | {"total": totals[row["label"]], "share": totals[row["label"]] / most} for row in rows]
    return sorted(found, key=lambda row: -row["total"])


def _without_passwords(entry: dict[str, Any]) -> dict[str, Any]:
    return entry | {"examples": [example | {"file": shown(example["file"])} for example in entry["examples"]]}
