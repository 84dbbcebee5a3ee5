"""StreamingDMD: the operator of a stream without end, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from koopcore import _core
from koopcore._base import FitOptions, Spectrum, checked_dt, positive_int
from koopcore._stream import Reduce, Stream, stream_options
from koopcore._stream_control import DrivenStream, checked_inputs, real_inputs

Real = NDArray[np.float64]


class StreamingDMD(Stream, Spectrum):
    """Dynamic mode decomposition of all snapshots of a stream, in one pass and constant memory.

    States are projected on an incremental basis of their ``rank + oversampling`` largest
    directions; their moments are carried as a triangular factor, whose rows are a few virtual
    trajectories that `koopcore.DMD`'s engine fits (after Hemati, Williams & Rowley 2014; with
    ``variant="tls"`` Hemati et al. 2017). Memory: ``rank + oversampling + block`` states (with
    `affine` 1 more), and what a question costs, do not depend on the length of the stream. How the
    stream is cut into calls, and what is asked in between, changes no bit of it.

    Parameters
    ----------
    rank : int
        Number of modes.
    variant : {"standard", "tls", "forward-backward", "symmetric"}
        As in `koopcore.DMD`. Noise of a long stream biases "standard" towards decay; "tls" does
        not.
    exact, ridge, constraint, unstable, dt
        As in `koopcore.DMD`.
    affine : bool
        Fit ``x_{t+1} = A x_t + b`` through first differences, whose modes the modes then are.
    delays : int
        Successive snapshots stacked into one state.
    n_inputs : int
        Control inputs given beside each state: ``x_{t+1} = A x_t + B u_t``, with
        ``variant="standard"``.
    forgetting : float in (0, 1]
        Factor of the square of a step's residual in the fit per later step; 1 forgets nothing.
    oversampling, block, tol, random_state, first_row, reduce, n_threads
        As in `koopcore.StreamingSVD`. In the fit, directions below 1e-6 (float32) or 1e-12 of the
        largest do not count.

    Examples
    --------
    >>> import numpy as np
    >>> model = StreamingDMD(rank=2)
    >>> modes = np.array([[1.0, 2.0, 0.5], [1.0, -1.0, 0.0]])
    >>> for t in range(1000):
    ...     _ = model.update(np.array([0.999**t, 0.99**t]) @ modes)
    >>> model.eigenvalues.real.round(6).tolist()
    [0.999, 0.99]
    >>> np.allclose(model.forecast(100), 0.999**1099 * modes[0], atol=1e-4)
    True
    """

    _kinds = (_core.StreamingDmd32, _core.StreamingDmd64)

    def __init__(
        self,
        rank: int = 10,
        *,
        variant: str = "standard",
        exact: bool | None = None,
        affine: bool = False,
        delays: int = 1,
        n_inputs: int = 0,
        ridge: float = 0.0,
        constraint: str | None = None,
        unstable: str = "clip",
        forgetting: float = 1.0,
        oversampling: int = 10,
        block: int = 16,
        tol: float | None = None,
        random_state: int = 0,
        dt: float = 1.0,
        first_row: int | None = None,
        reduce: Reduce | None = None,
        n_threads: int | None = None,
    ) -> None:
        self._parameters = {k: v for k, v in locals().items() if k != "self"}
        self.dt = checked_dt(dt)
        options = stream_options(
            rank, oversampling, block, forgetting, tol, random_state, first_row, reduce, n_threads
        )
        if variant == "optimized":
            raise ValueError("variant='optimized' fits all snapshots at once: a stream has none")
        if affine not in (False, True):
            raise ValueError(f"affine={affine!r} must be True or False: a stream takes differences")
        self._options = FitOptions.checked(
            rank,
            variant=variant,
            exact=exact,
            affine=affine,
            delays=delays,
            ridge=ridge,
            constraint=constraint,
            unstable=unstable,
        )
        self.n_inputs = positive_int("n_inputs", n_inputs) if n_inputs else 0
        if n_inputs and (variant != "standard" or affine or ridge or constraint):
            raise ValueError(
                f"n_inputs={n_inputs!r} goes with variant='standard' and without affine, ridge "
                "and constraint"
            )
        self._core_options = {
            **options,
            "center": False,
            "delays": self._options.delays,
            "differences": bool(affine),
            "inputs": self.n_inputs,
        }
        self._reduce = reduce
        self._start()

    def update(self, x: Any, u: ArrayLike | None = None) -> StreamingDMD:
        """Append the next state.

        Parameters
        ----------
        x : ndarray of shape (n_features,), or sequence of ndarrays
            The state, float32 or float64: the same shapes and dtype at every call.
        u : array of shape (n_inputs,), with `n_inputs`
            The inputs that acted since the state before (for a first state, any).

        Returns
        -------
        StreamingDMD
            Itself.

        Raises
        ------
        TypeError, ValueError
            On a wrong dtype or shape, or a value that is not finite; the stream is then unchanged.
        """
        inputs = checked_inputs(u, self.n_inputs, 1)
        self._update(x, *([inputs] if self.n_inputs else []))
        return self

    def partial_fit(self, X: Any, Y: Any = None, U: ArrayLike | None = None) -> StreamingDMD:
        """Append snapshots, all or none of them.

        Parameters
        ----------
        X : array of shape (n_features, n_snapshots), float32 or float64
            Snapshots in columns that go on with the trajectory; any strides.
        Y : array of the same shape and dtype, optional
            Then every ``(X[:, j], Y[:, j])`` is a pair of its own, state and successor.
        U : array of shape (n_inputs, n_snapshots), with `n_inputs`
            ``U[:, j]`` acted on the way to ``X[:, j]`` (pairs: to ``Y[:, j]``).

        Returns
        -------
        StreamingDMD
            Itself.

        Raises
        ------
        TypeError, ValueError
            As for `update`.
        """
        x = self._matrix(X)
        u = checked_inputs(U, self.n_inputs, x.shape[1])
        if Y is None:
            self._append(X, x, u)
            return self
        y = self._matrix(Y, "Y")
        if y.shape != x.shape or y.dtype != x.dtype:
            raise ValueError(
                f"X has shape {x.shape} ({x.dtype}) and Y {y.shape} ({y.dtype}); must be equal"
            )
        if self._options.delays > 1 or self._core_options["differences"]:
            raise ValueError(
                "pairs X, Y go with delays=1 and affine=False; got "
                f"delays={self._options.delays}, affine={self._core_options['differences']}"
            )
        if self._reduce is None:
            self._extend(
                X, x, lambda a, b: self._stream.push_pairs(x[:, a:b], y[:, a:b], u[:, a:b])
            )
            return self
        with self._lock:  # a sum over the row blocks may be due between a state and its successor
            for j in range(x.shape[1]):
                self.start_trajectory()
                for side in (x, y):
                    self._append(X, side[:, j : j + 1], u[:, j : j + 1])
            self.start_trajectory()
        return self

    def _append(self, X: Any, x: NDArray[Any], u: Real) -> None:
        self._extend(X, x, lambda a, b: self._stream.push_block(x[:, a:b], u[:, a:b]))

    def start_trajectory(self) -> StreamingDMD:
        """Say that the next state does not follow the newest one: another trajectory begins."""
        with self._lock:
            if self._stream is not None:
                self._stream.start_trajectory()
                self._answers = {}
        return self

    def _found(self) -> Any:
        """(core fit, lift, unit, has_state, version), made once for each state of the stream."""
        core = self._options.of_core()
        core.pop("delays"), core.pop("affine"), core.pop("hard_threshold")
        core["max_rank"] = self._core_options["rank"]
        return self._ask("fit", lambda: self._stream.fit(**core))

    def _fitted(self) -> Any:
        return self._driven() if self.n_inputs else self._found()[0]

    def _moments(self) -> Any:
        return self._ask("moments", lambda: self._stream.moments())

    def _driven(self) -> DrivenStream:
        with self._lock:
            return self._driven_locked()

    def _driven_locked(self) -> DrivenStream:
        rows, _, lift, _, pairs, _ = self._moments()
        if not pairs > 0.0:
            raise ValueError("a fit needs at least two successive states")
        assert self._shape is not None
        tol = 1e-6 if self._shape.dtype == np.float32 else 1e-12
        rank, delays = self._core_options["rank"], self._options.delays
        found: DrivenStream = self._ask(
            "driven",
            lambda: DrivenStream.of(rows, lift.shape[1], delays, self.n_inputs, rank, tol),
        )
        return found

    @property
    def singular_values(self) -> Real:
        """Of the weighted states (with `affine`: of their differences) in the basis, falling."""
        with self._lock:
            unit = self._moments()[3] if self.n_inputs else self._found()[2]
            values: Real = self._fitted().singular_values * unit
        return values[values > 0.0]

    @property
    def modes(self) -> Any:
        """Modes in columns, shape (n_features, r), complex; formed anew at each access.

        With delays their oldest block, with `affine` modes of the differences. Lists of
        (*shape, r) for states that are lists of arrays.
        """
        with self._lock:
            if self.n_inputs:
                _, _, lift, _, _, version = self._moments()
                states = self._combine_complex(lift @ self._driven().modes(), version)
            else:
                core, lift, _, _, version = self._found()
                states = self._combine_complex(lift @ core.mode_coefficients(), version)
            assert self._shape is not None
            return self._shape.give(states, "mode")

    @property
    def amplitudes(self) -> NDArray[np.complex128]:
        """Amplitudes of the modes in the newest state (with delays, the newest stacked one).

        Least squares of the modes on it: ``modes @ (amplitudes * eigenvalues**h)`` follows
        `forecast`, with delays ``h + delays - 1`` in the place of h, since modes show the oldest
        block. With `affine`: in the newest difference.
        """
        if self.n_inputs:
            raise ValueError("amplitudes of a driven stream depend on its inputs; use forecast(U)")
        core, _, unit, has_state, _ = self._found()
        self._require_state(has_state)
        found: NDArray[np.complex128] = core.amplitudes(core.coordinates().shape[1] - 1, 1) * unit
        return found

    def _require_state(self, has_state: bool) -> None:
        if not has_state:
            raise ValueError(
                f"the newest trajectory has fewer than delays={self._options.delays} states "
                "(pairs have none to go on from); give more with update(x)"
            )

    def forecast(
        self,
        horizon: ArrayLike,
        out: NDArray[Any] | Sequence[NDArray[Any]] | None = None,
    ) -> Any:
        """Forecast from the newest state.

        Parameters
        ----------
        horizon : float or array of shape (k,)
            Steps ahead; fractions interpolate, negative ones go back in time by negative powers of
            the eigenvalues. With `n_inputs`: the inputs to come, shape (n_inputs, k), of which the
            first acts on the newest state.
        out : like a snapshot, optional
            C-contiguous arrays to write the forecast of one horizon to.

        Returns
        -------
        ndarray or list of ndarrays
            The forecast in the form of the snapshots; (*shape, k) for several horizons.
        """
        with self._lock:
            coefficients, version, newest = (
                self._driven_coefficients(horizon) if self.n_inputs else self._coefficients(horizon)
            )
            assert self._shape is not None
            if out is not None:
                if coefficients.shape[1] != 1:
                    raise ValueError(f"out= holds one forecast; horizon asks for {horizon!r}")
                segments = [out] if isinstance(out, np.ndarray) else list(out)
                self._stream.combine(coefficients, version, newest, segments)
                return out
            states = self._combine(coefficients, version, newest)
            if self.n_inputs or np.ndim(horizon):
                return self._shape.give(states)
            return self._shape.give(states[:, 0])

    def _coefficients(self, horizon: ArrayLike) -> tuple[Real, int, float]:
        core, lift, unit, has_state, version = self._found()
        self._require_state(has_state)
        horizons = np.atleast_1d(np.asarray(horizon, np.float64))
        if horizons.ndim != 1 or horizons.size == 0 or not np.isfinite(horizons).all():
            raise ValueError(f"horizon={horizon!r} must be finite: a number or a 1-D array")
        columns = np.column_stack([core.forecast(float(h)) for h in horizons])
        affine = self._core_options["differences"]
        if affine:
            columns[-1] -= 1.0  # the newest state is kept as it came, not in the basis
        return lift @ columns * unit, version, 1.0 if affine else 0.0

    def _driven_coefficients(self, inputs: ArrayLike) -> tuple[Real, int, float]:
        _, last, lift, unit, _, version = self._moments()
        self._require_state(last.shape[1] > 0)
        u = np.atleast_2d(real_inputs(inputs))
        if u.shape[0] != self.n_inputs or u.ndim != 2:
            raise ValueError(f"inputs have shape {u.shape}; expected ({self.n_inputs}, k)")
        states = self._driven().simulate(last[: lift.shape[1]] * unit, u)
        return lift @ states, version, 0.0

    @property
    def B(self) -> Any:
        """Effect of the inputs, shape (n_features, n_inputs)."""
        if not self.n_inputs:
            raise ValueError("this stream has no inputs (n_inputs=0)")
        with self._lock:
            _, _, lift, _, _, version = self._moments()
            newest = self._driven().on_input[-lift.shape[1] :]
            assert self._shape is not None
            return self._shape.give(self._combine(lift @ newest, version))

    def predict(self, x: Any, n_steps: float = 1) -> Any:
        """Advance given states by `n_steps`.

        Parameters
        ----------
        x : array of shape (n_features,) or (n_features, n_states), dtype of the stream
            States to advance. With ``delays=d`` a state is its last d snapshots, oldest first:
            shape (n_features, d) or (n_features, d, n_states).
        n_steps : float
            Steps, at least 1.

        Returns
        -------
        ndarray of shape (n_features,) or (n_features, n_states)
        """
        affine, delays = self._core_options["differences"], self._options.delays
        if self.n_inputs or (affine and (delays > 1 or self._core_options["sharded"])):
            raise ValueError(
                "predict is for streams without inputs, and with affine=True for delays=1 and "
                f"whole states; got n_inputs={self.n_inputs}, delays={delays}"
            )
        with self._lock:
            core, lift, _, _, version = self._found()
            assert self._shape is not None
            columns, single = self._given_states(x, delays)
            ahead, newest = np.zeros((len(lift), 1)), 0.0
            if affine:  # T^n(x) = T^n(s) + A^n (x - s), s the newest state
                columns = columns - self._combine(ahead, version, 1.0)
                ahead, _, newest = self._coefficients(n_steps)
            cross = self._summed(lift.T @ self._stream.cross(columns, version))
            if not np.isfinite(cross).all():
                raise ValueError("x has a value that is not finite")
            moved = core.predict(cross, float(n_steps))
            if affine:
                moved -= core.predict(np.zeros_like(cross[:, :1]), float(n_steps))
            result = self._combine(ahead + lift @ moved, version, newest)
            return self._shape.give(result[:, 0] if single else result)
