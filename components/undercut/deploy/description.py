"""What a registered version says about itself: the text a person reads in MLflow, and its tags."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from undercut import artifacts, registry
from undercut.bar import TRAFFIC
from undercut.candidates import candidate_name

REQUIREMENTS = {
    "linear": ("numpy", "safetensors"),
    "static": ("numpy", "safetensors", "tokenizers"),
    "onnx": ("numpy", "onnxruntime", "tokenizers"),
    "torch": ("numpy", "safetensors", "tokenizers", "torch", "transformers"),
    "adapter": ("numpy", "peft", "safetensors", "tokenizers", "torch", "transformers"),
}


def requirements(model: artifacts.Manifest) -> list[str]:
    """Return what loading the model takes, pinned to what it was tested with."""
    return [f"{name}=={version(name)}" for name in ("undercut", *REQUIREMENTS[model["format"]])]


def figures(model: artifacts.Manifest, row: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Return the version's numbers as MLflow metrics."""
    return {
        metric: row["metric"]["value"],
        f"{metric}_low": row["metric"]["low"],
        f"{metric}_high": row["metric"]["high"],
        "usd_per_million_requests": row["usd_per_million_requests"],
        "latency_p50_ms": row["latency_ms"],
        "latency_p95_ms": row["latency_p95_ms"],
        "requests_per_second": row["requests_per_second"],
        "bytes": model["bytes"],
    }


def tags(model: artifacts.Manifest, row: Mapping[str, Any], selection: artifacts.Manifest) -> dict[str, str]:
    """Return a version's tags: what it is and how good, in words short enough for a table."""
    metric = selection["bar"]["metric"]
    return {
        "candidate": candidate_name(model),
        metric: quality(row),
        "usd_per_million_requests": f"{row['usd_per_million_requests']:.4g}",
        "latency_p50_ms": f"{row['latency_ms']:.3g}",
        "traffic": f"{selection['traffic']} on {selection['hardware']}",
        "dataset": model["dataset"],
        registry.DIGEST_TAG: model["digest"],
    }


def quality(row: Mapping[str, Any]) -> str:
    """Return the metric with its interval, for example ``0.913 (0.902 to 0.923)``."""
    metric = row["metric"]
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


def model_text(model_name: str) -> str:
    """Return the registered model's own description (it holds for every version)."""
    return f"""A text classifier: text in, label name and probability out.

- **champion** is the version that serves; **challenger** is the newest one that did not take its place.
- Each version's page says how good it is, what it costs, and why it was chosen.

```python
import mlflow
mlflow.pyfunc.load_model("models:/{model_name}@champion").predict(["your text"])
```
"""


def version_text(model: artifacts.Manifest, row: Mapping[str, Any], selection: artifacts.Manifest, rows: int) -> str:
    """Return a version's description in Markdown."""
    metric, labels = selection["bar"]["metric"], model["labels"]
    shown = ", ".join(labels[:30]) + (f" and {len(labels) - 30} more" if len(labels) > 30 else "")
    confidence, batch = selection["bar"]["confidence"], TRAFFIC[selection["traffic"]]
    answer = "a request" if batch == 1 else f"a batch of {batch}"
    price = f"${row['usd_per_million_requests']:.4g} per million requests ({selection['traffic']} traffic"
    return f"""{selection["sentence"]}

| | |
|---|---|
| candidate | **{candidate_name(model)}** |
| {metric.replace("_", " ")} | **{quality(row)}**, {confidence:.0%} interval, {rows:,} test rows |
| price | **{price}, {selection["hardware"]})** |
| latency | {row["latency_ms"]:.3g} ms {answer} (median), {row["latency_p95_ms"]:.3g} ms at the 95th percentile |
| throughput | {row["requests_per_second"]:,.0f} requests a second, one thread |
| size | {model["bytes"] / 1e6:,.1f} MB, {model["parameter_count"]:,} parameters, {model["format"]} |
| method | {model["method"]} |
| base | {model["base_model"]["uri"] if model["base_model"] else "none"} |
| dataset | `{model["dataset"][:12]}` |
| digest | `{model["digest"][:12]}` |
| {len(labels)} labels | {shown} |
"""
