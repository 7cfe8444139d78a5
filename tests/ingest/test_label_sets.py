import numpy as np
import pytest
from undercut.errors import ConfigurationError
from undercut.ingest.clean import Rejected
from undercut.ingest.label_sets import LabelSets, check_separator, clean_labels
from undercut.ingest.rules import BAD_LABEL, NO_LABEL


@pytest.mark.parametrize(
    ("cell", "separator", "labels"),
    [
        ("refund; delivery", ";", ("delivery", "refund")),
        ("b;a;b;; a ;", ";", ("a", "b")),
        ("", ";", ()),
        ("  ", ";", ()),
        ("a|b;c", "|", ("a", "b;c")),
        (b"x, y", ",", ("x", "y")),
        (3.0, ";", ("3",)),
        (["b", "a", "b"], "", ("a", "b")),
        (["a;b"], ";", ("a;b",)),
        ([b"caf\xc3\xa9", 2], "", ("2", "café")),
        ([], "", ()),
        ("one", "", ("one",)),
    ],
)
def test_cells(cell: object, separator: str, labels: tuple[str, ...]) -> None:
    assert clean_labels(cell, separator) == labels


@pytest.mark.parametrize(
    ("cell", "separator", "reason"),
    [
        (None, ";", NO_LABEL),
        (None, "", NO_LABEL),
        (float("nan"), ";", NO_LABEL),
        ("nan", ";", NO_LABEL),
        ("", "", NO_LABEL),
        ("a;n/a", ";", NO_LABEL),
        (["a", None], "", NO_LABEL),
        (["a", ""], "", NO_LABEL),
        (["a", ["b"]], "", BAD_LABEL),
        ({"a": 1}, ";", BAD_LABEL),
        ("a;" + "b" * 201, ";", BAD_LABEL),
        ([b"\xff\xfe"], "", BAD_LABEL),
    ],
)
def test_cells_that_are_rejected(cell: object, separator: str, reason: str) -> None:
    with pytest.raises(Rejected, match=f"^{reason}$"):
        clean_labels(cell, separator)


@pytest.mark.parametrize("separator", ["and", "a", "1", ";;;;;;;;;"])
def test_a_separator_that_could_stand_in_a_label_is_refused(separator: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^label_separator: got "):
        check_separator(separator)
    check_separator("; ")


def test_the_table_counts_and_finds_labels() -> None:
    table = LabelSets.of([(2, 0), (), (1,)], 3)
    assert table.label_rows(np.array([5, 7, 1])).tolist() == [5, 1, 5]
    assert table.holding(np.array([True, False, False])).tolist() == [True, False, False]
    assert table.holding(np.array([False, True, True])).tolist() == [True, False, True]
    assert table.lists(np.array([1, -1, 0], np.int32)).to_pylist() == [[0, 1], [], [-1]]
    assert LabelSets.single(2).label_rows(np.array([3, 4])).tolist() == [3, 4]
