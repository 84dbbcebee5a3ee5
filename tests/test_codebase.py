"""The house rules that a machine can check."""

import ast
import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sorted(
    [*ROOT.glob("koopcore/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("bench/*.py")]
)
CPP = sorted(
    path
    for pattern in ("*.cpp", "*.hpp")
    for path in [*ROOT.glob(f"csrc/**/{pattern}"), *ROOT.glob(f"tests/**/{pattern}")]
)
READING_ORDER = [
    "error",
    "runtime",
    "matrix_view",
    "bfloat16",
    "blas",
    "leading_eigen",
    "gram",
    "orthonormalize",
    "rng",
    "sketch",
    "range_finder",
    "snapshot_window",
    "dmd",
    "streaming_svd",
    "streaming_dmd",
    "grouped_dmd",
]
# The modules that need NumPy alone, and the plots.
CORE = sorted(
    path
    for path in [*ROOT.glob("koopcore/*.py"), *ROOT.glob("koopcore/plotting/*.py")]
    if path.name not in ("cli.py", "__main__.py", "sklearn.py")
    and (not path.name.startswith("_cli_") or path.name == "_cli_dmd.py")
)
HEAVY = (
    "torch",
    "matplotlib",
    "sklearn",
    "scipy",
    "typer",
    "tqdm",
    "pandas",
    "xarray",
    "safetensors",
    "h5py",
    "zarr",
)


def tool(*command):
    result = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, text=True, capture_output=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_files_keep_to_their_sizes():
    for path in [*PYTHON, *CPP]:
        limit = 200 if "bindings" in path.parts else 400
        assert len(path.read_text().splitlines()) <= limit, f"{path} is over {limit} lines"
    assert len((ROOT / "CMakeLists.txt").read_text().splitlines()) <= 150
    assert len([line for line in (ROOT / "setup.py").read_text().splitlines() if line]) <= 3


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_keep_to_their_size(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = node.end_lineno - node.lineno + 1
            documented = ast.get_docstring(node, clean=False)
            lines -= documented.count("\n") + 1 if documented else 0
            assert lines <= 60, f"{path}: {node.name} has {lines} lines"


def test_core_knows_neither_python_nor_torch():
    for folder in ("include", "src"):
        for path in (ROOT / "csrc" / folder).rglob("*.?pp"):
            assert not re.search(r"pybind11|torch|Python\.h", path.read_text()), path


def test_headers_include_only_those_before_them():
    for position, name in enumerate(READING_ORDER):
        text = (ROOT / f"csrc/include/koopcore/{name}.hpp").read_text()
        for included in re.findall(r'#include "koopcore/(\w+)\.hpp"', text):
            assert included in READING_ORDER[:position], f"{name}.hpp includes {included}.hpp"
    umbrella = (ROOT / "csrc/include/koopcore/koopcore.hpp").read_text()
    assert re.findall(r"koopcore/(\w+)\.hpp", umbrella) == READING_ORDER


def test_bindings_see_public_headers_only():
    for path in (ROOT / "csrc/bindings").glob("*.?pp"):
        assert "src/" not in "".join(re.findall(r"#include.*", path.read_text()))


def test_import_is_light():
    code = f"import sys, koopcore; print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_only_the_torch_side_imports_torch():
    for path in ROOT.glob("koopcore/**/*.py"):
        inside = path.relative_to(ROOT / "koopcore").parts[0]
        if inside in ("torch", "compare"):
            continue
        assert not re.search(r"^\s*(import|from) torch\b", path.read_text(), re.M), path
    reference = (ROOT / "koopcore/reference.py").read_text()
    assert set(re.findall(r"^(?:from|import) (\w+)", reference, re.M)) == {"__future__", "numpy"}


def test_torch_hidden_does_not_matter_to_the_core():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, koopcore\n"
        "koopcore.DMD(rank=1).fit(np.ones((3, 4)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ruff_is_content():
    tool("ruff", "check", ".")
    tool("ruff", "format", "--check", ".")


def test_cpp_is_formatted():
    clang_format = Path(sys.executable).with_name("clang-format")
    if not clang_format.exists():
        pytest.skip("clang-format is not installed")
    result = subprocess.run([clang_format, "--dry-run", "--Werror", *CPP], capture_output=True)
    assert result.returncode == 0, result.stderr.decode()


def test_stub_matches_the_compiled_module():
    tool("mypy.stubtest", "koopcore._core", "--allowlist", "tests/stubtest_allowlist.txt")


def test_types_of_the_package():
    tool(
        "mypy",
        "--strict",
        "--ignore-missing-imports",
        *(str(path) for path in CORE),
    )


@pytest.mark.parametrize(
    "path", [path for path in CORE if ">>>" in path.read_text()], ids=lambda path: path.stem
)
def test_docstring_examples_run(path):
    # By their full names: as files, io.py and select.py would be taken for the standard library's.
    parts = path.relative_to(ROOT).with_suffix("").parts
    result = doctest.testmod(importlib.import_module(".".join(parts)))
    assert result.attempted > 0
    assert result.failed == 0
