import pytest
import torch
from undercut.optimization import adamw, choose_precision, linear_schedule, medium_error


def test_schedule_warms_up_and_decays_to_zero() -> None:
    factors = [linear_schedule(step, 100, 10) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert factors[99] == pytest.approx(1 / 90)
    assert linear_schedule(100, 100, 10) == 0.0


def test_norms_and_biases_do_not_decay() -> None:
    layer = torch.nn.Linear(4, 4)
    decayed, plain = adamw(layer.named_parameters(), 1e-3, 0.1).param_groups
    assert decayed["params"][0] is layer.weight
    assert decayed["weight_decay"] == 0.1
    assert plain["params"][0] is layer.bias
    assert plain["weight_decay"] == 0.0


def test_fast_float32_is_used_only_where_it_is_exact() -> None:
    torch.set_float32_matmul_precision("highest")  # whatever a training before left
    error = medium_error()
    assert torch.get_float32_matmul_precision() == "highest"
    precision = choose_precision("cpu")
    if not precision.bf16:
        assert torch.get_float32_matmul_precision() == ("medium" if error < 1e-5 else "highest")
    torch.set_float32_matmul_precision("highest")
