import dataclasses
from pathlib import Path

import numpy as np
import pytest
from undercut import artifacts
from undercut.errors import ConfigurationError
from undercut.evaluate.measure import EvaluateConfig, evaluate
from undercut.out_of_scope import answers, choose_threshold, label_index
from undercut.predictors import load_predictor

# Labels a, b and other (index 2).
PROBABILITIES = np.array(
    [[0.9, 0.05, 0.05], [0.5, 0.4, 0.1], [0.45, 0.35, 0.2], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]], dtype=np.float32
)
TRUTH = np.array([0, 0, 2, 2, 0])


def test_unsure_rows_go_to_the_label_and_sure_ones_stay() -> None:
    found = answers(PROBABILITIES, 2, 0.5)
    assert found.argmax(axis=1).tolist() == [0, 0, 2, 2, 0]
    assert found.sum(axis=1) == pytest.approx(np.ones(5))
    assert np.array_equal(found[[0, 1, 4]], PROBABILITIES[[0, 1, 4]])
    assert found[2].tolist() == pytest.approx([0.45 / 1.3, 0.35 / 1.3, 0.5 / 1.3])


def test_the_threshold_balances_misses_against_rejections() -> None:
    threshold = choose_threshold(PROBABILITIES, TRUTH, 2, coverage=0.0)
    assert threshold == pytest.approx(0.5)
    assert answers(PROBABILITIES, 2, threshold).argmax(axis=1).tolist() == TRUTH.tolist()


@pytest.mark.parametrize(("coverage", "threshold"), [(0.95, 0.5), (0.6, 0.5), (0.34, 0.6)])
def test_the_threshold_lets_a_share_through(coverage: float, threshold: float) -> None:
    chosen = choose_threshold(PROBABILITIES, TRUTH, 2, coverage)
    assert chosen == pytest.approx(threshold)
    passed = PROBABILITIES[[0, 1, 4], 0] >= np.float32(chosen)
    assert passed.mean() >= coverage


def test_a_label_that_is_not_there_or_has_no_rows_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match="out_of_scope_label: got 'none'; allowed: a label of the data set: a, b"
    ):
        label_index(["a", "b"], "none", TRUTH, 0.0)
    with pytest.raises(ConfigurationError, match="Give out_of_scope_coverage"):
        label_index(["a", "b", "c", "other"], "other", TRUTH, 0.0)
    assert label_index(["a", "b", "c", "other"], "other", TRUTH, 0.9) == 3


def test_every_format_applies_it_and_evaluation_shows_it(linear_model: Path, small_data: Path, tmp_path: Path) -> None:
    manifest = artifacts.load(linear_model, artifacts.MODEL)
    artifacts.copy_files(linear_model, tmp_path / "model", manifest["files"])
    settings = {"label": "track", "threshold": 0.9, "coverage": 0.0}
    artifacts.seal(tmp_path / "model", artifacts.MODEL, artifacts.content(manifest) | {"out_of_scope": settings})
    texts, truth = artifacts.texts_and_labels(small_data, "test")
    plain = load_predictor(linear_model).probabilities(texts)
    raw = load_predictor(tmp_path / "model", thresholded=False).probabilities(texts)
    applied = load_predictor(tmp_path / "model").probabilities(texts)
    assert np.array_equal(plain, raw)
    assert np.array_equal(applied, answers(plain, 2, 0.9))
    unsure = plain[:, :2].max(axis=1) < 0.9
    assert 0 < unsure.sum() < len(texts)
    assert (applied.argmax(axis=1)[unsure] == 2).all()
    metrics = evaluate(tmp_path / "model", small_data, tmp_path / "evaluation", EvaluateConfig())["metrics"]
    assert metrics["out_of_scope_recall"]["value"] == pytest.approx(unsure[truth == 2].mean())
    assert metrics["false_rejections"]["value"] == pytest.approx((applied.argmax(1) == 2)[truth != 2].mean())
    assert (
        metrics["false_rejections"]["low"]
        <= metrics["false_rejections"]["value"]
        <= metrics["false_rejections"]["high"]
    )


def test_fine_tuning_chooses_it_on_validation(small_data: Path, tiny_base: Path, tmp_path: Path) -> None:
    from undercut.finetune.classifier import finetune
    from undercut.finetune.settings import FinetuneConfig

    config = FinetuneConfig(
        base_model=str(tiny_base), epochs=2, batch_tokens=512, out_of_scope_label="track", out_of_scope_coverage=0.9
    )
    chosen = finetune(small_data, tmp_path / "model", dataclasses.replace(config, refit=False))["out_of_scope"]
    assert chosen["label"] == "track"
    texts, truth = artifacts.texts_and_labels(small_data, "validation")
    probabilities = load_predictor(tmp_path / "model", thresholded=False).probabilities(texts)
    assert chosen["threshold"] == pytest.approx(choose_threshold(probabilities, truth, 2, 0.9), abs=1e-5)
    with pytest.raises(ConfigurationError, match="out_of_scope_label: got 'other'"):
        finetune(small_data, tmp_path / "none", dataclasses.replace(config, out_of_scope_label="other"))
