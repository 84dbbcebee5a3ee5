"""Threads and instruction sets: what is set, what the environment demands, and who else sees it."""

import os
import subprocess
import sys

import numpy as np
import pytest
import threadpoolctl

import koopcore
from koopcore import _core


@pytest.fixture
def default_threads():
    yield
    koopcore.set_num_threads(0)


def in_process(code, **environment):
    """Run code in a process of its own; returns what it prints, or the last line of its error."""
    kept = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "KOOPCORE_SIMD")}
    result = subprocess.run(
        [sys.executable, "-c", f"import koopcore\nfrom koopcore import _core\n{code}"],
        text=True,
        capture_output=True,
        env=kept | environment,
    )
    return (result.stdout if result.returncode == 0 else result.stderr).strip().splitlines()[-1]


def test_threads_can_be_set_and_go_back_to_the_default(default_threads):
    before = koopcore.num_threads()
    koopcore.set_num_threads(before + 2)
    assert koopcore.num_threads() == before + 2
    koopcore.set_num_threads(0)
    assert koopcore.num_threads() == before
    with pytest.raises(koopcore.Error, match="at least 1, or 0 for the default; got -1"):
        koopcore.set_num_threads(-1)


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({"KOOPCORE_NUM_THREADS": "5"}, 5),
        ({"KOOPCORE_NUM_THREADS": "5", "OMP_NUM_THREADS": "3"}, 5),
        ({"OMP_NUM_THREADS": "3,2"}, 3),
        ({"KOOPCORE_NUM_THREADS": "none"}, len(os.sched_getaffinity(0))),
        ({}, len(os.sched_getaffinity(0))),
    ],
)
def test_the_environment_says_how_many_threads(environment, threads):
    assert in_process("print(koopcore.num_threads())", **environment) == str(threads)


def test_the_default_is_what_a_pinned_thread_may_use():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    assert in_process(f"{code}; print(koopcore.num_threads())") == "1"


@pytest.mark.parametrize("name", ["base", _core.instruction_set()])
def test_the_environment_can_demand_an_instruction_set(name):
    assert in_process("print(_core.instruction_set())", KOOPCORE_SIMD=name) == name


def test_an_instruction_set_that_is_not_there_is_refused_at_import():
    message = in_process("", KOOPCORE_SIMD="sse9")
    assert "KOOPCORE_SIMD is 'sse9'; it must be base, avx2 or avx512" in message
    assert _core.instruction_set() in message


FORKED = """
import os, numpy as np
X = np.random.default_rng(0).standard_normal((200_000, 8))
koopcore.set_num_threads(4)
expected = _core.gram(X)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(_core.gram(X), expected) else 1)
assert os.waitpid(child, 0)[1] == 0
print(np.array_equal(_core.gram(X), expected))
"""


def test_a_forked_child_has_threads_of_its_own():
    assert in_process(FORKED) == "True"


def test_results_do_not_depend_on_the_number_of_threads(default_threads):
    X = np.random.default_rng(0).standard_normal((300_001, 5), dtype=np.float32)
    grams = []
    for threads in (1, 2, 7):
        koopcore.set_num_threads(threads)
        grams.append(_core.gram(X))
    assert np.array_equal(grams[0], grams[1])
    assert np.array_equal(grams[0], grams[2])


def own_threads():
    return [
        library["num_threads"]
        for library in threadpoolctl.threadpool_info()
        if library["internal_api"] == "koopcore"
    ]


@pytest.mark.parametrize("user_api", [None, "blas"])
def test_threadpoolctl_sees_and_limits_the_threads(default_threads, user_api):
    koopcore.set_num_threads(3)
    assert own_threads() == [3]
    with threadpoolctl.threadpool_limits(2, user_api):
        assert koopcore.num_threads() == 2
        assert own_threads() == [2]
    assert koopcore.num_threads() == 3


def test_a_limit_that_ends_leaves_the_default():
    code = (
        "import os, threadpoolctl\n"
        "with threadpoolctl.threadpool_limits(7): assert koopcore.num_threads() == 7\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "print(koopcore.num_threads())"
    )
    assert in_process(code) == "1"


def test_koopcore_imports_without_threadpoolctl():
    code = "import sys; sys.modules['threadpoolctl'] = None; import koopcore; print('imported')"
    result = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    assert result.stdout == "imported\n", result.stderr
