"""What a window and a stream share: how they take states, and their contents for files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from koopcore._arrays import as_numpy, require_float, state_columns
from koopcore._segments import StateShape, is_array


class Live:
    """Snapshots come in one after the other, and questions in between.

    A class derived from it has ``state_dict()`` and ``load_state_dict()``, and says which entries
    of such a state are arrays (`_state_arrays`).
    """

    _state_arrays: tuple[str, ...]
    _parameters: dict[str, Any]
    _shape: StateShape | None

    def state_dict(self) -> dict[str, Any]:
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise NotImplementedError

    def _matrix(self, X: Any, name: str = "X") -> NDArray[Any]:
        """View snapshots in columns as NumPy's."""
        array = as_numpy(X, name)
        require_float(array, name)
        if array.ndim != 2:
            raise ValueError(
                f"{name} has shape {array.shape}; expected 2 dimensions (n_features, n_snapshots)"
            )
        return array

    def _given_states(self, x: Any, delays: int) -> tuple[NDArray[Any], bool]:
        """States handed to predict, as columns, and whether it is one; lists as one vector each."""
        assert self._shape is not None
        if not self._shape.single and not is_array(x):
            segments = [as_numpy(s, f"x[{i}]") for i, s in enumerate(x)]
            shapes = self._shape.shapes
            for i, segment in enumerate(segments[: len(shapes)]):
                if segment.shape[: len(shapes[i])] != shapes[i]:
                    raise ValueError(
                        f"x[{i}] has shape {segment.shape}; expected it to begin with {shapes[i]}"
                    )
            if len(segments) != len(shapes):
                raise ValueError(f"x has {len(segments)} arrays; a state has {len(shapes)}")
            x = np.concatenate(
                [s.reshape(-1, *s.shape[len(k) :]) for s, k in zip(segments, shapes, strict=True)]
            )
        return state_columns(x, self._shape.n_features, delays, self._shape.dtype)

    def _to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Describe the object by its parameters and arrays, for `koopcore.io` and for pickle."""
        state = self.state_dict()
        arrays = {name: state.pop(name) for name in self._state_arrays if name in state}
        return {"parameters": self._parameters, **state}, arrays

    @classmethod
    def _from_state(cls, metadata: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        model = cls(**metadata["parameters"])
        if arrays:
            model.load_state_dict({**metadata, **arrays})
        return model

    def __getstate__(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return self._to_state()

    def __setstate__(self, state: tuple[dict[str, Any], dict[str, NDArray[Any]]]) -> None:
        vars(self).update(vars(self._from_state(*state)))


def described(shape: StateShape) -> dict[str, Any]:
    """Entries of a state_dict() from which `shape_in` makes the shape again."""
    return {"shapes": [list(one) for one in shape.shapes], "single": shape.single}


def shape_in(state: dict[str, Any], arrays: Sequence[str]) -> StateShape:
    """Shape of the states in a state_dict(), which must have these arrays as well."""
    missing = {*arrays, "shapes", "single"} - state.keys()
    if missing:
        raise ValueError(f"state lacks {', '.join(sorted(missing))}: not from state_dict()")
    dtype = np.asarray(state[arrays[0]]).dtype
    return StateShape.of_metadata(state["shapes"], bool(state["single"]), dtype.str)
