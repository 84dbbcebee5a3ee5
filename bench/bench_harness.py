"""What the harness of `koopcore compare` adds to training: its clock against a plain loop's."""

from statistics import median
from time import perf_counter

import pytest
from measure import Problem, Row, measure

from koopcore.compare import protocol, registry, workloads
from koopcore.compare.baselines import learning_rate, make_optimizer
from koopcore.compare.environment import pinned

STEPS, PAIRS = 400, 15


def plain(problem, optimizer):
    """Seconds of a loop without a harness."""
    start = perf_counter()
    for _ in range(STEPS):
        batch = next(problem.batches)
        optimizer.zero_grad()
        problem.loss(problem.model, batch).backward()
        optimizer.step()
    return perf_counter() - start


def harnessed(problem, optimizer, method):
    """Seconds that the harness charges for the same steps."""
    measured = protocol.train(problem, optimizer, registry.make(method, STEPS), STEPS)
    assert measured["curve"]["step"][-1] == STEPS
    assert not measured["violations"]
    return measured["curve"]["seconds"][-1]


@pytest.mark.parametrize("name", ["hamiltonian", "digits-64"])
def test_harness(benchmark, name):
    workload, rate = workloads.load(name), learning_rate(name, "sgd")

    def fresh():
        problem = workload.build(0)
        return problem, make_optimizer("sgd", problem.model.parameters(), rate)

    ratios = {"bare": [], "null": []}

    def pair():
        # Plain loops on both sides of each: what the machine does meanwhile hits all alike.
        before = plain(*fresh())
        for method, found in ratios.items():
            seconds = harnessed(*fresh(), method)
            after = plain(*fresh())
            found.append(2 * seconds / (before + after))
            before = after

    with pinned(1):
        pair()
        for found in ratios.values():
            found.clear()
        row = Row("harness", Problem(None, None, "float32", name=name), "koopcore", threads=1)
        measure(benchmark, row, pair, rounds=PAIRS, warmup_rounds=0)
    benchmark.extra_info.update({method: median(found) for method, found in ratios.items()})
