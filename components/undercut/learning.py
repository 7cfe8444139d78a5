"""A student of any shape learns from its teacher: what every structure that keeps an encoder calls."""

import contextlib
import shutil
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
class LearningConfig:
    """Settings: of the loop, and the three losses' weights (:class:`undercut.tasks.distillation.Distillation`)."""

    epochs: int = 8
    learning_rate: float = 5e-4
    batch_tokens: int = 1024
    label_weight: float = 0.2
    state_weight: float = 1.0
    temperature: float = 2.0
    checkpoint_seconds: float = 30.0
    seed: int = 0


def learn(
    student: PreTrainedModel, layers: Sequence[int], teacher: Path, data: Path, key: str, config: LearningConfig
) -> FitResult:
    """Train ``student`` in place on the teacher's answers; an interrupted training resumes.

    Args:
        student: a classifier of the teacher's hidden size; its layer i is held to the teacher's ``layers[i]``.
        layers: layers of the teacher, counted from zero, one for each of the student's.
        teacher: the fine-tuned model's folder.
        data: dataset folder.
        key: what else decides the outcome: the structure's name.
        config: settings.
    """
    manifest = artifacts.load(teacher, artifacts.MODEL)
    settings = {k: v for k, v in asdict(config).items() if k != "checkpoint_seconds"}
    with training_folder(key, teacher, data, settings) as folder:
        task = Distillation(
            teacher, manifest["max_length"], config.label_weight, config.state_weight, config.temperature
        )
        texts, labels = teaching_texts(data, config.seed)
        rows = task.taught(texts, labels, remembered_answers(folder / "answers.safetensors", teacher, texts, layers))
        student.get_input_embeddings().weight.requires_grad = False
        loop = LoopConfig(
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            checkpoint_seconds=config.checkpoint_seconds,
            seed=config.seed,
        )
        events.message(f"{key}: {config.epochs} epochs on {len(texts):,} texts")
        return fit(student, task, rows, None, FitConfig(loop=loop, batch_tokens=config.batch_tokens), folder / "fit")


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
    shutil.rmtree(folder)


def remembered_answers(path: Path, teacher: Path, texts: list[str], layers: Sequence[int] = ()) -> Answers:
    """Return the teacher's answers, from the file that an interrupted training left if there is one."""
    if not path.is_file():
        ask(teacher, texts, layers).save(path)
    return Answers.load(path)


def write_student(
    student: PreTrainedModel,
    teacher: Path,
    output: Path,
    structure: str,
    method: str,
    result: FitResult,
    parameters: dict[str, object],
) -> artifacts.Manifest:
    """Seal ``student`` as a model folder in PyTorch format."""
    output.mkdir(parents=True, exist_ok=True)
    student.save_pretrained(output)
    copy_tokenizer(teacher, output)
    heads = head_counts(student)
    content = artifacts.content(artifacts.load(teacher, artifacts.MODEL)) | {
        "structure": structure,
        "method": method,
        "parameters": parameters | ({"heads": heads} if heads else {}),
        "parameter_count": sum(p.numel() for p in student.parameters()),
        "metrics": {"curve": list(result.curve)},
    }
    return artifacts.seal(output, artifacts.MODEL, content)
