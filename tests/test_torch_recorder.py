"""What a snapshot is: which parameters, in which memory order, after which steps."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from koopcore.torch.recorder import (  # noqa: E402
    Recorder,
    memory_view,
    step_happened,
    trained_parameters,
)


def _sgd(*models, **options):
    return torch.optim.SGD([p for m in models for p in m.parameters()], lr=0.1, **options)


def test_trained_parameters_tied_weight_appears_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert list(trained_parameters(model, _sgd(model[0], nn.Linear(1, 1)))) == [
        "0.weight",
        "0.bias",
    ]


def test_trained_parameters_frozen_or_not_held_are_left_out():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].requires_grad_(False)
    names = trained_parameters(model, _sgd(model[0], model[1]))
    assert list(names) == ["1.weight", "1.bias"]


def test_trained_parameters_frozen_model_is_refused():
    model = nn.Linear(2, 2)
    optimizer = _sgd(model)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameters"):
        trained_parameters(model, optimizer)


def test_trained_parameters_optimizer_of_another_model_is_refused():
    with pytest.raises(ValueError, match="holds none of the model's 2"):
        trained_parameters(nn.Linear(2, 2), _sgd(nn.Linear(2, 2)))


def test_trained_parameters_lazy_model_is_refused():
    model = nn.LazyLinear(2)
    with pytest.raises(ValueError, match="'weight' has no shape yet"):
        trained_parameters(model, _sgd(nn.Linear(1, 1)))


def test_trained_parameters_mixed_dtypes_names_both():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())
    with pytest.raises(TypeError, match=r"'0.weight' is torch.float32, '1.weight' is torch.float6"):
        trained_parameters(model, _sgd(model))


def test_trained_parameters_mixed_devices_names_both():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    with pytest.raises(ValueError, match=r"'0.weight' is on cpu, '1.weight' is on meta"):
        trained_parameters(model, _sgd(model))


def test_trained_parameters_other_device_is_refused():
    model = nn.Linear(2, 2, device="meta")
    with pytest.raises(ValueError, match=r"'weight' is on meta; .* CPU models only"):
        trained_parameters(model, _sgd(model))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64])
def test_trained_parameters_other_dtype_is_refused(dtype):
    model = nn.Linear(2, 2).to(dtype) if not dtype.is_complex else nn.Linear(2, 2, dtype=dtype)
    with pytest.raises(TypeError, match=f"'weight' is {dtype}; must be float32 or float64"):
        trained_parameters(model, _sgd(model))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(24.0).view(2, 3, 4),
        torch.arange(120.0).view(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.arange(6.0).view(2, 3).t(),
        torch.tensor(3.0),
        torch.ones(1, 5, 1),
    ],
    ids=["contiguous", "channels_last", "transposed", "0-d", "ones"],
)
def test_memory_view_dense_tensor_shares_memory_and_order(tensor):
    view = memory_view(tensor)
    assert view.ctypes.data == tensor.data_ptr()
    assert view.shape == (tensor.numel(),)
    assert view.flags.c_contiguous
    copy = torch.empty_like(tensor)
    memory_view(copy)[:] = view
    assert torch.equal(copy, tensor)


def test_memory_view_with_gaps_is_none():
    assert memory_view(torch.ones(4, 6)[:, ::2]) is None


def test_snapshot_parameter_with_gaps_is_copied_afresh_each_time():
    p = nn.Parameter(torch.zeros(4, 6)[:, ::2])
    recorder = Recorder({"p": p})
    recorder.snapshot()
    with torch.no_grad():
        p.copy_(torch.arange(12.0).view(4, 3))
    (view,) = recorder.snapshot()
    assert np.array_equal(np.sort(view), np.arange(12.0))


def test_snapshot_after_parameter_moved_sees_the_new_memory():
    p = nn.Parameter(torch.zeros(3))
    recorder = Recorder({"p": p})
    recorder.snapshot()
    p.data = torch.ones(3)
    assert recorder.snapshot()[0].tolist() == [1.0, 1.0, 1.0]


def test_step_happened_only_where_some_learning_rate_is_not_zero():
    optimizer = torch.optim.SGD(
        [{"params": nn.Linear(1, 1).parameters(), "lr": lr} for lr in (0.0, 0.1)]
    )
    assert step_happened(optimizer)
    optimizer.param_groups[1]["lr"] = torch.tensor(0.0)
    assert not step_happened(optimizer)


def test_step_happened_not_where_a_scaler_found_inf():
    optimizer = _sgd(nn.Linear(1, 1))
    optimizer.found_inf = torch.tensor([1.0])
    assert not step_happened(optimizer)
    optimizer.found_inf = torch.tensor([0.0])
    assert step_happened(optimizer)
