"""The fine-tuned model and a linear one, measured, compared, chosen, reported and served."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score
from undercut import answers, artifacts
from undercut.comparison import compare_evaluations
from undercut.compress.structures import compress
from undercut.deploy.promotion import Challenger, compare, judge
from undercut.deploy.registered_model import TextClassifier
from undercut.deploy.settings import DeployConfig
from undercut.deploy.smoke_test import SmokeTestError, smoke_test
from undercut.evaluate.measure import EvaluateConfig, evaluate
from undercut.label_sets import multi_hot, names
from undercut.predictors import load_predictor
from undercut.profile.measure import ProfileConfig, profile
from undercut.registry import Version
from undercut.report.render import Sources, write_report
from undercut.select.selection import select
from undercut.steps import step

pytestmark = pytest.mark.slow

PRICES = {"devices": {"cpu-core": {"usd_per_hour": 0.05}}, "hosted": []}
BAR = {"metric": "micro_f1", "minimum": 0.5, "maximum_drop": 0.5}


@dataclass
class Measured:
    """The folders of one run: the fine-tuned model first, then the linear one."""

    models: list[Path]
    evaluations: list[Path]
    profiles: Path


@pytest.fixture(scope="module")
def measured(topic_teacher: Path, topic_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    root = tmp_path_factory.mktemp("choice")
    for structure in ("finetuned", "linear"):
        compress(structure, topic_teacher, topic_data, root / structure, seed=0)
        evaluate(root / structure, topic_data, root / f"{structure}-evaluation", EvaluateConfig(robustness_rows=40))
    models = [root / "finetuned", root / "linear"]
    profile(models, topic_teacher, topic_data, root / "profiles", ProfileConfig(rounds=1, seconds_per_cell=0.02))
    return Measured(models, [root / f"{model.name}-evaluation" for model in models], root / "profiles")


def choose(measured: Measured, output: Path, **bar: object) -> artifacts.Manifest:
    paths = measured.models, measured.evaluations, measured.profiles
    with step("select", output=str(output / "selection")):
        select(*paths, output / "chosen", output / "selection", BAR | bar, "online", PRICES, "cpu-core")
    return artifacts.load(output / "selection", artifacts.SELECTION)


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_the_bar_is_in_f1(measured: Measured, tmp_path: Path, average: str) -> None:
    selection = choose(measured, tmp_path, metric=f"{average}_f1")
    assert selection["passed"]
    assert selection["sentence"].startswith(f"{selection['chosen']}: {average}-F1 ")
    for row, folder in zip(selection["candidates"], measured.evaluations, strict=True):
        table = pq.read_table(folder / "predictions.parquet")
        truth, found = (multi_hot(table[name], 5) for name in ("label", "predicted"))
        assert row["metric"]["value"] == pytest.approx(f1_score(truth, found, average=average))
        assert row["metric"]["low"] <= row["metric"]["value"] <= row["metric"]["high"]
        assert row[f"{average}_f1"]["value"] == row["metric"]["value"]


def test_candidates_are_compared_by_the_bars_metric(measured: Measured, tmp_path: Path) -> None:
    first, second = measured.evaluations
    figures = [artifacts.load(folder, artifacts.EVALUATION)["metrics"] for folder in (first, second)]
    for metric in ("micro_f1", "macro_f1", "accuracy"):
        difference = compare_evaluations(first, second, metric=metric)["difference"]
        assert difference["value"] == pytest.approx(figures[0][metric]["value"] - figures[1][metric]["value"])
        assert difference["low"] <= difference["value"] <= difference["high"]
    against = compare_evaluations(first, second, metric="micro_f1")
    for entry in choose(measured, tmp_path)["comparisons"]:
        sign = 1 if entry["candidate"] == "finetuned/as-is" else -1
        assert entry["difference"]["value"] == pytest.approx(sign * against["difference"]["value"])
        assert entry["p_value"] == against["p_value"]


def test_a_bar_too_high_is_missed_by_its_name(measured: Measured, tmp_path: Path) -> None:
    selection = choose(measured, tmp_path, minimum=0.9999)
    assert not selection["passed"]
    assert "the lower end of micro-F1 is " in selection["sentence"]


def test_the_report_shows_a_multi_label_run(
    measured: Measured, topic_data: Path, topic_teacher: Path, tmp_path: Path
) -> None:
    choose(measured, tmp_path)
    cards = sorted((tmp_path / "selection" / "candidates").iterdir())
    sources = Sources(
        data=topic_data,
        teacher=topic_teacher,
        models=tuple(cards),
        evaluations=tuple(cards),
        profiles=measured.profiles,
        selection=tmp_path / "selection",
    )
    write_report(sources, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "micro-F1" in page
    assert "Confusion matrix" not in page
    assert "Most frequent mistakes" not in page
    assert "Parts of the test rows" in page


def test_a_server_answers_lists_by_both_protocols(measured: Measured, topic_data: Path) -> None:
    for model in measured.models:
        texts = artifacts.texts_and_labels(topic_data, "test")[0][:12]
        digest = artifacts.load(model, artifacts.MODEL)["digest"]
        found = smoke_test(model, "topics", digest, texts, load_predictor(model))
        assert found["rows"] == 12
    everything = load_predictor(model)
    everything.threshold = 0.0
    with pytest.raises(SmokeTestError, match=r"V1: 3 of 3 labels differ; row 0: \[.*\], not \["):
        smoke_test(model, "topics", digest, texts[:3], everything)


def test_what_is_answered(measured: Measured) -> None:
    predictor = load_predictor(measured.models[1])
    texts = ["i want my money back and it arrived broken and order 4711", "good morning and it is me again"]
    probabilities = predictor.probabilities(texts)
    both, none = answers.bodies(predictor, probabilities)
    assert sorted(both["labels"]) == ["damage", "refund"]
    assert both["probabilities"] == sorted(both["probabilities"], reverse=True)
    assert [entry["label"] for entry in both["top"]][:2] == both["labels"]
    assert (none["labels"], none["probabilities"], len(none["top"])) == ([], [], 3)
    tensors = answers.tensors(predictor, probabilities)
    assert [json.loads(labels) for labels in tensors["labels"]] == [both["labels"], []]
    assert np.array_equal(tensors["probabilities"], probabilities)
    assert list(answers.output_types(predictor)) == ["labels", "probabilities"]


def test_promotion_compares_whole_answers(measured: Measured, topic_data: Path) -> None:
    first, second = (load_predictor(model) for model in measured.models)
    version = Version(name="topics", number="1", digest="d", tags={})
    challenger = Challenger(version=version, predictor=second, data=topic_data, batch=1)
    found = compare(challenger, first, DeployConfig(model_name="topics"), frozenset())
    figures = [
        artifacts.load(folder, artifacts.EVALUATION)["metrics"]["accuracy"]["value"] for folder in measured.evaluations
    ]
    assert found["accuracy"] == {"champion": pytest.approx(figures[0]), "challenger": pytest.approx(figures[1])}
    assert found["difference"]["value"] == pytest.approx(figures[1] - figures[0])
    assert judge(found, DeployConfig(model_name="topics"))[1].startswith("accuracy ")


def test_the_registered_model_answers_json_lists(measured: Measured, topic_data: Path) -> None:
    model, predictor = TextClassifier(), load_predictor(measured.models[1])
    model.predictor = predictor
    texts = artifacts.texts_and_labels(topic_data, "test")[0]
    found = [json.loads(answer) for answer in model.predict(None, texts)]
    assert found == names(predictor, predictor.probabilities(texts))
    assert {len(labels) for labels in found} >= {0, 1, 2}
