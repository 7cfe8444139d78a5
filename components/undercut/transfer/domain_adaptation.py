"""Continue a base model's pretraining on text of the domain, and say what that bought.

Masked language modelling goes on from the base's weights (Gururangan et al. 2020, "Don't stop
pretraining"). Many small encoders are published without their output layer; then a fresh one, tied to
the embeddings, is trained alone for the first tenth, and "before" means: the base with that layer.
"""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from undercut import artifacts, checkpoints, corpus, distributed, events, workspace
from undercut.base_models import check_base
from undercut.costs import LIMITS
from undercut.errors import ConfigurationError
from undercut.fitting import device
from undercut.language_models import HELD_OUT_ROWS, fit_language_model
from undercut.optimization import choose_precision
from undercut.plan import INTERVALS
from undercut.predictors import TOKENIZER_FILES
from undercut.storage import local_path
from undercut.tasks.masked_lm import HEADS, MaskedLM
from undercut.transfer.as_it_is import as_it_is
from undercut.transfer.comparison import compare
from undercut.transfer.layers import freeze, thaw
from undercut.transfer.settings import TransferConfig

DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")


def transfer(unlabelled: Path, data: Path, output: Path, config: TransferConfig) -> artifacts.Manifest:
    """Continue pretraining and write a sealed model folder, a base for finetune.

    Args:
        unlabelled: dataset folder with an unlabelled split: text of the domain.
        data: dataset folder with labels, for the comparison downstream.
        output: where the model goes.
        config: settings.

    Raises:
        ConfigurationError: the base is not of a kind that can be continued, or there is too little text.
    """
    if not config.epochs:
        as_it_is(output, config)
        return artifacts.load(output, artifacts.MODEL)
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    base = local_path(config.base_model, "base_model")
    base_digest = check_base(base, config.base_model)
    _check_kind(base, config)
    corpus.shards(unlabelled)
    corpus.announce(unlabelled)
    card, labelled = (artifacts.load(folder, artifacts.DATASET) for folder in (unlabelled, data))
    events.parameters(asdict(config))
    settings = {k: v for k, v in asdict(config).items() if k not in (*LIMITS, "base_model")}
    key = checkpoints.content_key(
        base=base_digest,
        data=[card["digest"], labelled["digest"]],
        settings=settings,
        code=workspace.code_digest(),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
    )
    folder = workspace.home() / "checkpoints" / key
    output.mkdir(parents=True, exist_ok=True)
    with checkpoints.locked(folder):
        model, metrics = _continue(unlabelled, base, folder, config)
        _write(model, base, output)
        metrics["downstream"] = _downstream(base, output, data, folder, config)
    content = {
        "task": "masked-language-modelling",
        "labels": [],
        "format": "torch",
        "structure": "transferred",
        "precision": "as-is",
        "base_model": {"uri": config.base_model.partition("#")[0], "digest": base_digest},
        "dataset": card["digest"],
        "method": f"continued pretraining, {config.masking} masks, {config.frozen_layers} layers frozen",
        "parameters": settings,
        "parameter_count": sum(p.numel() for p in model.parameters()),
        "max_length": config.sequence_length,
        "metrics": metrics,
        "lost": "",
    }
    manifest = artifacts.seal(output, artifacts.MODEL, content)
    checkpoints.finish(folder)
    return manifest


def _check_kind(base: Path, config: TransferConfig) -> None:
    found = AutoConfig.from_pretrained(base, local_files_only=True)
    if found.model_type not in HEADS:
        raise ConfigurationError("base_model", f"a {found.model_type} model", f"one of {', '.join(HEADS)}")
    positions = found.max_position_embeddings - (found.pad_token_id + 1 if HEADS[found.model_type][1] else 0)
    if config.sequence_length > positions:
        raise ConfigurationError("sequence_length", config.sequence_length, f"up to {positions} for this base")


def load(base: Path, seed: int) -> tuple[PreTrainedModel, bool]:
    """Return the base with its masked-LM head, without dropout, and whether the head is a fresh one."""
    torch.manual_seed(seed)
    model, found = AutoModelForMaskedLM.from_pretrained(
        base,
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
        **dict.fromkeys(DROPOUTS, 0.0),
    )
    assert isinstance(model, PreTrainedModel), type(model)
    head = HEADS[model.config.model_type][0]
    return model, any(name.startswith(f"{head}.") for name in found["missing_keys"])


def _continue(
    unlabelled: Path, base: Path, folder: Path, config: TransferConfig
) -> tuple[PreTrainedModel, dict[str, Any]]:
    task = MaskedLM(base, config.sequence_length, config.masking, config.mask_probability)
    text = corpus.tokenize(
        unlabelled, task.tokenizer, folder / "tokens", config.sequence_length, task.begin, task.end, HELD_OUT_ROWS
    )
    model, fresh_head = load(base, config.seed)
    if fresh_head:
        events.message("the base has no masked-LM head: a fresh one, tied to the embeddings, is trained first")
        _check_intervals(config, len(text.train.labels))
    freeze(model, config.frozen_layers)
    precision = choose_precision(device())
    torch.nn.Module.to(model, precision.device)
    model.eval()  # type: ignore[no-untyped-call]
    before = task.metrics(model, text.held_out, precision)

    def before_interval(interval: int) -> None:
        thaw(model, config.frozen_layers, interval, config.unfreezing == "gradual", fresh_head)

    _, after = fit_language_model(model, task, text, config.plan, folder / "train", before_interval)
    if fresh_head:
        first = after["curve"][0]
        before = {k.removeprefix("validation_"): v for k, v in first.items() if k.startswith("validation_")}
    what = "the base with its fresh head trained alone for the first interval" if fresh_head else "the base as it came"
    return model, {**after, "before": {**before, "what": what}, "fresh_head": fresh_head}


def _check_intervals(config: TransferConfig, rows: int) -> None:
    if (steps := config.plan.steps(rows)) < INTERVALS:
        raise ConfigurationError(
            "epochs",
            f"{steps} steps",
            f"at least {INTERVALS} steps for a base without a masked-LM head",
            "Raise epochs",
        )


def _write(model: PreTrainedModel, base: Path, output: Path) -> None:
    """Save encoder and head, with the base's pooler (masked LM has no use for it, fine-tuning has)."""
    original = AutoConfig.from_pretrained(base, local_files_only=True)
    for name in DROPOUTS:
        setattr(model.config, name, getattr(original, name))
    pooler = {k[k.index("pooler.") :]: v for k, v in load_file(base / "model.safetensors").items() if "pooler." in k}
    kept = {f"{model.base_model_prefix}.{k}": v.float() for k, v in pooler.items()}
    weights = {**model.state_dict(), **kept}
    model.save_pretrained(output, state_dict=weights)
    if not distributed.is_first():  # transformers writes in the first process alone; all read it for the comparison
        model.config.save_pretrained(output)
        save_file(
            {k: v.detach().cpu().clone() for k, v in weights.items()}, output / "model.safetensors", {"format": "pt"}
        )
    for name in TOKENIZER_FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, output / name)


def _downstream(base: Path, output: Path, data: Path, folder: Path, config: TransferConfig) -> dict[str, Any]:
    if not config.comparison_rows:
        return {"worth_it": None, "reason": "not compared: comparison_rows is 0"}
    found = compare({"original": base, "transferred": output}, data, config, folder / "comparison")
    events.message(f"transfer: {found['reason']}")
    return found
