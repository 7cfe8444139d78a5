"""The structure ``scratch``: a small language model pretrained from scratch, trained on the teacher's answers.

Everything about it is the user's own: vocabulary, size and weights come from pretrain, and no foreign base
is needed to serve it. It gets a new head and learns the fine-tuned model's probabilities and the labels
(Hinton et al. 2015; pretraining a small model before it is distilled is what makes it good, Turc et al. 2019,
"Well-read students learn better"). Its layers are not held to the teacher's: they need not be as wide, nor
read the same tokens. An interrupted training resumes.
"""

from dataclasses import asdict
from pathlib import Path

from undercut import artifacts
from undercut.compress.structures import Inputs
from undercut.errors import CandidateLost

ARGUMENT = r""
FORMS = "scratch"
LEARNING_RATE = 1e-3
LABEL_WEIGHT = 0.5
# A model that has seen little text before learns slowly: many passes over few texts, fewer over many.
MINIMUM_EPOCHS, MAXIMUM_EPOCHS, TEXTS_SEEN = 8, 40, 60_000


def compress(inputs: Inputs, output: Path, argument: str, seed: int) -> None:
    """Fine-tune the pretrained model on labels and the teacher's answers; write a sealed model folder.

    Args:
        inputs: the model pretrained from scratch, the fine-tuned model, and the dataset: train, validation
            and, where there is one, the split ``unlabelled``.
        output: where the model goes: safetensors, tokenizer, config, ``model.json``.
        argument: not used.
        seed: of the new head, the order of batches, dropout and the choice of unlabelled texts.

    Raises:
        CandidateLost: there is no such model, or pretraining was left out.
    """
    from transformers.utils import logging as transformers_logging

    from undercut.base_models import longest_text
    from undercut.classifiers import load_base
    from undercut.learning import LearningConfig, Reading, learn, write_student

    if inputs.scratch is None:
        raise CandidateLost("there is no model pretrained from scratch to start from")
    pretrained = artifacts.verify(inputs.scratch, artifacts.MODEL)
    if pretrained["lost"]:
        raise CandidateLost(f"there is no model pretrained from scratch to start from: {pretrained['lost']}")
    teacher = artifacts.verify(inputs.teacher, artifacts.MODEL)
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    reading = Reading(tokenizer=inputs.scratch, max_length=longest_text(inputs.scratch, teacher["max_length"]))
    rows = artifacts.load(inputs.data, artifacts.DATASET)["rows"]
    config = LearningConfig(
        epochs=epochs(sum(rows.get(split, 0) for split in ("train", "validation", "unlabelled"))),
        learning_rate=LEARNING_RATE,
        label_weight=LABEL_WEIGHT,
        state_weight=0.0,
        train_embeddings=True,
        seed=seed,
    )
    student = load_base(inputs.scratch, teacher["labels"], seed, train_embeddings=True)
    key = f"scratch from {pretrained['digest'][:12]}"
    result = learn(student, (), inputs.teacher, inputs.data, key, config, reading)
    method = f"{pretrained['method']}, then trained on the fine-tuned model's answers and the labels"
    parameters = {**asdict(config), "pretrained": pretrained["digest"]}
    write_student(student, inputs.teacher, output, "scratch", method, result, parameters, reading)


def epochs(texts: int) -> int:
    """Return the passes over so many texts: about 60,000 texts in all, 8 passes at least and 40 at most."""
    return max(MINIMUM_EPOCHS, min(MAXIMUM_EPOCHS, TEXTS_SEEN // max(1, texts)))
