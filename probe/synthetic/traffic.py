"""The stream: parameters, their checks, and access at any position."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from probe.synthetic import demo, random_flows
from probe.synthetic.schedule import derive
from probe.synthetic.truth import Truth, scan_demo, scan_flood, scan_zipf
from schemas.record import PACKET, Packets, as_words

PROFILES: Final = ("demo", "zipf", "flood")
LONGEST_NS: Final = 1 << 52
"""Longest span: beyond it a float64 no longer counts nanoseconds."""

MOST_ACTIVE_FLOWS: Final = 1 << 26


@dataclass(frozen=True)
class Traffic:
    """A deterministic stream of packet records, one record a packet.

    Equal parameters give equal records, whatever the batch size, the order of access or the
    process; timestamps never decrease.

    Profile ``demo`` is a small enterprise seen at its core: 4,095 clients in sixteen
    departments, servers, and an internet of 8,191 hosts, about 16 % of packets in IPv6. Its
    background is conversations of thirteen applications (TCP with handshake and close, DNS,
    QUIC, voice, ping, ARP and neighbour discovery), with heavy-tailed lengths, rates, clients
    and servers. Five labelled actors join it for a part of the span each, which raises the rate
    meanwhile: ``host_scan`` (0.10 to 0.60 of the span), ``port_scan`` (0.30 to 0.45),
    ``syn_flood`` (0.70 to 0.80), ``super_spreader`` (0.05 to 0.95) and ``amplification`` (0.50
    to 0.62). Profile ``zipf`` draws each packet from ``active_flows`` flows by Zipf's law; each
    flow has its own destination. In profile ``flood`` each packet is a SYN of a new source.

    It doesn't resemble real traffic in these ways: no daily rhythm, no burst shorter than an
    actor's, no round-trip times, loss, retransmission, fragments, tunnels or multicast; packets
    of a conversation are spread evenly; the mix of applications is the same in every second;
    popularity follows one law. Don't tune a detector on it alone.
    """

    profile: str = "demo"
    """``demo``, ``zipf`` or ``flood``."""
    seed: int = 1
    """0 to 2**64 - 1; decides everything but the layout of the network."""
    packets: int = 4_000_000
    """Length of the stream."""
    start_ns: int = 1_700_000_000_000_000_000
    """Unix time of the first packet."""
    packets_per_second: float = 22_000.0
    """Mean rate in event time; the span is ``packets`` / rate, about 3 minutes by default."""
    active_flows: int = 200_000
    """``zipf``: flows to draw from, at most 2**26."""
    skew: float = 1.0
    """``zipf``: exponent of the law, 0 (all flows alike) to 4."""
    sources: int | None = None
    """``zipf``: source addresses, whose numbers of flows are heavy-tailed; one a flow if None."""
    destinations: str = "random"
    """``flood``: ``random`` (a new one for each packet) or ``one``."""

    def __post_init__(self) -> None:
        """Refuse what can't be generated.

        Raises:
            ValueError: a parameter is out of range; the text names it and the range.
        """
        _one_of("profile", self.profile, PROFILES)
        _one_of("destinations", self.destinations, ("random", "one"))
        _within("seed", self.seed, 0, 2**64 - 1)
        most = random_flows.MOST_FLOWS if self.profile != "zipf" else 1 << 40
        _within("packets", self.packets, 1, most)
        _within("start_ns", self.start_ns, 0, 2**63 - LONGEST_NS)
        _within("active_flows", self.active_flows, 1, MOST_ACTIVE_FLOWS)
        if self.sources is not None:
            _within("sources", self.sources, 1, self.active_flows)
        if not 0 <= self.skew <= 4:
            msg = f"skew is {self.skew}: give 0 to 4"
            raise ValueError(msg)
        rate = self.packets_per_second
        if not (math.isfinite(rate) and 0 < rate <= 1e9):
            msg = f"packets_per_second is {rate}: give more than 0, at most 1e9"
            raise ValueError(msg)
        if self.packets / rate * 1e9 > LONGEST_NS:
            msg = "the span (packets / packets_per_second) exceeds 52 days: raise the rate"
            raise ValueError(msg)

    @property
    def span_ns(self) -> int:
        """Event time that the stream covers."""
        return max(round(self.packets / self.packets_per_second * 1e9), 1)

    def batch(self, index: int, size: int = 65_536) -> Packets:
        """Records ``index * size`` to ``(index + 1) * size`` - 1; fewer, or none, at the end.

        Raises:
            ValueError: ``index`` is negative or ``size`` isn't positive.
        """
        if index < 0 or size < 1:
            msg = f"no batch {index} of size {size}: give an index from 0 and a size from 1"
            raise ValueError(msg)
        first = min(index * size, self.packets)
        out = np.empty(min(size, self.packets - first), PACKET)
        self.fill(first, out)
        return out

    def fill(self, first: int, out: Packets) -> None:
        """Write the records ``first`` to ``first + len(out)`` - 1 into ``out``.

        Raises:
            ValueError: they aren't all in the stream, or ``out`` isn't a contiguous array of
                dtype ``PACKET``.
        """
        if not 0 <= first <= self.packets - len(out):
            msg = f"records {first} to {first + len(out)} aren't within 0 to {self.packets}"
            raise ValueError(msg)
        words, start_ns = as_words(out), np.uint64(self.start_ns)
        tables, gap_ns = _tables(self), self.span_ns / self.packets
        if self.profile == "demo":
            demo.fill(words, first, start_ns, tables)
        elif self.profile == "zipf":
            random_flows.fill_zipf(words, first, start_ns, gap_ns, tables)
        else:
            one = self.destinations == "one"
            random_flows.fill_flood(words, first, start_ns, gap_ns, tables, one)

    def truth(self) -> Truth:
        """What is in the stream, exactly; it is generated once more to count it."""
        return _truth(self)


@functools.lru_cache(maxsize=4)
def _tables(traffic: Traffic) -> Any:
    """The tables that the profile's kernel reads."""
    if traffic.profile == "demo":
        return demo.build(traffic.seed, traffic.packets, traffic.span_ns)
    seed = derive(traffic.seed, 0)
    if traffic.profile == "zipf":
        return random_flows.build(seed, traffic.active_flows, traffic.skew, traffic.sources)
    return np.uint64(seed)


@functools.lru_cache(maxsize=64)
def _truth(traffic: Traffic) -> Truth:
    tables = _tables(traffic)
    if traffic.profile == "demo":
        return scan_demo(traffic.fill, traffic.packets, tables)
    if traffic.profile == "zipf":
        return scan_zipf(traffic.fill, traffic.packets, tables)
    return scan_flood(traffic.fill, traffic.packets, traffic.destinations == "one")


def _within(name: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int) or not low <= value <= high:
        msg = f"{name} is {value}: give a whole number from {low} to {high}"
        raise ValueError(msg)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        msg = f"{name} is {value!r}: give one of {', '.join(known)}"
        raise ValueError(msg)
