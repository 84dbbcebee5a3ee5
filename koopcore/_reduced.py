"""What the scikit-learn estimators share once fitted: a linear map on coordinates of the rows.

It imports scikit-learn, so nothing but `koopcore.sklearn` may import it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

import koopcore
from koopcore import _core
from koopcore._base import Rank, one_of

FLOATS = [np.float64, np.float32]  # other dtypes become the first
OUR_WORDS = {"rank": "n_components", "block": "batch_size"}
Result = TypeVar("Result")


class ReducedModel(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A linear map on the coordinates of the rows: ``z(t+1) = operator_ z(t) + drift_``."""

    affine: bool
    n_components: Rank
    tol: float | None
    components_: NDArray[Any]
    n_components_: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "components_")

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    @property
    def modes_(self) -> NDArray[Any]:
        """Modes in rows, shape (n_eigenvalues, n_features), complex; formed at each access."""
        kind = np.result_type(self.components_, np.complex64)
        modes: NDArray[Any] = self._mode_coordinates.astype(kind) @ self.components_
        return modes

    def _shared_options(self) -> dict[str, Any]:
        one_of("affine", self.affine, (False, True))
        names = ("variant", "affine", "ridge", "constraint", "tol", "unstable", "dt")
        chosen = {name: getattr(self, name) for name in names}
        return {"rank": self.n_components, "exact": False, **chosen}

    def _checked(self, X: Any, least: int) -> NDArray[Any]:
        """Look at rows of features as the fit does; nothing is copied that is a float array."""
        check_is_fitted(self)
        rows: NDArray[Any] = validate_data(
            self, X, reset=False, dtype=FLOATS, ensure_min_samples=least
        )
        return rows

    def _reduce(self, model: koopcore.DMD | koopcore.WindowDMD | koopcore.StreamingDMD) -> None:
        """Take from a fit what predictions need.

        Only the basis is formed; it is orthonormalised once more, because it comes so only up to
        the rounding of the Gram matrix. All the rest are products of small matrices.
        """
        fit, basis, last, seen, unit = in_our_words(lambda: _parts(model))
        basis, to_basis = _orthonormal(basis)
        images = fit.predict(seen, 1) - fit.predict(np.zeros_like(seen[:, :1]), 1)
        ahead = fit.forecast(1.0)
        if self.affine:  # relative to the origin, like every state
            ahead[-1] -= 1.0
        self.components_ = basis.T
        self.n_components_ = len(self.components_)
        self.operator_ = to_basis @ (seen.T @ images) @ np.linalg.pinv(to_basis)
        self._ahead = to_basis @ (seen.T @ ahead) * unit
        self._mode_coordinates = (to_basis @ (seen.T @ fit.mode_coefficients())).T
        self.drift_ = self._ahead if self.affine else np.zeros(self.n_components_)
        self.origin_ = last if self.affine else None
        self.eigenvalues_ = model.eigenvalues
        self.omega_ = model.omega
        self.singular_values_ = model.singular_values

    def transform(self, X: Any) -> Any:
        """Coordinates of the rows in the reduced basis, ``(X - origin_) @ components_.T``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components_)
            Real, in the dtype of the fit; or what `set_output` asks for.
        """
        return self._coordinates(self._checked(X, 1))

    def _coordinates(self, rows: NDArray[Any]) -> NDArray[Any]:
        centred = rows if self.origin_ is None else rows - self.origin_
        coordinates: NDArray[Any] = centred @ self.components_.T
        return coordinates.astype(self.components_.dtype, copy=False)

    def inverse_transform(self, X: ArrayLike) -> NDArray[Any]:
        """Rows that have these coordinates.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        coordinates = check_array(X, dtype=FLOATS, ensure_min_features=0)
        if coordinates.shape[1] != self.n_components_:
            raise ValueError(
                f"X has shape {coordinates.shape}; expected (n_samples, {self.n_components_})"
            )
        return self._rows_at(coordinates)

    def _rows_at(self, coordinates: NDArray[Any]) -> NDArray[Any]:
        rows: NDArray[Any] = coordinates.astype(self.components_.dtype, copy=False)
        rows = rows @ self.components_
        return rows if self.origin_ is None else rows + self.origin_

    def predict(self, X: Any) -> NDArray[Any]:
        """Advance every row by one step, each on its own.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Row i is the state that follows row i of X.
        """
        return self._advanced(self._checked(X, 1))

    def _advanced(self, rows: NDArray[Any]) -> NDArray[Any]:
        return self._rows_at(self._coordinates(rows) @ self.operator_.T + self.drift_)

    def forecast(self, horizon: int | ArrayLike) -> NDArray[Any]:
        """Forecast from the last row of the fit.

        Parameters
        ----------
        horizon : int or array of int, shape (n_steps,)
            Rows beyond the last one, each at least 1; ``range(1, 11)`` for the next ten.

        Returns
        -------
        ndarray of shape (n_steps, n_features)
            One row per step asked for, so a single one for a single number.
        """
        check_is_fitted(self)
        steps = _checked_steps(horizon)
        r = self.n_components_
        advance = np.eye(r + 1)
        advance[:r, :r], advance[:r, r] = self.operator_, self.drift_
        state, at, states = np.append(self._ahead, 1.0), 1, {}
        for step in sorted(set(steps)):
            state = np.linalg.matrix_power(advance, step - at) @ state
            states[step], at = state[:r], step
        return self._rows_at(np.array([states[step] for step in steps]))

    def score(self, X: Any, y: Any = None) -> float:
        """Skill of the one-step predictions over a series: R^2 against persistence.

        ``1 - sum |x(t+1) - predict(x(t))|^2 / sum |x(t+1) - x(t)|^2``: 1 is perfect, 0 is no better
        than to expect no change. Where nothing changes: 1 if predicted exactly, else 0.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Successive rows, at least 2; such as the held-out ones of ``TimeSeriesSplit``.
        y : ignored
        """
        rows = self._checked(X, 2)
        target = rows[1:].astype(np.float64)
        missed = float(np.sum((target - self._advanced(rows[:-1])) ** 2))
        moved = float(np.sum((target - rows[:-1]) ** 2))
        if moved == 0.0:
            return 1.0 if missed == 0.0 else 0.0
        return 1.0 - missed / moved


class FedModel(ReducedModel):
    """What takes rows as they come, and fits to what its window or stream then holds."""

    n_samples_seen_: int
    _stream: Any

    def _new_stream(self) -> Any:
        raise NotImplementedError

    def _least_rows(self, stream: Any) -> int:
        raise NotImplementedError

    def fit(self, X: Any, y: Any = None) -> Any:
        """Forget what was seen and fit to X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            As in `DMD.fit`; a window keeps the last rows.
        y : ignored

        Returns
        -------
        Itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter or X is not as described, or X has too few rows.
        """
        stream = self._new_stream()
        least = self._least_rows(stream)
        rows = validate_data(self, X, dtype=FLOATS, ensure_min_samples=least)
        return self._append(stream, rows, seen=0)

    def partial_fit(self, X: Any, y: Any = None) -> Any:
        """Append the rows of X and fit to what is then held.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The next rows; a single one is enough. Converted to the dtype of the first ones.
        y : ignored

        Returns
        -------
        Itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter or X is not as described; what was seen then still counts.
        """
        if not hasattr(self, "_stream"):
            stream = self._new_stream()
            return self._append(stream, validate_data(self, X, dtype=FLOATS), seen=0)
        rows = validate_data(self, X, reset=False, dtype=self._stream._shape.dtype)
        return self._append(self._stream, rows, seen=self.n_samples_seen_)

    def _append(self, stream: Any, rows: NDArray[Any], seen: int) -> Any:
        stream.partial_fit(rows[-getattr(stream, "window", 0) :].T)
        self._stream = stream
        self.n_samples_seen_ = seen + len(rows)
        if stream.n_snapshots >= self._least_rows(stream):
            self._reduce(stream)
        return self


def _parts(model: Any) -> tuple[Any, NDArray[Any], NDArray[Any], NDArray[np.float64], float]:
    """(small fit, basis, newest state, the fit's columns^T basis, unit of these columns)."""
    if isinstance(model, koopcore.StreamingDMD):
        fit, lift, unit, _, version = model._found()
        basis = model._combine(lift @ fit.basis_coefficients(), version)
        last = model._combine(
            np.zeros((len(lift), 1)), version, float(model._options.affine != "none")
        )
        return fit, basis, last[:, 0].copy(), lift.T @ model._stream.cross(basis, version), unit
    problem, fitted = model._state()
    coefficients, lead = fitted.core.basis_coefficients(), problem.factor
    newest = np.eye(len(problem.gram))[:, -1:]
    rows = model._combine(np.hstack([coefficients, newest]))
    seen = problem.gram @ coefficients if lead is None else lead.T @ (lead @ coefficients)
    return fitted.core, rows[:, :-1], rows[:, -1].copy(), seen, 1.0


def _orthonormal(basis: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Q and R of ``basis = Q R``, each column of Q with its largest entry positive."""
    if basis.shape[1] == 0:
        return basis, np.zeros((0, 0))
    signs = [np.sign(column[np.abs(column).argmax()]) for column in basis.T]
    triangular = np.diag(signs) @ _core.triangular_factor(basis)
    return _core.combine(basis, np.linalg.pinv(triangular)), triangular


def in_our_words(call: Callable[[], Result]) -> Result:
    """Let errors name the arguments as they are called here."""
    try:
        return call()
    except (TypeError, ValueError) as error:
        theirs, equals, rest = str(error).partition("=")
        if not equals or theirs not in OUR_WORDS:
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{OUR_WORDS[theirs]}={rest}") from None


def _checked_steps(horizon: int | ArrayLike) -> list[int]:
    """Return steps of at least 1."""
    array = np.atleast_1d(np.asarray(horizon))
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(
            f"horizon={horizon!r} must be an int or a 1-D array of ints; "
            "koopcore.DMD forecasts at fractions of a step"
        )
    if (array < 1).any():
        raise ValueError(f"horizon={horizon!r} must be at least 1")
    return [operator.index(step) for step in array]
