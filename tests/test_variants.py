"""Every variant: planted systems, the plain reference on noisy data, and what must not happen."""

import itertools

import numpy as np
import pytest
from support import DTYPES, match, planted

from koopcore import DMD, WindowDMD, reference

RATES = (0.97, 0.9 * np.exp(0.4j), 0.9 * np.exp(-0.4j), -0.6)
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-10}
FORMS = [
    {},
    {"exact": False},
    {"variant": "tls"},
    {"variant": "tls", "exact": False},
    {"variant": "forward-backward"},
    {"variant": "optimized"},
    {"delays": 2},
    {"delays": 3, "variant": "tls"},
    {"ridge": 1e-15},
    {"solver": "qr"},
    {"solver": "qr", "variant": "tls"},
    {"solver": "qr", "variant": "forward-backward", "delays": 2},
    {"solver": "qr", "variant": "optimized"},
    {"affine": True, "delays": 2},
    {"affine": True, "variant": "tls"},
    {"affine": True, "variant": "forward-backward"},
    {"affine": "constant"},
    {"affine": "constant", "solver": "qr"},
    {"affine": "constant", "variant": "tls", "delays": 2},
]


def name(options):
    return "-".join(f"{key}={value}" for key, value in options.items()) or "standard"


def planted_for(options):
    """Eigenvalues that a form finds in RATES, and the fixed point it can follow."""
    constant = options.get("affine") == "constant"
    return (*RATES, 1.0) if constant else RATES, 3.0 if options.get("affine") else 0.0


def noisy(scale=1e-2, seed=7, **options):
    X = planted(RATES, m=30, **options)
    return X + scale * np.random.default_rng(seed).standard_normal(X.shape)


@pytest.mark.parametrize("options", FORMS, ids=name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_planted_system_comes_back_in_every_form(options, dtype):
    rates, fixed_point = planted_for(options)
    full = planted(RATES, m=40, fixed_point=fixed_point)
    X = full[:, :24].astype(dtype)
    model = DMD(rank=len(rates), opt=True, **options).fit(X)
    assert match(model.eigenvalues, rates) < TOLERANCE[dtype]
    scale = np.abs(full).max()
    at = {0: 23, 1: 24, 10: 33, -3: 20}
    forecasts = model.forecast(list(at))
    assert forecasts.dtype == dtype
    limit = 100 * TOLERANCE[dtype] * scale
    np.testing.assert_allclose(forecasts, full[:, list(at.values())], atol=limit)
    np.testing.assert_allclose(model.reconstruct(), X, atol=limit)
    delays = options.get("delays", 1)
    state = X[:, 5] if delays == 1 else X[:, 6 - delays : 6]
    np.testing.assert_allclose(model.predict(state, 3), full[:, 8], atol=limit)
    np.testing.assert_allclose(model.modes @ model.dynamics, _series(model, X), atol=limit)


def _series(model, X):
    return np.diff(X, axis=1) if model._options.affine == "differences" else X


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize(
    "options", [o for o in FORMS if o.get("solver") != "qr" and not o.get("affine")], ids=name
)
def test_complex_data_in_every_form(options, dtype):
    rng = np.random.default_rng(3)
    rates = np.array([0.95 * np.exp(0.3j), 0.8 * np.exp(-1j), 0.5])  # no conjugates
    modes = rng.standard_normal((60, 3)) + 1j * rng.standard_normal((60, 3))
    full = modes @ np.vander(rates, 30, increasing=True)
    X = full[:, :20].astype(dtype)
    limit = 100 * TOLERANCE[np.float32 if dtype == np.complex64 else np.float64]
    for layout in (X, np.asfortranarray(X)):
        model = DMD(rank=3, opt=True, **options).fit(layout)
        assert match(model.eigenvalues, rates) < limit
        assert model.forecast(4).dtype == dtype
        np.testing.assert_allclose(model.forecast([4, -2.0]), full[:, [23, 17]], atol=limit)
        np.testing.assert_allclose(model.reconstruct(), X, atol=limit)
        assert model.modes.dtype == dtype
    if options.get("delays", 1) == 1:
        np.testing.assert_allclose(model.predict(X[:, :3], 2), full[:, 2:5], atol=limit)


def test_symmetric_variant_on_gradient_descent_and_complex_hermitian_data():
    rng = np.random.default_rng(0)
    Q, _ = np.linalg.qr(rng.standard_normal((80, 3)))
    rates = np.array([0.95, 0.8, -0.3])
    full = (Q * [1.0, 3.0, 0.5]) @ np.vander(rates, 30, increasing=True)
    model = DMD(rank=3, variant="symmetric").fit(full[:, :20])
    np.testing.assert_allclose(model.eigenvalues, rates, atol=1e-12)
    np.testing.assert_allclose(model.forecast(9), full[:, 28], atol=1e-12)
    single = DMD(rank=3, variant="symmetric").fit(full[:, :20].astype(np.float32))
    np.testing.assert_allclose(single.eigenvalues, rates, atol=1e-5)
    U, _ = np.linalg.qr(rng.standard_normal((40, 3)) + 1j * rng.standard_normal((40, 3)))
    hermitian = DMD(rank=3, variant="symmetric").fit(U @ np.vander(rates, 12, increasing=True))
    np.testing.assert_allclose(hermitian.eigenvalues, rates, atol=1e-12)


@pytest.mark.parametrize("solver", ["gram", "qr"])
def test_variants_agree_with_the_reference_on_noisy_data(solver):
    S = noisy()
    X, Y = S[:, :-1], S[:, 1:]

    def found(**options):
        return DMD(rank=4, solver=solver, **options).fit(S).eigenvalues

    alpha = 0.02 * np.sum(X**2) / X.shape[1]
    tall = reference.stacked(S, 3)
    constant = np.vstack([S, np.full(30, np.sqrt(np.sum(S**2) / 30))])
    pairs = [
        (found(), reference.dmd(X, Y, 4)[0]),
        (found(variant="tls"), reference.total_least_squares(X, Y, 4)),
        (found(variant="forward-backward"), reference.forward_backward(X, Y, 4)),
        (found(variant="symmetric"), reference.symmetric(X, Y, 4)),
        (found(ridge=0.02), reference.ridge(X, Y, 4, alpha)),
        (found(delays=3), reference.dmd(tall[:, :-1], tall[:, 1:], 4)[0]),
        (found(affine=True), reference.dmd(np.diff(X), np.diff(Y), 4)[0]),
        (found(affine="constant"), reference.dmd(constant[:, :-1], constant[:, 1:], 4)[0]),
        (
            found(variant="forward-backward", delays=3),
            reference.forward_backward(tall[:, :-1], tall[:, 1:], 4),
        ),
    ]
    for ours, theirs in pairs:
        assert match(ours, theirs) < 1e-9
    # None of them is another one in disguise.
    for (_, one), (_, other) in itertools.combinations(pairs, 2):
        assert match(one, other) > 1e-6


def test_forward_backward_is_exact_without_noise_and_blind_to_signs():
    """Also for pairs whose squares coincide: +-0.9, and a period of four snapshots."""
    for rates in (RATES, (0.9, -0.9, 0.5), (0.95j, -0.95j, 0.7)):
        X = planted(rates, m=20)
        model = DMD(rank=len(rates), variant="forward-backward").fit(X)
        assert match(model.eigenvalues, rates) < 1e-10
    X = noisy()
    expected = DMD(rank=4, variant="forward-backward").fit(X).eigenvalues
    signs = np.random.default_rng(0).choice([-1.0, 1.0], len(X))
    rotated, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((200, 200)))
    for same in (signs[:, None] * X, -X, rotated @ X):  # other signs for LAPACK's singular vectors
        found = DMD(rank=4, variant="forward-backward").fit(same).eigenvalues
        assert match(found, expected) < 1e-10


def test_forward_backward_stays_with_the_forward_operator_where_its_root_is_far():
    """Directions of mere noise cannot be run backward; the root would be worse than no root."""
    rates = (0.99 * np.exp(0.3j), 0.99 * np.exp(-0.3j), 0.95)
    worse, bound = [], []
    for seed in range(20):
        X = planted(rates, n=10, m=100, seed=seed)
        X = X + 0.01 * np.random.default_rng(seed).standard_normal(X.shape)
        for found, variant in ((worse, "forward-backward"), (bound, "standard")):
            values = DMD(rank=8, variant=variant).fit(X).eigenvalues
            found.append(np.abs(values[:, None] - np.array(rates)[None, :]).min(axis=0).max())
    assert np.median(worse) < 2 * np.median(bound)


def test_noise_bias_total_least_squares_and_forward_backward_beat_the_standard_variant():
    """100 seeds; medians in docs/variants/tls.md and forward-backward.md."""
    rates = (0.99 * np.exp(0.3j), 0.99 * np.exp(-0.3j), 0.95)
    errors = {"standard": [], "tls": [], "forward-backward": []}
    for seed in range(100):
        X = planted(rates, n=10, m=100, seed=seed)
        X = X + 0.3 * np.random.default_rng(5000 + seed).standard_normal(X.shape)
        for variant, found in errors.items():
            found.append(match(DMD(rank=3, variant=variant).fit(X).eigenvalues, rates))
    median = {variant: np.median(found) for variant, found in errors.items()}
    assert median["standard"] > 10 * median["tls"]
    assert median["standard"] > 10 * median["forward-backward"]


def test_heavy_ball_with_two_delays_gives_the_roots_of_its_quadratic():
    rng = np.random.default_rng(2)
    Q, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    hessian = Q * [0.3, 1.0, 3.0] @ Q.T
    rate, momentum = 0.2, 0.5
    w, velocity, path = np.ones(3), np.zeros(3), []
    for _ in range(20):
        path.append(w)
        velocity = momentum * velocity - rate * hessian @ (w - [1.0, 2.0, -1.0])
        w = w + velocity
    model = DMD(affine=True, delays=2, rank=6, solver="qr").fit(np.array(path).T)
    roots = [np.roots([1, -(1 + momentum - rate * h), momentum]) for h in (0.3, 1.0, 3.0)]
    assert match(model.eigenvalues, np.concatenate(roots)) < 1e-8
    np.testing.assert_allclose(model.forecast(1e4), [1.0, 2.0, -1.0], atol=1e-8)
    alone = DMD(affine=True, rank=3, solver="qr").fit(np.array(path).T)  # not closed in w
    assert abs(alone.forecast(1e4) - [1.0, 2.0, -1.0]).max() > 1e-3


@pytest.mark.parametrize("route", ["gram", "qr"])
def test_qr_resolves_what_the_gram_matrix_cannot(route):
    rng = np.random.default_rng(4)
    q, _ = np.linalg.qr(rng.standard_normal((2000, 2)))
    t = np.arange(20)
    X = np.outer(q[:, 0], 0.99**t) + 1e-8 * np.outer(q[:, 1], 0.8**t)
    model = DMD(rank=2, solver=route, tol=0.0).fit(X)
    error = match(model.eigenvalues, (0.99, 0.8))
    assert (error < 1e-6) == (route == "qr")
    assert model.solver_ == route


def test_auto_chooses_qr_only_where_it_is_needed():
    rng = np.random.default_rng(4)
    q, _ = np.linalg.qr(rng.standard_normal((500, 2)))
    t = np.arange(20)

    def data(ratio):
        return np.outer(q[:, 0], 0.99**t) + ratio * np.outer(q[:, 1], 0.8**t)

    assert DMD(rank=2).fit(data(1.0)).solver_ == "gram"
    hard = DMD(rank=2).fit(data(1e-8))
    assert hard.solver_ == "qr"
    assert match(hard.eigenvalues, (0.99, 0.8)) < 1e-6
    assert DMD().fit(data(1.0)).solver_ == "qr"  # all there is: only QR can tell how much
    assert len(DMD().fit(data(1.0)).eigenvalues) == 2
    assert DMD(0.99).fit(data(1.0)).solver_ == "gram"
    assert DMD(rank=2).fit(data(1e-8).astype(np.float32)).solver_ == "gram"
    assert DMD(rank=2, solver="gram").fit(data(1e-8)).solver_ == "gram"


def test_constraints_move_eigenvalues_to_the_nearest_admissible_ones():
    X = planted((1.05, 0.9 * np.exp(0.4j), 0.9 * np.exp(-0.4j)), m=20)
    stable = DMD(rank=3, constraint="stable").fit(X).eigenvalues
    assert match(stable, (1.0, 0.9 * np.exp(0.4j), 0.9 * np.exp(-0.4j))) < 1e-9
    circle = DMD(rank=3, constraint="unit_circle").fit(X).eigenvalues
    assert match(circle, (1.0, np.exp(0.4j), np.exp(-0.4j))) < 1e-9
    real = DMD(rank=3, constraint="real").fit(X).eigenvalues
    assert match(real, (1.05, *[0.9 * np.cos(0.4)] * 2)) < 1e-9
    for constraint in ("stable", "unit_circle", "real"):
        found = DMD(rank=3, constraint=constraint, variant="optimized").fit(X)
        assert {
            "stable": np.all(np.abs(found.eigenvalues) <= 1 + 1e-12),
            "unit_circle": np.allclose(np.abs(found.eigenvalues), 1.0),
            "real": np.allclose(found.eigenvalues.imag, 0.0),
        }[constraint]
        assert np.isfinite(found.forecast(5)).all()


def test_unit_circle_drops_eigenvalue_zero():
    X = np.zeros((4, 6))
    X[0] = 1.0
    X[1, 0] = 1.0  # e1 -> 0
    model = DMD(rank=2, constraint="unit_circle").fit(X)
    np.testing.assert_allclose(model.eigenvalues, [1.0])
    np.testing.assert_allclose(model.forecast(5), X[:, -1], atol=1e-12)


def test_unstable_eigenvalues_in_forecasts():
    X = planted((1.2, 0.5), m=12)
    full = planted((1.2, 0.5), m=30)
    choices = ("clip", "reflect", "drop", "keep")
    growing = {u: DMD(rank=2, unstable=u).fit(X) for u in choices}
    for u, model in growing.items():  # from the first moment on, with either kind of modes
        projected = DMD(rank=2, unstable=u, exact=False).fit(X)
        for horizon in (0.25, 1, 7):
            np.testing.assert_allclose(
                model.forecast(horizon), projected.forecast(horizon), atol=1e-9
            )
        np.testing.assert_allclose(model.predict(X[:, 3]), projected.predict(X[:, 3]), atol=1e-9)
    for model in growing.values():
        assert match(model.eigenvalues, (1.2, 0.5)) < 1e-9
        np.testing.assert_allclose(model.forecast(-4), full[:, 7], atol=1e-9)  # as fitted, backward
    np.testing.assert_allclose(growing["keep"].forecast(10), full[:, 21], rtol=1e-8)
    size = {u: np.linalg.norm(m.forecast(40)) for u, m in growing.items()}
    assert size["drop"] < 1e-9 < size["reflect"] < size["clip"] < size["keep"]


def test_sparsity_keeps_the_modes_that_carry_the_data():
    X = noisy(scale=0.05)
    full = DMD(rank=12).fit(X)
    sparse = DMD(rank=12, sparsity=0.02).fit(X)
    assert 4 <= len(sparse.eigenvalues) < len(full.eigenvalues)
    assert match(sparse.eigenvalues, full.eigenvalues[_nearest(full, sparse)]) < 1e-12
    assert sparse.amplitudes.shape == sparse.eigenvalues.shape
    error = np.linalg.norm(sparse.reconstruct() - planted(RATES, m=30))
    assert error < 0.2 * np.linalg.norm(X)
    assert len(DMD(rank=12, sparsity=0.0).fit(X).eigenvalues) == 12


def _nearest(full, part):
    return np.abs(part.eigenvalues[:, None] - full.eigenvalues[None, :]).argmin(axis=1)


def test_optimized_takes_uneven_times_and_reports_in_its_terms():
    rng = np.random.default_rng(6)
    times = np.sort(rng.uniform(0.0, 12.0, 40))
    omega = np.array([-0.1 + 1.5j, -0.1 - 1.5j, -0.3])
    modes = rng.standard_normal((50, 2)) @ np.array([[1.0, 1.0, 0.0], [1j, -1j, 0.0]])
    modes[:, 2] = rng.standard_normal(50)

    def at(t):
        return (modes @ np.exp(np.outer(omega, t))).real

    model = DMD(rank=3, variant="optimized", dt=0.5).fit(at(times), times=times)
    assert match(model.omega, omega) < 1e-8
    np.testing.assert_allclose(sorted(model.frequency), [-1.5 / 6.283185307, 0, 1.5 / 6.283185307])
    assert match(model.eigenvalues, np.exp(0.5 * omega)) < 1e-8
    np.testing.assert_allclose(model.reconstruct(), at(times), atol=1e-7)
    np.testing.assert_allclose(
        model.forecast([2.0, -1.5]), at(times[-1] + np.array([1.0, -0.75])), atol=1e-7
    )


@pytest.mark.parametrize("times", [[0, 1, 1, 2], [0, 2, 1, 3], [0, 1, np.nan, 3]])
def test_times_must_increase(times):
    X = planted((0.9,), n=5, m=4)
    with pytest.raises(ValueError, match="times"):
        DMD(rank=1, variant="optimized").fit(X, times=times)
    with pytest.raises(ValueError, match=r"times has shape \(3,\); expected \(4,\)"):
        DMD(rank=1, variant="optimized").fit(X, times=[0, 1, 2])
    with pytest.raises(ValueError, match="times need variant='optimized'"):
        DMD(rank=1).fit(X, times=[0, 1, 2, 3])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"variant": "exact"}, ValueError, "variant='exact' is not one of 'standard', 'tls'"),
        ({"variant": "symmetric", "exact": True}, ValueError, "projected modes only"),
        ({"affine": "yes"}, ValueError, "affine='yes'"),
        ({"affine": True, "variant": "optimized"}, ValueError, "leave affine=False"),
        ({"delays": 0}, ValueError, "delays=0"),
        ({"delays": 1.5}, TypeError, "delays=1.5"),
        ({"ridge": -1.0}, ValueError, r"ridge=-1\.0"),
        ({"ridge": 0.1, "variant": "tls"}, ValueError, "goes with variant='standard'"),
        ({"constraint": "circle"}, ValueError, "constraint='circle'"),
        ({"solver": "svd"}, ValueError, "solver='svd'"),
        ({"sparsity": 1.0}, ValueError, r"sparsity=1\.0"),
        ({"rank": "best"}, ValueError, "rank='best'"),
    ],
)
def test_bad_options_are_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        DMD(**options)


@pytest.mark.parametrize("options", [o for o in FORMS if "solver" not in o], ids=name)
def test_window_fits_the_same_as_the_batch_in_every_form(options):
    rates, fixed_point = planted_for(options)
    X = noisy(fixed_point=fixed_point)[:, :20]
    window = WindowDMD(window=20, rank=len(rates), **options)
    for x in X.T:
        window.update(x)
    batch = DMD(rank=len(rates), solver="gram", **options).fit(X)
    assert match(window.eigenvalues, batch.eigenvalues) < 1e-8
    np.testing.assert_allclose(window.forecast(2.5), batch.forecast(2.5), atol=1e-7)
    np.testing.assert_allclose(window.residuals(), batch.residuals(), rtol=1e-4)
