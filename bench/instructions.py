"""Instructions of the core's operations on small cases: python bench/instructions.py.

A second opinion beside times, without their noise: valgrind's callgrind counts what one call
executes, on one thread, and the count repeats to the digit. It knows no AVX-512, so the loops for
AVX2 are counted. ``--out FILE`` keeps the counts; they are compared with bench/instructions.json,
and the exit status is 1 where one grew by more than 1 % with the same compiler, BLAS and valgrind.
"""

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STORED = ROOT / "bench/instructions.json"
BUILD = ROOT / "build/instructions"
MARGIN = 0.01
COUNTED = "koopcore_counted"  # a function of bench/instructions/main.cpp


class Missing(RuntimeError):
    """A program that counting needs is not there."""


def program(name, package):
    """Return where a program is, beside this Python or on the path."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise Missing(f"{name} was not found: instructions are not counted (install {package})")
    return found


def run(*command, **environment):
    """Run a command and return its output; its error text becomes the exception's."""
    result = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        text=True,
        capture_output=True,
    )
    if result.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return result.stdout + result.stderr


def blas():
    """Return the BLAS that the driver is built with: the pinned one from PyPI where it is."""
    package = "scipy-openblas32"
    return package if importlib.util.find_spec("scipy_openblas32") else "system"


def build(folder=BUILD):
    """Build the driver and return where it is."""
    cmake = program("cmake", "the PyPI package cmake")
    options = ["-DCMAKE_BUILD_TYPE=Release", f"-DPython_EXECUTABLE={sys.executable}"]
    options += [f"-DKOOPCORE_BLAS={blas()}"]
    run(cmake, "-S", ROOT / "bench/instructions", "-B", folder, *options)
    run(cmake, "--build", folder, "--parallel", str(os.cpu_count() or 1))
    return folder / "instructions"


def cases(driver):
    """Return the names of what can be counted."""
    return run(driver).split()


def count(driver, case):
    """Return the instructions of one call of an operation."""
    valgrind = program("valgrind", "Debian's package valgrind")
    simd = {"KOOPCORE_SIMD": "avx2"} if platform.machine() == "x86_64" else {}
    text = run(
        *(valgrind, "--tool=callgrind", "--collect-atstart=no", f"--toggle-collect={COUNTED}"),
        *("--callgrind-out-file=/dev/null", driver, case),
        OPENBLAS_CORETYPE="Haswell",
        OPENBLAS_NUM_THREADS="1",
        **simd,
    )
    return int(re.search(r"Collected : (\d+)", text).group(1))


def tools(folder=BUILD):
    """Return the versions of all that a count depends on beside the code."""
    cache = (folder / "CMakeCache.txt").read_text()
    compiler = re.search(r"CMAKE_CXX_COMPILER:\w+=(.*)", cache).group(1)
    named = blas()
    return {
        "compiler": run(compiler, "--version").splitlines()[0],
        "blas": named if named == "system" else f"{named} {version(named)}",
        "valgrind": run(program("valgrind", "Debian's package valgrind"), "--version").strip(),
        "machine": platform.machine(),
    }


def grown(new, old):
    """Return the cases whose count grew by more than the margin."""
    return [
        case
        for case, number in new["instructions"].items()
        if number > (1 + MARGIN) * old["instructions"].get(case, float("inf"))
    ]


def comparison(new, old):
    """Return a table of the counts beside the old ones, and what else differs, as lines."""
    lines = []
    for case, number in new["instructions"].items():
        before = old["instructions"].get(case)
        change = number / before - 1 if before else None
        said = "new" if change is None else f"{100 * change:+.2f} %"
        flag = "" if change is None or abs(change) <= MARGIN else (
            "  MORE" if change > 0 else "  fewer")  # fmt: skip
        lines.append(f"{case:<24}{number:>14,}  {said}{flag}")
    lines += [f"not counted: {case}" for case in old["instructions"].keys() - new["instructions"]]
    lines += [
        f"{tool}: {old['tools'].get(tool)} -> {name}; counts differ for that, too"
        for tool, name in new["tools"].items()
        if old["tools"] and old["tools"].get(tool) != name
    ]
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON to write")
    options = parser.parse_args(arguments)
    try:
        program("valgrind", "Debian's package valgrind")  # before minutes of compiling
        driver = build()
        found = {"tools": tools()}
        found["instructions"] = {case: count(driver, case) for case in cases(driver)}
    except Missing as error:
        print(error, file=sys.stderr)
        return 2
    old = json.loads(STORED.read_text()) if STORED.exists() else {"tools": {}, "instructions": {}}
    print(comparison(found, old))
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=2) + "\n")
    return int(bool(grown(found, old)) and found["tools"] == old["tools"])


if __name__ == "__main__":
    sys.exit(main())
