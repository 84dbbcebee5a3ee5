"""Figures of training and of accuracy, which have other parts than a problem and its limit.

They are found by the names of the benchmarks: shares of a step, of a pass, of a plain loop; errors.
"""

from report_figures import Figure


def training_figures(timings):
    """Shares of training, from what there is of them."""
    by_name = {t.name.rpartition("::")[2]: t for t in timings}
    return [*_hooks(by_name), *_harness(by_name), *_imports(by_name), *_errors(by_name)]


def _ratio(by_name, part, whole, divisor=1.0):
    if part not in by_name or whole not in by_name:
        return None
    return by_name[part].seconds / divisor / by_name[whole].seconds


def _hooks(by_name):
    found = []
    idle = by_name.get("test_hook[not-recorded]")
    if idle is not None:  # ten steps a round
        found.append(("digits", "step without a snapshot, microseconds", idle.seconds * 1e5))
    recorded = _ratio(by_name, "test_hook[recorded]", "test_bare_step", 10)
    found.append(("digits", "recorded step, window 10 / step", recorded))
    for name in ("every-5", "average-28", "average-7-of-28"):
        hooks = f"test_hook_1e6[{name}]"
        steps = by_name[hooks].info["steps"] if hooks in by_name else 1
        share = _ratio(by_name, hooks, "test_bare_step_1e6", steps)
        found.append(("n=1e6", f"recording, {name}: hook / step", share))
    for name in ("untried", "one-trial"):
        share = _ratio(by_name, f"test_jump_1e7[{name}]", "test_forward_backward_1e7")
        found.append(("n=1e7", f"jump, {name} / forward and backward pass", share))
    return _present("hook", found)


def _harness(by_name):
    return _present(
        "koopcore compare",
        [
            (name, f"{method}: its clock / a plain loop", by_name[test].info.get(method))
            for name in ("hamiltonian", "digits-64")
            if (test := f"test_harness[{name}]") in by_name
            for method in ("bare", "null")
        ],
    )


def _imports(by_name):
    ours, empty = by_name.get("test_import[koopcore]"), by_name.get("test_import[sys]")
    if ours is None or empty is None:
        return []
    return [Figure("import", "", "beyond an empty Python, seconds", ours.seconds - empty.seconds)]


def _errors(by_name):
    return [
        Figure("eigenvalue error", name[len("test_error[") : -1], which, error)
        for name, timing in by_name.items()
        if name.startswith("test_error[")
        for which, error in timing.info.get("errors", {}).items()
    ]


def _present(operation, found):
    return [Figure(operation, problem, what, v) for problem, what, v in found if v is not None]
