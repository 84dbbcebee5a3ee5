"""What a user would write or pick instead of koopcore."""

import numpy as np


def blocked_gram(snapshots):
    """Gram matrix in float64, in blocks of rows: the careful lines of NumPy."""
    gram = np.zeros((snapshots.shape[1],) * 2)
    for i in range(0, len(snapshots), 4096):
        block = snapshots[i : i + 4096].astype(np.float64)
        gram += block.T @ block
    return gram


def eigenvalues_of(gram, rank):
    """DMD eigenvalues from the Gram matrix of a series of snapshots."""
    values, vectors = np.linalg.eigh(gram[:-1, :-1])
    basis = vectors[:, : -rank - 1 : -1] / np.sqrt(values[: -rank - 1 : -1])
    return np.linalg.eigvals(basis.T @ gram[:-1, 1:] @ basis)
