"""What a deployment keeps beside the version: the fine-tuned model and a reference."""

from collections.abc import Callable
from pathlib import Path

from undercut import registry
from undercut.deploy.deployment import deploy
from undercut.deploy.settings import DeployConfig


def test_deploy_keeps_both(
    linear_model: Path, small_data: Path, tiny_teacher: Path, tmp_path: Path, make_selection: Callable[..., Path]
) -> None:
    selection = make_selection(tmp_path / "selection", linear_model)
    deploy(linear_model, selection, small_data, tmp_path / "out", DeployConfig(model_name="shop"), tiny_teacher)
    champion = registry.by_alias(registry.connect(), "shop", registry.CHAMPION)
    assert champion is not None
    assert {"teacher", "reference"} <= champion.tags.keys()
