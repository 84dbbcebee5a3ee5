"""An interrupt at every line of an attempt: weights and optimizer state both before, or after."""

import copy
import linecache
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from training_runs import differs, everything, regression, train  # noqa: E402

import koopcore.torch  # noqa: E402
from koopcore.torch import KoopmanAccelerator  # noqa: E402

FOLDER = str(Path(koopcore.torch.__file__).parent)


class InterruptAtLine:
    """Raises KeyboardInterrupt before the first line of koopcore.torch that is not in `done`.

    As the signal handler of Ctrl-C does, but at a place that the test chooses. Lines of "with" are
    left out: traced a second time when the block is left, at a point where Python lets no signal
    through.
    """

    def __init__(self, done):
        self.done, self.where = done, None

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(self._call)

    def __exit__(self, *exception):
        sys.settrace(self._before)

    def _call(self, frame, event, argument):
        return self._line if frame.f_code.co_filename.startswith(FOLDER) else None

    def _line(self, frame, event, argument):
        place = frame.f_code.co_filename, frame.f_lineno
        if event == "line" and place not in self.done:
            self.done.add(place)
            if not linecache.getline(*place).lstrip().startswith("with "):
                self.where = place
                raise KeyboardInterrupt
        return self._line


def _ready(state, **options):
    """A run whose next step ends with an attempt, and which jumps there."""
    model, loss = regression(torch.float64, hidden=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    accelerator = KoopmanAccelerator(
        model,
        optimizer,
        trial_loss=loss,
        window=4,
        every=1,
        horizons=[4],
        max_overhead=None,
        state=state,
        **options,
    ).attach()
    train(model, optimizer, loss, 3)
    return (model, optimizer, accelerator), loss


def _copy(run, loss):
    """A run of its own (a copy of parameters has no gradients)."""
    model, optimizer, accelerator = copy.deepcopy(run)
    loss(model).backward()
    return model, optimizer, accelerator


def _reference(run, loss):
    model, optimizer, accelerator = _copy(run, loss)
    optimizer.step()
    assert len(accelerator.jumps) == 1
    return everything(model, optimizer)[:2]


def _without(run, loss):
    model, optimizer, accelerator = _copy(run, loss)
    accelerator.detach()
    optimizer.step()
    return everything(model, optimizer)[:2]


@pytest.mark.parametrize("state", ["keep", "reset", "carry"])
def test_interrupt_at_any_line_leaves_weights_and_state_together(state):
    run, loss = _ready(state)
    before, after = _without(run, loss), _reference(run, loss)
    assert differs(before, after)
    outcomes, done = [], set()
    while True:
        model, optimizer, accelerator = _copy(run, loss)
        interrupt = InterruptAtLine(done)
        try:
            with interrupt:
                optimizer.step()
        except KeyboardInterrupt:
            found = everything(model, optimizer)[:2]
            jumped = not differs(found, after)
            assert jumped or not differs(found, before), interrupt.where
            outcomes.append(jumped)
        if interrupt.where is None:
            break
        if len(outcomes) % 10 == 0:  # and the next window comes to an end as ever
            train(model, optimizer, loss, 5)
            assert accelerator.history, interrupt.where
    assert len(outcomes) > 100
    assert set(outcomes) == {True, False}
