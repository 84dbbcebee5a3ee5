"""Compare koopcore with PyDMD variant by variant: python bench/compare_pydmd.py.

Prints a table and fails unless every pair agrees, or differs for the reason stated there: each
reason is a claim that is measured anew on the same data.
"""

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np
import pydmd
import pydmd_problems as problems
from pydmd.spdmd import soft_thresholding_operator
from pydmd_problems import Problem, distance

import koopcore
from koopcore.control import DMDc

ROUNDING = 1e-9  # of two ways to compute the same thing in float64
STALLED = 1e-6  # PyDMD's variable projection stops at this relative misfit


@dataclass(frozen=True)
class Answer:
    """Discrete eigenvalues and reconstructed snapshots (None where a class has none)."""

    eigenvalues: np.ndarray
    states: np.ndarray | None


@dataclass(frozen=True)
class Pair:
    """A variant in both packages; `reason` says, and measures, why the answers differ."""

    problem: Problem
    label: str
    options: dict
    peer: Callable[[], object]
    tolerance: float = ROUNDING
    reason: Callable[[Problem, Answer, Answer], tuple[bool, str]] | None = None


def by_koopcore(problem, options):
    if problem.inputs is not None:
        options = dict(options)
        known = problem.input_map if options.pop("known", False) else None
        model = DMDc(**options).fit(problem.snapshots, problem.inputs, known)
    else:
        times = problem.times if options.get("variant") == "optimized" else None
        model = koopcore.DMD(**options).fit(problem.snapshots, times=times)
    return Answer(model.eigenvalues, model.reconstruct())


def by_pydmd(problem, model, known=False):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of the condition number, on nearly every problem
        if problem.inputs is not None:
            model.fit(problem.snapshots, problem.inputs, problem.input_map if known else None)
            return Answer(model.eigs, model.reconstructed_data())
        if isinstance(model, pydmd.BOPDMD):
            model.fit(problem.snapshots, problem.clock)
            return Answer(np.exp(model.eigs), model.reconstructed_data)
        model.fit(problem.snapshots)
        return Answer(model.eigs, _states(problem, model))


def _states(problem, model):
    if isinstance(model, pydmd.OptDMD):
        return None
    if not isinstance(model, OldestBlock):
        return model.reconstructed_data
    n, m = problem.snapshots.shape
    return model.modes[:n] * model.amplitudes @ np.vander(model.eigs, m, increasing=True)


class OldestBlock(pydmd.HankelDMD):
    """HankelDMD whose snapshots are rebuilt from the oldest block of its modes."""


def misfit(problem, answer):
    return np.linalg.norm(answer.states - problem.snapshots)


def two_bases(problem, ours, theirs):
    """FbDMD multiplies operators expressed in the singular vectors of X and of Y."""
    rank = len(ours.eigenvalues)
    flipped = replace(problem, snapshots=np.flipud(problem.snapshots))
    own_move = distance(
        by_koopcore(flipped, {"rank": rank, "variant": "forward-backward"}).eigenvalues,
        ours.eigenvalues,
    )
    move = distance(by_pydmd(flipped, pydmd.FbDMD(rank)).eigenvalues, theirs.eigenvalues)
    error, own = problem.error(theirs.eigenvalues), problem.error(ours.eigenvalues)
    mended = problem.error(_in_one_basis(problem.snapshots, rank))
    return max(own, mended) < 0.01 * error and own_move < ROUNDING, (
        "PyDMD multiplies two operators given in two bases: eigenvalue error "
        f"{error:.1e}; in one basis, koopcore {own:.1e}, NumPy {mended:.1e}. With the rows "
        f"reversed PyDMD's eigenvalues move by {move:.1e}, koopcore's by {own_move:.1e}"
    )


def _in_one_basis(snapshots, rank):
    """Forward-backward eigenvalues in the basis of X, each root next to the forward one."""
    x, y = snapshots[:, :-1], snapshots[:, 1:]
    basis = np.linalg.svd(x, full_matrices=False)[0][:, :rank]
    x, y = basis.conj().T @ x, basis.conj().T @ y
    forward, backward = y @ np.linalg.pinv(x), x @ np.linalg.pinv(y)
    roots = np.sqrt(np.linalg.eigvals(forward @ np.linalg.inv(backward)).astype(complex))
    near = np.linalg.eigvals(forward)
    gaps = [np.abs(sign * roots[:, None] - near).min(axis=1) for sign in (1, -1)]
    return np.where(gaps[0] <= gaps[1], roots, -roots)


def one_snapshot_short(problem, ours, theirs):
    """With projected modes and opt=True, PyDMD's right-hand side leaves out the last snapshot."""
    own, peer = misfit(problem, ours), misfit(problem, theirs)
    return own < 0.999 * peer, (
        "PyDMD's normal equations take all snapshots on the left side and all but the last on the "
        f"right: misfit to all {peer:.4f}; least squares, koopcore's, {own:.4f}"
    )


def wrong_threshold(problem, ours, theirs):
    """SpDMD shrinks v to (1 - k) v / |v|, where the L1 norm asks for (1 - k / |v|) v."""
    shrunk = float(soft_thresholding_operator(np.array([3.0]), 1.0)[0])
    lost = np.abs(theirs.states).max()
    misfit_share = misfit(problem, ours) / np.linalg.norm(problem.snapshots)
    return shrunk != 2.0 and lost == 0.0 and misfit_share < 0.1, (
        f"PyDMD's soft threshold at 1 takes 3 to {shrunk:g} (should be 2): with gamma = rho it "
        f"drops every mode; koopcore keeps {len(ours.eigenvalues)}, misfit {misfit_share:.1e} of "
        "the data"
    )


def another_problem(problem, ours, theirs):
    """OptDMD finds the operator of rank r with the least residual, not DMD's in the basis of X."""
    x, y = problem.snapshots[:, :-1], problem.snapshots[:, 1:]
    own, peer = problem.error(ours.eigenvalues), problem.error(theirs.eigenvalues)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = pydmd.OptDMD(svd_rank=4, factorization="svd").fit(problem.snapshots)
    best = np.linalg.norm(y - model.modes @ (model._input_space.conj().T @ x))
    u = np.linalg.svd(x, full_matrices=False)[0][:, :4]
    dmd = np.linalg.norm(y - y @ np.linalg.pinv(u @ (u.T @ x), rcond=1e-9) @ x)
    return best < dmd, (
        "OptDMD minimises the residual over operators of rank 4, which takes in the noise of all "
        f"directions: residual {best:.3f} against {dmd:.3f}, eigenvalue error {peer:.1e} "
        f"against {own:.1e}"
    )


def newest_block(problem, ours, theirs):
    """HankelDMD rebuilds a snapshot from the delayed state that ends with it."""
    oldest = by_pydmd(problem, OldestBlock(svd_rank=2, d=2, exact=True))
    same = np.abs(oldest.states - ours.states).max()
    return same < ROUNDING, (
        "PyDMD's reconstructed_data reads the newest block of a delayed state, koopcore the "
        f"oldest; rebuilt from the oldest block of PyDMD's modes they differ by {same:.1e}"
    )


def sampling(problem, ours, theirs):
    """RDMD looks at a random sample of the directions."""
    gaps = []
    for oversampling in (10, problem.snapshots.shape[1]):
        model = pydmd.RDMD(svd_rank=4, seed=0, oversampling=oversampling)
        gaps.append(distance(by_pydmd(problem, model).eigenvalues, ours.eigenvalues))
    return gaps[1] < ROUNDING < gaps[0], (
        "RDMD samples directions at random, koopcore takes all: eigenvalues differ by "
        f"{gaps[0]:.1e} with PyDMD's 10 extra samples, by {gaps[1]:.1e} with as many as snapshots"
    )


def single_precision(problem, ours, theirs):
    """PyDMD computes in the type of the data."""
    own, peer = problem.error(ours.eigenvalues), problem.error(theirs.eigenvalues)
    return own < peer, (
        "PyDMD computes in float32, koopcore accumulates the Gram matrix in float64: eigenvalue "
        f"error {peer:.1e}, koopcore's {own:.1e}"
    )


def joint_truncation(problem, ours, theirs):
    """DMDc truncates state and inputs together, so that the units of the inputs matter."""
    other = replace(problem, inputs=problem.inputs / 1000)
    own = distance(by_koopcore(other, {"rank": 4}).eigenvalues, ours.eigenvalues)
    moved = by_pydmd(other, pydmd.DMDc(4, svd_rank_omega=6)).eigenvalues
    move = distance(moved, theirs.eigenvalues)
    return own < ROUNDING < 1e-3 < move, (
        "PyDMD truncates [X; U] and projects on the directions of Y, koopcore truncates X alone: "
        f"with inputs in units 1000 times as large PyDMD's eigenvalues move by {move:.1e}, "
        f"koopcore's by {own:.1e}"
    )


def growth_of_what(problem, ours, theirs):
    """PyDMD's growth_rate is the real part of the eigenvalue over dt."""
    rates = koopcore.DMD(4).fit(problem.snapshots).growth_rate
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = pydmd.DMD(4, exact=True).fit(problem.snapshots).growth_rate
    true = np.log(np.abs(problem.eigenvalues))
    own, off = distance(rates, true), distance(peer, true)
    return own < ROUNDING < 0.1 < off, (
        "PyDMD returns Re(eigenvalue) / dt, koopcore log abs(eigenvalue) / dt: distance from "
        f"the rates of the system {off:.1e} and {own:.1e}"
    )


def pairs():
    """Every pair, in the order of the table."""
    return [*_exact_answers(), *_noisy_answers(), *_special_answers()]


def _exact_answers():
    modes, wake, standing = problems.spatiotemporal(), problems.wake(), problems.standing()
    fast, projected = problems.linear(angles=(0.3, 2.5)), {"exact": False}
    fb, tls = {"variant": "forward-backward"}, {"variant": "tls"}
    optimized = {"rank": 2, "variant": "optimized"}
    return [
        Pair(modes, "exact", {"rank": 2}, lambda: pydmd.DMD(2, exact=True)),
        Pair(modes, "projected", {"rank": 2, **projected}, lambda: pydmd.DMD(2)),
        Pair(modes, "opt", {"rank": 2, "opt": True}, lambda: pydmd.DMD(2, exact=True, opt=True)),
        Pair(modes, "tls", {"rank": 2, **tls}, lambda: pydmd.DMD(2, tlsq_rank=2, exact=True)),
        Pair(modes, "RDMD / exact", {"rank": 2}, lambda: pydmd.RDMD(svd_rank=2, seed=0)),
        Pair(modes, "forward-backward", {"rank": 2, **fb}, lambda: pydmd.FbDMD(2),
             reason=two_bases),
        Pair(modes, "optimized", optimized, lambda: pydmd.BOPDMD(2), STALLED),
        Pair(wake, "exact", {"rank": 7}, lambda: pydmd.DMD(7, exact=True)),
        Pair(wake, "forward-backward", {"rank": 7, **fb}, lambda: pydmd.FbDMD(7),
             reason=two_bases),
        Pair(wake, "delays=3", {"rank": 7, "delays": 3}, lambda: OldestBlock(7, d=3, exact=True)),
        Pair(problems.wake(np.float32), "exact", {"rank": 7}, lambda: pydmd.DMD(7, exact=True),
             reason=single_precision),
        Pair(fast, "forward-backward", {"rank": 4, **fb}, lambda: pydmd.FbDMD(4),
             reason=two_bases),
        Pair(standing, "exact, 1 of 2 modes", {"rank": 1}, lambda: pydmd.DMD(1, exact=True)),
        Pair(standing, "delays=2", {"rank": 2, "delays": 2}, lambda: pydmd.HankelDMD(2, d=2)),
    ]  # fmt: skip


def _noisy_answers():
    noisy = problems.linear(noise=0.01)
    r4, sizes = {"rank": 4}, np.linalg.norm(noisy.snapshots[:, :-1])
    ridge = (noisy.snapshots.shape[1] - 1) / sizes  # PyDMD adds 1 * |X|, koopcore |X|^2 / pairs
    return [
        Pair(noisy, "exact", r4, lambda: pydmd.DMD(4, exact=True)),
        Pair(noisy, "projected", {**r4, "exact": False}, lambda: pydmd.DMD(4)),
        Pair(noisy, "opt", {**r4, "opt": True}, lambda: pydmd.DMD(4, exact=True, opt=True)),
        Pair(noisy, "opt, projected", {**r4, "opt": True, "exact": False},
             lambda: pydmd.DMD(4, opt=True), reason=one_snapshot_short),
        Pair(noisy, "tls", {**r4, "variant": "tls"},
             lambda: pydmd.DMD(4, tlsq_rank=4, exact=True)),
        Pair(noisy, "forward-backward", {**r4, "variant": "forward-backward"},
             lambda: pydmd.FbDMD(4), reason=two_bases),
        Pair(noisy, "optimized", {**r4, "variant": "optimized"}, lambda: pydmd.BOPDMD(4), STALLED),
        Pair(noisy, "ridge", {**r4, "ridge": ridge},
             lambda: pydmd.DMD(4, exact=True, tikhonov_regularization=1.0)),
        Pair(noisy, "rank 'svht'", {"rank": "svht"}, lambda: pydmd.DMD(0, exact=True)),
        Pair(noisy, "rank 0.9", {"rank": 0.9}, lambda: pydmd.DMD(0.9, exact=True)),
        Pair(noisy, "delays=2", {**r4, "delays": 2}, lambda: OldestBlock(4, d=2, exact=True)),
        Pair(problems.standing(noise=0.01), "delays=2, as rebuilt", {"rank": 2, "delays": 2},
             lambda: pydmd.HankelDMD(2, d=2, exact=True), reason=newest_block),
        Pair(noisy, "RDMD / exact", r4, lambda: pydmd.RDMD(svd_rank=4, seed=0), reason=sampling),
        Pair(noisy, "OptDMD / exact", r4, lambda: pydmd.OptDMD(svd_rank=4),
             reason=another_problem),
        *[Pair(noisy, f"sparsity, gamma={gamma}", _penalty(noisy, gamma),
               lambda gamma=gamma: pydmd.SpDMD(10, gamma=gamma, verbose=False),
               reason=reason) for gamma, reason in ((100, None), (1, wrong_threshold))],
    ]  # fmt: skip


def _penalty(problem, gamma):
    """PyDMD's penalty as a share of the one that leaves no mode, 2 max |q|."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = pydmd.DMD(10, exact=True, opt=True).fit(problem.snapshots)
    largest = 2.0 * np.abs(plain._optimal_dmd_matrices()[1]).max()
    return {"rank": 10, "exact": True, "sparsity": gamma / largest}


def _special_answers():
    descent, control = problems.descent(), problems.controlled()
    return [
        Pair(problems.uneven(), "optimized", {"rank": 2, "variant": "optimized"},
             lambda: pydmd.BOPDMD(2), STALLED),
        Pair(descent, "symmetric", {"rank": 4, "variant": "symmetric"},
             lambda: pydmd.PiDMD("symmetric", svd_rank=4)),
        Pair(problems.linear(noise=0.01), "symmetric", {"rank": 4, "variant": "symmetric"},
             lambda: pydmd.PiDMD("symmetric", svd_rank=4)),
        Pair(control, "DMDc, B unknown", {"rank": 4}, lambda: pydmd.DMDc(4)),
        Pair(control, "DMDc, B known", {"rank": 4, "known": True}, lambda: pydmd.DMDc(4)),
        Pair(problems.controlled(noise=0.01), "DMDc, B unknown", {"rank": 4},
             lambda: pydmd.DMDc(4, svd_rank_omega=6), reason=joint_truncation),
        Pair(problems.linear(), "growth_rate", {"rank": 4}, lambda: pydmd.DMD(4, exact=True),
             reason=growth_of_what),
    ]  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What one pair came to."""

    pair: Pair
    eigenvalues: float
    states: float
    holds: bool
    verdict: str


def measure(pair):
    """Fit both, and hold the pair to what it claims."""
    ours = by_koopcore(pair.problem, pair.options)
    theirs = by_pydmd(pair.problem, pair.peer(), pair.options.get("known", False))
    kept = theirs.eigenvalues
    if len(kept) > len(ours.eigenvalues):  # PyDMD's sparse fit keeps modes of amplitude 0
        gaps = np.abs(kept[:, None] - ours.eigenvalues[None, :])
        kept = kept[gaps.argmin(axis=0)]
    gap = distance(kept, ours.eigenvalues)
    change = np.nan
    if theirs.states is not None:
        change = np.abs(ours.states - theirs.states).max() / np.abs(pair.problem.snapshots).max()
    if pair.reason is None:
        agree = gap <= pair.tolerance and not change > pair.tolerance
        return Row(pair, gap, change, agree, "agree" if agree else "DISAGREE")
    holds, text = pair.reason(pair.problem, ours, theirs)
    return Row(pair, gap, change, holds, text if holds else f"NOT AS STATED: {text}")


def main():
    print(f"koopcore {koopcore.__version__} and PyDMD {version('pydmd')}\n")
    print("| problem | variant | PyDMD | eigenvalues | reconstruction | verdict |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = [measure(pair) for pair in pairs()]
    for row in rows:
        peer = type(row.pair.peer()).__name__.replace("OldestBlock", "HankelDMD")
        states = "none" if np.isnan(row.states) else f"{row.states:.1e}"
        print(f"| {row.pair.problem.name} | {row.pair.label} | {peer} | {row.eigenvalues:.1e} "
              f"| {states} | {row.verdict} |")  # fmt: skip
    failed = sum(not row.holds for row in rows)
    print(f"\n{len(rows)} pairs, {failed} not as stated. eigenvalues: largest distance; "
          "reconstruction: largest difference over the largest number of the data.")  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
