"""What random sampling of packets does to counts, and to their bounds.

A buffer of ``w`` packets is kept with probability 1 / N and then counts N w times, so a scaled
count has the variance (N - 1) sum(w^2), at most (N - 1) max(w) times the true count
(Horvitz and Thompson, 1952). Bounds are those of the score interval for such a variance (Wilson,
1927), which holds for small counts too.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

Z: Final = 1.959963984540054
"""Two-sided 95 %."""

MAX_FRAME_BYTES: Final = 9_018
"""Longest frame that is believed where buffers hold one packet: a jumbo frame."""

MAX_BUFFER_BYTES: Final = 65_550
MAX_BUFFER_PACKETS: Final = 45
"""Of a coalesced buffer: 64 KiB in segments of 1,460 bytes."""


class Sampling(NamedTuple):
    """How packets were sampled.

    Attributes:
        rate: one in so many was kept; 1 for all.
        clustered: whether buffers of several packets were kept or not as a whole.
    """

    rate: int = 1
    clustered: bool = False

    def merge(self, other: Sampling) -> Sampling:
        """The worse of two."""
        return Sampling(max(self.rate, other.rate), self.clustered or other.clustered)

    def packets(self, count: float) -> tuple[float, float]:
        """Bounds of a true number of packets, given the scaled one."""
        return self._interval(count, MAX_BUFFER_PACKETS if self.clustered else 1)

    def bytes(self, count: float) -> tuple[float, float]:
        """Bounds of a true number of bytes, given the scaled one."""
        return self._interval(count, MAX_BUFFER_BYTES if self.clustered else MAX_FRAME_BYTES)

    def _interval(self, count: float, largest: int) -> tuple[float, float]:
        half = Z * Z * (self.rate - 1) * largest / 2
        # Counts come in steps of the rate: half a step more on either side keeps what is promised.
        low, high = max(count - (self.rate - 1) / 2, 0.0), count + (self.rate - 1) / 2
        lower = low + half - math.sqrt(half * half + 2 * half * low)
        upper = high + half + math.sqrt(half * half + 2 * half * high)
        return max(lower, count / self.rate), upper


UNSAMPLED: Final = Sampling()
"""All packets were kept."""
