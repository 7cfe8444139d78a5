import pytest
from undercut.deploy.split import closest, plan
from undercut.errors import ConfigurationError


@pytest.mark.parametrize(
    ("minimum", "percent", "replicas", "attained"),
    [
        (1, 50, 1, 50.0),
        (1, 10, 1, 50.0),
        (2, 33, 1, 100 / 3),
        (4, 30, 2, 100 / 3),
        (6, 10, 1, 100 / 7),
        (9, 10, 1, 10.0),
        (10, 99, 10, 50.0),
        (3, 0, 1, 0.0),
    ],
)
def test_what_replicas_attain(minimum: int, percent: int, replicas: int, attained: float) -> None:
    found = closest(minimum, percent)
    assert (found.replicas, found.stable, found.minimum) == (replicas, minimum, minimum + replicas)
    assert found.attained == pytest.approx(attained)


def test_a_share_that_is_missed_is_refused_or_more_replicas_run() -> None:
    words = r"canary_percent: got 10; .*closest is 50.*min_replicas 6 is enough: set it, or set split to raise\."
    with pytest.raises(ConfigurationError, match=words):
        plan(1, 10, "exact")
    raised = plan(1, 10, "raise")
    assert (raised.minimum, raised.replicas, raised.stable, raised.wished) == (7, 1, 6, 10.0)
    assert raised.attained == pytest.approx(100 / 7)
    assert plan(6, 10, "exact") == raised
    assert plan(1, 0, "exact").attained == 0
    assert plan(19, 5, "exact").attained == 5
    with pytest.raises(ConfigurationError, match=r"closest is 50\)\. set split to raise"):
        plan(2, 80, "exact")
    assert (plan(2, 80, "raise").stable, plan(2, 80, "raise").replicas) == (2, 6)
    with pytest.raises(ConfigurationError, match=r"closest is 50\)\. Take another share"):
        plan(60, 80, "raise")


@pytest.mark.parametrize("percent", range(0, 100))
def test_a_raised_split_keeps_its_word(percent: int) -> None:
    found = plan(1, percent, "raise")
    assert abs(found.attained - percent) <= 5
    assert found.stable >= 1
    assert found.replicas >= 1


@pytest.mark.parametrize("minimum", [1, 3, 7])
@pytest.mark.parametrize("percent", [0, 5, 25, 50, 90])
def test_the_stable_predictor_keeps_what_always_runs(minimum: int, percent: int) -> None:
    """KServe takes the canary's replicas off the stable predictor's ``minReplicas``, and leaves one."""
    found = plan(minimum, percent, "raise")
    assert max(found.minimum - found.replicas, 1) == found.stable >= minimum
