"""Trained in one language, asked in others: SIB-200's seven topics in English, Chinese and German.

    UNDERCUT_SHARED_DATA=… .venv/bin/pytest tests/benchmarks/test_crosslingual.py -m benchmark -s

The sentences of a language are translations of the others', so that the languages differ in nothing else.
Beside each accuracy stands what the base's vocabulary makes of the language: tokens a text, and the share of
them that it does not know.
"""

import csv
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from undercut import artifacts
from undercut.compress.structures import compress
from undercut.evaluate.measure import EvaluateConfig, evaluate
from undercut.finetune.classifier import FinetuneConfig, finetune
from undercut.ingest.dataset import IngestConfig, ingest
from undercut.storage import local_path

pytestmark = pytest.mark.benchmark
BASE = os.environ.get("UNDERCUT_BENCHMARK_BASE", FinetuneConfig.base_model)
EPOCHS = int(os.environ.get("UNDERCUT_BENCHMARK_EPOCHS", "6"))
TRAINED = os.environ.get("UNDERCUT_BENCHMARK_TRAINED", "eng_Latn").split(",")
ASKED = os.environ.get("UNDERCUT_BENCHMARK_ASKED", "eng_Latn,deu_Latn,zho_Hans").split(",")
STRUCTURES = os.environ.get("UNDERCUT_BENCHMARK_STRUCTURES", "finetuned,linear,linear-teacher,static").split(",")


def joined(source: Path, languages: list[str], split: str, target: Path) -> str:
    """Write the rows of some languages to one CSV file that names each row's language."""
    with target.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "language"])
        for language in languages:
            with (source / f"{language}_{split}.csv").open(encoding="utf-8") as rows:
                writer.writerows([row["text"], row["label"], language] for row in csv.DictReader(rows))
    return str(target)


def vocabulary(base: Path, data: Path) -> dict[str, tuple[float, float]]:
    """Return tokens a text and the share of unknown ones, for each language of the test rows."""
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    unknown = next(i for i in map(tokenizer.token_to_id, ("[UNK]", "<unk>")) if i is not None)
    table = artifacts.read_split(data, "test", ["text", "language"])
    texts, tokens, misses = Counter(), Counter(), Counter()  # type: ignore[var-annotated]
    for text, language in zip(table["text"].to_pylist(), table["language"].to_pylist(), strict=True):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        texts[language] += 1
        tokens[language] += len(ids)
        misses[language] += ids.count(unknown)
    return {name: (tokens[name] / texts[name], misses[name] / tokens[name]) for name in texts}


def test_trained_in_one_language_asked_in_others(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, data = shared_data / "crosslingual" / "sib200", tmp_path / "data"
    files = {
        field: joined(source, languages, split, tmp_path / f"{field}.csv")
        for field, languages, split in (
            ("source", TRAINED, "train"),
            ("validation_source", TRAINED, "dev"),
            ("test_source", ASKED, "test"),
        )
    }
    ingest(IngestConfig(**files), data)
    finetune(data, tmp_path / "teacher", FinetuneConfig(base_model=BASE, epochs=EPOCHS))
    figures = {}
    for structure in STRUCTURES:
        compress(structure, tmp_path / "teacher", data, tmp_path / structure, seed=0)
        config = EvaluateConfig(robustness_rows=0)
        figures[structure] = evaluate(tmp_path / structure, data, tmp_path / f"{structure}.evaluation", config)
    with capsys.disabled():
        print_table(artifacts.load(data, artifacts.DATASET), vocabulary(local_path(BASE, "base"), data), figures, data)


def print_table(
    card: artifacts.Manifest, words: dict[str, tuple[float, float]], figures: dict[str, Any], data: Path
) -> None:
    _, truth = artifacts.texts_and_labels(data, "test")
    common = max(Counter(truth.tolist()).values()) / len(truth)
    rows = card["rows"]
    print(
        f"\nSIB-200, {len(card['labels'])} topics: {rows['train']:,} rows in {', '.join(TRAINED)} to train, "
        f"{rows['validation']:,} to validate; the commonest label alone is right {common:.3f} of the time"
    )
    print(f"base {BASE}, {EPOCHS} epochs at most")
    print(f"{'asked in':<10}{'rows':>5}{'tokens a text':>15}{'unknown':>9}  " + "".join(f"{s:>24}" for s in figures))
    for language in sorted(words, key=ASKED.index):
        tokens, unknown = words[language]
        found = {name: by_language(figure, language) for name, figure in figures.items()}
        count = max(entry["n"] for entry in found.values() if entry)
        cells = "".join(
            f"{e['value']:>12.3f} {e['low']:.3f}-{e['high']:.3f}" if e else f"{'lost':>24}" for e in found.values()
        )
        print(f"{language:<10}{count:>5}{tokens:>15.1f}{unknown:>9.1%}  {cells}")


def by_language(figure: artifacts.Manifest, language: str) -> dict[str, Any]:
    """Return an evaluation's figures of one language; nothing for a lost candidate."""
    entries = figure["languages"]["accuracy"] if not figure["lost"] else []
    return next((entry for entry in entries if entry["language"] == language), {})
