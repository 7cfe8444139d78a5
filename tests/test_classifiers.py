import json
from pathlib import Path

import pytest
from undercut import artifacts
from undercut.base_models import check_base, longest_text
from undercut.errors import ConfigurationError


def test_texts_are_no_longer_than_the_base_has_positions_for(tiny_base: Path) -> None:
    assert longest_text(tiny_base, 128) == 64
    assert longest_text(tiny_base, 32) == 32


def test_a_base_without_a_limit_sets_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "anything"}))
    assert longest_text(tmp_path, 4096) == 4096


def test_an_incomplete_base_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"base_model: .*model\.safetensors"):
        check_base(tmp_path, "some/base")


def test_a_base_with_cut_heads_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    artifacts.copy_files(tiny_base, tmp_path, [p.name for p in tiny_base.iterdir()])
    artifacts.seal(tmp_path, artifacts.MODEL, {"parameters": {"heads": [2, 1]}})
    with pytest.raises(ConfigurationError, match="all their attention heads"):
        check_base(tmp_path, "some/base")
