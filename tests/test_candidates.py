import pytest
from undercut.candidates import DEFAULT_CANDIDATES, known_structures, parse_candidates
from undercut.errors import ConfigurationError


def test_both_ways_to_write_a_candidate() -> None:
    parsed = parse_candidates(["finetuned/int8", "linear", {"structure": "linear-teacher", "precision": "as-is"}])
    assert [c.name for c in parsed] == ["finetuned/int8", "linear/as-is", "linear-teacher/as-is"]
    assert len(parse_candidates(DEFAULT_CANDIDATES)) == 6
    assert known_structures() == ["distilled", "finetuned", "linear", "pruned", "scratch", "static"]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "candidates: got"),
        (["quantum/int8"], r"candidates\[0\].structure: got 'quantum'; allowed: one of distilled, finetuned, linear"),
        (["finetuned", "finetuned/int3"], r"candidates\[1\].precision: got 'int3'"),
        (["linear/int8"], "as-is for a linear model"),
        (["distilled-0"], "distilled, or distilled-N"),
        (["static/int8"], "as-is for a static model"),
        (["pruned-4x"], "pruned, pruned-P"),
        (["linear-"], "linear or linear-teacher"),
        (["linear", "linear/as-is"], "each candidate once"),
        ([{"structure": "linear", "size": 3}], r"candidates\[0\]: got"),
        (["../../etc"], "structure"),
    ],
)
def test_a_wrong_list_is_refused(items: list[object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_candidates(items)
