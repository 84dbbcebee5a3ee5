"""What callers hand in and get back: NumPy, torch, xarray and any CPU array with DLPack.

Input is viewed, never copied; `Caller` remembers its kind and gives results the same.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES = tuple(np.dtype(kind) for kind in (np.float32, np.float64, np.complex64, np.complex128))
_CPU = 1  # DLPack's number of the device


def as_numpy(data: Any, name: str) -> NDArray[Any]:
    """View an array as NumPy's, without a copy; nested lists become float64 arrays."""
    if isinstance(data, np.ndarray):
        return np.asarray(data)  # a subclass such as memmap is looked at as a plain array
    if hasattr(data, "__dlpack__") and not hasattr(data, "dims"):
        if getattr(data, "requires_grad", False):
            data = data.detach()
        try:
            if data.__dlpack_device__()[0] != _CPU:
                raise ValueError("koopcore works on the CPU")
            return np.from_dlpack(data)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise TypeError(
                f"{name} (dtype {getattr(data, 'dtype', '?')}, device "
                f"{getattr(data, 'device', '?')}) cannot be viewed as a NumPy array: {error}; "
                "pass a CPU array of float32 or float64, such as tensor.cpu()"
            ) from error
    return np.asarray(data)


def require_float(array: NDArray[Any], name: str, *, complex_too: bool = False) -> None:
    """Refuse every dtype but float32 and float64 (and their complex ones): nothing is cast."""
    allowed = DTYPES if complex_too else DTYPES[:2]
    if array.dtype not in allowed:
        more = ", complex64 or complex128" if complex_too else ""
        raise TypeError(
            f"{name} has dtype {array.dtype}; koopcore works on float32 or float64{more}: "
            f"pass {name}.astype(numpy.float64)"
        )


def state_columns(
    x: Any, n_features: int, delays: int, dtype: np.dtype[Any]
) -> tuple[NDArray[Any], bool]:
    """Given states as the columns (n_features, n_states * delays), and whether it is one state.

    A state is (n_features,), or with delays its last snapshots (n_features, delays), oldest first;
    a further axis counts states.
    """
    states = as_numpy(x, "x")
    if states.dtype != dtype:
        raise TypeError(f"x has dtype {states.dtype}; the fit has {dtype}")
    one = (n_features,) if delays == 1 else (n_features, delays)
    if states.shape[: len(one)] != one or states.ndim > len(one) + 1:
        raise ValueError(f"x has shape {states.shape}; expected {one} or {(*one, 'n_states')}")
    single = states.ndim == len(one)
    many = states[..., None] if single else states
    return (many if delays == 1 else many.swapaxes(1, 2).reshape(n_features, -1)), single


class Caller:
    """The kind of array that the caller uses, and for xarray the labels of its features.

    Parameters
    ----------
    data : array
        Its first `features` dimensions are features, the next one, if any, is time.
    """

    def __init__(self, data: Any, features: int = 1) -> None:
        self._data_array: Any = None
        self._to_caller: Any = None
        module = type(data).__module__.split(".")[0]
        if module == "xarray" and hasattr(data, "dims"):
            self._data_array = type(data)
            self._dims = (*data.dims, "snapshot")[: features + 1]
            self._feature = {d: data.coords[d] for d in self._dims[:features] if d in data.coords}
        elif module == "torch":
            self._to_caller = sys.modules["torch"].from_numpy
        elif not isinstance(data, np.ndarray) and hasattr(data, "__array_namespace__"):
            self._to_caller = data.__array_namespace__().from_dlpack

    def give(self, result: NDArray[Any], columns: str | None = None) -> Any:
        """Return a result whose rows are features in the caller's kind of array.

        Parameters
        ----------
        result : ndarray of shape (n_features,) or (n_features, k); n_features may be several
        columns : str, optional
            What the columns are, as the name of their dimension in xarray; default: the caller's.
        """
        if self._data_array is not None:
            dims = (*self._dims[:-1], columns or self._dims[-1])[: result.ndim]
            return self._data_array(result, dims=dims, coords=self._feature)
        return result if self._to_caller is None else self._to_caller(result)
