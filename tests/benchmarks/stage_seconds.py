"""Run ingest and say where its CPU time went: ``python stage_seconds.py SETTINGS_JSON OUTPUT`` prints JSON.

A profile timer interrupts the process every ten milliseconds of CPU time; the time since the last interrupt goes to
the stage of the innermost function known below. Nothing in the work itself is changed, and a stage of 1 % is told to
a tenth of that in a run of minutes.
"""

import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType

INTERVAL = 0.01
_FILES = {
    **dict.fromkeys(("lines", "delimited", "json_lines", "parquet_rows", "paragraphs", "read"), "read, decode"),
    **dict.fromkeys(("clean", "text_rules"), "clean rules"),
    **dict.fromkeys(("stream", "write", "shards", "held_out", "artifacts", "storage"), "split, write"),
    "near_duplicates": "near-duplicates",
    **dict.fromkeys(("languages", "langid"), "language"),
    **dict.fromkeys(("personal_data", "personal_forms"), "personal data"),
    "quality": "quality",
}
_FUNCTIONS = {
    **dict.fromkeys(("decide", "_reject", "_write"), "split, write"),
    "text_keys": "exact duplicates (keys)",
    **dict.fromkeys(("stage", "_stage", "_stage_one", "keep", "clean", "_clean_label"), "row by row"),
}
OTHER = "start, rest"
spent: "Counter[str]" = Counter()
memory = {"anonymous": 0.0}
_last = [time.process_time(), 0.0]


def stage_of(frame: FrameType | None) -> str:
    """Return the stage of the innermost function that belongs to one."""
    while frame:
        path = Path(frame.f_code.co_filename)
        if path.parent.name in ("ingest", "undercut", "py3langid"):
            stage = (
                _FUNCTIONS.get(frame.f_code.co_name) if path.stem in ("clean", "staging", "raw_text", "split") else ""
            )
            stage = stage or _FILES.get(path.stem)
            if stage:
                return stage
        frame = frame.f_back
    return OTHER


def sample(_signal: int, frame: FrameType | None) -> None:
    """Charge the time since the last sample; a long call into native code is charged when it returns."""
    now = time.process_time()
    spent[stage_of(frame)] += now - _last[0]
    _last[0] = now
    if now - _last[1] > 1:
        _last[1] = now
        memory["anonymous"] = max(memory["anonymous"], megabytes("RssAnon"))


def megabytes(name: str) -> float:
    """Return a figure of this process's memory from the kernel."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) / 1024


def main() -> None:
    """Measure one run."""
    from undercut.ingest.dataset import IngestConfig, ingest

    started = time.perf_counter()
    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    manifest = ingest(IngestConfig(**json.loads(sys.argv[1])), Path(sys.argv[2]))
    signal.setitimer(signal.ITIMER_PROF, 0)
    raw = manifest.get("unlabelled", {})
    result = {
        "rows": manifest.get("rows_read", 0) + raw.get("paragraphs_read", 0),
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time(),
        "stages": dict(spent),
        "peak": megabytes("VmHWM"),
        "anonymous": memory["anonymous"],
        "files": len(manifest["files"]),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
