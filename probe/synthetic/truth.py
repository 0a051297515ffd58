"""What a stream really contains: the labels that tests and benchmarks compare with.

Packets, bytes and times are counted by going through the generated records; peers are known by
construction, since each actor meets its peers by a bijection of its own packet number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt

from probe.synthetic import actors, random_flows
from probe.synthetic.bits import B16, ETH_IPV4, ETH_IPV6, LOW16, LOW32
from probe.synthetic.demo import Demo
from probe.synthetic.hosts import ACTORS, V4, actor_row
from probe.synthetic.random_flows import Zipf
from schemas.record import PACKET, Packets, as_words

CHUNK: Final = 65_536

Fill = Callable[[int, Packets], None]


@dataclass(frozen=True)
class ActorTruth:
    """What one actor did.

    An actor with a ``source`` sends from it to its peers; one with only a ``target`` is many
    peers that send to it. No other packet has that address as source, destination respectively.
    """

    kind: str
    """``host_scan``, ``port_scan``, ``syn_flood``, ``super_spreader`` or ``amplification``."""
    source: str | None
    """Address of the one sender; None for many."""
    target: str | None
    """Address of the one receiver; None for many."""
    port: int | None
    """The service port in all its packets (the source port of ``amplification``), if one."""
    peers: int
    """Different addresses on the other side (of ``source``; of ``target`` if that is None)."""
    ports: int
    """Different service ports."""
    packets: int
    """Packets sent by the actor."""
    bytes: int
    """Bytes of them."""
    reply_packets: int
    """Packets that its peers sent back."""
    reply_bytes: int
    """Bytes of them."""
    first_ns: int
    """Unix time of the actor's first packet, either way."""
    last_ns: int
    """Unix time of the actor's last packet, either way."""


@dataclass(frozen=True)
class Truth:
    """What a stream contains."""

    packets: int
    bytes: int
    first_ns: int
    """Unix time of the first packet."""
    last_ns: int
    """Unix time of the last packet."""
    ipv4_packets: int
    ipv6_packets: int
    other_packets: int
    actors: Mapping[str, ActorTruth] = field(default_factory=dict)
    """By kind; an actor whose time is too short for a packet is missing. ``demo`` only."""
    distinct_flows: int | None = None
    """Different five-tuples; None for ``demo``."""
    distinct_sources: int | None = None
    """Different source addresses; None for ``demo``."""
    distinct_destinations: int | None = None
    """Different destination addresses; None for ``demo``."""


@numba.njit(nogil=True, cache=True)
def tally(words: Any, hosts: Any, totals: Any, sums: Any, times: Any) -> None:
    """Add up records (n, 11) uint64.

    ``hosts`` (h,) are IPv4 words; ``totals`` (4,) int64 bytes, IPv4, IPv6 and other packets;
    ``sums`` (h, 4) int64 packets and bytes from and to each host; ``times`` (h, 2) uint64 first
    and last time of a packet of it, the first preset to the largest number.
    """
    for row in range(words.shape[0]):
        wire_bytes = np.int64(words[row, 7] & LOW32)
        eth_type = (words[row, 9] >> B16) & LOW16
        kind = 1 if eth_type == ETH_IPV4 else 2 if eth_type == ETH_IPV6 else 3
        totals[0] += wire_bytes
        totals[kind] += 1
        if kind != 1:
            continue
        for h in range(len(hosts)):
            for way in range(2):
                if words[row, 2 + 2 * way] == hosts[h]:
                    sums[h, 2 * way] += 1
                    sums[h, 2 * way + 1] += wire_bytes
                    times[h, 0] = min(times[h, 0], words[row, 0])
                    times[h, 1] = max(times[h, 1], words[row, 0])


def _chunks(fill: Fill, packets: int) -> Iterator[npt.NDArray[np.uint64]]:
    for first in range(0, packets, CHUNK):
        out = np.empty(min(CHUNK, packets - first), PACKET)
        fill(first, out)
        yield as_words(out)


def _scan(fill: Fill, packets: int, hosts: Any) -> tuple[dict[str, Any], Any, Any]:
    """Totals of the stream; sums and times of ``hosts`` as ``tally`` leaves them."""
    totals, sums = np.zeros(4, np.int64), np.zeros((len(hosts), 4), np.int64)
    times = np.zeros((len(hosts), 2), np.uint64)
    times[:, 0] = np.iinfo(np.uint64).max
    first_ns = last_ns = 0
    for k, words in enumerate(_chunks(fill, packets)):
        tally(words, hosts, totals, sums, times)
        first_ns = int(words[0, 0]) if k == 0 else first_ns
        last_ns = int(words[-1, 0])
    names = ("bytes", "ipv4_packets", "ipv6_packets", "other_packets")
    found = dict(zip(names, totals.tolist(), strict=True))
    return {"packets": packets, "first_ns": first_ns, "last_ns": last_ns, **found}, sums, times


PLACES: Final[dict[str, tuple[str | None, str | None, int | None]]] = {
    "host_scan": ("host_scan", None, actors.SCANNED_PORT),
    "port_scan": ("port_scan", "port_scan_target", None),
    "syn_flood": (None, "syn_flood_target", actors.FLOODED_PORT),
    "super_spreader": ("super_spreader", None, None),
    "amplification": (None, "amplification_target", actors.REFLECTED_PORT),
}
"""Host of the source, host of the target and port of each actor."""


def scan_demo(fill: Fill, packets: int, tables: Demo) -> Truth:
    """Count a stream of the profile ``demo``."""
    anchors = [source or target or "" for source, target, _ in PLACES.values()]
    rows = [actor_row(name) for name in anchors]
    totals, sums, times = _scan(fill, packets, tables.hosts[rows, V4])
    found: dict[str, ActorTruth] = {}
    for k, (kind, (source, target, port)) in enumerate(PLACES.items()):
        sent = int(tables.schedule.base[-1, 1 + actors.KINDS.index(kind)])
        if sent == 0:
            continue
        out_packets, out_bytes, in_packets, in_bytes = sums[k].tolist()
        ways = (out_packets, out_bytes, in_packets, in_bytes)
        if source is None:
            ways = (in_packets, in_bytes, out_packets, out_bytes)
        peers, ports = actors.peers_and_ports(kind, sent)
        address = ACTORS[source][0] if source else None
        victim = ACTORS[target][0] if target else None
        first_ns, last_ns = times[k].tolist()
        found[kind] = ActorTruth(
            kind, address, victim, port, peers, ports, *ways, first_ns, last_ns
        )
    return Truth(**totals, actors=found)


def scan_zipf(fill: Fill, packets: int, tables: Zipf) -> Truth:
    """Count a stream of the profile ``zipf``; each flow has its own destination."""
    totals, _, _ = _scan(fill, packets, np.zeros(0, np.uint64))
    flows = np.zeros(len(tables.cells), np.uint8)
    sources = np.zeros(len(tables.cells), np.uint8)
    random_flows.see_zipf(0, packets, tables, flows, sources)
    seen = int(flows.sum())
    return Truth(
        **totals,
        distinct_flows=seen,
        distinct_sources=int(sources.sum()),
        distinct_destinations=seen,
    )


def scan_flood(fill: Fill, packets: int, one: bool) -> Truth:
    """Count a stream of the profile ``flood``; each packet has its own source."""
    totals, _, _ = _scan(fill, packets, np.zeros(0, np.uint64))
    return Truth(
        **totals,
        distinct_flows=packets,
        distinct_sources=packets,
        distinct_destinations=1 if one else packets,
    )
