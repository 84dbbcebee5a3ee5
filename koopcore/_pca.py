"""Principal components of a stream under scikit-learn's rules.

It imports scikit-learn, so nothing but `koopcore.sklearn` may import it.
"""

from __future__ import annotations

import operator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition._base import _BasePCA
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.validation import validate_data

import koopcore
from koopcore._base import one_of, positive_int
from koopcore._reduced import FLOATS, in_our_words

BATCH = 16


class Leading:
    """What a stream of centred rows has found, each part formed when it is first asked for."""

    def __init__(self, svd: koopcore.StreamingSVD) -> None:
        self.svd = svd

    @property
    def dtype(self) -> np.dtype[Any]:
        assert self.svd._shape is not None
        return self.svd._shape.dtype

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """Singular values other than 0."""
        values: NDArray[np.float64] = self.svd.singular_values
        return values[values > 0.0]

    @cached_property
    def components(self) -> NDArray[Any]:
        """Directions in rows, each with its largest entry positive, as scikit-learn has it."""
        rows = np.ascontiguousarray(self.svd.basis[:, : len(self.values)].T)
        largest = np.abs(rows).argmax(axis=1)[:, None]
        signed: NDArray[Any] = rows * np.sign(np.take_along_axis(rows, largest, axis=1))
        return signed

    @cached_property
    def mean(self) -> NDArray[Any]:
        mean: NDArray[Any] = self.svd.mean
        return mean

    @cached_property
    def degrees(self) -> float:
        """What a sum of squares is divided by for an unbiased variance: n - 1 if none fades.

        With weights w that is ``sum(w) - sum(w^2) / sum(w)``, of powers of the forgetting f.
        """
        f = self.svd._parameters["forgetting"]
        return max(self.svd.weight - float((1.0 + f**self.svd.n_snapshots) / (1.0 + f)), 0.0)

    def variance(self, squares: Any) -> Any:
        """Turn sums of squares into variances; 0 where there is a single row."""
        return squares / self.degrees if self.degrees > 0.0 else 0.0 * squares

    @cached_property
    def noise_variance(self) -> float:
        """Mean variance of the directions that are left out."""
        assert self.svd._shape is not None
        left = min(self.svd._shape.n_features, self.svd.n_snapshots) - len(self.values)
        rest = self.svd.energy - float(np.sum(self.values**2))
        return float(self.variance(max(rest, 0.0))) / left if left > 0 else 0.0


class StreamingPCA(_BasePCA):  # type: ignore[misc]
    """Principal components of rows that come in batches, in one pass and constant memory.

    A drop-in for ``sklearn.decomposition.IncrementalPCA`` on `koopcore.StreamingSVD` with centring.
    Unlike there, batches may have any number of rows, how the rows are cut into batches does not
    change the result, directions beyond `n_components` are kept while the stream goes on, old rows
    may be forgotten, and no data are overwritten (there is no `copy`). Per-feature variances
    (`var_`) are not kept.

    Parameters
    ----------
    n_components : int or None
        Components reported; None: as many as the first batch has rows (for `fit`: as X has), at
        most n_features.
    whiten : bool
        Let `transform` divide each component by its standard deviation.
    batch_size : int or None
        Rows gathered before the components are brought up to date, in `fit` and in `partial_fit`
        alike. Default: 16.
    forgetting : float in (0, 1]
        Factor of a row's weight per later row; 1 forgets nothing. All attributes are then those of
        the weighted rows.
    oversampling : int
        Directions kept beyond `n_components`: what is dropped from these never comes back. Memory:
        ``n_components + oversampling + batch_size + 2`` rows.
    random_state : int, RandomState instance or None
        Of the sketch behind `error_`; nothing else is random.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features)
        Principal axes by falling variance, in the dtype of the data; the largest entry of each is
        positive.
    explained_variance_, explained_variance_ratio_ : ndarray of shape (n_components_,)
        Variance along each axis (unbiased, weighted with `forgetting`), and its share of all.
    singular_values_ : ndarray of shape (n_components_,)
        Of the centred (weighted) rows.
    mean_ : ndarray of shape (n_features,)
    noise_variance_ : float
        Mean variance along the directions left out (Tipping & Bishop 1999), of all rows seen.
    error_ : float
        Estimate of the Frobenius distance between the centred (weighted) rows and their projections
        on the components, about 20 % off; see `koopcore.StreamingSVD`.
    n_components_ : int
        Components there are: fewer than asked for as long as the rows span fewer directions.
    batch_size_, n_samples_seen_, n_features_in_ : int
    feature_names_in_ : ndarray of str, if X has column names

    Notes
    -----
    They are formed at the first access after a batch, so that `partial_fit` costs no more than the
    stream does.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((500, 2)) @ [[3.0, 0.0, 4.0, 0.0], [0.0, 1.0, 0.0, 1.0]] + 5.0
    >>> model = StreamingPCA(n_components=2)
    >>> for row in X:
    ...     _ = model.partial_fit(row[None])
    >>> abs(model.components_[0]).round(1).tolist()
    [0.6, 0.0, 0.8, 0.0]
    >>> np.allclose(model.inverse_transform(model.transform(X)), X)
    True
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        whiten: bool = False,
        batch_size: int | None = None,
        forgetting: float = 1.0,
        oversampling: int = 10,
        random_state: Any = 0,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.batch_size = batch_size
        self.forgetting = forgetting
        self.oversampling = oversampling
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = True  # in fit and transform; partial_fit takes dense rows
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_leading")

    def fit(self, X: Any, y: Any = None) -> StreamingPCA:
        """Forget what was seen and find the components of X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            float32 or float64, other numbers become float64. Sparse rows are filled in batch by
            batch.
        y : ignored

        Returns
        -------
        StreamingPCA
            Itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter or X is not as described.
        """
        rows = validate_data(self, X, accept_sparse=("csr", "csc", "lil"), dtype=FLOATS)
        svd = self._new_stream(rows)
        if not sparse.issparse(rows):
            return self._append(svd, rows, seen=0)
        rows = rows.tocsr()
        for batch in gen_batches(rows.shape[0], max(BATCH, svd._parameters["block"])):
            svd.partial_fit(rows[batch].toarray().T)
        return self._found(svd, rows.shape[0])

    def partial_fit(self, X: Any, y: Any = None, check_input: bool = True) -> StreamingPCA:
        """Go on with the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The next rows; a single one is enough. Converted to the dtype of the first ones.
        y : ignored
        check_input : bool
            False: X is a float array of the right shape and dtype, which need not be looked at.

        Returns
        -------
        StreamingPCA
            Itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter or X is not as described; what was seen then still counts.
        """
        first = not hasattr(self, "_leading")
        if sparse.issparse(X):
            raise TypeError(
                "Sparse data was passed to partial_fit, which takes dense rows: pass X.toarray(), "
                "or use fit, which fills in one batch after the other"
            )
        if check_input:
            dtype = FLOATS if first else self._leading.dtype
            X = validate_data(self, X, reset=first, dtype=dtype)
        svd = self._new_stream(X) if first else self._leading.svd
        return self._append(svd, X, seen=0 if first else self.n_samples_seen_)

    def _new_stream(self, rows: Any) -> koopcore.StreamingSVD:
        one_of("whiten", self.whiten, (False, True))
        count = self.n_components
        if count is None:
            count = min(rows.shape)
        elif positive_int("n_components", count) > rows.shape[1]:
            raise ValueError(
                f"n_components={count!r} must be at most n_features={rows.shape[1]}, or None"
            )
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)):
            seed = check_random_state(seed).randint(2**31 - 1)
        return in_our_words(
            lambda: koopcore.StreamingSVD(
                rank=count,
                oversampling=self.oversampling,
                block=BATCH if self.batch_size is None else self.batch_size,
                forgetting=self.forgetting,
                center=True,
                random_state=operator.index(seed),
            )
        )

    def _append(self, svd: koopcore.StreamingSVD, rows: Any, seen: int) -> StreamingPCA:
        svd.partial_fit(np.asarray(rows).T)
        return self._found(svd, seen + len(rows))

    def _found(self, svd: koopcore.StreamingSVD, seen: int) -> StreamingPCA:
        self._leading, self.n_samples_seen_ = Leading(svd), seen
        self.batch_size_ = svd._parameters["block"]
        return self

    def _now(self) -> Leading:
        """Return what was found, or say that there is no such attribute yet."""
        try:
            found: Leading = vars(self)["_leading"]
        except KeyError:
            raise AttributeError(
                "this StreamingPCA has seen no rows yet; call fit(X) or partial_fit(X) first"
            ) from None
        return found

    @property
    def components_(self) -> NDArray[Any]:
        """Principal axes in rows, shape (n_components_, n_features)."""
        return self._now().components

    @property
    def n_components_(self) -> int:
        """Components there are."""
        return len(self._now().values)

    @property
    def singular_values_(self) -> NDArray[Any]:
        """Singular values of the centred rows."""
        now = self._now()
        return now.values.astype(now.dtype)

    @property
    def explained_variance_(self) -> NDArray[Any]:
        """Variance along each axis."""
        now = self._now()
        variance: NDArray[Any] = now.variance(now.values**2).astype(now.dtype)
        return variance

    @property
    def explained_variance_ratio_(self) -> NDArray[Any]:
        """Share of each axis in the variance of all features."""
        now = self._now()
        return now.svd.explained_ratio[: len(now.values)].astype(now.dtype)

    @property
    def mean_(self) -> NDArray[Any]:
        """Mean of the rows, shape (n_features,)."""
        return self._now().mean

    @property
    def noise_variance_(self) -> float:
        """Mean variance along the directions left out."""
        return self._now().noise_variance

    @property
    def error_(self) -> float:
        """Estimated distance of the centred rows from their projections."""
        return self._now().svd.error
