"""Paired statistics over the seeds: ratios with bootstrap intervals, and the sign test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median

import numpy as np

RESAMPLES = 2000
LEVEL = 0.05  # of the intervals, and of what the report calls clear in a sign test


@dataclass(frozen=True)
class Ratio:
    """Median over the seeds of a figure over another's, and the bootstrap's 95 % interval.

    Infinity where the target was not reached, nan where there was none, since bare diverged.
    `pairs` says over how many seeds; 0 where the interval has another source.
    """

    median: float
    low: float
    high: float
    pairs: int = 0


@dataclass(frozen=True)
class SignTest:
    """How often one of two paired figures was the lower one.

    Attributes
    ----------
    won, lost : int
        Pairs in which the first was lower, or higher. A miss is higher than any time.
    left_out : int
        Ties, and pairs in which both missed.
    p : float
        Two-sided p-value of as many or more of one kind, if either were as likely as the other;
        1 where there is nothing to count.
    """

    won: int
    lost: int
    left_out: int
    p: float


def median_ratio(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """Return the median of a / b over the pairs (a, b), with its bootstrap interval.

    Where only a is infinite the ratio is infinity; where only b is, 0. Pairs in which both are, or
    b is 0, are left out.

    Parameters
    ----------
    pairs : sequence of (float, float)
        Not negative; one pair per seed.
    """
    return _bootstrapped(tuple(a / b for a, b in pairs if b > 0 and not math.isinf(min(a, b))))


@cache  # the same rows are asked for by every table, the words and the pictures
def _bootstrapped(ratios: tuple[float, ...]) -> Ratio:
    if not ratios:
        return Ratio(math.nan, math.nan, math.nan, 0)
    # A generator of its own with a fixed seed: the same runs always give the same interval.
    chosen = np.random.default_rng(0).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    medians = np.sort(np.median(np.asarray(ratios)[chosen], axis=1))
    cut = round(LEVEL / 2 * RESAMPLES)
    return Ratio(median(ratios), float(medians[cut]), float(medians[-1 - cut]), len(ratios))


def sign_test(pairs: Sequence[tuple[float, float]]) -> SignTest:
    """Return the two-sided sign test of the pairs (a, b); a wins where it is the lower one."""
    from scipy.stats import binomtest

    won = sum(a < b for a, b in pairs)
    lost = sum(a > b for a, b in pairs)
    p = binomtest(won, won + lost).pvalue if won + lost else 1.0
    return SignTest(won, lost, len(pairs) - won - lost, float(p))


def smallest_p(seeds: int) -> float:
    """Return the p-value of a sign test that every one of so many seeds wins."""
    return min(1.0, 2.0 * 0.5**seeds)
