import pytest
from undercut.allocate.allocation import allocation

GPU = {
    "accelerator": "nvidia.com/gpu",
    "accelerator_count": 2,
    "node_selector": {"pool": "gpu"},
    "tolerations": [{"operator": "Exists"}],
}


def test_a_training_in_the_step_gets_the_devices() -> None:
    found = allocation(GPU)
    assert (found.accelerator, found.accelerator_count, found.node_selector) == ("nvidia.com/gpu", "2", {"pool": "gpu"})
    assert found.tolerations == [{"operator": "Exists"}]


def test_a_step_that_follows_a_train_job_holds_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert allocation({**GPU, "nodes": 2})[:2] == ("", "0")
    monkeypatch.setenv("UNDERCUT_SPOT", "1")
    assert allocation(GPU).tolerations == []
    assert allocation(GPU).accelerator == ""
