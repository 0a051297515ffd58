"""Measures stored sketches: a day's union, and bytes a day.

A day of 1,440 minutes, each with ``HOSTS_A_MINUTE`` draws of a Zipf-like crowd of 200,000 hosts.
"""

from __future__ import annotations

import time

import numpy as np

from flows.sketches.at_rest import encode, merge
from flows.sketches.distinct import Distinct
from flows.sketches.frequency import Frequency
from flows.sketches.superspread import SuperSpread
from schemas.hashing import DEFAULT_SEED, hash_words

CROWD = 200_000
HOSTS_A_MINUTE = 20_000
LARGE_A_DAY = 144  # of 600 s
DISTINCT_TASKS, OTHER_TASKS = 4, 4
SMALL_A_DAY = 1440 + LARGE_A_DAY


def main() -> None:
    """Print a line for each figure."""
    rng = np.random.default_rng(1)
    crowd = rng.integers(0, 2**64, CROWD, np.uint64)
    seen = np.zeros(CROWD, np.bool_)
    images = []
    for _ in range(1440):
        drawn = (rng.pareto(0.5, HOSTS_A_MINUTE) * 100).clip(0, 1e15).astype(np.int64) % CROWD
        seen[drawn] = True
        sketch = Distinct()
        sketch.update(crowd[drawn])
        images.append(encode(sketch)[2])
    merge("cpc", images[:2])
    begin = time.perf_counter()
    found = merge("cpc", images).estimate()
    took = time.perf_counter() - begin
    print(f"union of 1,440 minutes: {took:.3f} s; {found.value:,.0f} hosts", end=" ")
    print(f"({found.lower:,.0f} to {found.upper:,.0f}), truly {int(seen.sum()):,}")
    small = float(np.mean([len(image) for image in images]))
    large = _full_frequency(rng), _full_spread(rng)
    day = DISTINCT_TASKS * SMALL_A_DAY * small + OTHER_TASKS * LARGE_A_DAY * sum(large)
    print(f"bytes a sketch: cpc {small:,.0f}, frequency {large[0]:,}, superspread {large[1]:,}")
    print(f"a day of the default tasks, one tenant, not compressed: {day / 1e9:.2f} GB")


def _full_frequency(rng: np.random.Generator) -> int:
    """Bytes of a sketch that has seen 200,000 keys ten times."""
    sketch = Frequency(2)
    keys = rng.integers(0, 2**64, (CROWD, 2), np.uint64)
    hashes = hash_words(keys, DEFAULT_SEED)
    for _ in range(10):
        weights = (rng.pareto(1.0, CROWD) * 10 + 1).clip(0, 1e9).astype(np.uint64)
        sketch.update(keys, hashes, weights, weights * np.uint64(700))
    return len(encode(sketch)[2])


def _full_spread(rng: np.random.Generator) -> int:
    """Bytes of a sketch that has seen 2 million pairs of 200,000 keys."""
    sketch = SuperSpread(2)
    keys = rng.integers(0, 2**64, (CROWD, 2), np.uint64)
    drawn = keys[(rng.pareto(0.7, 2_000_000) * 100).clip(0, 1e15).astype(np.int64) % CROWD]
    sketch.update(
        drawn, hash_words(drawn, DEFAULT_SEED), rng.integers(0, 2**64, len(drawn), np.uint64)
    )
    return len(encode(sketch)[2])


if __name__ == "__main__":
    main()
