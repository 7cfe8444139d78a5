from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from undercut.comparison import compare_evaluations, comparison_table, mcnemar
from undercut.errors import ConfigurationError


def write(folder: Path, right: list[bool], rows: list[int] | None = None) -> Path:
    """Write an evaluation's predictions: label 1 everywhere, answered right or not."""
    folder.mkdir()
    number = rows or list(range(len(right)))
    table = {"row": number, "label": [1] * len(right), "predicted": [int(r) for r in right]}
    pq.write_table(pa.table(table), folder / "predictions.parquet")
    return folder


@pytest.mark.parametrize(
    ("first_only", "second_only", "p_value"),
    [(0, 0, 1.0), (5, 5, 1.0), (1, 9, 22 / 1024), (9, 1, 22 / 1024), (0, 10, 2 / 1024), (0, 3000, 0.0)],
)
def test_mcnemars_exact_p_value(first_only: int, second_only: int, p_value: float) -> None:
    assert mcnemar(first_only, second_only) == pytest.approx(p_value)


def test_two_evaluations(tmp_path: Path) -> None:
    one = write(tmp_path / "one", [True] * 90 + [False] * 10)
    two = write(tmp_path / "two", [True] * 81 + [False] * 18 + [True])
    found = compare_evaluations(one, two)
    assert (found["n"], found["first_only"], found["second_only"]) == (100, 9, 1)
    assert found["difference"]["value"] == pytest.approx(0.08)
    assert 0 < found["difference"]["low"] < 0.08 < found["difference"]["high"] < 0.16
    assert found["p_value"] == pytest.approx(22 / 1024)


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    right = np.random.default_rng(0).random(50) < 0.7
    one = write(tmp_path / "one", right.tolist())
    two = write(tmp_path / "two", right[::-1].tolist(), rows=list(range(49, -1, -1)))
    assert compare_evaluations(one, two)["first_only"] == 0


def test_other_rows_are_refused(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", [True] * 3), write(tmp_path / "two", [True] * 3, rows=[1, 2, 3])
    with pytest.raises(ConfigurationError, match="evaluations on the same rows"):
        compare_evaluations(one, two)


def test_the_table_has_every_pair_once(tmp_path: Path) -> None:
    folders = {name: write(tmp_path / name, [True, True, name != "c"]) for name in "abc"}
    pairs = [(c["candidate"], c["against"]) for c in comparison_table(folders, ["b", "c", "b"])]
    assert pairs == [("a", "b"), ("c", "b"), ("a", "c"), ("b", "c")]
