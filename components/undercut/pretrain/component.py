"""KFP face of pretrain."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def pretrain(
    data: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    architecture: str = "bert",
    size: str = "mini",
    tokenizer: str = "wordpiece",
    vocabulary_size: int = 30522,
    lowercase: bool = True,
    sequence_length: int = 128,
    masking: str = "whole-word",
    mask_probability: float = 0.15,
    next_sentence: bool = False,
    epochs: int = 1,
    max_steps: int = 0,
    max_tokens: int = 0,
    learning_rate: float = 1e-3,
    batch_tokens: int = 4096,
    max_seconds: float = 0.0,
    budget_usd: float = 0.0,
    usd_per_hour: float = 0.0,
    checkpoint_seconds: float = 120.0,
    seed: int = 0,
    settings: dict = {},  # noqa: B006
    resources: dict = {},  # noqa: B006
):
    """Pretrain a language model from scratch on text without labels; resumes an interrupted training.

    Args:
        data: dataset folder; where it has no unlabelled split, the text of its training rows is used.
        model: the pretrained model, a base for finetune.
        architecture: bert (masked), gpt2 or llama (causal).
        size: tiny, mini, small, medium or base.
        tokenizer: wordpiece or bpe.
        vocabulary_size: tokens of the vocabulary at most.
        lowercase: fold case and accents (wordpiece).
        sequence_length: tokens of a packed row; also the longest text the model will take.
        masking: whole-word or token.
        mask_probability: share of tokens that are hidden and guessed.
        next_sentence: learn as well which sentences follow each other (bert; needs documents of several sentences).
        epochs: passes over the text; 0 leaves pretraining out, and the model is marked lost.
        max_steps: steps at most; 0 for no limit.
        max_tokens: tokens trained on at most; 0 for no limit.
        learning_rate: the schedule's peak.
        batch_tokens: tokens of a batch.
        max_seconds: stop after this many seconds of training; 0 for no limit.
        budget_usd: stop after this many US dollars of training; 0 for no limit.
        usd_per_hour: this machine's price, for budget_usd.
        checkpoint_seconds: seconds between checkpoints, which is what a lost machine costs at most; 0 for none.
        seed: of the weights, the order of rows and the masks.
        settings: each stands in for the argument of its name.
        resources: what a node may reserve, and how many: accelerator, accelerator_count, cpu, memory, nodes, processes.
    """
    from pathlib import Path

    from undercut.steps import step

    with step("pretrain", inputs=[data.path], output=model.path):
        from undercut.hyperparameters import from_arguments
        from undercut.launch import launch
        from undercut.pretrain.left_out import left_out
        from undercut.pretrain.settings import PretrainConfig

        config = from_arguments(PretrainConfig, locals(), settings=settings)
        if not config.epochs:
            return left_out(Path(model.path), config)  # without seconds of imports
        launch("pretrain", resources, {"data": data}, {"output": model}, config=config)
