"""koopcore against PyDMD's released version, and that the comparison can fail."""

import importlib
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def compare():
    pytest.importorskip("pydmd")
    folder = str(Path(__file__).resolve().parents[1] / "bench")
    sys.path.insert(0, folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyDMD's own, while it is imported
            return importlib.import_module("compare_pydmd")
    finally:
        sys.path.remove(folder)


def test_every_pair_agrees_or_differs_as_stated(compare, capsys):
    assert compare.main() == 0
    table = capsys.readouterr().out
    assert table.count("| agree |") >= 20
    assert "DISAGREE" not in table


@pytest.mark.parametrize("label", ["exact", "forward-backward", "optimized"])
def test_a_wrong_answer_is_found(compare, monkeypatch, capsys, label):
    right = compare.by_koopcore

    def wrong(problem, options):
        answer = right(problem, options)
        return replace(answer, eigenvalues=answer.eigenvalues * 1.01)

    pair = next(pair for pair in compare.pairs() if pair.label == label)
    monkeypatch.setattr(compare, "by_koopcore", wrong)
    monkeypatch.setattr(compare, "pairs", lambda: [pair])
    assert compare.main() == 1
    assert "1 not as stated" in capsys.readouterr().out


def test_a_wrong_reconstruction_is_found(compare, monkeypatch):
    right = compare.by_koopcore

    def wrong(problem, options):
        answer = right(problem, options)
        return replace(answer, states=answer.states + 1e-3 * np.abs(answer.states).max())

    monkeypatch.setattr(compare, "by_koopcore", wrong)
    assert not compare.measure(compare.pairs()[0]).holds
