"""The structures ``linear`` and ``linear-teacher``: n-gram features, multinomial logistic regression.

Where a row may have several labels, one logistic regression a label (one against the rest).

``linear`` is fitted on the labels; ``linear-teacher`` on the mean of the labels and the fine-tuned
model's probabilities (Hinton et al. 2015, without a temperature: the mean with the labels was better
on every set tried), and on the probabilities alone for texts of a split ``unlabelled``. The fit is
L-BFGS on the exact loss, from zero, so that the same data give the same weights. Probabilities are then
calibrated by one temperature chosen on held-out predictions (Guo et al. 2017); labels do not change by it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from undercut import artifacts, events
from undercut.compress.structures import Inputs
from undercut.label_sets import DEFAULT_THRESHOLD, choose_threshold, is_multi_label, sigmoid
from undercut.linear import LinearModel, Vocabulary
from undercut.predictors import FloatArray, softmax
from undercut.teaching import UNLABELLED, ask, labelled_rows, labelled_texts, teaching_texts

ARGUMENT = r"|teacher"
FORMS = "linear or linear-teacher"


@dataclass(frozen=True, kw_only=True)
class LinearConfig:
    """Settings: L2 penalty of the mean loss, share of the teacher in the targets, iterations at most."""

    l2_penalty: float = 2e-6
    teacher_weight: float = 0.5
    maximum_iterations: int = 120


def compress(inputs: Inputs, output: Path, argument: str, seed: int) -> None:
    """Fit a linear model and write a sealed model folder.

    Args:
        inputs: the fine-tuned model, asked only where ``argument`` is ``teacher``, and the dataset; train and
            validation rows are fitted together, with the teacher also unlabelled texts.
        output: where the model goes.
        argument: empty (labels) or ``teacher`` (labels and soft labels).
        seed: which rows are held out to choose the temperature, and the choice of unlabelled texts.
    """
    teacher, data = inputs.teacher, inputs.data
    config = LinearConfig()
    card = artifacts.load(data, artifacts.DATASET)
    texts, labels = teaching_texts(data, seed) if argument else labelled_texts(data)
    several, labelled = is_multi_label(labels), labelled_rows(labels)
    known = np.where(labels == UNLABELLED, 0, labels)
    targets = known.astype(np.float32) if several else np.eye(len(card["labels"]), dtype=np.float32)[known]
    link = sigmoid if several else softmax
    if argument:
        share = np.where(labelled, config.teacher_weight, 1.0).astype(np.float32)[:, None]
        targets = (1 - share) * targets + share * link(ask(teacher, texts).logits)
    events.message("collecting n-grams")
    vocabulary = Vocabulary.fit(texts)
    features = feature_matrix(vocabulary, texts)
    rows = np.flatnonzero(labelled)
    temperature, threshold = choose_temperature(features[rows], targets[rows], labels[rows], config, seed)
    events.message(f"fitting {vocabulary.size:,} n-grams to {len(card['labels'])} labels")
    weights, bias = fit_logistic(features, targets, config, _progress(config), several)
    LinearModel(vocabulary, weights / temperature, bias / temperature, tuple(card["labels"])).save(output)
    manifest = artifacts.load(teacher, artifacts.MODEL)
    content = artifacts.content(manifest) | {
        "format": "linear",
        "structure": "linear-teacher" if argument else "linear",
        "method": f"n-grams, {'one logistic regression a label' if several else 'multinomial logistic regression'} on "
        + ("labels and the teacher's probabilities" if argument else "labels"),
        "parameters": {**vars(config), "temperature": round(temperature, 4), "seed": seed},
        "parameter_count": int(weights.size + bias.size),
        "metrics": {},
    }
    if several:
        content["threshold"] = threshold
    if not argument:
        content["base_model"] = None
    artifacts.seal(output, artifacts.MODEL, content)
    events.message(f"{vocabulary.size:,} n-grams fitted to {len(card['labels'])} labels, temperature {temperature:.2f}")


def _progress(config: LinearConfig) -> Callable[[int], None]:
    return lambda done: events.progress(done, config.maximum_iterations, "L-BFGS iterations")


def feature_matrix(vocabulary: Vocabulary, texts: list[str]) -> scipy.sparse.csr_matrix:
    """Return the features of ``texts`` as a sparse float32 matrix, shape (texts, n-grams)."""
    rows = [vocabulary.features(text) for text in texts]
    pointers = np.cumsum([0, *(len(indices) for indices, _ in rows)])
    indices = np.concatenate([np.asarray(i, dtype=np.int32) for i, _ in rows])
    values = np.concatenate([np.asarray(v, dtype=np.float32) for _, v in rows])
    return scipy.sparse.csr_matrix((values, indices, pointers), shape=(len(texts), vocabulary.size))


def fit_logistic(
    features: scipy.sparse.csr_matrix,
    targets: FloatArray,
    config: LinearConfig,
    progress: Callable[[int], None] | None = None,
    several: bool = False,
) -> tuple[FloatArray, FloatArray]:
    """Minimise cross-entropy against ``targets`` (rows, labels) with an L2 penalty.

    Rows of targets sum to 1; with ``several`` each label has a probability of its own, and the losses of
    all labels are summed.

    Returns:
        Weights of shape (n-grams, labels) and bias of shape (labels,).
    """
    rows, size = features.shape
    count = targets.shape[1]
    transposed = features.T.tocsr()

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat[: size * count].reshape(size, count).astype(np.float32)
        logits = features @ weights + flat[size * count :].astype(np.float32)
        if several:
            loss = float((np.logaddexp(0, logits) - targets * logits).sum()) / rows
            error = (sigmoid(logits) - targets) / rows
        else:
            logits -= logits.max(axis=1, keepdims=True)
            exponentials = np.exp(logits)
            totals = exponentials.sum(axis=1, keepdims=True)
            loss = -float((targets * (logits - np.log(totals))).sum()) / rows
            error = (exponentials / totals - targets) / rows
        gradient = transposed @ error + config.l2_penalty * weights
        penalty = 0.5 * config.l2_penalty * float((weights * weights).sum())
        return loss + penalty, np.concatenate([gradient.ravel(), error.sum(axis=0)]).astype(np.float64)

    done = iter(range(1, config.maximum_iterations + 1))
    result = minimize(
        objective,
        np.zeros(size * count + count),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": config.maximum_iterations, "maxcor": 10},
        callback=(lambda _: progress(next(done))) if progress else None,
    )
    found = result.x.astype(np.float32)
    return found[: size * count].reshape(size, count), found[size * count :]


def choose_temperature(
    features: scipy.sparse.csr_matrix,
    targets: FloatArray,
    labels: NDArray[np.int64],
    config: LinearConfig,
    seed: int,
) -> tuple[float, float]:
    """Return the temperature that makes held-out probabilities fit best (log loss), by one 80/20 split.

    At most 4,000 rows are used: the temperature is one number. With it comes the threshold that is best for
    several labels a row; 0.5 where a row has one.
    """
    several = is_multi_label(labels)
    order = np.random.default_rng(seed).permutation(len(labels))[:4000]
    cut = len(order) * 4 // 5
    fitted, held = np.sort(order[:cut]), np.sort(order[cut:])
    events.message(f"calibrating on {len(held):,} held-out rows")
    weights, bias = fit_logistic(features[fitted], targets[fitted], config, None, several)
    logits = features[held] @ weights + bias

    def log_loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        if several:
            return float((np.logaddexp(0, scaled) - labels[held] * scaled).mean())
        return -float(np.log(softmax(scaled)[np.arange(len(held)), labels[held]] + 1e-12).mean())

    temperature = float(np.exp(minimize_scalar(log_loss, bounds=(-2.0, 2.0), method="bounded").x))
    threshold = choose_threshold(sigmoid(logits / temperature), labels[held]) if several else DEFAULT_THRESHOLD
    return temperature, threshold
