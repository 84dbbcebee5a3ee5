"""Every variant that PyDMD has too: koopcore before and after PyDMD in one run, and peak memory.

PyDMD's classes run as a user writes them; two also in the fastest way that they offer: RDMD with
its random matrix given (else it computes a full SVD to find the rank it was told) and optimized DMD
from one SVD made by the caller (else BOPDMD computes three). PyDMD runs once per variant, since a
fit takes ten seconds and more, koopcore three times before it and three times after.
"""

import warnings

import numpy as np
import pytest
from conftest import RATES
from memory import peak_memory

import koopcore

# Variant: koopcore's fit, then PyDMD's, as a user writes it and as fast as it goes.
FITS = {
    "exact": ["koopcore.DMD(10).fit(X)", "pydmd.DMD(10, exact=True).fit(X)"],
    "rdmd": [
        "koopcore.DMD(10).fit(X)",
        "pydmd.RDMD(svd_rank=10, seed=0).fit(X)",
        "pydmd.RDMD(svd_rank=10, test_matrix=np.random.default_rng(0)"
        ".standard_normal((64, 20), dtype=np.float32)).fit(X)",
    ],
    "hankel": [
        "koopcore.DMD(10, delays=2).fit(X)",
        "pydmd.HankelDMD(10, d=2, exact=True).fit(X)",
    ],
    "forward-backward": [
        "koopcore.DMD(10, variant='forward-backward').fit(X)",
        "pydmd.FbDMD(10).fit(X)",
    ],
    "optimized": [
        "koopcore.DMD(10, variant='optimized').fit(X)",
        "pydmd.BOPDMD(10).fit(X, np.arange(64.0))",
        "(lambda u, s, v: pydmd.BOPDMD(10, proj_basis=u[:, :10])"
        ".fit_econ(s[:10], v[:10], np.arange(64.0)))(*np.linalg.svd(X, full_matrices=False))",
    ],
}
# FbDMD's two bases put its leading eigenvalue off by .02: see compare_pydmd.py.
ALLOWED = {"koopcore": 1e-4, "pydmd": 1e-3, "forward-backward pydmd": 0.1}


def turns():
    """Each variant as koopcore, PyDMD (in one or two ways), koopcore."""
    for variant, (ours, *peers) in FITS.items():
        yield variant, "koopcore-before", ours
        yield variant, "pydmd", peers[0]
        if len(peers) > 1:
            yield variant, "pydmd-fastest", peers[1]
        yield variant, "koopcore-after", ours
    with_modes = "(lambda model: (model, model.modes, model.amplitudes)[0])"
    yield "exact", "koopcore-with-modes", f"{with_modes}({FITS['exact'][0]})"


@pytest.mark.parametrize(
    ("variant", "who", "fit"), [pytest.param(*turn, id="-".join(turn[:2])) for turn in turns()]
)
def test_variant(benchmark, snapshots, variant, who, fit):
    benchmark.group = f"{variant} n=1e6 m=64 r=10 float32"
    package = who.split("-")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = {"koopcore": koopcore, "np": np, "X": snapshots, "pydmd": None}
        if package == "pydmd":
            import pydmd

            names["pydmd"] = pydmd
        rounds = {"rounds": 3, "warmup_rounds": 1} if package == "koopcore" else {"rounds": 1}
        model = benchmark.pedantic(eval, (fit, names), **rounds)
    leading = np.max(np.abs(np.exp(model.eigs) if "BOPDMD" in fit else model.eigs))
    allowed = ALLOWED.get(f"{variant} {package}", ALLOWED[package])
    assert abs(leading - RATES[0]) < allowed
    if who != "koopcore-after":
        benchmark.extra_info["peak_memory"] = peak_memory(fit, package)
