import math
from typing import Any
from xml.etree import ElementTree

import pytest
from undercut.report.pretraining import adaptation, scratch
from undercut.report.pretraining_plots import loss_plot

from tests.report.conftest import hand_made_run

STEP = {"id": "transfer-1", "started": 5.0, "seconds": 62.0}
ENTRIES: list[dict[str, Any]] = [STEP | {"usd": 0.25}]
LOST = {"structure": "pretrained", "lost": "epochs is 0", "metrics": {}}


def curve(losses: list[float]) -> list[dict[str, float]]:
    return [{"epoch": i, "step": 10 * i, "train_loss": v + 0.1, "validation_loss": v} for i, v in enumerate(losses, 1)]


def metrics(losses: list[float], before: float | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "loss": losses[-1],
        "perplexity": math.exp(losses[-1]),
        "computed_on": {"tokens_guessed": 1200, "held_out_texts": 58, "held_out_tokens": 8000},
        "trained_on": {"texts": 1000, "tokens": 90_000},
        "best_step": 10 * len(losses),
        "tokens_seen": 10_240 * len(losses),
        "stopped_by": "",
        "curve": curve(losses),
    }
    return found | (
        {} if before is None else {"before": {"loss": before, "perplexity": math.exp(before), "what": "as it came"}}
    )


def model(structure: str, figures: dict[str, Any]) -> dict[str, Any]:
    return {
        "structure": structure,
        "lost": "",
        "base_model": {"uri": "pkg://base/model", "digest": "ab"},
        "method": "masked language modelling from scratch, whole-word masks",
        "parameters": {"epochs": 1},
        "parameter_count": 4_400_000,
        "metrics": figures,
        "ledger": [STEP],
    }


def downstream(value: float, low: float, high: float) -> dict[str, Any]:
    return {
        "accuracy": {"original": 0.8, "transferred": 0.8 + value},
        "difference": {"value": value, "low": low, "high": high},
        "rows": 1000,
        "train_rows": 2000,
        "epochs": 3,
        "worth_it": low > 0,
        "reason": "",
    }


def adapted(bought: dict[str, Any], losses: list[float] | None = None) -> dict[str, Any] | None:
    figures = metrics(losses or [3.0, 2.5, 2.0], 4.0) | {"downstream": bought}
    return adaptation(hand_made_run(base=model("transferred", figures)), ENTRIES)


@pytest.mark.parametrize(
    ("ends", "start", "verdict"),
    [
        ((0.03, 0.01, 0.05), "It was worth it: fine-tuned at equal settings", "better"),
        ((-0.03, -0.05, -0.01), "It did harm: ", "worse"),
        ((0.005, -0.01, 0.02), "It is not shown to be worth it: ", "even"),
    ],
)
def test_it_says_what_an_adapted_base_bought(ends: tuple[float, float, float], start: str, verdict: str) -> None:
    found = adapted(downstream(*ends))
    assert found is not None
    assert found["verdict"] == verdict
    assert found["learned"] == "The perplexity over 1,200 tokens of held-out text fell from 55 to 7.4."
    assert found["bought"].startswith(start)
    both = f"an accuracy of {0.8 + ends[0]:.3f} from it and of 0.800 from the original on 1,000 validation rows"
    assert both in found["bought"]
    assert found["facts"]["time and money"] == "1 min 02 s, $0.25"


def test_it_does_not_claim_what_was_not_measured() -> None:
    found = adapted({"worth_it": None, "reason": "not compared: comparison_rows is 0"})
    assert found is not None
    assert found["downstream"] is None
    assert found["verdict"] == ""
    assert found["bought"] == ("Whether that makes a better classifier was not measured (comparison_rows is 0).")


def test_a_perplexity_that_did_not_fall_is_said_to() -> None:
    found = adapted(downstream(0, -0.01, 0.01), losses=[4.5, 4.2])
    assert found is not None
    assert found["learned"].endswith("did not fall: 55 before, 67 after.")


def test_a_model_from_scratch_has_its_figures() -> None:
    found = scratch(hand_made_run(scratch=model("pretrained", metrics([6.0, 5.0]))), ENTRIES)
    assert found is not None
    assert found["sentence"].startswith(
        "Masked language modelling from scratch, whole-word masks: 4.4 million parameters, "
    )
    assert found["sentence"].endswith("The perplexity over 1,200 tokens of held-out text is 148.")
    assert found["facts"]["text"] == "1,000 texts of 90,000 tokens"


def test_what_was_not_made_shows_nothing() -> None:
    handed_on = {"structure": "base", "lost": "", "metrics": {}}
    for run in (hand_made_run(), hand_made_run(base=handed_on, scratch=LOST)):
        assert adaptation(run, ENTRIES) is None
        assert scratch(run, ENTRIES) is None


def test_a_base_from_scratch_is_shown_as_such() -> None:
    run = hand_made_run(base=model("pretrained", metrics([6.0, 5.0])))
    assert adaptation(run, ENTRIES) is None
    assert scratch(run, ENTRIES) is not None


def test_the_curve_has_both_losses_what_was_before_and_perplexities() -> None:
    plot = loss_plot(metrics([6.0, 5.5, 5.0], before=6.5))
    assert plot is not None
    drawing = ElementTree.fromstring(plot)
    assert len(drawing.findall("circle")) == 6
    assert len(drawing.findall("line[@class='level']")) == 1
    texts = [text.text for text in drawing.iter("text")]
    assert {"200", "500"} <= set(texts)
    assert {"10,000", "30,000"} <= set(texts)
    assert "held out, 20,480 tokens: loss 5.500, perplexity 245" in [title.text for title in drawing.iter("title")]


def test_a_training_that_diverged_is_said_to() -> None:
    assert loss_plot(metrics([math.nan, math.nan])) is None
    found = adapted(downstream(0, -0.01, 0.01), losses=[3.0, math.nan])
    assert found is not None
    assert "nan" not in (found["plot"] or "")
    assert "the training diverged" in found["learned"]
