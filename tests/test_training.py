from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from undercut import checkpoints
from undercut.optimization import Precision
from undercut.training import LoopConfig, LoopState, train

CPU = Precision(device="cpu", bf16=False)
ROWS = 60
X = torch.randn(ROWS, 8, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


class Interrupted(Exception):
    pass


def network() -> torch.nn.Module:
    """Return a small network with dropout, so that the random state matters."""
    torch.manual_seed(1)
    return torch.nn.Sequential(
        torch.nn.Linear(8, 16), torch.nn.LayerNorm(16), torch.nn.Dropout(0.3), torch.nn.Linear(16, 2)
    )


def batches(epoch: int) -> list[np.ndarray]:
    """Return six batches of ten rows in an order of the epoch's own."""
    return np.split(np.random.default_rng(epoch).permutation(ROWS), 6)


Trained = tuple[torch.nn.Module, LoopState, list[float]]


def loop(folder: Path, stop_at: int = 0, **changes: object) -> Trained:
    """Train four epochs of six steps; raise in step ``stop_at``, with a checkpoint after each step before."""
    model, losses = network(), []
    best: dict[str, torch.Tensor] = {}

    def loss(indices: np.ndarray) -> torch.Tensor:
        if stop_at and len(losses) + 1 == stop_at:
            raise Interrupted
        value = torch.nn.functional.cross_entropy(model(X[indices]), Y[indices])
        losses.append(float(value.detach()))
        return value

    def after_epoch(state: LoopState) -> bool:
        state.extra.setdefault("epochs", []).append(state.epoch_loss)
        best["first"] = best.get("first", next(model.parameters()).detach().clone())
        return True

    config = LoopConfig(
        **{"epochs": 4, "learning_rate": 1e-2, "checkpoint_seconds": 1e-9 if stop_at else 0.0, **changes}
    )
    state = train(model, batches, loss, after_epoch, config, CPU, folder, best)
    state.extra["best"] = best["first"].sum().item()
    return model, state, losses


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """What :func:`loop` gives without an interruption."""
    return loop(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("stop_at", [2, 6, 7, 8, pytest.param(24, marks=pytest.mark.slow)])
def test_interrupted_at_any_step_it_ends_with_the_same_bits(undisturbed: Trained, tmp_path: Path, stop_at: int) -> None:
    """Also in an epoch's last step, its first, and the last of all."""
    whole, state, losses = undisturbed
    with pytest.raises(Interrupted):
        loop(tmp_path / "cut", stop_at=stop_at)
    resumed, again, rest = loop(tmp_path / "cut")
    assert rest == losses[stop_at - 1 :]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert again.extra == state.extra
    assert (again.epoch, again.step, again.stopped_by) == (4, 24, "")


def test_interrupted_twice(undisturbed: Trained, tmp_path: Path) -> None:
    whole, _, _ = undisturbed
    for stop_at in (4, 3):
        with pytest.raises(Interrupted):
            loop(tmp_path / "cut", stop_at=stop_at)
    resumed, state, rest = loop(tmp_path / "cut")
    assert len(rest) == 24 - 3 - 2
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert state.seconds > 0


def test_a_damaged_checkpoint_costs_a_step_and_no_bit(undisturbed: Trained, tmp_path: Path) -> None:
    whole, _, losses = undisturbed
    with pytest.raises(Interrupted):
        loop(tmp_path / "cut", stop_at=4)
    newest = max((tmp_path / "cut").glob("step-*"))
    (newest / "tensors.safetensors").write_bytes(b"torn")
    resumed, _, rest = loop(tmp_path / "cut")
    assert rest == losses[2:]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_it_learns_and_the_losses_are_these(undisturbed: Trained) -> None:
    _, state, losses = undisturbed
    assert losses[0] == pytest.approx(0.7193, abs=1e-3)
    assert [state.extra["epochs"][i] for i in (0, -1)] == pytest.approx([4.789, 3.369], abs=0.02)


def test_without_checkpoints_nothing_is_written(tmp_path: Path) -> None:
    loop(tmp_path / "none", checkpoint_seconds=0.0)
    assert not (tmp_path / "none").exists()


def test_time_ends_it_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    """A first step takes longer than a nanosecond: the epoch's end is still held, on what there is."""
    _, state, losses = loop(tmp_path, max_seconds=1e-9)
    assert (state.stopped_by, len(losses)) == ("max_seconds", 1)
    assert state.extra["epochs"] == losses


def test_time_spent_before_an_interruption_counts(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        loop(tmp_path, stop_at=3)
    found = checkpoints.newest(tmp_path)
    assert found is not None
    tensors, content = found
    state = content["state"] | {"seconds": 100.0}
    checkpoints.save(tmp_path, state["step"] + 1, tensors, {"state": state})
    _, state, losses = loop(tmp_path, max_seconds=50.0)
    assert (state.stopped_by, len(losses)) == ("max_seconds", 1)
    assert state.seconds > 100


def rate_of(config: LoopConfig, folder: Path, more: Callable[[LoopState], bool] = lambda _: True) -> list[float]:
    """Return the step sizes of training one weight by a constant gradient of 1, which Adam moves by the rate."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    weights = [0.0]

    def loss(indices: np.ndarray) -> torch.Tensor:
        if len(weights) < 1 + len(steps):
            weights.append(float(model.weight.detach()))
        steps.append(1)
        return model.weight.sum()

    steps: list[int] = []
    train(model, lambda epoch: [np.arange(1)] * 5, loss, more, config, CPU, folder, {})
    return (-np.diff([*weights, float(model.weight.detach())])).tolist()


def test_the_rate_warms_up_and_decays_over_all_epochs_even_if_it_stops_before(tmp_path: Path) -> None:
    settings = {"learning_rate": 0.1, "warmup_fraction": 0.2, "weight_decay": 0.0, "checkpoint_seconds": 0.0}
    expected = [0.05, 0.1, 0.1, *(0.1 * n / 8 for n in range(7, 0, -1))]
    whole = rate_of(LoopConfig(epochs=2, **settings), tmp_path)  # type: ignore[arg-type]
    assert whole == pytest.approx(expected, rel=1e-3)
    first = rate_of(LoopConfig(epochs=2, stop_after_epochs=1, **settings), tmp_path)  # type: ignore[arg-type]
    assert first == pytest.approx(expected[:5], rel=1e-3)


def test_after_epoch_can_stop_it(tmp_path: Path) -> None:
    config = LoopConfig(epochs=9, learning_rate=0.1, checkpoint_seconds=0.0)
    assert len(rate_of(config, tmp_path, lambda state: state.epoch < 1)) == 10


def test_what_needs_no_gradient_stays_and_is_not_stored(tmp_path: Path) -> None:
    model = network()
    model[0].weight.requires_grad = False
    before = model[0].weight.clone()
    config = LoopConfig(epochs=1, learning_rate=1e-2, checkpoint_seconds=1e-9)

    def loss(indices: np.ndarray) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(X[indices]), Y[indices])

    train(model, batches, loss, lambda _: True, config, CPU, tmp_path, {})
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert torch.equal(model[0].weight, before)
    assert "model.0.weight" not in found[0]
    assert "model.0.bias" in found[0]
