"""What a trajectory of weights tells beyond forecasts.

Are two runs' training dynamics the same (`spectral_distance`), which weights will matter
(`pruning_scores`), has training diverged or come to rest (`SpectrumAlarms`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from koopcore._alarms import Alarm, SpectrumAlarms, mode_sizes, movement_left
from koopcore._arrays import as_numpy, require_float
from koopcore._base import positive_int
from koopcore._estimator import Estimator
from koopcore.dmd import DMD

__all__ = [
    "Alarm",
    "SpectrumAlarms",
    "dynamics_spectrum",
    "mode_sizes",
    "movement_left",
    "pruning_scores",
    "spectral_distance",
]


def dynamics_spectrum(X: Any, delays: int = 32, rank: int = 10) -> NDArray[np.complex128]:
    """Eigenvalues of a run's training dynamics, to be compared by `spectral_distance`.

    Those of ``koopcore.DMD(rank, delays=delays)``; 32 delays and 10 modes are the choice of Redman
    et al. (2024) for networks.

    Parameters
    ----------
    X : array of shape (n_features, n_snapshots), or list of such
        Snapshots of the weights at equal steps, in columns; a list holds several runs of one
        kind, fitted together.
    delays : int
        Successive snapshots stacked into one state; 1 is none.
    rank : int
        Number of modes; fewer where the data have fewer directions.

    Returns
    -------
    ndarray of shape (r,), complex128
        By falling modulus, r at most `rank`.

    Raises
    ------
    TypeError, ValueError
        As `koopcore.DMD` and its `fit`.

    Notes
    -----
    Quadratic in the number of snapshots like every fit from a Gram matrix, unless there are more of
    them than twice the numbers in a stacked state, as in many runs of a small problem: then the
    pairs are first replaced by as many as a stacked pair has numbers, through a QR decomposition,
    which gives the same operator in exact arithmetic.

    References
    ----------
    W. T. Redman, J. M. Bello-Rivas, M. Fonoberova, R. Mohr, Y. G. Kevrekidis and I. Mezic,
    "Identifying equivalent training dynamics", NeurIPS 2024, arXiv 2302.09160.
    """
    delays = positive_int("delays", delays)
    runs = [as_numpy(run, "X") for run in (X if isinstance(X, Sequence) else [X])]
    if _small_states(runs, delays):
        before, after = _stacked_pairs(runs, delays)
        return DMD(rank).fit(before, after).eigenvalues
    return DMD(rank, delays=delays).fit(X).eigenvalues


def _small_states(runs: list[NDArray[Any]], delays: int) -> bool:
    """Whether the pairs outnumber the entries of a stacked pair; false for what fit refuses."""
    shapes = [run.shape for run in runs]
    if not runs or any(len(shape) != 2 for shape in shapes) or len({n for n, _ in shapes}) > 1:
        return False
    if any(run.dtype.kind != "f" for run in runs) or min(m for _, m in shapes) <= delays:
        return False
    pairs = sum(int(m) - delays for _, m in shapes)
    return pairs > 2 * delays * int(shapes[0][0])


def _stacked_pairs(
    runs: list[NDArray[Any]], delays: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Stack delays, and turn all pairs by one orthogonal matrix into as few as have entries.

    With ``[X; Y] = R^T Q^T``, ``X X^T`` and ``Y X^T`` are those of the columns of ``R^T``, so
    that the leading directions of X and the operator on them stay the same.
    """
    blocks = []
    for run in runs:
        require_float(run, "X")
        count = run.shape[1] - delays
        before = [run[:, i : i + count] for i in range(delays)]
        after = [run[:, i + 1 : i + 1 + count] for i in range(delays)]
        blocks.append(np.vstack([*before, *after]).astype(np.float64))
    pairs = np.hstack(blocks)
    if not np.isfinite(pairs).all():
        raise ValueError("X has a value that is not finite")
    turned: Any = np.linalg.qr(pairs.T, mode="r")
    turned = turned.T
    half = len(turned) // 2
    return turned[:half], turned[half:]


def spectral_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Distance between two runs' training dynamics: how far their eigenvalues lie apart.

    The Wasserstein distance between the two sets, each eigenvalue with the same weight. Of sets
    of the same size that is the mean distance of the best assignment, one to one (Redman et al.
    2024). Runs whose dynamics are the same up to a change of coordinates have the same
    eigenvalues. What is large, other seeds of the same run say.

    Parameters
    ----------
    a, b : array of shape (r,)
        Eigenvalues, real or complex, such as `dynamics_spectrum` gives.

    Returns
    -------
    float
        At least 0; 0 for equal sets.

    Raises
    ------
    ImportError
        Without SciPy (1.13 or newer), the extra "diagnostics".
    ValueError
        For a set that is empty, not one-dimensional or not finite.

    Examples
    --------
    >>> round(spectral_distance([1.0, 0.9, 0.5], [0.5, 1.0, 0.96]), 6)
    0.02
    """
    try:
        from scipy.optimize import linear_sum_assignment
        from scipy.stats import wasserstein_distance_nd
    except ImportError as error:
        raise ImportError(
            "spectral_distance needs SciPy 1.13 or newer; install it with "
            'pip install "koopcore[diagnostics]"'
        ) from error
    first, second = _eigenvalues("a", a), _eigenvalues("b", b)
    if len(first) != len(second):  # a transport problem that one-to-one assignments cannot solve
        planes = [np.column_stack([values.real, values.imag]) for values in (first, second)]
        return float(wasserstein_distance_nd(*planes))
    apart = np.abs(first[:, None] - second[None, :])
    return float(apart[linear_sum_assignment(apart)].mean())


def _eigenvalues(name: str, values: ArrayLike) -> NDArray[np.complex128]:
    array = np.asarray(values, dtype=np.complex128)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"{name} has shape {array.shape}; expected the eigenvalues of one fit, shape (r,) with "
            "at least one"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has a value that is not finite: {values!r}")
    return array


def pruning_scores(model: Estimator) -> Any:
    """Score weights for Koopman pruning: what each of them will be once the rest has decayed.

    The magnitude of the mode whose eigenvalue is nearest 1, times its amplitude (Koopman magnitude
    pruning, Redman et al. 2022). The weights with the lowest scores are those to prune. At
    convergence the scores are the magnitudes of the weights; before, they forecast them.

    Parameters
    ----------
    model : DMD or WindowDMD
        Fitted to the weights themselves, that is without ``affine=True``, whose modes are those of
        differences and have no fixed point. How far the nearest eigenvalue is from 1 says how far
        the scores can be trusted.

    Returns
    -------
    ndarray of shape (n_features,), or list of arrays
        Not negative. In the form of a snapshot; of several trajectories, the root mean square of
        their scores. Zeros where the data are zero.

    Raises
    ------
    ValueError
        If the model was made with ``affine=True``, or is not fitted.

    References
    ----------
    W. T. Redman, M. Fonoberova, R. Mohr, Y. G. Kevrekidis and I. Mezic, "An operator theoretic view
    on pruning deep neural networks", ICLR 2022, arXiv 2110.14856.

    Examples
    --------
    >>> import numpy as np
    >>> from koopcore import DMD
    >>> t = np.arange(12)
    >>> X = np.array([2.0 + 0.5**t, 0.9**t, -1.0 + 0.9**t])  # on the way to 2, 0 and -1
    >>> pruning_scores(DMD(rank=3).fit(X)).round(4).tolist()
    [2.0, 0.0, 1.0]
    """
    if model._state()[1].options.affine == "differences":
        raise ValueError(
            "model was fitted with affine=True, to differences, whose modes hold no fixed point: "
            "fit it with affine=False or affine='constant'"
        )
    modes, values = model.modes, model.eigenvalues
    several = isinstance(modes, list)
    parts = [np.asarray(part) for part in (modes if several else [modes])]
    if len(values) == 0:
        scores = [np.zeros(part.shape[:-1]) for part in parts]
    else:
        nearest = int(np.abs(values - 1.0).argmin())
        amplitude = np.sqrt(np.mean(np.abs(model.amplitudes[nearest]) ** 2))
        scores = [np.abs(part[..., nearest]) * amplitude for part in parts]
    return scores if several else scores[0]
