"""What a snapshot is: which parameters, averaged how, after which steps."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from koopcore.torch.recorder import (  # noqa: E402
    Recorder,
    signature,
    step_happened,
    trained_parameters,
    unwrapped,
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


def test_trained_parameters_without_values_are_refused():
    model = nn.Linear(2, 2, device="meta")
    with pytest.raises(ValueError, match="'weight' is on meta: it has no values"):
        trained_parameters(model, _sgd(model))


def test_trained_parameters_complex_is_refused():
    model = nn.Linear(2, 2, dtype=torch.complex64)
    with pytest.raises(TypeError, match=r"'weight' is torch.complex64; must be float32"):
        trained_parameters(model, _sgd(model))


def test_trained_parameters_float32_masters_of_a_half_model_are_the_state():
    model = nn.Linear(2, 2).bfloat16()
    masters = [p.detach().float().requires_grad_() for p in model.parameters()]
    found = trained_parameters(model, torch.optim.SGD(masters, lr=0.1))
    assert list(found) == ["weight", "bias"]
    assert all(a is b for a, b in zip(found.values(), masters, strict=True))


def test_unwrapped_looks_through_compile_and_data_parallel():
    model = nn.Linear(2, 2)
    assert unwrapped(model) is model
    assert unwrapped(nn.DataParallel(torch.compile(model, backend="eager"))) is model


def test_signature_changes_with_what_is_trained():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = _sgd(model[0])
    parameters = trained_parameters(model, optimizer)
    before = signature(parameters, optimizer)
    assert signature(parameters, optimizer) == before
    model[0].bias.requires_grad_(False)
    frozen = signature(parameters, optimizer)
    assert frozen != before
    optimizer.add_param_group({"params": list(model[1].parameters())})
    assert signature(parameters, optimizer) != frozen


def _walk(p, recorder, values, every):
    """Set `p` to each value in turn, as an optimizer would; return the snapshots."""
    snapshots = []
    for step, value in enumerate(values, 1):
        with torch.no_grad():
            p.fill_(value)
        left = -step % every
        if recorder.averages:
            recorder.enter(left)
        if not left:
            snapshots.append(recorder.snapshot()[0].clone())
    return torch.stack(snapshots)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [4.0, 8.0]),
        ({"average": 4}, [2.5, 6.5]),
        ({"average": 2}, [3.0, 7.0]),
        ({"average": 3}, [3.0, 7.0]),
        ({"decay": 0.5}, [(1 + 2 * 2 + 4 * 3 + 8 * 4) / 15, 1793 / 255]),
    ],
)
def test_snapshot_is_the_iterate_or_an_average(options, expected, dtype):
    p = nn.Parameter(torch.zeros(3, dtype=dtype))
    snapshots = _walk(p, Recorder([p], 4, **options), range(1, 9), every=4)
    assert snapshots.dtype == dtype
    assert snapshots[:, 0].tolist() == pytest.approx(expected, rel=1e-6)


def test_snapshot_average_starts_with_the_first_iterate_whatever_the_memory_held():
    p = nn.Parameter(torch.ones(3))
    recorder = Recorder([p], 2, average=2)
    recorder._means[0].fill_(float("nan"))
    recorder.enter(1)
    recorder.enter(0)
    assert recorder.snapshot()[0].tolist() == [1.0, 1.0, 1.0]


def test_snapshot_after_parameter_moved_sees_the_new_memory():
    p = nn.Parameter(torch.zeros(3))
    recorder = Recorder([p])
    recorder.snapshot()
    p.data = torch.ones(3)
    assert recorder.snapshot()[0].tolist() == [1.0, 1.0, 1.0]


def test_state_of_an_average_goes_on_with_the_same_bits():
    p = nn.Parameter(torch.zeros(3))
    a, b = Recorder([p], decay=0.9), Recorder([p], decay=0.9)
    _walk(p, a, [0.1, 0.7, 0.3], every=3)
    b.load_state_dict(a.state_dict())
    assert torch.equal(_walk(p, a, [0.4], every=1), _walk(p, b, [0.4], every=1))
    with pytest.raises(ValueError, match="has 1 averages, this one 0"):
        Recorder([p]).load_state_dict(a.state_dict())


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
