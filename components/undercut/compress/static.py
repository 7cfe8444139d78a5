"""The structures ``static`` and ``static-D``: one vector of D numbers a token, trained on the teacher's answers.

The vectors start as the teacher's own token embeddings, brought to D dimensions by principal components
(as model2vec does, Tulkens & van Dongen 2024) and weighted by inverse document frequency; then vectors,
weights and a network of one hidden layer are trained together on the teacher's probabilities and the
labels. Pairs of neighbouring tokens seen twice or more have vectors of their own, from zero (the bigrams
of fastText, Joulin et al. 2017, without its hashing: no two pairs share a vector). Tokens that occur in no
text keep the vectors that they start with. Served by :mod:`undercut.static`.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from undercut import artifacts, events
from undercut.compress.structures import Inputs
from undercut.predictors import BatchTokenizer, FloatArray, IntArray
from undercut.static import StaticModel, TokenPairs

ARGUMENT = r"|[1-9]\d{0,2}"
FORMS = "static, or static-D for vectors of D numbers"
SPREAD = 0.5


@dataclass(frozen=True, kw_only=True)
class StaticConfig:
    """Settings: sizes, of the training loop, and shares of the two losses."""

    size: int = 256
    width: int = 256
    dropout: float = 0.3
    minimum_pair_texts: int = 2
    epochs: int = 15
    learning_rate: float = 3e-3
    batch_tokens: int = 2048
    label_weight: float = 0.5
    temperature: float = 1.0
    checkpoint_seconds: float = 120.0
    seed: int = 0


class Rows:
    """From texts to rows of the table that is trained: the tokens and pairs that occur, and no others."""

    def __init__(self, tokenizer: BatchTokenizer, tokens: int, texts: Sequence[str], minimum_pair_texts: int) -> None:
        self._tokenizer, self.tokens = tokenizer, tokens
        ids = [row or [0] for row in tokenizer.ids(texts)]
        seen = Counter(pair for row in ids for pair in {a * tokens + b for a, b in itertools.pairwise(row)})
        pairs = sorted(pair for pair, count in seen.items() if count >= minimum_pair_texts)
        self.pairs = TokenPairs(np.array(pairs, dtype=np.int64), tokens)
        counts = np.zeros(tokens + len(pairs))
        for row in ids:
            counts[np.unique(self.pairs.rows([row])[0])] += 1
        self.used: IntArray = np.flatnonzero(counts)
        self.inverse_frequencies = (np.log((1 + len(texts)) / (1 + counts)) + 1).astype(np.float32)
        self._places = np.full(len(counts), -1)
        self._places[self.used] = np.arange(len(self.used))

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's rows of the trained table; what was not seen at first is left out."""
        found = [self._places[self.pairs.rows([ids or [0]])[0]] for ids in self._tokenizer.ids(texts)]
        return [row[row >= 0].tolist() for row in found]


def compress(inputs: Inputs, output: Path, argument: str, seed: int) -> None:
    """Train static vectors and write a sealed model folder in the format ``static``.

    Args:
        inputs: the fine-tuned model, whose token embeddings and answers are used, and the dataset: train,
            validation and, where there is one, the split ``unlabelled``.
        output: where the model goes: ``weights.safetensors`` and the tokenizer.
        argument: numbers in a vector; empty for 256, or the teacher's size where that is less.
        seed: of the order of batches, dropout and the choice of unlabelled texts.
    """
    from undercut.encoders import load_classifier
    from undercut.learning import remembered_answers, training_folder
    from undercut.teaching import teaching_texts

    teacher, data = inputs.teacher, inputs.data
    manifest = artifacts.verify(teacher, artifacts.MODEL)
    embeddings = load_classifier(teacher).get_input_embeddings().state_dict()["weight"].numpy()
    config = StaticConfig(size=min(int(argument or StaticConfig.size), embeddings.shape[1]), seed=seed)
    texts, labels = teaching_texts(data, seed)
    tokenizer = BatchTokenizer(teacher, manifest["max_length"])
    events.message("collecting tokens and pairs")
    rows = Rows(tokenizer, len(embeddings), texts, config.minimum_pair_texts)
    vectors = np.zeros((len(rows.inverse_frequencies), config.size), np.float32)
    vectors[: len(embeddings)] = principal_components(embeddings, config.size)
    settings = {k: v for k, v in asdict(config).items() if k != "checkpoint_seconds"}
    with training_folder(f"static-{argument}", teacher, data, settings) as folder:
        answers = remembered_answers(folder / "answers.safetensors", teacher, texts)
        tensors = _train(rows, vectors, texts, labels, answers.logits, config, folder / "fit")
    StaticModel(tokenizer, tensors, tuple(manifest["labels"])).save(output)
    artifacts.copy_files(teacher, output, ["tokenizer.json"])
    content = artifacts.content(manifest) | {
        "format": "static",
        "structure": f"static-{argument}" if argument else "static",
        "method": "static vectors of tokens and pairs of tokens, trained on the teacher's probabilities and labels",
        "parameters": settings,
        "parameter_count": sum(int(tensor.size) for name, tensor in tensors.items() if name != "pairs"),
        "metrics": {"tokens": len(rows.used) - len(rows.pairs.pairs), "pairs": len(rows.pairs.pairs)},
    }
    artifacts.seal(output, artifacts.MODEL, content)


def principal_components(embeddings: FloatArray, size: int) -> FloatArray:
    """Return ``embeddings``, shape (tokens, any), in their first ``size`` components, with spread 0.5."""
    centred = embeddings - embeddings.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    projected = centred @ directions[:, ::-1][:, :size]
    return np.asarray(projected * (SPREAD / projected.std()), dtype=np.float32)


def _train(
    rows: Rows,
    vectors: FloatArray,
    texts: list[str],
    labels: NDArray[np.int64],
    logits: FloatArray,
    config: StaticConfig,
    folder: Path,
) -> dict[str, NDArray[np.generic]]:
    """Train the rows that occur; return the tensors of the whole model."""
    import torch

    from undercut.fitting import FitConfig, fit
    from undercut.tasks.static_distillation import StaticDistillation, StaticEncoder
    from undercut.training import LoopConfig

    torch.manual_seed(config.seed)
    weights = rows.inverse_frequencies
    encoder = StaticEncoder(vectors[rows.used], weights[rows.used], config.width, logits.shape[1], config.dropout)
    task = StaticDistillation(rows, config.label_weight, config.temperature)
    loop = LoopConfig(
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        checkpoint_seconds=config.checkpoint_seconds,
        seed=config.seed,
    )
    events.message(f"training {len(rows.used):,} vectors of {config.size} numbers on {len(texts):,} texts")
    settings = FitConfig(loop=loop, batch_tokens=config.batch_tokens)
    fit(encoder, task, task.taught(texts, labels, logits), None, settings, folder)
    trained = {name: tensor.detach().numpy() for name, tensor in encoder.state_dict().items()}
    whole, whole_weights = vectors.copy(), weights.copy()
    whole[rows.used], whole_weights[rows.used] = trained["vectors"], np.exp(trained["logarithms"])
    return {
        "vectors": whole,
        "weights": whole_weights,
        "pairs": rows.pairs.pairs,
        "hidden": trained["hidden.weight"].T,
        "hidden_bias": trained["hidden.bias"],
        "head": trained["head.weight"].T,
        "bias": trained["head.bias"],
    }
