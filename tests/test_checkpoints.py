import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from undercut import checkpoints
from undercut.errors import ConfigurationError


def save(folder: Path, step: int) -> Path:
    return checkpoints.save(folder, step, {"w": torch.full((4,), float(step))}, {"state": {"step": step}})


def test_the_newest_is_loaded_and_two_are_kept(tmp_path: Path) -> None:
    assert checkpoints.newest(tmp_path) is None
    for step in (1, 2, 3):
        save(tmp_path, step)
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found[0]["w"].tolist() == [3.0] * 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "state missing", "state cut", "tensors missing"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 1)
    tensors, state = (save(tmp_path, 2) / name for name in ("tensors.safetensors", "state.json"))
    content = tensors.read_bytes()
    match damage:
        case "truncated":
            tensors.write_bytes(content[:-3])
        case "flipped":
            tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "state missing":
            state.unlink()
        case "state cut":
            state.write_text(state.read_text()[:20])
        case "tensors missing":
            tensors.unlink()
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found[1]["step"] == 1


def test_a_half_written_checkpoint_is_no_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "step-00000002.partial").mkdir()
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found[1]["step"] == 1


def test_one_training_at_a_time_and_no_lock_outlives_its_process(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path; import time; from undercut import checkpoints
with checkpoints.locked(Path({str(tmp_path)!r})): print("held", flush=True); time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(ConfigurationError, match="one training at a time"), checkpoints.locked(tmp_path):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    time.sleep(0.1)
    with checkpoints.locked(tmp_path):
        pass


def test_the_key_is_of_everything_that_decides() -> None:
    key = checkpoints.content_key(data="a", settings={"epochs": 3})
    assert key == checkpoints.content_key(settings={"epochs": 3}, data="a")
    assert key != checkpoints.content_key(data="a", settings={"epochs": 4})
