"""The goals of the benchmarks in one table, and whether a run reached them."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

HEADLINE = "n=1e6*float32"


@dataclass(frozen=True)
class Goal:
    """A bound on a figure. `problem` is a pattern; `machine`: unless the limit gains no more."""

    operation: str
    problem: str
    what: str
    sign: str
    bound: float
    slack: float = 0.0
    machine: bool = False

    @property
    def text(self):
        """The bound in words."""
        return f"{self.sign} {self.bound:g}" + (f" +- {self.slack:g}" if self.slack else "")

    def met(self, value):
        """Whether a figure keeps to the bound."""
        if self.sign == "=":
            return abs(value - self.bound) <= self.slack
        return value <= self.bound if self.sign == "<=" else value >= self.bound


def _both(operations, *rest, **options):
    return tuple(Goal(operation, *rest, **options) for operation in operations)


STREAMS = ("streaming-svd", "streaming-dmd")
GROWING = ("fit", "push", "combine")
GOALS = (
    Goal("fit", "n=1e6-m=64-float32", "over limit", "<=", 1.5),
    Goal("fit", "n=1e6-m=64-float32", "PyDMD / koopcore", ">=", 100),
    Goal("fit", "n=1e6-m=64-float32", "NumPy, float64-blocked Gram / koopcore", ">=", 1.5),
    Goal("fit", "n=1e6-m=64-float32", "peak memory", "<=", 0.3),
    Goal("push", "n=1e6-m=16-float32", "over limit", "<=", 1.5),
    Goal("combine", "n=1e6-m=16-float32", "over limit", "<=", 1.2),
    Goal("grouped", "*", "over limit", "<=", 1.5),
    *_both(STREAMS, HEADLINE, "over limit", "<=", 2),
    *_both(STREAMS, HEADLINE, "best peer / koopcore", ">=", 10),
    Goal("streaming-dmd", "n=1e3*float32", "best peer / koopcore", ">=", 10),
    Goal("streaming-dmd", HEADLINE, "numbers per feature", "<=", 82),
    *_both(("fit", "push"), "n=1e8-m=8-float32", "over limit", "<=", 1.5),
    Goal("combine", "n=1e8-m=8-float32", "over limit", "<=", 1.2),
    *_both(GROWING, "*", "exponent of n beyond the caches", "=", 1.0, slack=0.05),
    *_both(("fit", "gram"), "n=1e6-m=64-float32", "gain of threads", ">=", 1.7),
    Goal("grouped", "*", "gain of threads", ">=", 1.7),
    *_both(STREAMS, HEADLINE, "gain of threads", ">=", 1.7),
    *_both(("push", "combine"), "n=1e6-m=16-float32", "gain of threads", ">=", 1.2, machine=True),
    Goal("hook", "digits", "step without a snapshot, microseconds", "<=", 5),
    Goal("hook", "digits", "recorded step, window 10 / step", "<=", 0.05),
    Goal("hook", "n=1e6", "recording, every-5: hook / step", "<=", 0.02),
    Goal("hook", "n=1e7", "jump, untried / forward and backward pass", "<=", 2),
    Goal("koopcore compare", "*", "bare: its clock / a plain loop", "<=", 1.01),
    Goal("koopcore compare", "*", "null: its clock / a plain loop", "<=", 1.01),
    Goal("import", "", "beyond an empty Python, seconds", "<=", 0.3),
    *_both(
        ("variant:exact", "variant:rdmd", "variant:hankel", "variant:forward-backward"),
        *("*", "PyDMD / koopcore", ">=", 60),
    ),
    Goal("variant:optimized", "*", "PyDMD / koopcore", ">=", 20),
    Goal("variant:*", "*", "peak memory", "<=", 0.3),
    Goal("eigenvalue error", "float32-1e-4-koopcore-gram", "median", "<=", 1e-6),
    Goal("eigenvalue error", "float64-1e-10-koopcore-qr", "median", "<=", 1e-8),
)

REACHED, MISSED, ABSENT = "reached", "MISSED", "not measured"


@dataclass(frozen=True)
class Verdict:
    """A goal beside what was found for it in one problem; `found` None: nothing."""

    goal: Goal
    operation: str
    problem: str
    found: float | None
    verdict: str


def judged(figures, goals=GOALS):
    """Return a verdict on every goal, or several where its pattern fits several problems."""
    verdicts = []
    for goal in goals:
        matching = [
            figure
            for figure in figures
            if figure.what == goal.what
            and fnmatchcase(figure.operation, goal.operation)
            and fnmatchcase(figure.problem, goal.problem)
        ]
        verdicts += [_judged(goal, figure, figures) for figure in matching]
        if not matching:
            verdicts.append(Verdict(goal, goal.operation, goal.problem, None, ABSENT))
    return verdicts


def _judged(goal, figure, figures):
    verdict = REACHED if goal.met(figure.value) else MISSED
    if verdict == MISSED and goal.machine:
        ceiling = _ceiling(figure, figures)
        if ceiling is not None and figure.value >= 0.9 * ceiling:
            verdict = f"the machine's: its limit gains {ceiling:.2f}"
    return Verdict(goal, figure.operation, figure.problem, figure.value, verdict)


def _ceiling(figure, figures):
    """What threads bring to the problem's own limit, else to copies and reads."""
    gains = [f for f in figures if f.what == "gain of the limit"]
    of = {(f.operation, f.problem): f.value for f in gains}
    general = [f.value for f in gains if f.operation == "bandwidth"]
    return of.get((figure.operation, figure.problem), max(general, default=None))
