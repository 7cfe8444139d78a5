"""Write what is served: the model as it is, ONNX in fp32, or ONNX in one of three kinds of int8.

Before a converted model may be a candidate it is compared with its source on real rows: a conversion
that answers differently is a lost candidate, not a cheaper one. The kinds of int8 are in
:mod:`undercut.quantize.int8`.
"""

import logging
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from undercut import artifacts, events
from undercut.candidates import PRECISIONS
from undercut.errors import CandidateLost, ConfigurationError
from undercut.label_sets import decided, same
from undercut.predictors import TOKENIZER_FILES, BatchTokenizer, FloatArray, load_predictor

BATCH = 32


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """Settings; agreements are shares of the compared rows, the difference a mean absolute probability."""

    precision: str = "as-is"
    compared_rows: int = 256
    minimum_agreement: float = 0.9
    maximum_difference: float = 0.1
    calibration_rows: int = 128
    mixed_agreement: float = 0.99

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigurationError("precision", self.precision, f"one of {', '.join(PRECISIONS)}")
        for name in ("compared_rows", "calibration_rows"):
            if getattr(self, name) < 1:
                raise ConfigurationError(name, getattr(self, name), "a whole number from 1")
        if not 0 < self.mixed_agreement <= 1:
            raise ConfigurationError("mixed_agreement", self.mixed_agreement, "a share above 0, up to 1")


def quantize(model: Path, data: Path, output: Path, config: QuantizeConfig) -> artifacts.Manifest:
    """Write the servable form of ``model`` and seal it.

    Args:
        model: model folder in PyTorch or linear format.
        data: dataset folder; validation rows are what the forms are compared on.
        output: the servable model folder.
        config: settings.

    A conversion that fails or answers differently writes a folder with ``lost`` and no weights.
    """
    manifest = artifacts.load(model, artifacts.MODEL)
    content = artifacts.content(manifest)
    output.mkdir(parents=True, exist_ok=True)
    content["precision"] = config.precision
    if manifest["lost"] or config.precision == "as-is":
        artifacts.copy_files(model, output, manifest["files"])
        return artifacts.seal(output, artifacts.MODEL, content)
    content["format"] = "onnx"
    try:
        content["parameters"] = {**manifest["parameters"], **_convert(model, data, output, manifest, config)}
        difference = _compare(model, data, output, content, config)
        content["metrics"] = {**manifest["metrics"], "conversion": difference}
    except CandidateLost as lost:
        events.message(f"lost: {lost}")
        for path in output.iterdir():
            path.unlink()
        content["lost"] = str(lost)
    return artifacts.seal(output, artifacts.MODEL, content)


def _convert(
    model: Path, data: Path, output: Path, manifest: artifacts.Manifest, config: QuantizeConfig
) -> dict[str, object]:
    source = model
    if manifest["format"] == "adapter":
        from undercut.adapters import base_folder

        source = base_folder(manifest)
    for name in (*TOKENIZER_FILES, "config.json"):
        if (source / name).is_file():
            shutil.copyfile(source / name, output / name)
    if manifest["format"] not in ("torch", "adapter"):
        raise CandidateLost(f"{config.precision} needs a PyTorch model, this one is {manifest['format']}")
    events.message("exporting to ONNX")
    details: dict[str, object] = {"onnx_opset": _exported(model, output / "model.onnx", config.precision)}
    if config.precision == "fp32":
        return details
    tokenizer = BatchTokenizer(source, manifest["max_length"])
    return details | _to_int8(output / "model.onnx", data, tokenizer, config, manifest.get("threshold"))


def _to_int8(
    path: Path, data: Path, tokenizer: BatchTokenizer, config: QuantizeConfig, threshold: float | None
) -> dict[str, object]:
    """Replace an exported file by its quantized form; returns what the manifest should tell of it.

    ``threshold`` is that of a multi-label model, otherwise None.
    """
    from undercut.quantize import int8

    events.message(f"quantizing to {config.precision}")
    prepared, quantized = int8.prepare(path), path.with_suffix(".int8.onnx")
    details: dict[str, object] = {}
    if config.precision == "int8":
        int8.quantize_int8(prepared, quantized)
    elif config.precision == "int8-static":
        texts, _ = artifacts.texts_and_labels(data, "train")
        batches = int8.calibration_batches(tokenizer.ids(texts), config.calibration_rows)
        int8.quantize_int8_static(prepared, quantized, batches)
        details = {"calibration_rows": sum(len(ids) for ids, _ in batches)}
    else:
        texts = _compared_texts(data, config)
        batches = [tokenizer.padded(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]
        details = int8.quantize_int8_mixed(
            prepared, quantized, lambda file: int8.onnx_logits(file, batches), config.mixed_agreement, threshold
        )
    prepared.unlink()
    quantized.replace(path)
    return details


def _exported(model: Path, target: Path, precision: str) -> int:
    from torch.onnx import OnnxExporterError

    try:
        return export_onnx(model, target)
    except OnnxExporterError as error:
        cause = str(error.__cause__ or error).strip().partition("\n")[0]
        raise CandidateLost(f"{precision} needs ONNX, which cannot express this model: {cause}") from error


def export_onnx(model: Path, target: Path) -> int:
    """Export a classifier, or an adapter with its base, with free batch and length; returns the opset."""
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    manifest = artifacts.load(model, artifacts.MODEL)
    if manifest["format"] == "adapter":
        from undercut.adapters import load_adapter

        loaded = load_adapter(model, manifest)
    else:
        from undercut.encoders import load_model

        loaded = load_model(model, manifest, "eager")

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = loaded

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
            return logits

    # A sample of one row would fix the batch dimension.
    sample = (torch.ones(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.long))
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits().eval(),
            sample,
            str(target),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes={"input_ids": free, "attention_mask": free},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    import onnx

    return int(next(o.version for o in onnx.load(target).opset_import if o.domain == ""))


def _compared_texts(data: Path, config: QuantizeConfig) -> list[str]:
    texts, _ = artifacts.texts_and_labels(data, "validation")
    return sorted(texts[: config.compared_rows], key=len)


def _compare(
    model: Path, data: Path, output: Path, content: artifacts.Manifest, config: QuantizeConfig
) -> dict[str, float]:
    texts = _compared_texts(data, config)
    events.message(f"comparing with the source on {len(texts)} rows")
    artifacts.seal(output, artifacts.MODEL, content)
    source, converted = (_predict(folder, texts) for folder in (model, output))
    threshold = content.get("threshold")
    agreement = float(same(decided(source, threshold), decided(converted, threshold)).mean())
    difference = float(np.abs(source - converted).mean())
    if agreement < config.minimum_agreement or difference > config.maximum_difference:
        raise CandidateLost(
            f"{config.precision} answers differently from its source: same label on {agreement:.1%} of "
            f"{len(texts)} rows (at least {config.minimum_agreement:.0%} wanted), mean difference {difference:.3f}"
        )
    events.message(f"same label as its source on {agreement:.1%} of {len(texts)} rows")
    return {"agreement": agreement, "mean_difference": difference, "rows": len(texts)}


def _predict(folder: Path, texts: list[str]) -> FloatArray:
    predictor = load_predictor(folder, threads=2)
    return np.concatenate([predictor.probabilities(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)])
