"""What monitor hands on as parameters, which the steps after it take."""

import json
from pathlib import Path

from undercut.monitor.start import Start


def write_outputs(start: Start | None, start_from: Path, to_make: Path) -> bool:
    """Write the base's URI and the list of candidates, empty where nothing is to be trained; tell whether it is."""
    for path in (start_from, to_make):
        path.parent.mkdir(parents=True, exist_ok=True)
    start_from.write_text(start.base_model if start else "", encoding="utf-8")
    to_make.write_text(json.dumps(list(start.candidates) if start else []), encoding="utf-8")
    return start is not None
