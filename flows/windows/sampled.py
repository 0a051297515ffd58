"""Bounds of results with the sampling's error in them."""

from __future__ import annotations

from flows.sketches.frequency import Hitter
from flows.windows.sampling import Sampling

CONFIDENCE = 0.95


def confidence(sampling: Sampling) -> float:
    """Probability with which sampling lets bounds hold."""
    return 1.0 if sampling.rate == 1 else CONFIDENCE


def most_different(upper: float, sampling: Sampling, packets: int) -> float:
    """Upper bound of a number of different things, of which sampling has hidden some.

    They are no more than there were packets.

    Args:
        upper: bound of those that were seen.
        sampling: how they were sampled.
        packets: that were counted, scaled.
    """
    if sampling.rate == 1:
        return upper
    return max(upper, float(round(sampling.packets(packets)[1])))


def widened(hitter: Hitter, sampling: Sampling) -> Hitter:
    """A hitter with the sampling's error in its bounds."""
    if sampling.rate == 1:
        return hitter
    packets, octets = sampling.packets, sampling.bytes
    return hitter._replace(
        packets_lower=int(packets(hitter.packets_lower)[0]),
        packets_upper=round(packets(hitter.packets_upper)[1]),
        bytes_lower=int(octets(hitter.bytes_lower)[0]),
        bytes_upper=round(octets(hitter.bytes_upper)[1]),
    )
