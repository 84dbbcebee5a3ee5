"""Files of snapshots in every kind that koopcore reads."""

import h5py
import numpy as np
import zarr


def stored(X, kind, folder):
    """Put the snapshots into a file of this kind; return it and how to read it."""
    path = folder / f"X.{kind.split('-')[0]}"
    if kind.startswith("npy"):
        np.save(path, np.asarray(X.T if "rows" in kind else X, order=kind[-1]))
        return path, {"time_axis": 0} if "rows" in kind else {}
    if kind == "bin":
        path.write_bytes(b"head" + X.T.tobytes())
        return path, {"dtype": "float32", "shape": (-1, len(X)), "time_axis": 0, "offset": 4}
    if kind.startswith("h5"):
        chunks = {"h5": None, "h5-rows": (7, X.shape[1]), "h5-columns": (len(X), 6)}[kind]
        with h5py.File(path, "w") as file:
            file.create_dataset("flow/velocity", data=X, chunks=chunks)
            file.create_dataset("times", data=np.arange(X.shape[1]))
        return path, {}
    if kind == "zarr-array":
        zarr.save_array(path, X.T)
        return path, {"time_axis": 0}
    group = zarr.open_group(path, mode="w")
    group.create_array("flow/velocity", data=X, chunks=(64, 16))
    group.create_array("other", data=X)
    return path, {"dataset": "flow/velocity"}


KINDS = ["npy-C", "npy-F", "npy-rows-C", "npy-rows-F", "bin"]
KINDS += ["h5", "h5-rows", "h5-columns", "zarr", "zarr-array"]
