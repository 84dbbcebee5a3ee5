"""The C++ side without Python: tests under sanitizers, install, and a stand-alone consumer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from koopcore import _core

ROOT = Path(__file__).resolve().parents[1]
# Tools and scipy-openblas32 of this environment, wherever pytest was started from.
ENVIRONMENT = {
    **os.environ,
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
}
NO_BLAS = "No BLAS and LAPACK on this system"
KERNEL_TESTS = "*kernels*,*gram*,*leading_eigen*,*window*,*sketch*,*grouped*"


def run(*command, **options):
    options = {"env": ENVIRONMENT, "text": True, "capture_output": True} | options
    return subprocess.run([str(part) for part in command], **options)


def must(*command, **options):
    result = run(*command, **options)
    assert result.returncode == 0, f"{command}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout


def configure(source, build, *arguments):
    """Configure with the system's BLAS, else with the one from PyPI; return the result."""
    command = (
        "cmake",
        *arguments,
        "-B",
        build,
        "-G",
        "Ninja",
        f"-DPython_EXECUTABLE={sys.executable}",
    )
    result = run(*command, cwd=source)
    if NO_BLAS in result.stderr:
        result = run(*command, "-DKOOPCORE_BLAS=scipy-openblas32", cwd=source)
    return result


LEVELS = ["base", "avx2", "avx512"]


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """The C++ tests, built under sanitizers."""
    build = tmp_path_factory.mktemp("sanitized")
    result = configure(ROOT, build, "--preset", "sanitize")
    if "doctest" in result.stderr:
        pytest.skip("doctest not found, so the C++ tests did not run (Debian: doctest-dev)")
    assert result.returncode == 0, result.stderr
    must("cmake", "--build", build)
    return build / "tests/cpp/koopcore_tests"


# The best level runs them all; the others what they change and what stands right on it.
@pytest.mark.parametrize("level", LEVELS)
def test_cpp_tests_pass_under_sanitizers(sanitized, level):
    best = LEVELS.index(_core.instruction_set())
    if LEVELS.index(level) > best:
        pytest.skip(f"this processor goes up to {LEVELS[best]}")
    sources = [] if level == LEVELS[best] else [f"--source-file={KERNEL_TESTS}"]
    result = run(sanitized, *sources, env={**ENVIRONMENT, "KOOPCORE_SIMD": level})
    output = result.stdout
    assert result.returncode == 0, output[-4000:] + result.stderr[-4000:]
    assert "Status: SUCCESS" in output
    assert " 0 failed" in output
    assert " 0 passed" not in output


@pytest.mark.parametrize("blas", ["system", "scipy-openblas32"])
def test_installed_package_serves_a_stand_alone_project(tmp_path, blas):
    build, prefix, consumer = (tmp_path / name for name in ("build", "prefix", "consumer"))
    result = configure(ROOT, build, "--preset", "release", f"-DKOOPCORE_BLAS={blas}")
    if (
        blas == "system"
        and "KOOPCORE_BLAS:STRING=system" not in (build / "CMakeCache.txt").read_text()
    ):
        pytest.skip("no BLAS and LAPACK on this system (Debian: libopenblas-dev)")
    assert result.returncode == 0, result.stderr
    must("cmake", "--build", build)
    must("cmake", "--install", build, "--prefix", prefix)
    shutil.rmtree(build)  # the installed package must not lean on it

    source = tmp_path / "source"
    shutil.copytree(ROOT / "tests/cmake_consume", source)
    must("cmake", "-S", source, "-B", consumer, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    must("cmake", "--build", consumer)
    assert must(consumer / "consumer").startswith("forecast 1.000 -2.000 0.500")
