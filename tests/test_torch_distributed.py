"""Two processes that train one model: the same jump in both, and nobody waits for ever."""

import datetime
import itertools
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import distributed, multiprocessing, nn  # noqa: E402
from training_runs import differs, train  # noqa: E402

from koopcore.torch import KoopmanAccelerator  # noqa: E402

TIMEOUT = 60  # seconds after which a process that waits for another one gives up


def _problem(rank, **options):
    """A model of all processes, and training and trial data of each its own."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1))
    model = nn.parallel.DistributedDataParallel(network)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.5)
    torch.manual_seed(10 + rank)
    x = torch.randn(64, 4)

    def loss(m):
        return nn.functional.mse_loss(m(x), x.sum(1, keepdim=True))

    options = {"trial_loss": loss, "window": 4, "every": 2, "bn_loader": [x]} | options
    accelerator = KoopmanAccelerator(model, optimizer, **options)
    return model, optimizer, loss, accelerator


def _report(model, optimizer, accelerator):
    return {
        "weights": {name: p.detach() for name, p in model.module.named_parameters()},
        "momentum": [s["momentum_buffer"] for s in optimizer.state.values()],
        "decisions": [
            (j.step, j.horizon, j.taken, j.loss_before, j.loss_after, j.tried)
            for j in accelerator.history
        ],
        "reasons": [j.reason for j in accelerator.history],
    }


def _default(rank):
    """The bound on the cost as it is by default: by the clock of the first process."""
    model, optimizer, loss, accelerator = _problem(rank)
    with accelerator:
        train(model, optimizer, loss, 40)
    return _report(model, optimizer, accelerator)


def _other_clock(rank):
    """A process whose steps and trials take other times than those of the first one."""
    clock = time.perf_counter
    if rank:
        ticks = itertools.count()
        time.perf_counter = lambda: next(ticks) ** 1.5
    try:
        model, optimizer, loss, accelerator = _problem(rank, max_overhead=0.3)
        with accelerator:
            train(model, optimizer, loss, 80)
    finally:
        time.perf_counter = clock
    return _report(model, optimizer, accelerator)


def _failing(rank, failure):
    """A trial that fails in the second process from its third call on."""
    calls = []

    def trial(m):
        calls.append(1)
        if rank and len(calls) > 2:
            return failure()
        return m(torch.ones(8, 4)).square().mean()

    model, optimizer, loss, accelerator = _problem(rank, trial_loss=trial, max_overhead=None)
    with accelerator:
        train(model, optimizer, loss, 40)
    return _report(model, optimizer, accelerator)


def _raising(rank):
    def failure():
        raise ArithmeticError("of one process")

    return _failing(rank, failure)


def _nan(rank):
    return _failing(rank, lambda: float("nan"))


def _more_losses(rank):
    return _failing(rank, lambda: torch.ones(3))


def _leaving_alone(rank):
    """An error in one process: it leaves its context without the other one."""
    model, optimizer, loss, accelerator = _problem(rank)
    accelerator.attach()
    train(model, optimizer, loss, 5)
    if rank:
        accelerator.detach()
    distributed.barrier()
    accelerator.detach()
    return _report(model, optimizer, accelerator)


def _some_processes(rank):
    groups = [distributed.new_group([i]) for i in range(2)]
    model = nn.parallel.DistributedDataParallel(nn.Linear(2, 1), process_group=groups[rank])
    try:
        KoopmanAccelerator(model, torch.optim.SGD(model.parameters(), lr=0.1))
    except ValueError as error:
        return str(error)
    return ""


SCENARIOS = {
    f.__name__: f
    for f in (_default, _other_clock, _raising, _nan, _more_losses, _leaving_alone, _some_processes)
}


def _process(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=TIMEOUT),
    )
    reports = {name: scenario(rank) for name, scenario in SCENARIOS.items()}
    torch.save(reports, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, __file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", ["_default", "_other_clock", "_raising", "_nan", "_more_losses"])
def test_both_processes_decide_alike_and_keep_the_same_weights(reports, name):
    first, second = (report[name] for report in reports)
    assert not differs(first["weights"], second["weights"])
    assert not differs(first["momentum"], second["momentum"])
    assert repr(first["decisions"]) == repr(second["decisions"])
    assert first["decisions"]


@pytest.mark.parametrize("name", ["_default", "_other_clock"])
def test_both_processes_jump(reports, name):
    assert any(taken for _, _, taken, *_ in reports[0][name]["decisions"])


@pytest.mark.parametrize(
    ("name", "there", "here"),
    [
        ("_raising", "trial_loss raised ArithmeticError", "gave [0, 1] losses in the processes"),
        ("_nan", "present weights is nan", "present weights is nan"),
        ("_more_losses", "gave [1, 3] losses in", "gave [1, 3] losses in the processes"),
    ],
)
def test_failure_of_one_process_is_a_refusal_of_both(reports, name, there, here):
    first, second = (report[name] for report in reports)
    assert not any(taken for _, _, taken, *_ in first["decisions"][-2:])
    assert here in first["reasons"][-1]
    assert there in second["reasons"][-1]


def test_a_model_of_some_of_the_processes_is_refused(reports):
    for report in reports:
        assert "over 1 of 2 processes is not supported" in report["_some_processes"]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    multiprocessing.spawn(_process, (sys.argv[1],), nprocs=2)
