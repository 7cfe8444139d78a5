from collections.abc import Callable
from pathlib import Path

import pytest
from undercut import artifacts
from undercut.evaluate.measure import EvaluateConfig, evaluate
from undercut.select.selection import select


@pytest.fixture
def candidates(small_data: Path, make_linear_model: Callable[..., Path], tmp_path: Path) -> dict[str, Path]:
    """Three linear models, of all training rows, of 24 and of 6, and one that is lost."""
    folders = {}
    for structure, rows in (("linear", None), ("linear-24", 24), ("linear-6", 6), ("linear-lost", 6)):
        folder = make_linear_model(tmp_path / structure, small_data, rows)
        content = artifacts.content(artifacts.load(folder, artifacts.MODEL))
        lost = "no memory" if structure == "linear-lost" else ""
        artifacts.seal(folder, artifacts.MODEL, content | {"structure": structure, "lost": lost})
        folders[f"{structure}/as-is"] = folder
    return folders


def profiles(candidates: dict[str, Path], folder: Path) -> Path:
    """Seal profiles in which the model of 24 rows is the fastest."""
    folder.mkdir()
    found = []
    for name, model in candidates.items():
        speed = 2000 if "24" in name else 1000
        figures = {"latency_ms": {"p50": 1.0, "p95": 2.0}, "requests_per_second": speed}
        digest = artifacts.load(model, artifacts.MODEL)["digest"]
        found.append(
            {"candidate": name, "model": digest, "batches": {"1": figures, "32": figures}, "peak_memory_bytes": 1}
        )
    artifacts.seal(folder, artifacts.PROFILES, {"profiles": found, "tokens_per_request": 10.0})
    return folder


def test_every_candidate_is_compared_with_the_best_and_the_chosen(
    candidates: dict[str, Path], small_data: Path, tmp_path: Path
) -> None:
    evaluations = []
    for name, model in candidates.items():
        evaluations.append(tmp_path / "evaluations" / name.replace("/", "-"))
        evaluate(model, small_data, evaluations[-1], EvaluateConfig(robustness_rows=0))
    passed = select(
        list(candidates.values()), evaluations, profiles(candidates, tmp_path / "profiles"), tmp_path / "chosen",
        tmp_path / "out", {"minimum": 0.3, "maximum_drop": 0.9}, "online",
        {"devices": {"cpu-core": {"usd_per_hour": 0.05}}}, "cpu-core",
    )  # fmt: skip
    assert passed
    selection = artifacts.verify(tmp_path / "out", artifacts.SELECTION)
    assert (selection["best"], selection["chosen"]) == ("linear/as-is", "linear-24/as-is")
    compared = {(c["candidate"], c["against"]): c for c in selection["comparisons"]}
    assert list(compared) == [
        ("linear-24/as-is", "linear/as-is"),
        ("linear-6/as-is", "linear/as-is"),
        ("linear/as-is", "linear-24/as-is"),
        ("linear-6/as-is", "linear-24/as-is"),
    ]
    accuracy = {c["candidate"]: c["accuracy"]["value"] for c in selection["candidates"] if c["verdict"] != "lost"}
    for (one, other), comparison in compared.items():
        assert comparison["difference"]["value"] == pytest.approx(accuracy[one] - accuracy[other])
        assert comparison["n"] == 116
    worst = compared["linear-6/as-is", "linear/as-is"]
    assert worst["difference"]["high"] < 0
    assert worst["p_value"] < 0.01
