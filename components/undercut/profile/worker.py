"""One candidate in a process of its own, on one thread: answers, when told to, as fast as it can.

    python -m undercut.profile.worker MODEL_FOLDER TEXTS.json CORE

Reads one command a line, ``{"batch": 1, "seconds": 0.4}``, and answers with one line of figures. Ends
when its input ends, that is, with its parent. A process each keeps the candidates' memory and thread
pools apart.
"""

import gc
import json
import os
import sys
import time
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
os.environ.update(dict.fromkeys(THREADS, "1"), TOKENIZERS_PARALLELISM="false")

from undercut.costs import peak_memory_bytes  # noqa: E402  (the thread counts come first)
from undercut.predictors import Predictor, load_predictor  # noqa: E402
from undercut.steps import watch_parent  # noqa: E402


def measure(predictor: Predictor, texts: list[str], batch: int, seconds: float, start: int) -> dict[str, object]:
    """Answer batches of ``texts`` from position ``start`` on for some seconds.

    Returns:
        ``latencies`` of the batches in seconds, ``requests`` answered, ``position`` to go on from. The
        garbage collector is off while the clock runs, as timeit does.
    """
    latencies: list[float] = []
    gc.collect()
    gc.disable()
    end = time.perf_counter() + seconds
    while True:
        wanted = [texts[(start + i) % len(texts)] for i in range(batch)]
        before = time.perf_counter()
        predictor.probabilities(wanted)
        after = time.perf_counter()
        latencies.append(after - before)
        start += batch
        if after >= end:
            break
    gc.enable()
    return {"latencies": latencies, "requests": batch * len(latencies), "position": start}


def main() -> None:
    """Load the model, then obey."""
    watch_parent()
    folder, texts_file, core = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    texts = json.loads(Path(texts_file).read_text(encoding="utf-8"))
    answers, sys.stdout = sys.stdout, sys.stderr
    predictor = load_predictor(Path(folder), threads=1)
    predictor.probabilities(texts[:32])
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        found = measure(predictor, texts, command["batch"], command["seconds"], command["start"])
        found["peak_memory_bytes"] = peak_memory_bytes()
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
