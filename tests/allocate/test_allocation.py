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
    for prefix in ("", "launcher_"):
        values = [
            getattr(found, f"{prefix}{name}")
            for name in ("accelerator", "accelerator_count", "node_selector", "tolerations")
        ]
        assert values == ["nvidia.com/gpu", "2", {"pool": "gpu"}, [{"operator": "Exists"}]]


@pytest.mark.parametrize(("changes", "spot"), [({"nodes": 2}, "0"), ({}, "1")])
def test_a_step_that_follows_a_train_job_holds_no_device(
    changes: dict[str, int], spot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERCUT_SPOT", spot)
    found = allocation({**GPU, **changes})
    assert (found.launcher_accelerator, found.launcher_accelerator_count) == ("", "0")
    assert (found.launcher_node_selector, found.launcher_tolerations) == ({}, [])
    assert (found.accelerator, found.accelerator_count) == ("nvidia.com/gpu", "2")  # a search trains in its step
