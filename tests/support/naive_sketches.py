"""Plain-Python twins of the sketch kernels: slow, obvious, and the tests' reference."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
MASK = 2**64 - 1


def _rotate(x: int, by: int) -> int:
    return (x << by | x >> (64 - by)) & MASK


def _fmix(k: int) -> int:
    k ^= k >> 33
    k = k * 0xFF51AFD7ED558CCD & MASK
    k ^= k >> 33
    k = k * 0xC4CEB9FE1A85EC53 & MASK
    return k ^ k >> 33


def murmur3(item: int, seed: int) -> tuple[int, int]:
    """MurmurHash3_x64_128 of the eight little-endian bytes of ``item``."""
    k = _rotate(item * 0x87C37B91114253D5 & MASK, 31) * 0x4CF5AD432745937F & MASK
    h1, h2 = seed ^ k ^ 8, seed ^ 8
    h1 = (h1 + h2) & MASK
    h2 = (h2 + h1) & MASK
    h1, h2 = _fmix(h1), _fmix(h2)
    h1 = (h1 + h2) & MASK
    return h1, (h2 + h1) & MASK


def coupon(item: int, k: int) -> tuple[int, int]:
    """Row and column of an item in a CPC sketch of ``k`` rows."""
    h1, h2 = murmur3(item, 9001)
    return h1 % k, min(64 - h2.bit_length(), 63)


def new_coupon_positions(items: Iterable[int], k: int) -> list[int]:
    """Positions of the items whose coupon no earlier item has."""
    seen: set[tuple[int, int]] = set()
    positions = []
    for position, item in enumerate(items):
        c = coupon(item, k)
        if c not in seen:
            seen.add(c)
            positions.append(position)
    return positions


class NaiveFrequency:
    """Exact sums in a dict."""

    def __init__(self) -> None:
        self.sums: dict[tuple[int, ...], list[int]] = {}

    def update(self, keys: U64, packets: U64, n_bytes: U64) -> None:
        rows = zip(keys.tolist(), packets.tolist(), n_bytes.tolist(), strict=True)
        for key, p, b in rows:
            sums = self.sums.setdefault(tuple(key), [0, 0])
            sums[0] += p
            sums[1] += b

    def columns(self) -> tuple[list[tuple[int, ...]], list[int], list[int]]:
        """Keys in order of first appearance, with their packets and bytes."""
        return (
            list(self.sums),
            [sums[0] for sums in self.sums.values()],
            [sums[1] for sums in self.sums.values()],
        )


def heaviest_rows(packets: list[int], n_bytes: list[int], count: int, ties: int) -> list[int]:
    """The ``count`` largest rows by either weight, with ``ties`` at most of the lightest."""
    if len(packets) <= count:
        return list(range(len(packets)))
    chosen: set[int] = set()
    for weights in (packets, n_bytes):
        order = sorted(range(len(weights)), key=lambda row: (-weights[row], row))
        limit = weights[order[count]]
        above = [row for row in order[:count] if weights[row] > limit]
        chosen.update(above, order[len(above) : min(count, len(above) + ties)])
    return sorted(chosen)
