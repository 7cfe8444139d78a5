"""Adapters: a few trained weights beside a frozen base model, by the library peft.

========  ==========================================================================================
lora      low-rank updates of every linear layer of the encoder's blocks (Hu et al. 2021)
rslora    the same, scaled by alpha / sqrt(rank) in place of alpha / rank (Kalajdzievski 2023)
dora      direction by LoRA, magnitude trained apart (Liu et al. 2024)
adalora   a budget of ranks, moved to the layers that need them (Zhang et al. 2023); :mod:`undercut.adalora`
prefix    trained keys and values in front of every layer's own (Li & Liang 2021)
========  ==========================================================================================

The classification head (and the pooler before it) is trained in full and belongs to the adapter. An
adapter folder holds ``adapter_model.safetensors`` and ``adapter_config.json``, which peft itself reads
too, and a ``model.json`` that names the base by URI and digest. The LoRA family is merged into the base
for the stages that need a plain model; a prefix cannot be, and stays an adapter.
"""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from undercut import artifacts
from undercut.adapter_settings import AdapterConfig
from undercut.errors import ConfigurationError
from undercut.storage import local_path

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
MERGED = ("lora", "rslora", "dora", "adalora")
KINDS = {"LORA": "LoraConfig", "ADALORA": "AdaLoraConfig", "PREFIX_TUNING": "PrefixTuningConfig"}
KEPT_SETTINGS = (
    "task_type",
    "base_model_name_or_path",
    "r",
    "lora_alpha",
    "use_rslora",
    "use_dora",
    "target_modules",
    "modules_to_save",
    "init_r",
    "target_r",
    "total_step",
    "rank_pattern",
    "num_virtual_tokens",
    "num_layers",
    "token_dim",
    "num_attention_heads",
    "num_transformer_submodules",
)


def attach(model: PreTrainedModel, config: AdapterConfig, steps: int, max_length: int) -> torch.nn.Module:
    """Freeze a classifier and put a fresh adapter on it; returns it as it is for the method ``full``.

    Args:
        model: a sequence classifier; changed in place.
        config: settings.
        steps: optimizer steps of the whole training, which AdaLoRA's budget follows.
        max_length: tokens of the longest text; with a prefix it needs as many positions more.

    Raises:
        ConfigurationError: the architecture has no blocks of linear layers, or too few positions.
    """
    if config.method == "full":
        return model
    import peft

    common: dict[str, Any] = {"task_type": "SEQ_CLS", "modules_to_save": head_modules(model)}
    settings: peft.PeftConfig
    if config.method == "prefix":
        positions = getattr(model.config, "max_position_embeddings", max_length + config.virtual_tokens)
        if max_length + config.virtual_tokens > positions:
            allowed = f"at most {positions} tokens together with max_length ({max_length})"
            raise ConfigurationError("virtual_tokens", config.virtual_tokens, allowed, "Lower max_length")
        settings = peft.PrefixTuningConfig(num_virtual_tokens=config.virtual_tokens, **common)
    elif config.method == "adalora":
        from undercut.adalora import budget

        settings = peft.AdaLoraConfig(
            target_modules=linear_modules(model), lora_alpha=config.alpha, **budget(config.rank, steps), **common
        )
    else:
        settings = peft.LoraConfig(
            target_modules=linear_modules(model),
            r=config.rank,
            lora_alpha=config.alpha,
            use_rslora=config.method == "rslora",
            use_dora=config.method == "dora",
            **common,
        )
    return _wrap(model, settings)


def _wrap(model: PreTrainedModel, settings: Any) -> torch.nn.Module:
    import peft

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped: torch.nn.Module = peft.get_peft_model(model, settings)
    return wrapped


def linear_modules(model: PreTrainedModel) -> str:
    """Return a pattern that matches every linear layer inside the encoder's numbered blocks.

    Raises:
        ConfigurationError: there is none.
    """
    backbone = model.base_model_prefix
    inside = re.compile(rf"{re.escape(backbone)}\..*\.\d+\.(.+)")
    found = (inside.fullmatch(name) for name, m in model.named_modules() if isinstance(m, torch.nn.Linear))
    names = sorted({match.group(1).rpartition(".")[2] for match in found if match})
    if not names:
        kind = type(model).__name__
        raise ConfigurationError("method", f"an adapter for {kind}", "full for an architecture without linear blocks")
    return rf"{re.escape(backbone)}\..*\.\d+\.(?:.+\.)?(?:{'|'.join(map(re.escape, names))})"


def head_modules(model: PreTrainedModel) -> list[str]:
    """Return the modules after the encoder's blocks: those beside the backbone, and its pooler."""
    backbone = model.base_model_prefix
    beside = [
        name for name, child in model.named_children() if name != backbone and any(True for _ in child.parameters())
    ]
    pooler = getattr(model.base_model, "pooler", None)
    return [*([f"{backbone}.pooler"] if isinstance(pooler, torch.nn.Module) else []), *beside]


def merged(model: torch.nn.Module) -> PreTrainedModel:
    """Return the plain model whose weights include the adapter's; the logits stay what they were."""
    plain = model.merge_and_unload()  # type: ignore[operator]
    assert isinstance(plain, PreTrainedModel), type(plain)
    return plain


def save_adapter(model: torch.nn.Module, folder: Path, base: str) -> None:
    """Write an adapter's weights and settings into ``folder``; AdaLoRA's unused ranks are left out.

    Args:
        model: what :func:`attach` returned, trained.
        folder: made if it is not there; the caller seals it.
        base: the base's URI, named in ``adapter_config.json``.
    """
    import peft

    settings: Any = model.peft_config["default"]  # type: ignore[index]
    kind = settings.peft_type.value
    if kind == "ADALORA":
        from undercut.adalora import rank_pattern

        settings.rank_pattern = rank_pattern(model)
    settings.base_model_name_or_path = base
    tensors = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: t.detach().clone().contiguous() for name, t in tensors.items()}, folder / WEIGHTS)
    known = {name: getattr(settings, name) for name in KEPT_SETTINGS if hasattr(settings, name)}
    known["modules_to_save"] = sorted(set(known["modules_to_save"]))
    artifacts.write_json(folder / SETTINGS, {"peft_type": kind, **known})


def load_adapter(folder: Path, manifest: artifacts.Manifest) -> torch.nn.Module:
    """Load a sealed adapter folder onto its base, which must still have the digest it was trained on.

    Raises:
        ConfigurationError: the base is missing or has changed, or the adapter is of an unknown kind.
    """
    import peft

    content = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    if content.get("peft_type") not in KINDS:
        raise ConfigurationError("adapter.peft_type", content.get("peft_type"), f"one of {', '.join(KINDS)}")
    base = AutoModelForSequenceClassification.from_pretrained(
        base_folder(manifest),
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.float32,
        num_labels=len(manifest["labels"]),
        attn_implementation="eager",
    )
    # Named keys only: some of peft's other settings import modules by name.
    known = {name: content[name] for name in KEPT_SETTINGS if name in content}
    settings = getattr(peft, KINDS[content["peft_type"]])(inference_mode=True, **known)
    model = _wrap(base, settings)
    weights = load_file(folder / WEIGHTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result: Any = peft.set_peft_model_state_dict(model, weights)
    # The prefix is not a key of the model's own: peft sets it apart.
    assert not set(result.unexpected_keys) - {"prompt_embeddings"}, result.unexpected_keys
    absent = [k for k in result.missing_keys if ".lora_" in k and ".ranknum." not in k]
    assert not absent, absent
    return model.eval()


def base_folder(manifest: artifacts.Manifest) -> Path:
    """Return the folder of a model's base, its digest checked.

    Raises:
        ConfigurationError: it is not there any more, or has changed.
    """
    base = manifest["base_model"]
    return local_path(f"{base['uri']}#sha256={base['digest']}", "base_model")
