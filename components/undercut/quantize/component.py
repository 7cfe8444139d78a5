"""KFP face of quantize."""

from kfp import dsl

from undercut.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def quantize(
    model: dsl.Input[dsl.Model],
    data: dsl.Input[dsl.Dataset],
    servable: dsl.Output[dsl.Model],
    structure: str = "",
    precision: str = "as-is",
    compared_rows: int = 256,
    minimum_agreement: float = 0.9,
    maximum_difference: float = 0.1,
    calibration_rows: int = 128,
    mixed_agreement: float = 0.99,
):
    """Write the form that is served, compared with its source on real rows.

    Args:
        model: the model of one structure.
        data: dataset folder; its validation rows are compared on.
        servable: the candidate.
        structure: the structure's name, for the display only.
        precision: as-is, fp32 (ONNX), int8 (ONNX, dynamic, per channel), int8-static (calibrated scales) or
            int8-mixed (the products that int8 harms most stay in fp32).
        compared_rows: rows that source and converted model are compared on.
        minimum_agreement: share of those rows with the same label, or the candidate is lost.
        maximum_difference: mean absolute difference of probabilities, or the candidate is lost.
        calibration_rows: training rows that int8-static finds its scales on.
        mixed_agreement: int8-mixed leaves as few products in fp32 as give this share of rows the source's label.
    """
    from pathlib import Path

    from undercut.quantize.export import QuantizeConfig, quantize
    from undercut.steps import step

    with step("quantize", f"{structure}/{precision}", inputs=[model.path, data.path], output=servable.path):
        # fmt: off
        config = QuantizeConfig(precision=precision, compared_rows=compared_rows,
                                minimum_agreement=minimum_agreement, maximum_difference=maximum_difference,
                                calibration_rows=calibration_rows, mixed_agreement=mixed_agreement)
        # fmt: on
        quantize(Path(model.path), Path(data.path), Path(servable.path), config)
