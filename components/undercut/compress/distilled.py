"""The structure ``distilled-N``: a student with N of the teacher's layers, trained on the teacher's answers.

The student starts as the teacher with the layers in between left out (Sanh et al. 2019, DistilBERT) and
learns the teacher's probabilities, its states after the layers that were kept (Sun et al. 2019), and the
labels; see :mod:`undercut.tasks.distillation`. ``distilled`` alone keeps half the layers. An interrupted
training resumes.
"""

from dataclasses import asdict
from pathlib import Path

from undercut import artifacts
from undercut.compress.structures import Inputs
from undercut.errors import CandidateLost

ARGUMENT = r"|[1-9]\d?"
FORMS = "distilled, or distilled-N to keep N layers"


def compress(inputs: Inputs, output: Path, argument: str, seed: int) -> None:
    """Train a student of fewer layers and write a sealed model folder.

    Args:
        inputs: the fine-tuned model and the dataset: train, validation and, where there is one, ``unlabelled``.
        output: where the model goes: safetensors, tokenizer, config, ``model.json``.
        argument: how many layers stay; empty for half.
        seed: of the order of batches, dropout and the choice of unlabelled texts.

    Raises:
        CandidateLost: the teacher has no more layers than that.
    """
    from undercut.encoders import even_layers, layer_list, load_classifier, with_layers
    from undercut.learning import LearningConfig, learn, write_student

    teacher, data = inputs.teacher, inputs.data
    artifacts.verify(teacher, artifacts.MODEL)
    model = load_classifier(teacher)
    total = len(layer_list(model)[1])
    kept = int(argument) if argument else max(1, total // 2)
    if kept >= total:
        raise CandidateLost(f"a student of {kept} layers is no smaller than its teacher of {total}")
    layers = even_layers(total, kept)
    config = LearningConfig(seed=seed)
    student = with_layers(model, layers)
    structure = f"distilled-{argument}" if argument else "distilled"
    result = learn(student, layers, teacher, data, structure, config)
    names = ", ".join(str(layer + 1) for layer in layers)
    method = f"distillation from the fine-tuned model, starting from its layers {names} of {total}"
    write_student(student, teacher, output, structure, method, result, {**asdict(config), "layers": layers})
