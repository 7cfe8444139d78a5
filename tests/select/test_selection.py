import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from undercut import artifacts, costs
from undercut.errors import ConfigurationError
from undercut.evaluate.measure import EvaluateConfig, evaluate
from undercut.intervals import accuracy_interval
from undercut.select.selection import select

BAR = {"metric": "accuracy", "minimum": 0.8, "maximum_drop": 0.2, "maximum_latency_ms": 0.0, "confidence": 0.95}
PRICES = {
    "devices": {"cpu-core": {"usd_per_hour": 0.036}, "cpu-arm": {"usd_per_hour": 0.018}},
    "hosted": [{"name": "Big", "input": 0.1, "output": 0.4, "date": "2026-11-01", "source": "price list"}],
}
# Requests a second at batch 1 and 32, for each candidate.
SPEEDS = {"good": (100.0, 400.0), "small": (200.0, 250.0), "poor": (4000.0, 9000.0)}
ROWS = {"good": None, "small": 60, "poor": 3}


@dataclass
class Measured:
    """Folders of three real models and a lost candidate between them, evaluated and profiled."""

    models: list[Path]
    evaluations: list[Path]
    profiles: Path


def ledger_entry(step: str, detail: str = "", **changes: Any) -> costs.LedgerEntry:
    entry = costs.Stopwatch(step, detail).entry() | {"seconds": 3600.0, "cores": 2, "gpus": 0} | changes
    return entry  # type: ignore[return-value]


def record(folder: Path, *entries: costs.LedgerEntry) -> None:
    name = artifacts.manifest_name(folder)
    assert name is not None, folder
    artifacts.write_json(folder / name, artifacts.load(folder, name) | {"ledger": list(entries)})


@pytest.fixture(scope="module")
def measured(
    tmp_path_factory: pytest.TempPathFactory, small_data: Path, make_linear_model: Callable, lost_model: Callable
) -> Measured:
    """Finetuning took an hour of two cores and every folder carries it on; the profile half an hour."""
    root = tmp_path_factory.mktemp("measured")
    models = [make_linear_model(root / name, small_data, rows=rows) for name, rows in ROWS.items()]
    for model in models:
        content = artifacts.content(artifacts.load(model, artifacts.MODEL))
        artifacts.seal(model, artifacts.MODEL, content | {"structure": model.name})
    models.insert(1, lost_model(root / "lost", "finetuned", "int8"))
    finetune = ledger_entry("finetune")
    evaluations, rows = [], []
    for model in models:
        evaluations.append(root / f"evaluation-{model.name}")
        evaluate(model, small_data, evaluations[-1], EvaluateConfig())
        record(model, finetune)
        record(evaluations[-1], finetune)
        manifest = artifacts.load(model, artifacts.MODEL)
        rows.append(profile_row(manifest, SPEEDS.get(model.name)))
    (root / "profiles").mkdir()
    artifacts.seal(root / "profiles", artifacts.PROFILES, {"tokens_per_request": 10.0, "profiles": rows})
    record(root / "profiles", finetune, ledger_entry("profile", seconds=1800.0))
    return Measured(models=models, evaluations=evaluations, profiles=root / "profiles")


def profile_row(manifest: artifacts.Manifest, speeds: tuple[float, float] | None) -> dict[str, Any]:
    row = {"candidate": f"{manifest['structure']}/{manifest['precision']}", "model": manifest["digest"]}
    if speeds is None:
        return row
    batches = {
        str(batch): {
            "requests_per_second": speed,
            "latency_ms": {"p50": 1000 * batch / speed, "p95": 2000 * batch / speed},
        }
        for batch, speed in zip((1, 32), speeds, strict=True)
    }
    return row | {"batches": batches, "peak_memory_bytes": 10**8}


def run(found: Measured, output: Path, **changes: Any) -> tuple[bool, artifacts.Manifest]:
    settings: dict[str, Any] = {"bar": BAR, "traffic": "online", "prices": PRICES, "hardware": "cpu-core"} | changes
    passed = select(
        found.models, found.evaluations, found.profiles, output / "chosen", output / "selection", **settings
    )
    return passed, artifacts.verify(output / "selection", artifacts.SELECTION)


def by_name(selection: artifacts.Manifest) -> dict[str, dict[str, Any]]:
    return {row["candidate"]: row for row in selection["candidates"]}


def test_the_cheapest_of_real_models_that_passes(measured: Measured, tmp_path: Path) -> None:
    passed, selection = run(measured, tmp_path)
    rows = by_name(selection)
    assert passed is True
    assert selection["chosen"] == "small/as-is"
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "good/as-is": "passed",
        "finetuned/int8": "lost",
        "small/as-is": "chosen",
        "poor/as-is": "missed",
    }
    assert rows["good/as-is"]["reason"] == "passed, but costs 2.0 times as much as small/as-is"
    assert rows["finetuned/int8"]["reason"] == "it answers differently"
    assert rows["poor/as-is"]["reason"].startswith("missed the bar: the lower end of accuracy is 0.")
    chosen = artifacts.verify(tmp_path / "chosen", artifacts.MODEL)
    small = artifacts.load(measured.models[2], artifacts.MODEL)
    assert (chosen["digest"], chosen["ledger"]) == (small["digest"], small["ledger"])


def test_the_prices_by_hand(measured: Measured, tmp_path: Path) -> None:
    """0.036 dollars an hour are 1e-5 a second: 100 requests a second cost 0.10 a million, 200 cost 0.05."""
    _, selection = run(measured, tmp_path)
    rows = by_name(selection)
    assert rows["good/as-is"]["usd_per_million_requests"] == pytest.approx(0.10)
    assert rows["small/as-is"]["usd_per_million_requests"] == pytest.approx(0.05)
    assert rows["small/as-is"]["usd_per_million_tokens"] == pytest.approx(0.005)
    assert rows["small/as-is"]["latency_ms"] == pytest.approx(5.0)
    # Finetuning, two cores for an hour, counted once; the profile, two for half an hour.
    assert [(c["step"], pytest.approx(c["usd"])) for c in selection["costs"]] == [
        ("finetune", 0.072),
        ("profile", 0.036),
    ]
    assert selection["run_cost_usd"] == pytest.approx(0.108)
    # 10 tokens of text, 40 of instruction, 4 for each of 3 labels: 62 at 0.10 and 4 at 0.40.
    (hosted,) = selection["hosted"]
    assert hosted["usd_per_million_requests"] == pytest.approx(7.8)
    assert hosted["break_even_requests"] == pytest.approx(0.108 / 7.75e-6)


def test_traffic_in_batches_and_other_hardware_have_their_own_prices(measured: Measured, tmp_path: Path) -> None:
    _, selection = run(measured, tmp_path, traffic="batch", hardware="cpu-arm")
    rows = by_name(selection)
    assert selection["chosen"] == "good/as-is"
    assert rows["good/as-is"]["usd_per_million_requests"] == pytest.approx(0.0125)
    assert rows["small/as-is"]["usd_per_million_requests"] == pytest.approx(0.02)
    assert rows["small/as-is"]["reason"] == "passed, but costs 1.6 times as much as good/as-is"
    # The run itself was on cores of this machine.
    assert selection["run_cost_usd"] == pytest.approx(0.108)


def test_figures_come_from_the_predictions_at_the_bars_confidence(measured: Measured, tmp_path: Path) -> None:
    _, selection = run(measured, tmp_path, bar=BAR | {"confidence": 0.99})
    table = pq.read_table(measured.evaluations[0] / "predictions.parquet")
    correct = table["label"].to_numpy() == table["predicted"].to_numpy()
    assert by_name(selection)["good/as-is"]["metric"] == pytest.approx(accuracy_interval(correct, 0.99).as_dict())
    _, macro = run(measured, tmp_path / "macro", bar=BAR | {"metric": "macro_f1"})
    row = by_name(macro)["good/as-is"]
    assert row["metric"] == pytest.approx(row["macro_f1"])


def test_any_order_gives_the_same_choice(measured: Measured, tmp_path: Path) -> None:
    reference = by_name(run(measured, tmp_path / "first")[1])
    for seed in range(3):
        generator = random.Random(seed)
        shuffled = Measured(
            models=generator.sample(measured.models, 4),
            evaluations=generator.sample(measured.evaluations, 4),
            profiles=measured.profiles,
        )
        passed, selection = run(shuffled, tmp_path / str(seed))
        assert passed
        assert selection["chosen"] == "small/as-is"
        assert by_name(selection) == reference


def test_if_none_passes_nothing_is_handed_on(measured: Measured, tmp_path: Path) -> None:
    passed, selection = run(measured, tmp_path, bar=BAR | {"minimum": 0.999})
    assert passed is False
    assert (selection["passed"], selection["chosen"]) == (False, "")
    assert selection["sentence"].startswith("No candidate clears the bar; the nearest, good/as-is, misses it: ")
    assert selection["hosted"][0]["break_even_requests"] is None
    chosen = artifacts.verify(tmp_path / "chosen", artifacts.MODEL)
    assert (chosen["lost"], chosen["files"]) == ("no candidate clears the bar", {})


def test_all_lost_is_a_result_and_no_crash(small_data: Path, lost_model: Callable[..., Path], tmp_path: Path) -> None:
    model = lost_model(tmp_path / "model", "finetuned", "int8")
    evaluate(model, small_data, tmp_path / "evaluation", EvaluateConfig())
    (tmp_path / "profiles").mkdir()
    row = profile_row(artifacts.load(model, artifacts.MODEL), None)
    artifacts.seal(tmp_path / "profiles", artifacts.PROFILES, {"tokens_per_request": 10.0, "profiles": [row]})
    found = Measured(models=[model], evaluations=[tmp_path / "evaluation"], profiles=tmp_path / "profiles")
    passed, selection = run(found, tmp_path)
    assert passed is False
    assert selection["best"] == ""
    assert selection["sentence"] == "No candidate could be made; see each one's reason."


def test_hardware_for_nothing_is_a_price(measured: Measured, tmp_path: Path) -> None:
    prices = {"devices": {"cpu-core": {"usd_per_hour": 0}}, "hosted": []}
    passed, selection = run(measured, tmp_path, prices=prices)
    assert passed
    assert selection["chosen"] == "small/as-is"
    assert by_name(selection)["good/as-is"]["reason"] == (
        "passed at the same price as small/as-is, but answers in 10 ms instead of 5 ms"
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"traffic": "rush-hour"}, "traffic"),
        ({"hardware": "nvidia-b300"}, "prices.devices"),
        ({"bar": BAR | {"minimum": 2}}, "bar.minimum"),
        ({"prices": []}, "prices"),
    ],
)
def test_a_wrong_setting_is_refused(measured: Measured, tmp_path: Path, change: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{field}: got"):
        run(measured, tmp_path, **change)


def test_a_selection_is_plain_json(measured: Measured, tmp_path: Path) -> None:
    run(measured, tmp_path)
    text = (tmp_path / "selection" / artifacts.SELECTION).read_text()
    assert json.loads(text, parse_constant=lambda constant: pytest.fail(constant))["passed"]
