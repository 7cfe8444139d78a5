"""Language models made before fine-tuning: the base adapted to the domain, and one trained from scratch."""

import math
from collections.abc import Mapping
from typing import Any

from undercut.registry import shown
from undercut.report.differences import axis, effect, points
from undercut.report.pretraining_plots import loss_plot
from undercut.report.reading import Run
from undercut.report.spending import Spent, own_step
from undercut.wording import duration, money, quantity


def adaptation(run: Run, entries: Spent) -> dict[str, Any] | None:
    """Return what the section shows of the base that was adapted to the domain; None if none was."""
    model = run.transferred
    if model is None:
        return None
    metrics, downstream = model["metrics"], model["metrics"]["downstream"]
    return {
        "base": shown(model["base_model"]["uri"]),
        "learned": _learned(metrics),
        "bought": _bought(downstream),
        "verdict": _verdict(downstream),
        "before": metrics["before"]["what"],
        "plot": loss_plot(metrics),
        "facts": _facts(model, entries),
        "parameters": model["parameters"],
        "downstream": downstream if "difference" in downstream else None,
        "axis": axis([downstream["difference"]]) if "difference" in downstream else None,
    }


def scratch(run: Run, entries: Spent) -> dict[str, Any] | None:
    """Return what the section shows of the language model trained from scratch; None if there is none."""
    model = run.pretrained
    if model is None:
        return None
    return {
        "sentence": _from_nothing(model),
        "plot": loss_plot(model["metrics"]),
        "facts": _facts(model, entries),
        "parameters": model["parameters"],
        "sample": model["metrics"].get("sample", ""),
    }


def _from_nothing(model: Mapping[str, Any]) -> str:
    metrics = model["metrics"]
    return (
        f"{model['method'][:1].upper()}{model['method'][1:]}: {quantity(model['parameter_count'])} parameters, "
        f"{quantity(metrics['tokens_seen'])} tokens. The perplexity over {metrics['computed_on']['tokens_guessed']:,} "
        f"tokens of held-out text is {_figure(metrics['perplexity'])}."
    )


def _learned(metrics: Mapping[str, Any]) -> str:
    before, after = metrics["before"]["perplexity"], metrics["perplexity"]
    guessed = f"over {metrics['computed_on']['tokens_guessed']:,} tokens of held-out text"
    if after < before:
        return f"The perplexity {guessed} fell from {_figure(before)} to {_figure(after)}."
    return f"The perplexity {guessed} did not fall: {_figure(before)} before, {_figure(after)} after."


def _figure(perplexity: float) -> str:
    return quantity(perplexity) if math.isfinite(perplexity) else "beyond all numbers (the training diverged)"


def _bought(downstream: Mapping[str, Any]) -> str:
    """Say what the adapted base is worth to a classifier, and no more than was measured."""
    if downstream["worth_it"] is None:
        why = downstream["reason"].removeprefix("not compared: ")
        return f"Whether that makes a better classifier was not measured ({why})."
    accuracy, difference = downstream["accuracy"], downstream["difference"]
    measured = (
        f"fine-tuned at equal settings, a classifier reaches an accuracy of {accuracy['transferred']:.3f} from it and "
        f"of {accuracy['original']:.3f} from the original on {downstream['rows']:,} validation rows, a difference of "
        f"{points(difference['value'])} points ({points(difference['low'])} to {points(difference['high'])})"
    )
    match _verdict(downstream):
        case "better":
            return f"It was worth it: {measured}."
        case "worse":
            return f"It did harm: {measured}."
        case _:
            return f"It is not shown to be worth it: {measured} that chance alone may make."


def _verdict(downstream: Mapping[str, Any]) -> str:
    return effect(downstream["difference"]) if "difference" in downstream else ""


def _facts(model: Mapping[str, Any], entries: Spent) -> dict[str, str]:
    metrics = model["metrics"]
    step = own_step(model, entries)
    held_out = metrics["computed_on"]
    facts = {
        "perplexity": f"{_figure(metrics['perplexity'])} on held-out text (loss {metrics['loss']:.3f})",
        "parameters": quantity(model["parameter_count"]),
        "text": f"{metrics['trained_on']['texts']:,} texts of {quantity(metrics['trained_on']['tokens'])} tokens",
        "trained on": f"{quantity(metrics['tokens_seen'])} tokens",
        "held out": f"{held_out['held_out_texts']:,} texts of {quantity(held_out['held_out_tokens'])} tokens",
        "time and money": f"{duration(step['seconds'])}, {money(step['usd'])}",
    }
    if metrics["stopped_by"]:
        facts["stopped by"] = metrics["stopped_by"]
    return facts
