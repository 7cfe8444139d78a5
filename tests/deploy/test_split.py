import pytest
from undercut.deploy.split import closest, plan
from undercut.errors import ConfigurationError


@pytest.mark.parametrize(
    ("minimum", "percent", "replicas", "stable", "attained"),
    [
        (1, 50, 1, 1, 50.0),
        (1, 10, 1, 1, 50.0),
        (2, 10, 1, 1, 50.0),
        (4, 30, 1, 3, 25.0),
        (7, 10, 1, 6, 100 / 7),
        (10, 10, 1, 9, 10.0),
        (10, 33, 3, 7, 30.0),
        (10, 99, 10, 1, 1000 / 11),
        (3, 0, 1, 2, 0.0),
    ],
)
def test_what_replicas_attain(minimum: int, percent: int, replicas: int, stable: int, attained: float) -> None:
    found = closest(minimum, percent)
    assert (found.replicas, found.stable, found.minimum) == (replicas, stable, minimum)
    assert found.attained == pytest.approx(attained)


def test_a_share_that_is_missed_is_refused_or_more_replicas_run() -> None:
    with pytest.raises(ConfigurationError, match=r"canary_percent: got 10; .*closest is 50.*min_replicas 7 is enough"):
        plan(1, 10, "exact")
    raised = plan(1, 10, "raise")
    assert (raised.minimum, raised.replicas, raised.wished) == (7, 1, 10.0)
    assert raised.attained == pytest.approx(100 / 7)
    assert plan(7, 10, "exact") == raised
    assert plan(1, 0, "exact").attained == 0
    assert plan(20, 5, "exact").attained == 5


@pytest.mark.parametrize("percent", range(0, 100))
def test_a_raised_split_keeps_its_word(percent: int) -> None:
    found = plan(1, percent, "raise")
    assert abs(found.attained - percent) <= 5
    assert found.replicas <= found.minimum
    assert found.stable == max(found.minimum - found.replicas, 1)
