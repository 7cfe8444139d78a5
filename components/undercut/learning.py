"""A student of any shape learns from its teacher: what every structure that keeps an encoder calls."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from undercut import artifacts, checkpoints, events, workspace
from undercut.attention_heads import head_counts
from undercut.encoders import copy_tokenizer
from undercut.fitting import FitConfig, FitResult, fit
from undercut.tasks.distillation import Distillation
from undercut.teaching import Answers, ask, teaching_texts
from undercut.training import LoopConfig


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a student reads that does not read as its teacher does.

    ``tokenizer`` is the folder with its ``tokenizer.json``; a text is cut at ``max_length`` of its tokens.
    """

    tokenizer: Path
    max_length: int


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """Settings: of the loop, and the three losses' weights (:class:`undercut.tasks.distillation.Distillation`)."""

    epochs: int = 8
    learning_rate: float = 5e-4
    batch_tokens: int = 1024
    label_weight: float = 0.2
    state_weight: float = 1.0
    temperature: float = 2.0
    train_embeddings: bool = False
    checkpoint_seconds: float = 120.0
    seed: int = 0


def learn(
    student: PreTrainedModel,
    layers: Sequence[int],
    teacher: Path,
    data: Path,
    key: str,
    config: LearningConfig,
    reading: Reading | None = None,
) -> FitResult:
    """Train ``student`` in place on the teacher's answers; an interrupted training resumes.

    Args:
        student: a classifier; its layer i is held to the teacher's ``layers[i]``, which is as wide.
        layers: layers of the teacher, counted from zero, one for each of the student's; none where the config
            gives their states no weight.
        teacher: the fine-tuned model's folder.
        data: dataset folder.
        key: what else decides the outcome: the structure's name, and what the student starts from.
        config: settings.
        reading: the student's tokenizer; None for the teacher's.
    """
    reading = reading or _as_teacher(teacher)
    settings = {k: v for k, v in asdict(config).items() if k != "checkpoint_seconds"}
    with training_folder(key, teacher, data, settings) as folder:
        task = Distillation(
            reading.tokenizer, reading.max_length, config.label_weight, config.state_weight, config.temperature
        )
        texts, labels = teaching_texts(data, config.seed)
        rows = task.taught(texts, labels, remembered_answers(folder / "answers.safetensors", teacher, texts, layers))
        student.get_input_embeddings().weight.requires_grad = config.train_embeddings
        loop = LoopConfig(
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            checkpoint_seconds=config.checkpoint_seconds,
            seed=config.seed,
        )
        events.message(f"{key}: {config.epochs} epochs on {len(texts):,} texts")
        return fit(student, task, rows, None, FitConfig(loop=loop, batch_tokens=config.batch_tokens), folder / "fit")


def _as_teacher(teacher: Path) -> Reading:
    return Reading(tokenizer=teacher, max_length=artifacts.load(teacher, artifacts.MODEL)["max_length"])


@contextlib.contextmanager
def training_folder(structure: str, teacher: Path, data: Path, settings: Mapping[str, object]) -> Iterator[Path]:
    """Lock the folder of checkpoints that belongs to this training; it is removed when the training ends well."""
    events.parameters(settings)
    key = checkpoints.content_key(
        structure=structure,
        teacher=artifacts.load(teacher, artifacts.MODEL)["digest"],
        data=artifacts.load(data, artifacts.DATASET)["digest"],
        settings=settings,
        code=workspace.code_digest(),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
    )
    folder = workspace.home() / "checkpoints" / key
    with checkpoints.locked(folder):
        yield folder
    checkpoints.finish(folder)


def remembered_answers(path: Path, teacher: Path, texts: list[str], layers: Sequence[int] = ()) -> Answers:
    """Return the teacher's answers, from the file that an interrupted training left if there is one."""
    if not checkpoints.recall(path):
        ask(teacher, texts, layers).save(path)
        checkpoints.remember(path)
    return Answers.load(path)


def write_student(
    student: PreTrainedModel,
    teacher: Path,
    output: Path,
    structure: str,
    method: str,
    result: FitResult,
    parameters: dict[str, object],
    reading: Reading | None = None,
) -> artifacts.Manifest:
    """Seal ``student`` as a model folder in PyTorch format.

    With a ``reading`` of its own the student has nothing of the teacher's base: it is said to have none.
    """
    output.mkdir(parents=True, exist_ok=True)
    student.save_pretrained(output)
    copy_tokenizer(reading.tokenizer if reading else teacher, output)
    heads = head_counts(student)
    content = artifacts.content(artifacts.load(teacher, artifacts.MODEL)) | {
        "structure": structure,
        "method": method,
        "parameters": parameters | ({"heads": heads} if heads else {}),
        "parameter_count": sum(p.numel() for p in student.parameters()),
        "metrics": {"curve": list(result.curve)},
    }
    if reading:
        content |= {"base_model": None, "max_length": reading.max_length}
    return artifacts.seal(output, artifacts.MODEL, content)
