"""Arguments of KoopmanAccelerator that cannot work: the message names each."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from koopcore.torch import KoopmanAccelerator  # noqa: E402


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"model": "net"}, TypeError, "model must be a torch.nn.Module, got str"),
        ({"optimizer": 3}, TypeError, "optimizer must be a torch.optim.Optimizer, got int"),
        ({"trial_loss": 1.0}, TypeError, "trial_loss must be a function of the model, got float"),
        ({"log_fn": "x"}, TypeError, "log_fn must be callable or None, got str"),
        ({"window": 2}, ValueError, "window must be at least 3, got 2"),
        ({"window": 10.0}, TypeError, "window must be an integer, got 10.0"),
        ({"window": True}, TypeError, "window must be an integer, got True"),
        ({"every": 0}, ValueError, "every must be at least 1, got 0"),
        ({"horizons": []}, ValueError, "horizons is empty"),
        ({"horizons": 50}, TypeError, "horizons must be a sequence of integers or None, got 50"),
        ({"horizons": [50, 50]}, ValueError, "horizons must increase, got 50 before 50"),
        ({"horizons": [0, 50]}, ValueError, "horizons must be at least 1, got 0"),
        ({"horizons": [1.5]}, TypeError, "horizons must be an integer, got 1.5"),
    ],
)
def test_bad_argument_is_named(options, error, text):
    model = nn.Linear(2, 1)
    arguments = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "trial_loss": lambda m: 0.0,
    } | options
    with pytest.raises(error, match=text.replace("[", r"\[")):
        KoopmanAccelerator(**arguments)
