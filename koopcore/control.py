"""DMDc: the operator of a state that known inputs drive, from Gram matrices alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from koopcore import _core
from koopcore._arrays import Caller, as_numpy, require_float
from koopcore._base import Spectrum, checked_dt, split_rank
from koopcore._control import DrivenOperator, fit_known, fit_unknown, principal

Real = NDArray[np.float64]
Complex = NDArray[np.complex128]


class DMDc(Spectrum):
    """Dynamic mode decomposition with control: ``x_{t+1} = A x_t + B u_t``.

    Separates what the state does by itself (`A`: eigenvalues and modes) from what the inputs do to
    it (`B`), where plain DMD would mix the two (Proctor, Brunton and Kutz 2016, SIAM J. Appl. Dyn.
    Syst. 15(1), 142-161, sections 3.2 for known and 3.3 for unknown B). The state is reduced to the
    leading `rank` directions ``Q`` of the snapshots, as in `koopcore.DMD` with exact modes; then
    ``[A Q, B]`` is the least-squares solution on the reduced state and the inputs. The paper
    truncates state and inputs together, so that its answer depends on the units of the inputs; here
    it does not, and inputs that are all zero give exactly `koopcore.DMD`.

    Only matrices of the size of the m snapshots are decomposed, in float64. The n x m data are read
    once by `fit`, in place and in blocks, and again only when modes, B or states are asked for.
    Until then `fit` keeps a reference to X (and to a known B), not a copy: do not change them in
    between.

    Parameters
    ----------
    rank : int, float in (0, 1) or None
        Directions of the state to keep, share of their energy (sum of squared singular values), or
        all that `tol` lets through. An int is lowered where the data have fewer directions. With an
        unknown B, ``rank`` plus the number of inputs must not exceed the m - 1 steps, or the two
        cannot be told apart: see Notes.
    svd_rank : int or float, optional
        PyDMD's name for `rank`. -1 means None; 0 (a threshold by PyDMD) is not offered.
    tol : float, optional
        Drop directions of the state below this times its largest singular value, and joint
        directions of state and inputs below it too. Default: ``sqrt((m - 1) * eps)``, about 1e-7,
        the least that a Gram matrix resolves.
    dt : float
        Time between two snapshots, for `omega`, `frequency` and `growth_rate`.

    Notes
    -----
    Each input is first divided by the root of the sum of its squares, the state by its largest
    singular value. Inputs in other units therefore change B inversely and nothing else.

    Inputs that are linear combinations of the kept directions of the state over the fitted steps
    (state feedback, a constant input beside a constant part of the state, too few steps) leave A
    and B undetermined. The answer is then the one of least norm in the scaled variables: one-step
    predictions of the fitted data are as good, but A and B are only one choice of many. With noisy
    data of more features than steps this is so for ``rank=None``: give a rank.

    The estimated `B` is the full least-squares answer. ``basis @ B_reduced``, its part in the kept
    directions of the state (PyDMD's B, but for the choice of directions), has less noise and misses
    what lies outside them. Unstable eigenvalues are used as fitted, never clipped.

    Examples
    --------
    >>> import numpy as np
    >>> u = np.array([1.0, 0.0, -2.0, 1.0, 3.0, 0.0, 1.0])
    >>> z = [np.array([1.0, 1.0])]
    >>> for value in u:
    ...     z.append(np.array([0.9, 0.5]) * z[-1] + np.array([0.0, 2.0]) * value)
    >>> lift = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, -1.0], [2.0, 1.0]])
    >>> model = DMDc(rank=2).fit(lift @ np.array(z).T, u)
    >>> model.eigenvalues.real.round(6).tolist()
    [0.9, 0.5]
    >>> model.B.ravel().round(6).tolist()  # lift times (0, 2)
    [0.0, 2.0, -2.0, 2.0]
    """

    def __init__(
        self,
        rank: int | float | None = None,
        *,
        svd_rank: int | float | None = None,
        tol: float | None = None,
        dt: float = 1.0,
    ) -> None:
        self._parameters = {k: v for k, v in locals().items() if k != "self"}
        if svd_rank is not None:
            if rank is not None:
                raise ValueError(f"rank={rank!r} and svd_rank={svd_rank!r} mean the same: give one")
            rank = None if svd_rank == -1 else svd_rank
        if tol is not None and not 0.0 <= tol < 1.0:
            raise ValueError(
                f"tol={tol!r} is relative to the largest singular value: 0 <= tol < 1, "
                "or None for what the Gram matrix resolves"
            )
        self.rank = rank
        self.tol = tol
        self.dt = checked_dt(dt)
        self._max_rank, self._energy, rule = split_rank(rank)
        if rule:
            raise ValueError(f"rank={rank!r}: DMDc takes an int, a float in (0, 1) or None")
        self._fit: DrivenOperator | None = None
        self._x: NDArray[Any] = np.empty((0, 0))
        self._b: NDArray[Any] | None = None
        self._u: Real = np.empty((0, 0))

    def fit(self, X: Any, U: ArrayLike, B: Any = None) -> DMDc:
        """Fit the operator, and B where it is not given.

        Parameters
        ----------
        X : array of shape (n_features, n_snapshots), float32 or float64
            One series of snapshots in columns, equally spaced in time; any strides.
        U : array of shape (n_inputs, n_snapshots - 1), or (n_snapshots - 1,) for one input
            ``U[:, j]`` acts between ``X[:, j]`` and ``X[:, j + 1]``. Any real dtype: inputs are
            small and are copied to float64.
        B : array of shape (n_features, n_inputs), dtype of X, optional
            The effect of the inputs, if known. A is then the operator of DMD on the successors
            minus ``B U``, which is never formed.

        Returns
        -------
        DMDc
            Itself.

        Raises
        ------
        TypeError
            If X is not float32 or float64, U is not real, or the dtype of B is not that of X.
        ValueError
            If a shape is wrong, there are too few snapshots, or a value is not finite.
        """
        x = _snapshots(X)
        n_pairs = x.shape[1] - 1
        if self._max_rank > n_pairs:
            raise ValueError(
                f"rank={self.rank!r} needs at least {self._max_rank + 1} snapshots, "
                f"got {n_pairs + 1}"
            )
        u = _inputs(U, "U")
        if u.shape[1] != n_pairs or not len(u):
            raise ValueError(
                f"U has shape {np.shape(U)}; X has {n_pairs + 1} snapshots, so expected "
                f"(n_inputs, {n_pairs}): one column for each step between two of them"
            )
        b = None if B is None else _known(B, x, len(u))
        gram = _finite(_core.gram(x), "X")
        if b is not None:
            cross = _core.cross_gram(x, b)
            gram = np.block([[gram, cross], [cross.T, _finite(_core.gram(b), "B")]])
        tol = np.sqrt(n_pairs * np.finfo(np.float64).eps) if self.tol is None else self.tol
        state = principal(gram[:n_pairs, :n_pairs], tol, self._max_rank, self._energy)
        fit = fit_unknown(gram, state, u, tol) if b is None else fit_known(gram, state, u)
        self._x, self._b, self._u, self._fit = x, b, u, fit
        self._caller = Caller(X)
        return self

    def _operator(self) -> DrivenOperator:
        if self._fit is None:
            raise ValueError("this DMDc is not fitted yet; call fit(X, U) first")
        return self._fit

    def _to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Describe the fit by its parameters and data, for `koopcore.io`."""
        self._operator()
        known = {} if self._b is None else {"B": self._b}
        return {"parameters": self._parameters}, {"X": self._x, "U": self._u, **known}

    @classmethod
    def _from_state(cls, metadata: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> DMDc:
        return cls(**metadata["parameters"]).fit(arrays["X"], arrays["U"], arrays.get("B"))

    def _combine(self, coefficients: NDArray[Any], columns: str | None = None) -> Any:
        """Combine the fitted snapshots, and a known B where it has a coefficient."""
        n_snapshots = self._x.shape[1]
        total: NDArray[Any] = _core.combine(self._x, coefficients[:n_snapshots])
        if self._b is not None and coefficients[n_snapshots:].any():
            total += _core.combine(self._b, coefficients[n_snapshots:])
        return self._caller.give(total, columns)

    @property
    def eigenvalues(self) -> Complex:
        """Discrete-time eigenvalues of A, shape (r,), by falling modulus."""
        return self._operator().eigenvalues

    @property
    def singular_values(self) -> Real:
        """All singular values of the snapshots but the last, before truncation, falling."""
        return self._operator().singular_values

    @property
    def modes(self) -> Any:
        """Exact modes of A, shape (n_features, r), complex; formed anew at each access."""
        fit = self._operator()
        return self._combine(fit.on_state @ fit.eigenvectors, "mode")

    @property
    def amplitudes(self) -> Complex:
        """Least squares of the modes on the first snapshot, shape (r,): the unforced response."""
        fit = self._operator()
        modes = fit.on_state @ fit.eigenvectors
        seen = modes.conj().T @ fit.gram
        return np.linalg.lstsq(seen @ modes, seen[:, 0], rcond=1e-13)[0].astype(np.complex128)

    @property
    def B(self) -> Any:
        """Effect of the inputs, shape (n_features, n_inputs), real; estimated B is formed anew."""
        fit = self._operator()
        if self._b is not None:
            return self._caller.give(self._b, "input")
        return self._combine(fit.on_input, "input")

    @property
    def basis(self) -> Any:
        """Orthonormal directions Q of the state, shape (n_features, r); formed anew."""
        fit = self._operator()
        coefficients = np.zeros((len(fit.gram), len(fit.eigenvalues)))
        coefficients[: len(fit.projection)] = fit.projection
        return self._combine(coefficients)

    @property
    def A_reduced(self) -> Real:
        """``Q^T A Q`` for ``Q = basis``, shape (r, r)."""
        fit = self._operator()
        return fit.reduced @ fit.on_state

    @property
    def B_reduced(self) -> Real:
        """``Q^T B`` for ``Q = basis``, shape (r, n_inputs)."""
        fit = self._operator()
        return fit.reduced @ fit.on_input

    def predict(self, x: ArrayLike, u: ArrayLike) -> Any:
        """Advance given states by one step, ``A x + B u``.

        Parameters
        ----------
        x : array of shape (n_features,) or (n_features, n_states), dtype of the fit
            States to advance.
        u : array of shape (n_inputs,) or (n_inputs, n_states), real
            The input that acts on each of them.

        Returns
        -------
        ndarray
            The advanced states, shape and dtype of `x`.
        """
        fit = self._operator()
        states = as_numpy(x, "x")
        if states.dtype != self._x.dtype:
            raise TypeError(f"x has dtype {states.dtype}; the fit has {self._x.dtype}")
        if states.ndim not in (1, 2) or states.shape[0] != self._x.shape[0]:
            raise ValueError(
                f"x has shape {states.shape}; expected ({self._x.shape[0]},) or "
                f"({self._x.shape[0]}, n_states)"
            )
        inputs = _real(u, "u")
        expected = (len(self._u), *states.shape[1:])
        if inputs.shape != expected:
            raise ValueError(f"u has shape {inputs.shape}; expected {expected}")
        columns = states[:, None] if states.ndim == 1 else states
        cross = _finite(_core.cross_gram(self._x, columns), "x")
        coordinates = fit.projection.T @ cross[: len(fit.projection)]
        coefficients = fit.on_state @ coordinates + fit.on_input @ inputs.reshape(len(inputs), -1)
        advanced = self._combine(coefficients)
        return advanced[:, 0] if states.ndim == 1 else advanced

    def forecast(self, U: ArrayLike) -> Any:
        """Forecast from the last snapshot under inputs to come.

        Parameters
        ----------
        U : array of shape (n_inputs, horizon), or (horizon,) for one input
            ``U[:, 0]`` acts on the last snapshot.

        Returns
        -------
        ndarray of shape (n_features, horizon)
            The states after each input, dtype of the fit, real.
        """
        last = self._operator().reduced[:, self._x.shape[1] - 1]
        return self._combine(self._operator().simulate(last, self._checked(U)))

    def reconstruct(self, U: ArrayLike | None = None) -> Any:
        """Simulate from the first snapshot, under the fitted inputs or others.

        Parameters
        ----------
        U : array of shape (n_inputs, n_steps), or (n_steps,) for one input, optional
            Inputs from the first snapshot on. Default: those of the fit.

        Returns
        -------
        ndarray of shape (n_features, n_steps + 1)
            The first snapshot and the states after each input, dtype of the fit, real.
        """
        fit = self._operator()
        steps = fit.simulate(fit.reduced[:, 0], self._u if U is None else self._checked(U))
        start = np.zeros((len(steps), 1))
        start[0] = 1.0
        return self._combine(np.hstack([start, steps]))

    def _checked(self, U: ArrayLike) -> Real:
        inputs = _inputs(U, "U")
        if len(inputs) != len(self._u):
            raise ValueError(
                f"U has shape {np.shape(U)}; the fit has {len(self._u)} inputs, "
                f"so expected ({len(self._u)}, n_steps)"
            )
        return inputs


def _snapshots(data: ArrayLike) -> NDArray[Any]:
    array = as_numpy(data, "X")
    require_float(array, "X")
    if array.ndim != 2:
        raise ValueError(
            f"X has shape {array.shape}; expected 2 dimensions (n_features, n_snapshots)"
        )
    if array.size == 0:
        raise ValueError(f"X has shape {array.shape}: it is empty")
    if array.shape[1] < 2:
        raise ValueError("X: a fit needs at least 2 snapshots, got 1")
    return array


def _known(data: ArrayLike, x: NDArray[Any], n_inputs: int) -> NDArray[Any]:
    array = as_numpy(data, "B")
    if array.dtype != x.dtype:
        raise TypeError(f"X has dtype {x.dtype} and B {array.dtype}; give both the same")
    if array.shape != (x.shape[0], n_inputs):
        raise ValueError(
            f"B has shape {array.shape}; expected ({x.shape[0]}, {n_inputs}): "
            "the features of X and the inputs of U"
        )
    return array


def _real(data: ArrayLike, name: str) -> Real:
    """Return inputs in float64: they are small, so any real dtype will do."""
    given = np.asarray(data)
    if given.dtype.kind not in "buif":
        raise TypeError(f"{name} has dtype {given.dtype}; inputs are real numbers")
    array = given.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has a value that is not finite")
    return array


def _inputs(data: ArrayLike, name: str) -> Real:
    array = _real(data, name)
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} has shape {array.shape}; expected (n_inputs, n_steps)")
    return np.atleast_2d(array)


def _finite(gram: Real, name: str) -> Real:
    if not np.isfinite(gram).all():
        raise ValueError(f"{name} has a value that is not finite, or its squares overflow float64")
    return gram
