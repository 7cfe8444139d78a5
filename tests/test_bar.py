import pytest
from undercut.bar import Bar, parse_bar
from undercut.errors import ConfigurationError


def test_what_is_left_out_has_its_default() -> None:
    assert parse_bar({"minimum": 0.9}) == Bar(minimum=0.9)
    assert parse_bar({}).as_dict() == {
        "metric": "accuracy",
        "minimum": 0.8,
        "maximum_drop": 0.02,
        "maximum_latency_ms": 0.0,
        "confidence": 0.95,
    }
    assert parse_bar(Bar(metric="macro_f1").as_dict()) == Bar(metric="macro_f1")


@pytest.mark.parametrize(
    "content", [{"maximum_drop": 0}, {"maximum_drop": 1.0}, {"maximum_latency_ms": 0}, {"maximum_latency_ms": 1e9}]
)
def test_the_ends_of_a_range_are_in_it(content: dict[str, float]) -> None:
    ((name, value),) = content.items()
    assert getattr(parse_bar(content), name) == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"metric": "bleu"}, "bar.metric: got 'bleu'; allowed: one of accuracy, macro_f1, micro_f1."),
        ({"minimum": 1}, "bar.minimum: got 1; allowed: a number above 0 and below 1. No model reaches 1"),
        ({"minimum": "high"}, "bar.minimum: got 'high'; allowed: a number above 0 and below 1."),
        ({"minimum": float("nan")}, "bar.minimum: got nan"),
        ({"minimum": True}, "bar.minimum: got True"),
        ({"confidence": 0.5}, "bar.confidence: got 0.5; allowed: a number above 0.5 and below 1. 0.95 is usual."),
        ({"maximum_drop": 1.5}, "bar.maximum_drop: got 1.5; allowed: a number from 0 to 1."),
        ({"maximum_drop": -0.01}, "bar.maximum_drop: got -0.01; allowed: a number from 0 to 1."),
        ({"maximum_latency_ms": -1}, "bar.maximum_latency_ms: got -1; allowed: a number from 0. 0 sets no limit."),
        ({"minimun": 0.9}, "bar.minimun: got 0.9; allowed: one of confidence, maximum_drop, "),
        ([0.9], "bar: got [0.9]; allowed: a mapping with metric and minimum."),
    ],
)
def test_a_wrong_bar_says_what_is_allowed(content: object, message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_bar(content)  # type: ignore[arg-type]
    assert str(error.value).startswith(message)
