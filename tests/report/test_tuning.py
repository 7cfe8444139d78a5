import math
from typing import Any
from xml.etree import ElementTree

import pytest
from undercut.report.tuning import tuning
from undercut.report.tuning_plots import best_so_far, curves_plot, history_plot, slice_plots, value_text

from tests.report.conftest import hand_made_run

STEP = {"id": "tune-1", "started": 5.0, "seconds": 62.0}
ENTRIES: list[dict[str, Any]] = [STEP | {"usd": 0.25}]


def trial(number: int, value: float | None, learning_rate: float) -> dict[str, Any]:
    curve = [{"epoch": e, "validation_accuracy": 0.3 * e, "validation_loss": 1.0 / e} for e in (1, 2)]
    return {
        "number": number,
        "state": "pruned" if value is None else "complete",
        "parameters": {"learning_rate": learning_rate, "epochs": 2, "batch_tokens": 256 * (number + 1)},
        "value": value,
        "curve": curve[: 1 if value is None else 2],
    }


@pytest.fixture
def manifest() -> dict[str, Any]:
    """A search of four trials as ``tuning.json`` holds it."""
    defaults = {"learning_rate": 1e-4, "epochs": 2, "batch_tokens": 256}
    return {
        "metric": "accuracy",
        "sentence": "4 trials took 62 s.",
        "defaults": defaults,
        "hyperparameters": defaults | {"learning_rate": 1e-3, "batch_tokens": 1024},
        "ranges": {"learning_rate": [1e-5, 1e-3], "epochs": [1, 5], "batch_tokens": [128, 4096]},
        "default_trial": 0,
        "best_trial": 3,
        "trials": [trial(0, 0.6, 1e-4), trial(1, None, 1e-5), trial(2, 0.5, 3e-4), trial(3, 0.8, 1e-3)],
        "importances": {"learning_rate": 0.7, "epochs": 0.2, "batch_tokens": 0.1},
        "pruner": "successive-halving",
        "train_rows": 500,
        "validation_rows": 1000,
        "stopped_by": "trials",
        "seconds": 60.0,
        "ledger": [STEP],
    }


def circles(plot: str | None, kind: str) -> int:
    return len(ElementTree.fromstring(plot or "<svg/>").findall(f".//circle[@class='dot {kind}']"))


def test_what_was_found_stands_against_the_defaults(manifest: dict[str, Any]) -> None:
    found = tuning(hand_made_run(tuning=manifest), ENTRIES)
    assert found is not None
    rows = {row["name"]: row for row in found["hyperparameters"]}
    assert (rows["learning rate"]["default"], rows["learning rate"]["best"]) == ("0.0001", "0.001")
    assert rows["batch tokens"]["range"] == "128 to 4,096"
    assert [name for name, row in rows.items() if row["changed"]] == ["learning rate", "batch tokens"]
    assert found["facts"]["trials"] == "4: 3 finished, 1 stopped early"
    assert found["facts"]["pruning"] == "successive halving"
    assert found["facts"]["the step"] == "1 min 02 s, $0.25"


def test_without_pruning_none_is_named(manifest: dict[str, Any]) -> None:
    found = tuning(hand_made_run(tuning=manifest | {"pruner": "none"}), ENTRIES)
    assert found is not None
    assert "pruning" not in found["facts"]


def test_no_search_shows_nothing(manifest: dict[str, Any]) -> None:
    assert tuning(hand_made_run(), ENTRIES) is None
    assert tuning(hand_made_run(tuning=manifest | {"trials": []}), ENTRIES) is None


def test_the_plots_hold_every_trial(manifest: dict[str, Any]) -> None:
    history, curves, slices = history_plot(manifest), curves_plot(manifest), slice_plots(manifest)
    assert circles(history, "first") == 3
    assert circles(history, "ring") == 1
    drawing = ElementTree.fromstring(history or "")
    assert len(drawing.findall(".//g[@class='cross early']")) == 1
    assert len(drawing.findall("line[@class='level']")) == 1
    assert (circles(curves, "first"), circles(curves, "plain"), circles(curves, "early")) == (2, 4, 1)
    assert [circles(plot, "first") for plot in slices] == [3, 3, 3]
    assert [circles(plot, "ring") for plot in slices] == [1, 1, 1]
    for plot in (history, curves, *slices):
        for element in ElementTree.fromstring(plot or "").iter("circle"):
            assert 0 <= float(element.get("cx", "-1")) <= 360
            assert 0 <= float(element.get("cy", "-1")) <= 260


def test_a_whole_number_has_whole_ticks(manifest: dict[str, Any]) -> None:
    epochs = ElementTree.fromstring(slice_plots(manifest | {"ranges": manifest["ranges"] | {"epochs": [2, 4]}})[1])
    assert [t.text for t in epochs.iter("text") if t.get("text-anchor") == "middle"] == ["2", "3", "4"]


def test_what_has_nothing_to_show_is_left_out(manifest: dict[str, Any]) -> None:
    pruned = manifest | {"trials": [trial(0, None, 1e-4)], "best_trial": None, "default_trial": None}
    assert history_plot(pruned) is None
    assert slice_plots(pruned) == []
    assert circles(curves_plot(pruned), "early") == 1
    fixed = manifest | {"ranges": manifest["ranges"] | {"epochs": [2, 2]}}
    assert len(slice_plots(fixed)) == 2
    unborn = trial(0, None, 1e-4) | {"curve": [], "state": "out of time"}
    assert curves_plot(manifest | {"trials": [unborn]}) is None


def test_a_trial_that_diverged_is_not_drawn(manifest: dict[str, Any]) -> None:
    lost = trial(4, math.nan, 1e-3) | {"curve": [{"epoch": 1, "validation_loss": math.nan}]}
    losses = manifest | {"metric": "loss", "trials": [*manifest["trials"], lost]}
    assert "nan" not in (history_plot(losses) or "nan")
    assert "nan" not in (curves_plot(losses) or "nan")


def test_the_best_so_far_follows_the_metric() -> None:
    assert best_so_far([0.5, 0.4, 0.7, 0.6], "accuracy") == [0.5, 0.5, 0.7, 0.7]
    assert best_so_far([0.5, 0.4, 0.7, 0.6], "loss") == [0.5, 0.4, 0.4, 0.4]


def test_values_are_written_for_people() -> None:
    assert [value_text(v) for v in (3e-5, 0.000379, 6, 1024.0)] == ["0.00003", "0.00038", "6", "1,024"]
