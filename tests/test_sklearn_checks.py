"""koopcore.sklearn passes scikit-learn's own checks of estimators, all of them."""

import os
import subprocess
import sys

import pytest
from sklearn.base import clone
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

from koopcore.sklearn import DMD, StreamingDMD, StreamingPCA, WindowDMD

ESTIMATORS = [
    DMD(),
    DMD(affine=True),
    DMD(n_components=1),
    DMD(n_components=0.9, solver="qr"),
    DMD(n_components="svht"),
    DMD(n_components="cv", unstable="drop"),
    DMD(variant="tls", constraint="stable"),
    DMD(variant="forward-backward", unstable="reflect"),
    DMD(variant="symmetric", affine=True, dt=0.1),
    DMD(variant="optimized", n_components=1),
    DMD(ridge=1e-3, tol=1e-3, unstable="keep"),
    WindowDMD(),
    WindowDMD(window=7, affine=True),
    WindowDMD(window=5, n_components=2, variant="tls"),
    StreamingDMD(),
    StreamingDMD(n_components=2, affine=True),
    StreamingDMD(n_components=1, variant="tls", forgetting=0.9, oversampling=0, batch_size=3),
    StreamingPCA(),
    StreamingPCA(n_components=1, whiten=True),
    StreamingPCA(n_components=2, forgetting=0.9, oversampling=0, batch_size=3),
]
# Checks of scikit-learn that check_estimator leaves out, but its own estimators are held to.
FURTHER = [
    estimator_checks.check_dataframe_column_names_consistency,
    estimator_checks.check_global_output_transform_pandas,
    estimator_checks.check_inplace_ensure_writeable,
    estimator_checks.check_set_output_transform,
    estimator_checks.check_set_output_transform_pandas,
    estimator_checks.check_transformer_get_feature_names_out,
    estimator_checks.check_transformer_get_feature_names_out_pandas,
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_check_estimator_passes(estimator):
    results = check_estimator(estimator, on_skip=None)
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    assert skipped <= {"check_array_api_input"}  # runs in the test below
    assert {r["status"] for r in results if r["check_name"] not in skipped} == {"passed"}


def test_check_estimator_skips_nothing_where_array_api_is_on():
    code = (
        "from koopcore.sklearn import DMD, StreamingDMD, StreamingPCA, WindowDMD\n"
        "from sklearn.utils.estimator_checks import check_estimator\n"
        "for estimator in (DMD(), WindowDMD(), StreamingDMD(), StreamingPCA()):\n"
        "    results = check_estimator(estimator, on_skip=None)\n"
        "    assert {r['status'] for r in results} == {'passed'}, results\n"
    )
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        check=True,
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
    )


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names:UserWarning")
@pytest.mark.parametrize("check", FURTHER, ids=lambda check: check.__name__)
@pytest.mark.parametrize("estimator", ESTIMATORS[:2] + ESTIMATORS[-9::2], ids=repr)
def test_further_checks_of_scikit_learn_pass(estimator, check):
    check(type(estimator).__name__, clone(estimator))
