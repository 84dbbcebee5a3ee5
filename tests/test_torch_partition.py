"""Which entries follow one operator, and that nothing is lost on the way to the state and back."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations  # noqa: E402

from koopcore.torch.partition import Layout  # noqa: E402

PARTITIONS = ["network", "layer", "node", ("quasi-node", 3), "weight"]


def _layout(model, partition="network"):
    return Layout(dict(model.named_parameters()), partition, model)


def _numbered(model, dtype=torch.float64):
    """Give every entry of the model a number of its own."""
    first = 1
    for p in model.parameters():
        p.data = torch.arange(first, first + p.numel(), dtype=dtype).reshape(p.shape)
        first += p.numel()
    return model


def _operators(model, partition):
    """Return the entries of each operator by its label."""
    layout = _layout(model, partition)
    parameters = dict(model.named_parameters())
    flat = torch.empty(layout.size, dtype=torch.float64)
    layout.gather([parameters[name] for name in layout.names], flat)
    assert len(layout.labels) == len(layout.segments) == len(set(layout.labels))
    ranges = zip(layout.labels, layout.segments, strict=True)
    return {label: flat[start:stop].tolist() for label, (start, stop) in ranges}


def _everything():
    model = nn.Sequential(
        nn.Linear(3, 2),
        nn.Linear(2, 4, bias=False),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ConvTranspose2d(4, 6, (2, 3), groups=2),
        nn.LayerNorm((2, 3)),
        nn.BatchNorm1d(3),
        nn.RMSNorm(3),
        nn.Embedding(5, 2),
        nn.MultiheadAttention(4, 2),
        nn.LSTM(2, 3, num_layers=2),
        nn.Bilinear(2, 3, 4),
        nn.PReLU(),
    )
    model.scale = nn.Parameter(torch.tensor(2.0))
    model.register_parameter("nothing", None)
    model.empty = nn.Parameter(torch.empty(0, 3))
    return model


@pytest.mark.parametrize("partition", PARTITIONS)
def test_layout_covers_every_entry_once(partition):
    model = _numbered(_everything())
    layout = _layout(model, partition)
    n = sum(p.numel() for p in model.parameters())
    assert layout.size == n
    assert layout.excluded == ["empty"]
    assert layout.segments.dtype == np.int64
    assert layout.segments[0, 0] == 0
    assert layout.segments[-1, 1] == n
    assert np.array_equal(layout.segments[1:, 0], layout.segments[:-1, 1])
    assert (layout.segments[:, 1] > layout.segments[:, 0]).all()
    entries = sorted(x for operator in _operators(model, partition).values() for x in operator)
    assert entries == list(range(1, n + 1))


@pytest.mark.parametrize("partition", PARTITIONS)
def test_scatter_is_the_inverse_of_gather_for_any_strides(partition):
    torch.manual_seed(0)
    model = _everything().to(memory_format=torch.channels_last)
    model[0].weight = nn.Parameter(torch.randn(3, 2).T)
    model[2].weight = nn.Parameter(torch.randn(6, 2, 3, 6)[..., ::2])
    assert not model[2].weight.is_contiguous()
    layout = _layout(model, partition)
    tensors = [p for p in model.parameters() if p.numel()]
    flat, dense = torch.empty(layout.size), torch.empty(layout.size)
    layout.gather(tensors, flat)
    layout.gather([p.detach().contiguous() for p in tensors], dense)
    assert torch.equal(flat, dense)
    results = [torch.zeros_like(p) for p in tensors]
    layout.scatter(flat, results)
    assert all(torch.equal(a, b) for a, b in zip(tensors, results, strict=True))


def test_gather_and_scatter_convert_data_types():
    model = nn.Linear(3, 2).to(torch.bfloat16)
    layout, tensors = _layout(model), list(model.parameters())
    flat = torch.empty(layout.size)
    layout.gather(tensors, flat)
    assert torch.equal(flat[:6].reshape(2, 3), model.weight.float())
    layout.scatter(flat + 2.0, tensors)
    assert torch.equal(model.weight, (flat[:6].reshape(2, 3) + 2.0).to(torch.bfloat16))


def test_network_is_a_plain_concatenation():
    model = _numbered(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    assert _operators(model, "network") == {"network": list(range(1, 13))}


def test_node_of_linear_is_its_weights_and_its_bias():
    model = _numbered(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2, bias=False)))
    assert _operators(model, "node") == {
        "0[0]": [1, 2, 3, 7],
        "0[1]": [4, 5, 6, 8],
        "1[0]": [9, 10],
        "1[1]": [11, 12],
    }


def test_quasi_node_leaves_a_shorter_last_chunk():
    model = _numbered(nn.Linear(4, 2))
    assert _operators(model, ("quasi-node", 3)) == {
        "Linear[0][0]": [1, 2, 3],
        "Linear[0][1]": [4, 9],
        "Linear[1][0]": [5, 6, 7],
        "Linear[1][1]": [8, 10],
    }
    assert _operators(model, ("quasi-node", 5)) == _operators(model, "node")
    assert _operators(model, ("quasi-node", 99)) == _operators(model, "node")
    assert list(_operators(model, ["quasi-node", 1]).values()) == list(
        _operators(model, "weight").values()
    )


def test_layer_holds_the_parameters_of_one_module():
    model = _numbered(nn.Sequential(nn.Linear(2, 1), nn.MultiheadAttention(2, 1)))
    operators = _operators(model, "layer")
    assert list(operators) == ["0", "1", "1.out_proj"]
    assert [len(entries) for entries in operators.values()] == [3, 12 + 6, 4 + 2]


@pytest.mark.parametrize("groups", [1, 2])
def test_node_of_convolution_is_an_output_channel(groups):
    conv = _numbered(nn.Conv2d(4, 6, 3, groups=groups))
    operators = list(_operators(conv, "node").values())
    for channel in range(6):
        expected = [*conv.weight[channel].flatten().tolist(), conv.bias[channel].item()]
        assert operators[channel] == expected


@pytest.mark.parametrize("groups", [1, 2])
def test_node_of_transposed_convolution_is_what_an_output_channel_depends_on(groups):
    conv = nn.ConvTranspose2d(4, 6, (2, 3), groups=groups).double()
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    layout = _layout(conv, "node")
    assert len(layout.segments) == 6
    gradient = torch.empty(layout.size, dtype=torch.float64)
    for channel in range(6):
        conv.zero_grad()
        conv(x)[0, channel].square().sum().backward()
        layout.gather([conv.weight.grad, conv.bias.grad], gradient)
        start, stop = layout.segments[channel]
        assert (gradient[start:stop] != 0).all()
        assert (torch.cat([gradient[:start], gradient[stop:]]) == 0).all()


@pytest.mark.parametrize(
    "norm",
    [nn.BatchNorm2d(3), nn.LayerNorm(3), nn.GroupNorm(1, 3), nn.InstanceNorm1d(3, affine=True)],
    ids=lambda norm: type(norm).__name__,
)
def test_node_of_normalisation_is_scale_and_offset(norm):
    operators = _operators(_numbered(norm), "node")
    assert list(operators.values()) == [[1, 4], [2, 5], [3, 6]]


def test_node_of_normalisation_over_two_dimensions_is_an_entry():
    operators = _operators(_numbered(nn.LayerNorm((2, 3))), "node")
    assert list(operators.values()) == [[i, i + 6] for i in range(1, 7)]
    assert list(_operators(_numbered(nn.RMSNorm(2)), "node").values()) == [[1], [2]]


def test_node_of_attention_is_a_row_of_the_input_projection():
    attention = _numbered(nn.MultiheadAttention(2, 1))
    operators = _operators(attention, "node")
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    for row in range(6):
        label = f"MultiheadAttention[{row}]"
        assert operators[label] == [*weight[row].tolist(), bias[row].item()]
    out = attention.out_proj
    assert operators["out_proj[1]"] == [*out.weight[1].tolist(), out.bias[1].item()]


def test_node_of_attention_with_three_projections_takes_their_rows_alone():
    attention = _numbered(nn.MultiheadAttention(2, 1, kdim=3, vdim=4, add_bias_kv=True))
    operators = _operators(attention, "node")
    assert operators["k_proj_weight[1]"] == attention.k_proj_weight[1].tolist()
    assert operators["in_proj_bias[4]"] == [attention.in_proj_bias[4].item()]
    assert operators["bias_k[0]"] == attention.bias_k.flatten().tolist()


def test_node_of_anything_else_is_a_row():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.zeros(2, 2, 2))
            self.bias = nn.Parameter(torch.zeros(2))
            self.scale = nn.Parameter(torch.zeros(()))

    operators = _operators(_numbered(Own()), "node")
    assert operators == {
        "table[0]": [1, 2, 3, 4],
        "table[1]": [5, 6, 7, 8],
        "bias[0]": [9],
        "bias[1]": [10],
        "scale[0]": [11],
    }


def test_node_without_a_model_is_a_row():
    parameters = dict(_numbered(nn.Linear(3, 2)).named_parameters())
    layout = Layout(parameters, "node")
    assert layout.labels == ["weight[0]", "weight[1]", "bias[0]", "bias[1]"]
    assert Layout(parameters, "layer").labels == ["model"]


def test_frozen_weight_leaves_the_bias_alone():
    model = _numbered(nn.Linear(3, 2))
    layout = Layout({"bias": model.bias}, "node", model)
    assert layout.labels == ["Linear[0]", "Linear[1]"]


def test_tied_weight_appears_once_as_rows_of_its_first_module():
    model = nn.Module()
    model.table, model.head = nn.Embedding(5, 3), nn.Linear(3, 5)
    model.head.weight = model.table.weight
    layout = _layout(model, "node")
    assert layout.names == ["table.weight", "head.bias"]
    assert layout.labels == [f"table[{i}]" for i in range(5)] + [f"head[{i}]" for i in range(5)]


def test_parametrised_weight_is_rows_and_part_of_its_layer():
    model = _numbered(nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 2))))
    operators = _operators(model, "node")
    where = "0.parametrizations.weight"
    assert list(operators) == [
        *("0[0]", "0[1]"),
        *(f"{where}.original0[{i}]" for i in (0, 1)),
        *(f"{where}.original1[{i}]" for i in (0, 1)),
    ]
    assert operators[f"{where}.original1[1]"] == [8, 9, 10]
    assert list(_operators(model, "layer")) == ["0"]
    assert _layout(model[0], "layer").labels == ["ParametrizedLinear"]


def test_names_may_carry_the_prefix_of_a_wrapper():
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self._orig_mod = module

    model = nn.Sequential(nn.Linear(3, 2))
    wrapped = _layout(Wrapper(model), "node")
    assert wrapped.labels == ["_orig_mod.0[0]", "_orig_mod.0[1]"]
    # Names of the wrapper, but the model inside: the parameters themselves tell.
    parameters = dict(Wrapper(model).named_parameters())
    assert Layout(parameters, "node", model).labels == ["0[0]", "0[1]"]


def test_expressions_choose_by_name_and_the_first_counts():
    model = _numbered(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1), nn.Linear(1, 1)))
    partition = {r"0\.bias": "exclude", r"^0\.": "node", r"1\.": ("quasi-node", 2)}
    layout = _layout(model, partition)
    assert layout.excluded == ["0.bias"]
    assert layout.names == ["0.weight", "1.weight", "1.bias", "2.weight", "2.bias"]
    assert _operators(model, partition) == {
        "network": [10, 11],
        "0[0]": [1, 2],
        "0[1]": [3, 4],
        "1[0][0]": [7, 8],
        "1[0][1]": [9],
    }


def test_expressions_of_different_kinds_do_not_share_units():
    model = _numbered(nn.Linear(2, 2))
    assert _operators(model, {"weight": "node", "bias": "layer"}) == {
        "weight[0]": [1, 2],
        "weight[1]": [3, 4],
        "Linear": [5, 6],
    }


@pytest.mark.parametrize(
    ("partition", "error", "message"),
    [
        ("neuron", ValueError, r"partition='neuron' is not known; expected \"network\", \"layer\""),
        ("exclude", ValueError, "partition='exclude' is not known"),
        (3, TypeError, "partition=3 is no partition"),
        (None, TypeError, "partition=None is no partition"),
        (("quasi-node",), ValueError, "is no partition"),
        (("chunk", 3), ValueError, r"partition=\('chunk', 3\) is no partition"),
        (("quasi-node", 0), ValueError, "q must be at least 1 entry"),
        (("quasi-node", True), ValueError, "q must be at least 1 entry"),
        (("quasi-node", 2.5), TypeError, "q must be an int"),
        ({"bias": "unit"}, ValueError, r"partition\['bias'\]='unit' .* or \"exclude\""),
        ({"encoder": "node"}, ValueError, r"'encoder'\]: the expression matches none of the 2 "),
        ({"(": "node"}, ValueError, r"'\(' is no regular expression"),
        ({4: "node"}, ValueError, "4 is no regular expression"),
        ({"": "exclude"}, ValueError, "leaves nothing: all 2 parameters are excluded"),
    ],
)
def test_bad_partition_is_named(partition, error, message):
    with pytest.raises(error, match=message):
        _layout(nn.Linear(2, 1), partition)


def test_wrong_tensors_are_named():
    layout = _layout(nn.Linear(3, 2))
    flat = torch.empty(8)
    with pytest.raises(ValueError, match="got 1 tensors; the layout has 2"):
        layout.gather([torch.zeros(2, 3)], flat)
    with pytest.raises(ValueError, match=r"'bias' has shape \(1,\); it had \(2,\) when"):
        layout.gather([torch.zeros(2, 3), torch.zeros(1)], flat)
    with pytest.raises(ValueError, match=r"flat has shape \(9,\); expected \(8,\)"):
        layout.scatter(torch.empty(9), [torch.zeros(2, 3), torch.zeros(2)])


def test_description_counts_operators_by_size():
    model = nn.Sequential(nn.Linear(784, 64), nn.Linear(64, 10))
    told = "74 operators over 50,890 numbers: 64 of 785, 10 of 65"
    assert str(_layout(model, "node")) == _layout(model, "node").describe() == told
    assert str(_layout(model)) == "1 operator over 50,890 numbers: 1 of 50,890"
    deep = nn.Sequential(*(nn.Linear(i, 1) for i in range(1, 9)))
    assert str(_layout(deep, "layer")) == "8 operators over 44 numbers: sizes 2 to 9"


def test_fingerprint_tells_layouts_apart():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    prints = {_layout(model, partition).fingerprint for partition in PARTITIONS}
    assert len(prints) == len(PARTITIONS)
    one, alike, other = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(2, 3)
    assert _layout(one, "node").fingerprint == _layout(alike, "node").fingerprint
    assert _layout(one, "node").fingerprint != _layout(other, "node").fingerprint
