import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.ingest import near_duplicates
from undercut.ingest.dataset import IngestConfig, ingest
from undercut.ingest.near_duplicates import SIGNATURE, NearDuplicates, band_rows, write_keys, write_signatures
from undercut.ingest.stream import RowStream

WORDS = [
    f"{a}{b}{c}" for a in ("ba", "ke", "lo", "mi") for b in ("ran", "sto", "fil", "gum") for c in ("der", "ing", "ped")
]


def sentence(generator: random.Random, words: int = 14) -> list[str]:
    return generator.choices(WORDS, k=words)


def jaccard(one: str, two: str) -> float:
    sets = [{text[i : i + 5] for i in range(len(text) - 4)} for text in (one.lower(), two.lower())]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def signatures(folder: Path, texts: list[str]) -> np.ndarray:
    stream = RowStream(folder / "texts.arrow", pa.schema([("text", pa.string())]))
    for text in texts:
        stream.append((text,), len(text))
    stream.close()
    return write_signatures(folder / "texts.arrow", folder / "signatures", len(texts))


def test_signatures_estimate_the_jaccard_similarity(tmp_path: Path) -> None:
    generator = random.Random(0)
    pairs = []
    for i in range(300):
        words = sentence(generator)
        other = words.copy()
        for _ in range(i % 6):
            other[generator.randrange(len(other))] = generator.choice(WORDS)
        pairs.append((" ".join(words), " ".join(other).upper()))
    found = signatures(tmp_path, [text for pair in pairs for text in pair])
    assert found.shape == (600, SIGNATURE)
    estimates = (found[::2] == found[1::2]).mean(axis=1)
    errors = estimates - [jaccard(*pair) for pair in pairs]
    assert abs(errors.mean()) < 0.01
    assert errors.std() < 0.045  # sqrt(j (1 - j) / 128) is at most 0.044


def test_short_empty_and_foreign_texts(tmp_path: Path) -> None:
    found = signatures(tmp_path, ["ok", "ok", "", "çà va?", "ÇÀ VA?", "other"])
    equal = (found[:, None] == found[None]).mean(axis=2)
    np.fill_diagonal(equal, 0)
    assert np.argwhere(equal > 0.1).tolist() == [[3, 4], [4, 3]]


def test_bands_find_pairs_at_the_threshold() -> None:
    assert [band_rows(t) for t in (0.5, 0.7, 0.8, 0.9, 1.0)] == [3, 5, 7, 12, 128]


def make_source(path: Path, clusters: int, copies: int, same_label: bool = True) -> Path:
    """Write clusters of copies that differ in one word of twenty."""
    generator, lines = random.Random(1), ["text,label"]
    for i in range(clusters):
        words = sentence(generator, 20)
        for copy in range(copies):
            variant = words.copy()
            if copy:
                variant[copy % 20] = generator.choice(WORDS)
            lines.append(f"{' '.join(variant)},{(i if same_label else i + copy) % 3}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_one_of_each_cluster_is_kept(tmp_path: Path) -> None:
    source = make_source(tmp_path / "rows.csv", clusters=100, copies=4)
    plain = ingest(IngestConfig(source=str(source)), tmp_path / "plain")
    manifest = ingest(IngestConfig(source=str(source), near_duplicates=0.7), tmp_path / "data")
    near = next(entry for entry in manifest["rejected"] if entry["reason"] == "near-duplicate")
    assert sum(plain["rows"].values()) - sum(manifest["rows"].values()) == near["count"]
    assert sum(manifest["rows"].values()) == 100
    assert manifest["rows"] == {"train": 70, "validation": 9, "test": 21}
    first = near["examples"][0]
    assert first["line"] == 3
    assert first["text"][:150] == source.read_text().splitlines()[2][:150]


def test_training_loses_to_validation_and_test_whatever_the_label(tmp_path: Path) -> None:
    source = make_source(tmp_path / "rows.csv", clusters=90, copies=1)
    texts = [line.rpartition(",")[0] for line in source.read_text().splitlines()[1:]]
    near = [f"{text} {WORDS[i % 40]},{(i + 1) % 3}" for i, text in enumerate(texts[:30])]
    (tmp_path / "test.csv").write_text("\n".join(["text,label", *near]) + "\n")
    config = IngestConfig(source=str(source), test_source=str(tmp_path / "test.csv"), near_duplicates=0.8)
    manifest = ingest(config, tmp_path / "data")
    assert manifest["rows"]["test"] == 30
    assert manifest["rows"]["train"] + manifest["rows"]["validation"] == 60
    kept = {
        row["text"] for s in ("train", "validation") for row in artifacts.read_split(tmp_path / "data", s).to_pylist()
    }
    assert kept == set(texts[30:])


def test_labels_keep_near_duplicates_apart_within_a_split_and_not_across(tmp_path: Path) -> None:
    source = make_source(tmp_path / "rows.csv", clusters=120, copies=2, same_label=False)
    manifest = ingest(IngestConfig(source=str(source), near_duplicates=0.7), tmp_path / "data")
    splits = {s: artifacts.read_split(tmp_path / "data", s)["text"].to_pylist() for s in manifest["rows"]}
    for one, two in (("train", "test"), ("train", "validation"), ("validation", "test")):
        assert max(jaccard(a, b) for a in splits[one] for b in splits[two]) < 0.75  # 0.7 is an estimate
    assert any(jaccard(a, b) > 0.8 for i, a in enumerate(splits["train"]) for b in splits["train"][:i])


def test_every_band_of_many_unlike_texts_is_worked_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows share their first band; the rounds compare each with the first that is left."""
    monkeypatch.setattr(near_duplicates, "MAXIMUM_ROUNDS", 8)
    rows = np.random.default_rng(0).integers(0, 2**16, (12, SIGNATURE)).astype(np.uint16)
    rows[:, :7] = 1
    rows[6:] = rows[:6]
    fates = np.zeros(12, np.uint8)
    keys, label = write_keys(rows, tmp_path / "keys", 0.8), np.zeros(12, np.int32)
    NearDuplicates(signatures=rows, keys=keys, label=label, threshold=0.8, fate=9, splits=3).reject(fates)
    assert fates.tolist() == [0] * 6 + [9] * 6


def test_a_similarity_too_low_to_be_found_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"near_duplicates: got 0\.3; allowed: 0 for off, or .* from 0\.5 to 1"
    ):
        IngestConfig(source="a.csv", near_duplicates=0.3)
