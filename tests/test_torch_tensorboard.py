"""TensorBoardLog: what it writes is read back from the event file, by TensorBoard itself."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

from torch.utils.tensorboard import SummaryWriter  # noqa: E402

from koopcore.torch import KoopmanAccelerator  # noqa: E402
from koopcore.torch.tensorboard import TensorBoardLog  # noqa: E402


def scalars(folder):
    read = accumulators.EventAccumulator(str(folder))
    read.Reload()
    return {
        tag: [(event.step, event.value) for event in read.Scalars(tag)]
        for tag in read.Tags()["scalars"]
    }


def test_finite_numbers_become_scalars_and_nothing_else_does(tmp_path):
    with SummaryWriter(str(tmp_path)) as writer:
        log = TensorBoardLog(writer)
        common = {"step": 10, "reason": "the forecast lowers the trial loss", "tried": (4, 8)}
        log(
            {**common, "taken": True, "loss_after": 0.25, "horizon": np.int64(8)}
            | {"eigenvalues": np.array([0.5, 0.6 + 0.8j])},
            10,
        )
        log({"taken": np.bool_(False), "loss_after": float("nan"), "eigenvalues": np.empty(0)}, 20)
    assert scalars(tmp_path) == {
        "koopcore/taken": [(10, 1.0), (20, 0.0)],
        "koopcore/loss_after": [(10, 0.25)],
        "koopcore/horizon": [(10, 8.0)],
        "koopcore/spectral_radius": [(10, 1.0)],
    }


def test_attempts_of_an_accelerator_arrive(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(64, 3)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def loss(model):
        return torch.nn.functional.mse_loss(model(x), y)

    with SummaryWriter(str(tmp_path)) as writer:
        accelerator = KoopmanAccelerator(
            model, optimizer, trial_loss=loss, log_fn=TensorBoardLog(writer)
        )
        with accelerator:
            for _ in range(200):
                optimizer.zero_grad()
                loss(model).backward()
                optimizer.step()
    found = scalars(tmp_path)
    assert len(found["koopcore/taken"]) == accelerator.stats.attempts > 0
    assert all(0 < step <= 200 for step, _ in found["koopcore/loss_before"])


def test_what_is_no_writer_is_refused():
    with pytest.raises(TypeError, match=r"must be a torch.utils.tensorboard.SummaryWriter, got st"):
        TensorBoardLog("runs")
