"""Candidate shapes of a streaming DMD in NumPy: single pass, forgetting, n x O(rank) memory.

Every shape has `update(block)` with snapshots in columns, `eigenvalues(rank)`, `span(rank)` (an
orthonormal basis of the modes) and `memory` (numbers held from one update to the next, over n).
"""

import numpy as np
from scipy.linalg import solve_triangular
from scipy.sparse import csr_array

import koopcore


def weights(gamma, count):
    """Square roots of gamma^(age), oldest first, the newest with age 0."""
    return np.sqrt(gamma) ** np.arange(count - 1, -1, -1.0)


def orthonormal(a):
    return np.linalg.qr(a.astype(np.float64))[0]


def leading(gram, rank):
    """Leading eigenpairs of a Gram matrix, none below what float64 resolves."""
    energy, vectors = np.linalg.eigh(gram)
    energy, vectors = energy[::-1][:rank], vectors[:, ::-1][:, :rank]
    alive = energy > 1e-15 * max(energy[0], 0.0) if len(energy) else np.zeros(0, bool)
    return energy[alive], vectors[:, alive]


def operator_from_moments(c0, c1, rank):
    """V' C1 V E^-1 on the leading eigenpairs (E, V) of C0."""
    energy, vectors = leading(c0, rank)
    return vectors.T @ c1 @ vectors / energy


class SketchedCovariances:
    """A. Covariances of a sparse-sign sketch s = Psi x, and Z = sum x_{t+1} s_t' for the modes."""

    def __init__(self, n, rank, *, gamma=1.0, dtype=np.float64, seed=0, rows=None, nonzeros=8):
        rows = rows or 2 * rank + 1
        rng = np.random.default_rng(seed)
        order = rng.random((n, rows), dtype=np.float32).argpartition(nonzeros)[:, :nonzeros]
        signs = rng.choice([-1.0, 1.0], order.size) / np.sqrt(nonzeros)
        starts = np.arange(0, order.size + 1, nonzeros)
        self.psi = csr_array((signs, order.ravel().astype(np.int32), starts), shape=(n, rows)).T
        self.gamma, self.last = gamma, np.zeros((rows, 0))
        self.c0, self.c1 = np.zeros((rows, rows)), np.zeros((rows, rows))
        self.z = np.zeros((n, rows), dtype, order="F")
        # Signs and rows of Psi can be drawn anew from a counter and are not counted.
        self.memory = rows

    def update(self, block):
        sketch = np.hstack([self.last, self.psi @ block])
        forget, before = self.gamma ** block.shape[1], sketch[:, :-1]
        weighted = before * weights(self.gamma, before.shape[1]) ** 2
        self.c0 = forget * self.c0 + weighted @ before.T
        self.c1 = forget * self.c1 + sketch[:, 1:] @ weighted.T
        self.z *= np.asarray(forget, self.z.dtype)
        self.z += block[:, block.shape[1] - before.shape[1] :] @ weighted.T.astype(block.dtype)
        self.last = sketch[:, -1:]

    def eigenvalues(self, rank):
        return np.linalg.eigvals(operator_from_moments(self.c0, self.c1, rank))

    def span(self, rank):
        return orthonormal(self.z @ leading(self.c0, rank)[1])


class RandomizedBasis:
    """B. Basis by a randomized range finder of [U S, block]; moments of stacked coordinates."""

    def __init__(self, n, rank, *, oversampling=10, gamma=1.0, dtype=np.float64, seed=0):
        self.size, self.gamma = rank + oversampling, gamma
        self.rng = np.random.default_rng(seed)
        self.u, self.s = np.zeros((n, 0), dtype), np.zeros(0)
        self.last, self.moments = np.zeros((0, 0)), np.zeros((0, 0))
        self.memory = self.size

    def update(self, block):
        count, dtype = block.shape[1], block.dtype
        w = weights(self.gamma, count)
        history = self.s * np.sqrt(self.gamma) ** count
        omega = self.rng.standard_normal((self.u.shape[1] + count, self.size))
        mix = omega * np.concatenate([history, w])[:, None]
        k = self.u.shape[1]
        q = np.linalg.qr(self.u @ mix[:k].astype(dtype) + block @ mix[k:].astype(dtype))[0]
        move, coordinates = (q.T @ self.u).astype(float), (q.T @ block).astype(float)
        w_left, s, _ = np.linalg.svd(
            np.hstack([move * history, coordinates * w]), full_matrices=False
        )
        self.u, self.s = q @ w_left.astype(dtype), s
        self.record(w_left.T @ move, w_left.T @ coordinates)

    def record(self, move, coordinates):
        chain = np.hstack([move @ self.last, coordinates])
        pairs = np.vstack([chain[:, :-1], chain[:, 1:]])
        both = np.kron(np.eye(2), move)
        scaled = pairs * weights(self.gamma, pairs.shape[1])
        forget = self.gamma ** coordinates.shape[1]
        self.moments = forget * both @ self.moments @ both.T + scaled @ scaled.T
        self.last = chain[:, -1:]

    def eigenvalues(self, rank):
        k = len(self.moments) // 2
        c0, c1 = self.moments[:k, :k], self.moments[k:, :k]
        return np.linalg.eigvals(operator_from_moments(c0, c1, rank))

    def span(self, rank):
        k = len(self.moments) // 2
        return orthonormal(self.u @ leading(self.moments[:k, :k], rank)[1])


class GramBasis:
    """C. Basis from the Gram matrix of [U, block] and one combination; factor of the history."""

    def __init__(self, n, rank, *, oversampling=10, gamma=1.0, dtype=np.float64):
        self.size, self.gamma = rank + oversampling, gamma
        self.tolerance = 1e-6 if dtype == np.float32 else 1e-7
        self.u, self.s = np.zeros((n, 0), dtype), np.zeros(0)
        self.last, self.factor = np.zeros((0, 0)), np.zeros((0, 0))
        self.memory = self.size

    def update(self, block):
        count = block.shape[1]
        stacked = np.concatenate([self.u, block], axis=1)
        triangle, inside, outside, expand = self.extended(stacked)
        coordinates = np.vstack([inside, outside])
        k, new = len(inside), coordinates * weights(self.gamma, count)
        old = np.zeros((len(coordinates), k))
        old[:k] = triangle * (self.s * np.sqrt(self.gamma) ** count)
        turn, s, _ = np.linalg.svd(np.hstack([old, new]), full_matrices=False)
        turn, self.s = turn[:, : self.size], s[: self.size]
        self.u = koopcore._core.combine(stacked, expand @ turn)
        self.record(turn[:k].T @ triangle, turn.T @ coordinates, count)

    def extended(self, stacked):
        """Coordinates in an orthonormal basis of U and what the block adds, and that basis."""
        k = self.u.shape[1]
        gram = koopcore._core.gram(stacked)
        triangle = np.linalg.cholesky(gram[:k, :k]).T if k else np.zeros((0, 0))
        inverse = solve_triangular(triangle, np.eye(k)) if k else triangle
        inside = inverse.T @ gram[:k, k:]
        scale = np.sqrt(np.diag(gram)[k:])
        scale[scale == 0.0] = 1.0
        rest = (gram[k:, k:] - inside.T @ inside) / np.outer(scale, scale)
        energy, v = np.linalg.eigh(rest)
        kept = energy > self.tolerance**2
        norm, v = np.sqrt(energy[kept]), v[:, kept]
        outside = norm[:, None] * v.T * scale
        v = v / norm / scale[:, None]
        expand = np.block([[inverse, -inverse @ inside @ v], [np.zeros((len(v), k)), v]])
        return triangle, inside, outside, expand

    def record(self, move, coordinates, count):
        chain = np.hstack([move @ self.last, coordinates])
        pairs = np.vstack([chain[:, :-1], chain[:, 1:]]) * weights(self.gamma, chain.shape[1] - 1)
        old = self.factor @ np.kron(np.eye(2), move.T) * np.sqrt(self.gamma) ** count
        self.factor = np.linalg.qr(np.vstack([old, pairs.T]), mode="r")
        self.last = chain[:, -1:]

    def eigenvalues(self, rank, *, tls=False):
        """Least squares on the rows of the factor as pairs, or total least squares."""
        before, after = np.split(self.factor.T, 2)
        if tls:
            common = np.linalg.svd(self.factor.T, full_matrices=False)[2][:rank].T
            before, after = before @ common, after @ common
        left, s, right = np.linalg.svd(before, full_matrices=False)
        keep = min(rank, int(np.sum(s > 1e-14 * s[0]))) if len(s) else 0
        left, s, right = left[:, :keep], s[:keep], right[:keep]
        return np.linalg.eigvals(left.T @ after @ right.T / s)

    def span(self, rank):
        left = np.linalg.svd(np.split(self.factor.T, 2)[0])[0]
        return orthonormal(self.u @ left[:, :rank])


class Hemati:
    """D. Hemati, Williams & Rowley 2014: one pair at a time, two bases, POD compression."""

    def __init__(self, n, rank, *, oversampling=10, gamma=1.0, dtype=np.float64, slack=0):
        self.size, self.slack, self.gamma = rank + oversampling, slack, gamma
        self.tolerance = 1e-6 if dtype == np.float32 else 1e-7
        self.bases = [np.zeros((n, 0), dtype, order="F") for _ in range(2)]
        self.grams = [np.zeros((0, 0)) for _ in range(2)]
        self.cross, self.last = np.zeros((0, 0)), None
        self.memory = 2 * (self.size + slack) + 1

    def update(self, block):
        for y in block.T:
            if self.last is not None:
                self.add(self.last, y)
            self.last = y.copy()

    def add(self, x, y):
        a, b = self.project(0, x), self.project(1, y)
        self.grams[0] = self.gamma * self.grams[0] + np.outer(a, a)
        self.grams[1] = self.gamma * self.grams[1] + np.outer(b, b)
        self.cross = self.gamma * self.cross + np.outer(b, a)
        for side in range(2):
            if self.bases[side].shape[1] > self.size + self.slack:
                self.compress(side)

    def project(self, side, x):
        """Coordinates of x, after the basis was given what it lacks of x (Gram-Schmidt twice)."""
        basis = self.bases[side]
        inside = basis.T @ x
        rest = x - basis @ inside
        again = basis.T @ rest
        inside, rest = inside + again, rest - basis @ again
        norm = np.linalg.norm(rest)
        if norm <= self.tolerance * np.linalg.norm(x):
            return inside.astype(np.float64)
        self.bases[side] = np.asfortranarray(np.column_stack([basis, rest / norm]))
        self.grams[side] = np.pad(self.grams[side], (0, 1))
        self.cross = np.pad(self.cross, ((0, side), (0, 1 - side)))
        return np.append(inside, norm).astype(np.float64)

    def compress(self, side):
        vectors = np.linalg.eigh(self.grams[side])[1][:, ::-1][:, : self.size]
        self.bases[side] = np.asfortranarray(
            self.bases[side] @ vectors.astype(self.bases[side].dtype)
        )
        self.grams[side] = vectors.T @ self.grams[side] @ vectors
        self.cross = self.cross @ vectors if side == 0 else vectors.T @ self.cross

    def eigenvalues(self, rank):
        c1 = (self.bases[0].T @ self.bases[1]).astype(np.float64) @ self.cross
        return np.linalg.eigvals(operator_from_moments(self.grams[0], c1, rank))

    def span(self, rank):
        return orthonormal(self.bases[0] @ leading(self.grams[0], rank)[1])


class Compiled:
    """C again, as koopcore has it."""

    def __init__(self, n, rank, *, oversampling=10, gamma=1.0, dtype=np.float64):
        self.model = koopcore.StreamingDMD(rank, oversampling=oversampling, forgetting=gamma)
        self.memory = rank + oversampling + 16

    def update(self, block):
        self.model.partial_fit(block)

    def eigenvalues(self, rank):
        return self.model.eigenvalues

    def span(self, rank):
        modes = self.model.modes
        return np.linalg.svd(np.hstack([modes.real, modes.imag]), full_matrices=False)[0][:, :rank]

    @property
    def u(self):
        """The basis as it is stored, where no snapshots wait to be absorbed."""
        columns = self.model.state_dict()["columns"]
        return columns[:, self.model.n_snapshots % 16 :]


SHAPES = {
    "A sketched covariances": SketchedCovariances,
    "B randomized basis": RandomizedBasis,
    "C Gram basis": GramBasis,
    "D Hemati 2014": Hemati,
    "koopcore": Compiled,
}


def blocks(x, width=16):
    for i in range(0, x.shape[1], width):
        yield x[:, i : i + width]


def run(shape, x):
    for block in blocks(x):
        shape.update(block)
    return shape


def batch(x, rank, gamma):
    """Eigenvalues of the batch fit, pairs weighted by their age."""
    w = weights(gamma, x.shape[1] - 1)
    young = w > 1e-8
    before, after = x[:, :-1] * w, x[:, 1:] * w
    fit = koopcore.DMD(rank)
    return fit.fit(before[:, young].astype(x.dtype), after[:, young].astype(x.dtype)).eigenvalues


def orthogonality(shape):
    """Largest entry of U'U - I; nothing to report where there is no basis."""
    bases = [shape.u] if hasattr(shape, "u") else getattr(shape, "bases", [])
    drift = [np.abs(b.T.astype(float) @ b - np.eye(b.shape[1])).max() for b in bases]
    return max(drift, default=np.nan)
