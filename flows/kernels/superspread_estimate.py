"""Maximum likelihood for the registers of one key, as ``superspread.tally`` counts them.

The largest rank of a register with load t (pairs of the key per register, as a Poisson process)
is at most r with probability F(r) = exp(-t 2^-r); F of the highest rank is 1. Where the pool shows
an entry with the register's tag at rank r, it is the key's own or another key's with the same tag;
with G(r) the probability that no other key's is above r, this has probability
F(r) G(r) - F(r - 1) G(r - 1). Where it shows none, the own rank is at most some r: F(r).

This is the likelihood of a HyperLogLog (Ertl, "New cardinality estimation algorithms for
HyperLogLog sketches", 2017) whose registers are partly censored by other keys' entries.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numba
import numpy as np

from flows.kernels.superspread import RANKS

MAX_STEPS: Final = 40
_LOW: Final = math.log(1e-6)
_HIGH: Final = math.log(2.0 ** (RANKS + 3))
_TINY: Final = 1e-280
_SCALE: Final = np.array([2.0**-r for r in range(RANKS - 1)] + [0.0])


@numba.njit(nogil=True, cache=True)
def slopes(own: Any, below: Any, foreign: Any, x: Any) -> Any:
    """First and second derivative of the log-likelihood in x = ln(load).

    Args:
        own: registers with a known rank, by rank, (16,).
        below: registers with a largest possible rank, by that rank, (16,).
        foreign: G by rank, (16,) float64.
        x: float64.
    """
    load = math.exp(x)
    first = 0.0
    second = 0.0
    for r in range(RANKS):
        if below[r] > 0:
            first -= below[r] * load * _SCALE[r]
            second -= below[r] * load * _SCALE[r]
        if r > 0 and own[r] > 0:
            a = load * _SCALE[r]
            b = load * _SCALE[r - 1]
            fa = math.exp(-a) * foreign[r]
            fb = math.exp(-b) * foreign[r - 1]
            p = fa - fb
            if p < _TINY:
                first -= own[r] * a
                second -= own[r] * a
                continue
            slope = (b * fb - a * fa) / p
            first += own[r] * slope
            second += own[r] * ((a * a - a) * fa - (b * b - b) * fb) / p
            second -= own[r] * slope * slope
    return first, second


@numba.njit(nogil=True, cache=True)
def log_likelihood(own: Any, below: Any, foreign: Any, x: Any) -> Any:
    """Log-likelihood at x = ln(load); arguments as for ``slopes``."""
    load = math.exp(x)
    total = 0.0
    for r in range(RANKS):
        total -= below[r] * load * _SCALE[r]
        if r > 0 and own[r] > 0:
            p = math.exp(-load * _SCALE[r]) * foreign[r]
            p -= math.exp(-load * _SCALE[r - 1]) * foreign[r - 1]
            total += own[r] * (math.log(p) if p > _TINY else -load * _SCALE[r])
    return total


@numba.njit(nogil=True, cache=True)
def fit(own: Any, below: Any, foreign: Any, x: Any, information: Any) -> None:
    """Find the most likely load of each key by Newton's method.

    Args:
        own: (n, 16) int32.
        below: (n, 16) int32.
        foreign: (16,) float64.
        x: receives ln(load), (n,) float64.
        information: receives minus the second derivative there, (n,) float64.
    """
    for i in range(x.shape[0]):
        known = 0.0
        level = 0.0
        for r in range(RANKS):
            known += own[i, r]
            level += (own[i, r] + below[i, r]) * _SCALE[r]
        at = min(max(math.log((0.72 * known + 0.1) / max(level, 1e-3)), _LOW), _HIGH)
        curve = 1e-9
        for _ in range(MAX_STEPS):
            first, second = slopes(own[i], below[i], foreign, at)
            curve = max(-second, 1e-9)
            step = first / curve if second < 0.0 else math.copysign(0.5, first)
            step = min(1.0, max(-1.0, step))
            at = min(max(at + step, _LOW), _HIGH)
            if abs(step) < 1e-5 or at in (_LOW, _HIGH):
                break
        x[i] = at
        information[i] = curve


@numba.njit(nogil=True, cache=True)
def bounds(own: Any, below: Any, foreign: Any, x: Any, drop: Any, lower: Any, upper: Any) -> None:
    """Where the log-likelihood has fallen by ``drop`` from its maximum, on either side.

    Args:
        own: (n, 16) int32.
        below: (n, 16) int32.
        foreign: (16,) float64.
        x: most likely ln(load), (n,) float64.
        drop: (n,) float64.
        lower: receives a ln(load), (n,) float64.
        upper: receives a ln(load), (n,) float64.
    """
    for i in range(x.shape[0]):
        aim = log_likelihood(own[i], below[i], foreign, x[i]) - drop[i]
        for side in range(2):
            width = 0.01
            sign = 1.0 if side else -1.0
            end = _HIGH if side else _LOW
            inside = x[i]
            outside = x[i] + sign * width
            while (end - outside) * sign > 0.0 and (
                log_likelihood(own[i], below[i], foreign, outside) > aim
            ):
                inside = outside
                width *= 2.0
                outside += sign * width
            if (end - outside) * sign <= 0.0:
                outside = end
            for _ in range(14):
                middle = 0.5 * (inside + outside)
                if log_likelihood(own[i], below[i], foreign, middle) > aim:
                    inside = middle
                else:
                    outside = middle
            if side:
                upper[i] = outside
            else:
                lower[i] = outside
