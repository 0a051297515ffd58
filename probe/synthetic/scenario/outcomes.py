"""How exchanges go: whole connections, failed ones, probes, datagrams."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from probe.synthetic.bits import ACK, RST, SYN

PARETO: Final = 1.1
"""Exponent of the lengths of connections: few hold most packets."""

QUANTILES: Final = 500
"""Different lengths of the connections of a stream; nearly half of a palette's cells."""

UNANSWERED: Final = 0.015
REFUSED: Final = 0.005
"""Connections that fail, of all that clean clients try."""


class Outcome(NamedTuple):
    """How an exchange may go."""

    share: float
    """Of all exchanges; shares need not add up to 1."""
    length: int
    """Packets, both directions."""
    gap_s: float
    """Mean time between its packets."""
    turns: int = 0
    """Who sends: bit n (modulo 16, after the handshake of a connection) is 1 for the server."""
    script: int = 0
    """TCP flags of the first packets, one byte each; unused for connections and UDP."""


def script(*flags: int) -> int:
    """Flags of the packets of a short TCP exchange as ``Outcome`` holds them."""
    return int.from_bytes(bytes(flags), "little")


FAILURES: Final = (
    Outcome(UNANSWERED, 3, 1.5, script=script(SYN, SYN, SYN)),
    Outcome(REFUSED, 2, 0.01, 0b10, script(SYN, RST | ACK)),
)


def connections(lengths: tuple[int, int], gap_s: float, turns: int) -> list[Outcome]:
    """Conversations whose lengths follow the bounded Pareto distribution.

    Args:
        lengths: shortest and longest, in packets, both directions.
        gap_s: mean time between packets.
        turns: who sends data.
    """
    if lengths[0] == lengths[1]:
        return [Outcome(1, lengths[0], gap_s, turns)]
    quantile = (np.arange(QUANTILES) + 0.5) / QUANTILES
    low, high = float(lengths[0]) ** -PARETO, float(lengths[1]) ** -PARETO
    sample = np.rint((low - quantile * (low - high)) ** (-1 / PARETO)).astype(int)
    return [Outcome(1 / QUANTILES, length, gap_s, turns) for length in sample.tolist()]


def probes(flags: int, closed: float, opened: float, gap_s: float) -> list[Outcome]:
    """What comes of a TCP probe: a reset, a handshake that the prober breaks off, or nothing."""
    taken = Outcome(opened, 3, gap_s, 0b10, script(flags, SYN | ACK, RST))
    if flags != SYN:  # an open port keeps silent, RFC 9293 3.10.7.2
        taken = Outcome(opened, 1, gap_s, 0, script(flags))
    return [
        Outcome(1 - closed - opened, 1, gap_s, 0, script(flags)),
        Outcome(closed, 2, gap_s, 0b10, script(flags, RST | ACK)),
        taken,
    ]


def datagrams(answered: float, gap_s: float) -> list[Outcome]:
    """What comes of a datagram: an answer, or nothing."""
    return [Outcome(1 - answered, 1, gap_s), Outcome(answered, 2, gap_s, 0b10)]
