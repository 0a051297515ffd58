"""How many elements two distinct counts share, and how many only one of them has.

A CPC sketch knows unions only, so these come of three counts: A and B have A + B - (A or B) in
common, and A or B less B are only in A. The errors are those of the union, about 1 % of *it* at
the default size where A and B differ, however small the part in question: of two sets of 100,000
elements a thousand in common can't be told from none. They are correlated, though, and their
joint variance is known: a coupon is missing from the union where it is missing from both.

Bounds are those of the score interval (Wilson, 1927), which holds for small parts too: all sizes
of the part within 1.96 standard deviations, by the variance that this size would have, and half a
coupon, from what was found.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from flows.sketches import Estimate
from flows.sketches.distinct import CONFIDENCE, DEVIATIONS, Distinct, coupon_odds

_HALVINGS = 50


def shared(a: Distinct, b: Distinct) -> Estimate:
    """How many elements both have."""
    counts = _counts(a, b)

    def variance(both: float) -> float:
        # d(A + B - U): an element of both adds 1, one of A or of B alone 1 - 1.
        return counts.variance(both, 1.0, 1.0, -1.0) - both

    most = min(a.estimate().upper, b.estimate().upper)
    return _estimate(counts.a + counts.b - counts.union, variance, most, counts)


def only(a: Distinct, b: Distinct) -> Estimate:
    """How many elements ``a`` has that ``b`` doesn't."""
    counts = _counts(a, b)

    def variance(a_only: float) -> float:
        return counts.variance(counts.a - a_only, 0.0, -1.0, 1.0) - a_only

    return _estimate(counts.union - counts.b, variance, a.estimate().upper, counts)


class _Counts(NamedTuple):
    """Estimates of A, of B and of their union, by sketches of one size."""

    lg_k: int
    a: float
    b: float
    union: float

    @property
    def half_coupon(self) -> float:
        """Elements that half a coupon more in the union stands for."""
        odds = coupon_odds(self.lg_k)
        return 0.5 / (float(odds @ np.exp(-self.union * odds)) * (1 << self.lg_k))

    def variance(self, both: float, of_a: float, of_b: float, of_union: float) -> float:
        """Variance of a weighted sum of the three estimates, were the elements Poisson.

        Each is a function of its number of coupons. From the result is to be taken what the
        number of elements itself varies by (see ``distinct.relative_error``).

        Args:
            both: elements that A and B share.
            of_a: weight of A.
            of_b: weight of B.
            of_union: weight of the union.
        """
        both = min(max(both, 0.0), self.a, self.b)
        odds = coupon_odds(self.lg_k)
        rows = 1 << self.lg_k
        missing = [np.exp(-size * odds) for size in (self.a, self.b, self.a + self.b - both)]
        weights = [
            weight / (rows * float(odds @ gone))
            for weight, gone in zip((of_a, of_b, of_union), missing, strict=True)
        ]
        total = 0.0
        for i, first in enumerate(missing):
            for j, second in enumerate(missing):
                together = first if i == j else missing[2]
                total += weights[i] * weights[j] * float((together - first * second).sum())
        return rows * total


def _counts(a: Distinct, b: Distinct) -> _Counts:
    union = Distinct.union((a.to_bytes(), b.to_bytes()))
    in_a, in_b = (_reduced(one, union.lg_k).estimate().value for one in (a, b))
    return _Counts(union.lg_k, in_a, in_b, union.estimate().value)


def _reduced(one: Distinct, lg_k: int) -> Distinct:
    """The same count in a sketch of so many rows."""
    return Distinct.union((Distinct(lg_k).to_bytes(), one.to_bytes()))


def _estimate(
    raw: float, variance: Callable[[float], float], most: float, counts: _Counts
) -> Estimate:
    def possible(size: float) -> bool:
        off = max(abs(size - raw) - counts.half_coupon, 0.0)
        return off * off <= DEVIATIONS**2 * max(variance(size), 0.0)

    value = min(max(raw, 0.0), most)
    lower = math.floor(_edge(value, 0.0, possible))
    upper = math.ceil(_edge(value, most, possible))
    return Estimate(value, float(lower), float(upper), CONFIDENCE)


def _edge(inside: float, end: float, possible: Callable[[float], bool]) -> float:
    """The size nearest to ``end`` that is possible, found by halving."""
    if possible(end):
        return end
    for _ in range(_HALVINGS):
        middle = (inside + end) / 2
        if possible(middle):
            inside = middle
        else:
            end = middle
    return inside
