"""Who sends the packet at position i, and when: a time-table that can be read anywhere.

The span is cut at the times where an actor starts or stops. Inside a segment the order of the
streams (background, each actor) is a cycle of slots that repeats, so a packet's stream and its
serial number within the stream follow from the position by two table look-ups.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.hashing import hash_words

CYCLE_BITS: Final = 12
"""A segment's cycle has 2**12 slots."""

Ints = npt.NDArray[np.int64]


class Shift(NamedTuple):
    """When a stream is active, as fractions of the span, and its rate (1 is the background's)."""

    start: float
    stop: float
    rate: float


class Schedule(NamedTuple):
    """The time-table of k segments and s streams, as kernels read it."""

    first: Ints
    """(k + 1,) position of each segment's first packet; the last one is the total."""
    start_ns: Ints
    """(k,) start of each segment after the first packet's time."""
    gap_ns: npt.NDArray[np.float64]
    """(k,) mean time between packets."""
    slots: npt.NDArray[np.uint32]
    """(k, 4096) stream << 16 | rank of each slot among its stream's."""
    per_cycle: Ints
    """(k, s) slots of each stream in a cycle."""
    base: Ints
    """(k + 1, s) packets of each stream before each segment; the last row is its total."""


def derive(seed: int, purpose: int) -> int:
    """A seed of its own for each purpose, so that no two shuffles are alike."""
    return int(hash_words(np.array([[purpose]], np.uint64), seed)[0])


def apportion(weights: Sequence[float], total: int) -> list[int]:
    """Share ``total`` seats by weight, largest remainder first.

    A positive weight gets at least one seat, at the cost of the largest; weight 0 gets none.
    """
    fair = [w / sum(weights) * total for w in weights]
    seats = [max(int(f), 1) if f > 0 else 0 for f in fair]
    entitled = [k for k, f in enumerate(fair) if f > 0]
    entitled.sort(key=lambda k: seats[k] - fair[k])
    for k in entitled[: max(total - sum(seats), 0)]:
        seats[k] += 1
    seats[seats.index(max(seats))] += total - sum(seats)
    return seats


def interleave(counts: Sequence[int], seed: int) -> npt.NDArray[np.uint32]:
    """Shuffle owners, each ``counts[owner]`` times; returns owner << 16 | rank for each slot."""
    owners = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    order = np.argsort(hash_words(np.arange(len(owners), dtype=np.uint64)[:, None], seed))
    owners = owners[order]
    ranks = np.empty_like(owners)
    ranks[np.argsort(owners, kind="stable")] = np.concatenate([np.arange(c) for c in counts])
    return (owners << 16 | ranks).astype(np.uint32)


def plan(shifts: Sequence[Shift], packets: int, span_ns: int, seed: int) -> Schedule:
    """Lay out ``packets`` over ``span_ns`` nanoseconds; one stream a shift, at most 65,535."""
    cuts = sorted({0.0, 1.0, *(s.start for s in shifts), *(s.stop for s in shifts)})
    rates = [
        [s.rate if s.start <= start and stop <= s.stop else 0.0 for s in shifts]
        for start, stop in itertools.pairwise(cuts)
    ]
    load = np.cumsum([0.0] + [sum(r) * (cuts[k + 1] - cuts[k]) for k, r in enumerate(rates)])
    first = np.rint(load / load[-1] * packets).astype(np.int64)
    edges_ns = np.rint(np.array(cuts) * span_ns).astype(np.int64)
    sizes = np.diff(first)
    cycle = 1 << CYCLE_BITS
    count = np.array([apportion(r, cycle) for r in rates], np.int64)
    slots = np.stack([interleave(c, derive(seed, k)) for k, c in enumerate(count.tolist())])
    base = np.zeros((len(rates) + 1, len(shifts)), np.int64)
    for k, size in enumerate(sizes.tolist()):
        begun = np.bincount(slots[k, : size % cycle] >> 16, minlength=len(shifts))
        base[k + 1] = base[k] + size // cycle * count[k] + begun
    gap_ns = np.diff(edges_ns) / np.maximum(sizes, 1)
    return Schedule(first, edges_ns[:-1].copy(), gap_ns, slots, count, base)
