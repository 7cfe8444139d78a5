"""What many tests need: a small data set, a tiny base model of our own, a workspace of their own."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from undercut import artifacts

# Two threads everywhere: pinned losses and resumed weights depend on the number.
os.environ.setdefault("OMP_NUM_THREADS", "2")

PHRASES = {
    "cancel": ["cancel my order", "stop the order please", "i do not want it any more", "call off the purchase"],
    "refund": ["where is my refund", "money back now", "i sent it back, pay me", "refund has not come"],
    "track": ["where is my parcel", "tracking does not move", "when will it arrive", "has it shipped yet"],
}
OPENINGS = ["", "hi", "hello there", "um", "ok so", "listen", "please help", "good morning"]
ENDINGS = ["", "thanks", "it is urgent", "order 4711", "i have waited for days", "this is the third time"]


def small_rows(seed: int = 0) -> list[tuple[str, str]]:
    """Return 576 distinct texts of three classes in a seeded order."""
    rows = [
        (" ".join(part for part in (opening, phrase, ending) if part), label)
        for label, phrases in PHRASES.items()
        for phrase in phrases
        for opening in OPENINGS
        for ending in ENDINGS
    ]
    random.Random(seed).shuffle(rows)
    return rows


def write_dataset(folder: Path, rows: list[tuple[str, str]], shares: tuple[float, float] = (0.6, 0.2)) -> Path:
    """Seal ``rows`` as a dataset folder, cut in order into train, validation and test."""
    folder.mkdir(parents=True)
    labels = sorted({label for _, label in rows})
    cuts = [0, int(len(rows) * shares[0]), int(len(rows) * sum(shares)), len(rows)]
    for split, start, end in zip(artifacts.SPLITS, cuts, cuts[1:], strict=False):
        table = {
            "row": pa.array(range(start, end), pa.int64()),
            "text": [text for text, _ in rows[start:end]],
            "label": pa.array([labels.index(label) for _, label in rows[start:end]], pa.int32()),
        }
        pq.write_table(pa.table(table), folder / f"{split}.parquet")
    counts = dict(zip(artifacts.SPLITS, np.diff(cuts).tolist(), strict=True))
    card = {"task": "text-classification", "labels": labels, "rows": counts, "columns": []}
    artifacts.seal(folder, artifacts.DATASET, card)
    return folder


def write_base_model(folder: Path, rows: list[tuple[str, str]]) -> Path:
    """Save a BERT of two layers with a WordPiece vocabulary of these rows' words, seeded."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    words = sorted({word for text, _ in rows for word in text.replace(",", " ,").split()})
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789,", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789")]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({*words, *letters})]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


# A store of checkpoints, as pods of a cluster have it.
STORE = ("UNDERCUT_CHECKPOINTS", "UNDERCUT_RUN_ID", "UNDERCUT_NODE")


def clean_environment() -> dict[str, str]:
    """Return the environment of a new process, without what other tests or MLflow left in this one's."""
    return {name: v for name, v in os.environ.items() if not name.startswith(("MLFLOW_", "UNDERCUT_"))}


# What a workspace must not inherit; MLflow sets its address itself whenever a model is registered.
INHERITED = ("UNDERCUT_EVENTS", "UNDERCUT_RUN_PID", "UNDERCUT_MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", *STORE)


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERCUT_HOME", str(tmp_path / "home"))
    for name in INHERITED:
        os.environ.pop(name, None)
        monkeypatch.setenv(name, "")  # so that it is unset again afterwards, whoever sets it
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder of 576 rows and three labels."""
    return write_dataset(tmp_path_factory.mktemp("small") / "data", small_rows())


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained-model folder of a BERT with two layers of width 64."""
    return write_base_model(tmp_path_factory.mktemp("tiny") / "base", small_rows())


def write_unlabelled(folder: Path, texts: list[str], documents: list[str] | None = None, shards: int = 3) -> Path:
    """Seal ``texts`` as the unlabelled split of a dataset folder, in numbered shards."""
    folder.mkdir(parents=True)
    cuts = [len(texts) * i // shards for i in range(shards + 1)]
    for i in range(shards):
        start, end = cuts[i : i + 2]
        table = {"text": texts[start:end]} | ({"document": documents[start:end]} if documents else {})
        pq.write_table(pa.table(table), folder / f"unlabelled-{i:05d}.parquet")
    artifacts.seal(folder, artifacts.DATASET, {"task": "none", "labels": [], "rows": {"unlabelled": len(texts)}})
    return folder


@pytest.fixture(scope="session")
def make_unlabelled() -> Callable[..., Path]:
    """:func:`write_unlabelled`, for tests that want their own."""
    return write_unlabelled


@pytest.fixture(scope="session")
def small_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder of 1,152 unlabelled texts in three shards, no documents."""
    texts = [text for seed in range(2) for text, _ in small_rows(seed)]
    return write_unlabelled(tmp_path_factory.mktemp("text") / "data", texts)


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory, small_data: Path, tiny_base: Path) -> Path:
    """A model folder: the tiny base, fine-tuned for three epochs on the small data."""
    from undercut.finetune.classifier import finetune
    from undercut.finetune.settings import FinetuneConfig

    folder = tmp_path_factory.mktemp("teacher")
    before = os.environ.get("UNDERCUT_HOME")
    os.environ["UNDERCUT_HOME"] = str(folder / "home")
    config = FinetuneConfig(
        base_model=str(tiny_base), epochs=6, learning_rate=3e-3, batch_tokens=256, train_embeddings=True, seed=3
    )
    finetune(small_data, folder / "model", config)
    if before is None:
        del os.environ["UNDERCUT_HOME"]
    else:
        os.environ["UNDERCUT_HOME"] = before
    return folder / "model"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the checkout; the test is skipped where there is none."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("UNDERCUT_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data sets at {folder} (set UNDERCUT_SHARED_DATA)")
    return folder


def write_linear_model(folder: Path, data: Path, rows: int | None = None, labels: list[str] | None = None) -> Path:
    """Seal a linear model: each label's mean features over the first training rows, no fit.

    Args:
        folder: where it goes.
        data: a dataset folder.
        rows: how many rows it learns from; fewer make it worse.
        labels: the label names it answers with, in the dataset's order.
    """
    from undercut.linear import LinearModel, Vocabulary

    card = artifacts.load(data, artifacts.DATASET)
    texts, truth = (part[:rows] for part in artifacts.texts_and_labels(data, "train"))
    vocabulary = Vocabulary.fit(texts)
    weights = np.zeros((vocabulary.size, len(card["labels"])), np.float32)
    for text, label in zip(texts, truth, strict=True):
        found, values = vocabulary.features(text)
        weights[found, label] += np.asarray(values, np.float32)
    weights *= 12 / np.maximum(np.bincount(truth, minlength=weights.shape[1]), 1)
    model = LinearModel(vocabulary, weights, np.zeros(weights.shape[1], np.float32), tuple(labels or card["labels"]))
    model.save(folder)
    manifest = {
        "task": "text-classification",
        "labels": list(model.labels),
        "format": "linear",
        "structure": "linear",
        "precision": "as-is",
        "base_model": None,
        "dataset": card["digest"],
        "method": "mean features of each label",
        "parameters": {"rows": rows},
        "parameter_count": int(weights.size),
        "max_length": 0,
        "metrics": {},
        "lost": "",
    }
    artifacts.seal(folder, artifacts.MODEL, manifest)
    return folder


@pytest.fixture(scope="session")
def make_linear_model() -> Callable[..., Path]:
    """:func:`write_linear_model`, for tests that want several."""
    return write_linear_model


@pytest.fixture(scope="session")
def linear_model(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Path:
    """A small linear model folder that gets most of the small data right."""
    return write_linear_model(tmp_path_factory.mktemp("linear") / "model", small_data)


def write_lost_model(folder: Path, structure: str = "linear", precision: str = "as-is") -> Path:
    """Seal the folder of a candidate that was lost: a manifest with the reason, and no weights."""
    folder.mkdir(parents=True)
    manifest = {
        "task": "text-classification",
        "labels": sorted(PHRASES),
        "format": "torch",
        "structure": structure,
        "precision": precision,
        "parameters": {},
        "max_length": 64,
        "metrics": {},
        "lost": "it answers differently",
    }
    artifacts.seal(folder, artifacts.MODEL, manifest)
    return folder


@pytest.fixture(scope="session")
def lost_model() -> Callable[..., Path]:
    """:func:`write_lost_model`, for tests of what becomes of a lost candidate."""
    return write_lost_model


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's SQLite file without content; to make one takes seconds."""
    from undercut import registry

    home = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERCUT_HOME", str(home))
        patch.setenv("MLFLOW_TRACKING_URI", "")
        registry.connect().search_experiments()
    return home / "mlflow.db"


@pytest.fixture
def registry_store(tmp_path: Path, empty_store: Path) -> None:
    """The workspace has an MLflow store, empty and at once."""
    (tmp_path / "home").mkdir()
    shutil.copyfile(empty_store, tmp_path / "home" / "mlflow.db")


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """The address of a real MLflow server with a store of its own; it may still be starting."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store = f"sqlite:///{tmp_path}/server.db"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--port", str(port)]
    command += ["--workers", "1", "--artifacts-destination", str(tmp_path / "objects")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    yield f"http://127.0.0.1:{port}"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
