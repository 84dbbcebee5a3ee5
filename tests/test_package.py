"""The distribution: sdist and wheel are built, and the wheel works on its own."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import koopcore

ROOT = Path(__file__).resolve().parents[1]
METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def python(*arguments, **options):
    result = subprocess.run(
        [sys.executable, *map(str, arguments)], text=True, capture_output=True, **options
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Build the sdist from a clean copy of the source, and the wheel from that sdist."""
    source = tmp_path_factory.mktemp("source") / "koopcore"
    ignored = shutil.ignore_patterns(
        ".*", "build", "dist", "*.egg-info", "__pycache__", "*.so", "*.LICENSE.txt"
    )
    shutil.copytree(ROOT, source, ignore=ignored)
    shutil.copy(ROOT / ".clang-format", source)
    target = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--no-isolation", "--outdir", target, source)
    (sdist,) = target.glob("*.tar.gz")
    (wheel,) = target.glob("*.whl")
    return sdist, wheel


def test_sdist_holds_the_sources_and_no_binary(distributions):
    with tarfile.open(distributions[0]) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    for needed in (
        "CMakeLists.txt",
        "csrc/src/dmd.cpp",
        "csrc/include/koopcore/dmd.hpp",
        "LICENSE",
        "csrc/cmake/koopcoreConfig.cmake.in",
        "tests/cmake_consume/main.cpp",
    ):
        assert needed in names
    assert not [name for name in names if name.endswith(".so")]


def test_wheel_ships_blas_and_licences_beside_the_module(distributions):
    with zipfile.ZipFile(distributions[1]) as archive:
        names = archive.namelist()
        licence = archive.read("koopcore/libscipy_openblas.LICENSE.txt").decode()
    assert "koopcore/libscipy_openblas.so" in names
    assert "OpenBLAS" in licence
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {"koopcore/py.typed", "koopcore/_core.pyi"} <= set(names)
    for pattern in ("koopcore/compare/data/*.npz", "koopcore/compare/report/templates/*"):
        data = {str(path.relative_to(ROOT)) for path in ROOT.glob(pattern)}
        assert data
        assert data <= set(names)
    packages = {name.split("/")[0] for name in names}
    assert packages == {"koopcore", f"koopcore-{METADATA['version']}.dist-info"}


def test_wheel_works_with_numpy_alone(distributions, tmp_path):
    python(
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        tmp_path,
        distributions[1],
    )
    code = """
import sys, numpy as np, koopcore
model = koopcore.WindowDMD(window=4, affine=True)
for t in range(6):
    model.update(np.array([1.0, 2.0]) + 0.5**t)
print(np.round(model.forecast(100), 6).tolist(), koopcore.__version__, koopcore.__file__)
print([line.split()[-1] for line in open("/proc/self/maps") if "libscipy_openblas.so" in line][0])
print(sorted({name.split(".")[0] for name in sys.modules} &
             {"torch", "matplotlib", "sklearn", "scipy", "typer", "tqdm"}))
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    forecast, blas, heavy = python("-c", code, cwd=tmp_path, env=environment).splitlines()
    assert forecast == f"[1.0, 2.0] {METADATA['version']} {tmp_path}/koopcore/__init__.py"
    assert blas == f"{tmp_path}/koopcore/libscipy_openblas.so"
    assert heavy == "[]"


def test_numpy_is_the_only_runtime_dependency():
    assert METADATA["dependencies"] == ["numpy>=2"]
    assert {"torch", "compare", "plot", "test", "bench"} <= set(METADATA["optional-dependencies"])
    assert koopcore.__version__ == METADATA["version"]
