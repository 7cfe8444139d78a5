"""A new dataset against a champion's reference: which rows and labels are new, and which tests they fail."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undercut import artifacts, events
from undercut.monitor.drift import judged, labelled_tests, traffic_tests
from undercut.monitor.settings import MonitorConfig
from undercut.predictors import load_predictor
from undercut.reference import TRAFFIC, Reference, traffic_files
from undercut.samples import chosen_rows, key, measure, row_keys, scan


def compare(data: Path, reference: Reference, champion: Path, config: MonitorConfig) -> dict[str, Any]:
    """Return what is new in a dataset, and the drift tests on it.

    A row is new if its text was not among the labelled rows of the champion's dataset, or was with other labels:
    a source that grows or is corrected is compared by what changed alone.

    Args:
        data: the new dataset.
        reference: the champion's.
        champion: the champion's model folder.
        config: settings.

    Returns:
        ``rows`` (labelled: total, new, of these relabelled, known, gone; test rows that the champion learnt from),
        ``labels`` (new and gone), ``traffic`` (rows looked at, or why none), ``tests`` (see
        :func:`undercut.monitor.drift.judged`).
    """
    card = artifacts.load(data, artifacts.DATASET)
    new, rows = _rows(data, card, reference)
    names = reference.manifest["labels"]
    labels = {"new": sorted({*card["labels"]} - {*names}), "gone": sorted({*names} - {*card["labels"]})}
    predictor = load_predictor(champion, threads=2)
    outcomes = []
    if len(new):
        picked = _picked(new, config)
        texts, truth = chosen_rows(data, artifacts.SPLITS, picked, len(card["labels"]))
        sample = measure(predictor, texts, reference.words, truth, card["labels"])
        both = (names, card["labels"])
        outcomes += labelled_tests(
            reference.labelled, sample, both, reference.manifest["answers"], config.permutations, config.seed
        )
    traffic = _no_traffic(card, reference)
    if not traffic and reference.traffic:
        texts = _traffic_texts(data, card, config)
        sample = measure(predictor, texts, reference.words, np.zeros(0, np.int64), [])
        answers = reference.manifest["answers"]
        outcomes += traffic_tests(
            reference.traffic, sample, answers, config.permutations, config.seed, prefix="traffic "
        )
        traffic = f"{len(texts):,} rows looked at"
    return {"rows": rows, "labels": labels, "traffic": traffic, "tests": judged(outcomes, config.significance)}


def in_words(seen: dict[str, Any], config: MonitorConfig) -> str:
    """Return what :func:`compare` found, and what follows, in two or three sentences."""
    rows, labels = seen["rows"], seen["labels"]
    parts = [f"{rows['new']:,} of {rows['total']:,} labelled rows are new"]
    if rows["relabelled"]:
        parts.append(f"{rows['relabelled']:,} of them known texts with other labels")
    if labels["new"]:
        parts.append(f"with labels that the champion does not know ({', '.join(labels['new'][:5])})")
    enough = rows["new"] >= config.minimum_new_rows or bool(labels["new"])
    if not enough:
        parts.append(f"fewer than the {config.minimum_new_rows:,} that a training is worth")
    alarms = [test for test in seen["tests"] if test["alarm"]]
    if alarms:
        drift = f"Drift: {'; '.join(map(_alarm, alarms))}."
    elif seen["tests"]:
        drift = f"No drift in {len(seen['tests'])} tests at significance {config.significance:g}."
    else:
        drift = "No row to test for drift."
    return f"{', '.join(parts)}. {drift}"


def _alarm(test: dict[str, Any]) -> str:
    figures = "" if test["before"] is None else f" {test['before']:.3f} to {test['now']:.3f}"
    which = f" of {test['detail']}" if test["test"].endswith(("labels", "answers")) else ""
    return f"{test['test']}{which}{figures} (p {test['p_value']:.2g})"


def _rows(data: Path, card: artifacts.Manifest, reference: Reference) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Return the numbers of the new rows, counted over the splits in order, and the counts."""
    total = sum(card["rows"][split] for split in artifacts.SPLITS)
    new: list[int] = []
    number = known = relabelled = learnt = 0
    for split in artifacts.SPLITS:
        for batch in scan(data, [split], ["text", "label"]):
            for text, row in zip(batch["text"].to_pylist(), row_keys(batch, card["labels"]), strict=True):
                found = key(text)
                learnt += split == "test" and found in reference.learnt
                if row in reference.rows:
                    known += 1
                else:
                    relabelled += found in reference.texts
                    new.append(number)
                number += 1
            events.progress(number, total, "looking for new rows")
    if learnt:
        events.message(
            f"{learnt:,} of {card['rows']['test']:,} test rows are among those that the champion learnt from: "
            "a comparison with it leaves them out"
        )
    gone = len(reference.texts) - known - relabelled
    counts = {"total": total, "new": len(new), "relabelled": relabelled, "known": known, "gone": gone}
    return np.array(new, np.int64), counts | {"test_rows_learnt": learnt}


def _picked(rows: NDArray[np.int64], config: MonitorConfig) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(config.seed).permutation(rows)[: config.rows])


def _no_traffic(card: artifacts.Manifest, reference: Reference) -> str:
    """Say why there is no unlabelled text to compare; empty if there is."""
    if not any(card["rows"].get(split) for split in TRAFFIC):
        return "the dataset has no unlabelled text"
    if reference.traffic is None:
        return "the champion's dataset had no unlabelled text to compare with"
    return "the unlabelled text is the same" if traffic_files(card) == reference.manifest["traffic_files"] else ""


def _traffic_texts(data: Path, card: artifacts.Manifest, config: MonitorConfig) -> list[str]:
    count = sum(card["rows"].get(split, 0) for split in TRAFFIC)
    return chosen_rows(data, TRAFFIC, _picked(np.arange(count), config), 0)[0]
