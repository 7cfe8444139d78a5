"""Rows and megabytes a second of ingest on a gigabyte, and the memory it takes, in a process of its own."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark

GIGABYTES = float(os.environ.get("UNDERCUT_BENCHMARK_GB", "1"))
INGEST = """
import sys, time
from pathlib import Path
from undercut.ingest.dataset import IngestConfig, ingest
started = time.perf_counter()
manifest = ingest(IngestConfig(**eval(sys.argv[1])), Path(sys.argv[2]))
seconds, cpu = time.perf_counter() - started, time.process_time()
peak = open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
raw = manifest.get("unlabelled", {})
print(raw.get("paragraphs_read", manifest.get("rows_read")), seconds, cpu, int(peak) / 1024, len(manifest["files"]))
"""


def texts(size: int) -> Iterator[str]:
    """Yield texts of about 170 characters until they have ``size`` bytes together; one in ten repeats."""
    generator = random.Random(0)
    words = [
        "".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randint(2, 10))) for _ in range(20_000)
    ]
    kept: list[str] = []
    while size > 0:
        text = " ".join(generator.choices(words, k=25))
        if len(kept) < 10_000:
            kept.append(text)
        elif generator.random() < 0.1:
            text = generator.choice(kept)
        size -= len(text) + 8
        yield text


def measure(config: dict[str, object], output: Path) -> tuple[int, float, float, float, int]:
    done = subprocess.run([sys.executable, "-c", INGEST, repr(config), str(output)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows, seconds, cpu, peak, files = done.stdout.split()
    return int(rows), float(seconds), float(cpu), float(peak), int(files)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same texts as a labelled CSV file and as paragraphs of a text file."""
    folder = tmp_path_factory.mktemp("gigabyte")
    source, raw = folder / "rows.csv", folder / "text.txt"
    with source.open("w") as rows, raw.open("w") as paragraphs:
        rows.write("text,label\n")
        for i, text in enumerate(texts(int(GIGABYTES * 1e9))):
            rows.write(f"{text},label{i % 50}\n")
            paragraphs.write(f"{text}\n\n")
    return {"source": source, "unlabelled_source": raw}


@pytest.mark.parametrize(
    ("name", "field", "settings"),
    [
        ("labelled CSV", "source", {}),
        ("labelled CSV, near_duplicates 0.8", "source", {"near_duplicates": 0.8}),
        ("raw text", "unlabelled_source", {}),
        ("raw text, quality_filter", "unlabelled_source", {"quality_filter": True}),
    ],
)
def test_a_gigabyte(
    name: str,
    field: str,
    settings: dict[str, object],
    files: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    count, seconds, cpu, peak, written = measure({field: str(files[field]), **settings}, tmp_path / "data")
    size = files[field].stat().st_size / 1e6
    with capsys.disabled():
        print(
            f"\n{name:<36}{size:>6,.0f} MB{count:>11,} rows{seconds:>8.1f} s{cpu:>8.1f} CPU-s{count / seconds:>9,.0f} rows/s"
            f"{size / seconds:>7.1f} MB/s{peak:>7.0f} MB peak{written:>4} files"
        )
