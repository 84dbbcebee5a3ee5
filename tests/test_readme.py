"""What the README shows runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("code", BLOCKS, ids=["fit", "train"])
def test_python_of_the_readme_runs(code, capsys):
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert capsys.readouterr().out
    if "accelerator" in names:
        assert names["accelerator"].stats.attempts > 0
    else:
        np.testing.assert_allclose(names["model"].eigenvalues, [0.99, 0.9, 0.5], atol=1e-5)


def test_commands_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M)


def test_files_of_the_readme_exist():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
