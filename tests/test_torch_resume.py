"""A run stopped at any moment and taken up from its last checkpoint ends with the same bits."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from training_runs import differs, everything, train  # noqa: E402

from koopcore.rules import Dynamics, Secant  # noqa: E402
from koopcore.torch import KoopmanAccelerator  # noqa: E402

STEPS = 60


def _run(**options):
    """A run of mini-batches that are drawn from torch's generator."""
    torch.manual_seed(3)
    x = torch.randn(48, 4)
    y = torch.sin(x.sum(1, keepdim=True))
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.1), nn.Linear(5, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

    def loss(m):
        rows = torch.randint(len(x), (24,))
        return nn.functional.mse_loss(m(x[rows]), y[rows])

    def trial(m):
        m.eval()
        return nn.functional.mse_loss(m(x), y)

    options = {"window": 4, "every": 3, "trial_cost": 1 / 3, "max_overhead": 0.5} | options
    return model, optimizer, loss, KoopmanAccelerator(model, optimizer, trial_loss=trial, **options)


def _checkpoint(model, optimizer, accelerator):
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "accelerator": accelerator.state_dict(),
        "generator": torch.get_rng_state(),
    }


def _take_up(path, **options):
    model, optimizer, loss, accelerator = _run(**options)
    saved = torch.load(path, weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    accelerator.load_state_dict(saved["accelerator"])
    torch.set_rng_state(saved["generator"])
    return model, optimizer, loss, accelerator


def _decisions(accelerator):
    """The history without what a clock has measured."""
    return [
        {**vars(jump), "eigenvalues": jump.eigenvalues.tolist(), "seconds": None}
        for jump in accelerator.history
    ]


@pytest.mark.parametrize("partition", ["network", "node"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"average": 3, "state": "reset"},
        {"decay": 0.7, "state": "carry"},
        {"state": "carry", "acceptance": "layer", "rollback": True, "growth": 0.5},
        {"average": 2, "storage": torch.bfloat16, "control": "lr"},
        {"ema": 0.9, "mode": "auto", "rule": [Dynamics(), Secant()], "select": "trial"},
    ],
    ids=str,
)
def test_a_run_taken_up_in_the_middle_goes_on_with_the_same_bits(tmp_path, partition, options):
    options = {**options, "partition": partition}
    model, optimizer, loss, accelerator = _run(**options)
    stops = (7, 26)  # in the middle of a window and of an average
    with accelerator:
        for step in range(1, STEPS + 1):
            train(model, optimizer, loss, 1)
            if step in stops:
                torch.save(_checkpoint(model, optimizer, accelerator), tmp_path / f"{step}.pt")
    expected = everything(model, optimizer)
    assert accelerator.stats.taken >= 1
    for stop in stops:
        model, optimizer, loss, again = _take_up(tmp_path / f"{stop}.pt", **options)
        with again:
            train(model, optimizer, loss, STEPS - stop)
        assert not differs(expected, everything(model, optimizer))
        assert not differs(_decisions(accelerator), _decisions(again))
        assert again.stats.steps == STEPS


def test_gradients_observed_go_on_with_the_same_bits(tmp_path):
    options = {"observe": "gradients", "window": 6, "every": 2}
    model, optimizer, loss, accelerator = _run(**options)
    with accelerator:
        train(model, optimizer, loss, 17)
        torch.save(_checkpoint(model, optimizer, accelerator), tmp_path / "17.pt")
        train(model, optimizer, loss, STEPS - 17)
    model2, optimizer2, loss, again = _take_up(tmp_path / "17.pt", **options)
    with again:
        train(model2, optimizer2, loss, STEPS - 17)
    assert accelerator.stats.taken >= 1
    assert not differs(everything(model, optimizer)[:2], everything(model2, optimizer2)[:2])
    assert not differs(_decisions(accelerator), _decisions(again))


def test_state_after_other_parameters_are_trained_is_of_those(tmp_path):
    def staged(stage):
        model, _, loss, _ = _run()
        model[0].requires_grad_(stage == 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        accelerator = KoopmanAccelerator(model, optimizer, every=3, trial_loss=loss, window=4)
        return model, optimizer, loss, accelerator

    model, optimizer, loss, accelerator = staged(1)
    with accelerator:
        train(model, optimizer, loss, 4)
        model[0].requires_grad_(False)
        state = accelerator.state_dict()
    *_, again = staged(2)
    again.load_state_dict(state)
    assert again.stats.steps == 4


def test_state_of_another_model_or_window_is_refused_by_name():
    *_, accelerator = _run()
    state = accelerator.state_dict()
    other = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"names \['0.weight', .* this model's are \['weight'"):
        KoopmanAccelerator(other, optimizer).load_state_dict(state)
    *_, smaller = _run(window=3)
    with pytest.raises(ValueError, match="capacity"):
        smaller.load_state_dict(state)
    with pytest.raises(ValueError, match="format None"):
        accelerator.load_state_dict({})


def test_carried_state_needs_that_of_the_optimizer_first():
    model, optimizer, loss, accelerator = _run(state="carry")
    with accelerator:
        train(model, optimizer, loss, 4)
        state = accelerator.state_dict()
    *_, again = _run(state="carry")
    with pytest.raises(
        ValueError, match=r"'exp_avg', 'exp_avg_sq'\], which this optimizer has not"
    ):
        again.load_state_dict(state)


def _child(folder):
    """Train to the end, with a checkpoint every few steps, from the last one there is."""
    torch.set_num_threads(1)
    path = Path(folder) / "checkpoint.pt"
    options = {"state": "carry", "average": 2}
    model, optimizer, loss, accelerator = (
        _take_up(path, **options) if path.exists() else _run(**options)
    )
    with accelerator:
        while accelerator.stats.steps < STEPS:
            train(model, optimizer, loss, 1)
            print(accelerator.stats.steps, flush=True)
            if accelerator.stats.steps % 4 == 0:
                torch.save(_checkpoint(model, optimizer, accelerator), path.with_suffix(".new"))
                os.replace(path.with_suffix(".new"), path)
    torch.save(everything(model, optimizer), Path(folder) / "end.pt")


def _start(folder):
    return subprocess.Popen(
        [sys.executable, __file__, str(folder)], stdout=subprocess.PIPE, text=True
    )


def test_killed_at_any_moment_and_restarted_ends_with_the_same_bits(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    _child(whole)
    draw = random.Random(0)
    for last in (13, 30, 47):
        child = _start(broken)
        for line in child.stdout:
            if int(line) >= last:
                break
        time.sleep(draw.uniform(0.0, 0.01))  # at some point of a step, an attempt, or a checkpoint
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert not (broken / "end.pt").exists()
    child = _start(broken)
    steps = [int(line) for line in child.stdout]
    child.stdout.close()
    assert child.wait() == 0
    assert steps[0] > 1
    assert not differs(torch.load(whole / "end.pt"), torch.load(broken / "end.pt"))


if __name__ == "__main__":
    _child(sys.argv[1])
