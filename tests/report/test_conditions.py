from dataclasses import replace
from typing import Any

import pytest
from undercut.report.conditions import languages, typing
from undercut.report.reading import Run

from tests.report.conftest import hand_made_run


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def evaluation(shift: float) -> dict[str, Any]:
    accuracy = {"en": 0.9, "de": 0.8, "zh": 0.4}
    ways = {"swapped letters": -0.2, "upper case": 0.0}
    return {
        "confidence": 0.95,
        "languages": {
            "column": "language",
            "accuracy": [
                {"language": n, "n": 50, "train_rows": 0 if n == "zh" else 400, **interval(v - shift)}
                for n, v in accuracy.items()
            ],
            "macro": interval(0.7 - shift),
            "macro_unseen": interval(0.4 - shift),
        },
        "robustness": [
            {
                "perturbation": name,
                "n": 60,
                "changed": 58,
                "accuracy": interval(0.9 + d - shift),
                "difference": interval(d - shift),
            }
            for name, d in ways.items()
        ],
    }


@pytest.fixture
def run() -> Run:
    names = {"a": "missed", "b": "chosen", "c": "lost"}
    rows = [{"candidate": n, "digest": n, "verdict": v, "structure": n, "precision": "as-is"} for n, v in names.items()]
    evaluations = {("a", "a"): evaluation(0.0), ("b", "b"): evaluation(0.1), ("c", "c"): {}}
    selection = {"chosen": "b", "best": "a", "candidates": rows, "comparisons": []}
    return hand_made_run(selection=selection, evaluations=evaluations)


def test_languages_come_worst_first_for_the_chosen_one(run: Run) -> None:
    found = languages(run)
    assert found is not None
    assert [row["candidate"] for row in found["candidates"]] == ["b", "a"]
    assert [row["name"] for row in found["rows"]] == ["zh", "de", "en"]
    assert [round(cell["value"], 6) for cell in found["rows"][0]["cells"]] == [0.3, 0.4]
    assert found["unseen"] == ["zh"]
    assert [mean["name"] for mean in found["means"]] == ["mean over languages", "mean over those not trained on"]
    places = [cell["place"] for row in found["rows"] for cell in row["cells"]]
    assert (min(places), max(places)) == (0, 1)


def test_hurried_typing_gives_each_way_s_cost(run: Run) -> None:
    found = typing(run)
    assert found is not None
    assert [way["name"] for way in found["ways"]] == ["swapped letters", "upper case"]
    chosen, other = found["rows"]
    assert (chosen["candidate"], other["candidate"]) == ("b", "a")
    assert other["plain"] == pytest.approx(0.9)
    assert [cell["effect"] for cell in other["cells"]] == ["worse", "even"]
    assert [cell["share"] for cell in chosen["cells"]] == pytest.approx([1, 1 / 3])
    assert other["cells"][1]["share"] == 0


def test_what_was_not_measured_is_not_shown(run: Run) -> None:
    bare = {key: value | {"languages": None, "robustness": []} for key, value in run.evaluations.items()}
    assert languages(replace(run, evaluations=bare)) is None
    assert typing(replace(run, evaluations=bare)) is None
    lost = {**run.selection, "chosen": "", "best": "", "candidates": [run.rows[2]]}
    assert languages(replace(run, selection=lost)) is None
    assert typing(replace(run, selection=lost)) is None
