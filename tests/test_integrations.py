"""The integrations import nothing before they are used, and say what is missing."""

import doctest
import importlib
import subprocess
import sys

import pytest

pytest.importorskip("torch")

from koopcore.torch import integrations

LIBRARIES = {
    "lightning": "KoopmanCallback",
    "transformers": "KoopmanTrainerCallback",
    "accelerate": "koopman_accelerator",
}


def _run(code):
    return subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)


def test_package_imports_no_library():
    code = (
        "import sys, koopcore.torch.integrations\n"
        f"print([name for name in {list(LIBRARIES)} if name in sys.modules])"
    )
    assert _run(code).stdout.strip() == "[]"


@pytest.mark.parametrize("library", LIBRARIES)
def test_missing_library_is_named_with_its_extra(library):
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        f"from koopcore.torch.integrations import {LIBRARIES[library]}"
    )
    error = _run(code).stderr.strip().splitlines()[-1]
    assert error.startswith(f"ImportError: koopcore.torch.integrations.{library} needs")
    assert f'pip install "koopcore[{library}]"' in error


@pytest.mark.parametrize("library", LIBRARIES)
def test_names_lead_to_their_modules_whose_examples_run(library):
    pytest.importorskip(library)
    module = importlib.import_module(f"koopcore.torch.integrations.{library}")
    name = LIBRARIES[library]
    assert getattr(integrations, name) is getattr(module, name)
    assert name in dir(integrations)
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_other_names_are_no_attributes():
    with pytest.raises(AttributeError, match="has no attribute 'keras'"):
        _ = integrations.keras
