"""What was planted, and when exactly it reaches a threshold: counted from its own packets."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from probe.synthetic.bits import SYN
from probe.synthetic.scenario.addresses import NETWORKS
from probe.synthetic.scenario.compose import chunks, slices
from probe.synthetic.scenario.planted import Entity, Planted, Slot
from schemas.hashing import hash_words
from schemas.record import Packets

COUNT_CHUNK: Final = 1 << 17

Bools = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]


class Metric(NamedTuple):
    """What is counted in the packets of an entity."""

    distinct: tuple[str, ...] = ()
    """Different values of these fields; or else a sum."""
    weight: str = "packets"
    """The field that is summed."""
    only_syn: bool = False
    """Count only packets that open a TCP connection."""


METRICS: Final[Mapping[str, Mapping[str, Metric]]] = {
    "host_scan": {"hosts": Metric(("dst_addr",))},
    "port_scan": {"ports": Metric(("dst_port",))},
    "super_spreader": {
        "peers": Metric(("dst_addr",)),
        "services": Metric(("dst_addr", "dst_port")),
    },
    "fan_in": {"sources": Metric(("src_addr",))},
    "syn_flood": {"syns": Metric(only_syn=True), "sources": Metric(("src_addr",), only_syn=True)},
    "amplification": {
        "bytes": Metric(weight="wire_bytes"),
        "packets": Metric(),
        "reflectors": Metric(("src_addr",)),
    },
    "volume": {"bytes": Metric(weight="wire_bytes"), "packets": Metric()},
}
"""By detector; the first one is the detector's own."""


@dataclass(frozen=True)
class Label:
    """One attack, or one look-alike, as a detector should (or should not) report it."""

    kind: str
    """The detector."""
    entity: Entity
    """Flow-key fields as text; an alert that names some of them, and no other, is right."""
    start_ns: int
    """Unix time from which its exchanges begin."""
    end_ns: int
    """Unix time from which none begins any more; those under way may go on for a while."""
    related: tuple[str, ...]
    """Detectors that may rightly fire because of it too."""
    _planted: Planted = field(repr=False)
    _slot: Slot = field(repr=False)

    @property
    def metrics(self) -> tuple[str, ...]:
        """What can be counted; the first one is the detector's own."""
        return tuple(METRICS[self.kind])

    def crossing_ns(
        self, threshold: float, horizon_ns: int, metric: str | None = None
    ) -> int | None:
        """Unix time of the packet with which a count first reaches a threshold.

        Counted are the entity's planted packets within one horizon, a window that is aligned to
        Unix time; at its end the count begins anew. For a rate, give rate * horizon.

        Args:
            threshold: smallest count that matters.
            horizon_ns: length of the windows.
            metric: one of ``metrics``; None for the first.

        Returns:
            None if no horizon reaches it.

        Raises:
            ValueError: the horizon isn't positive or the metric isn't known.
        """
        name = self.metrics[0] if metric is None else metric
        if name not in METRICS[self.kind]:
            msg = f"{self.kind} has no metric {name!r}: give one of {', '.join(self.metrics)}"
            raise ValueError(msg)
        if horizon_ns < 1:
            msg = f"horizon_ns is {horizon_ns}: give 1 or more"
            raise ValueError(msg)
        key = tuple(self.entity.items())
        counted = METRICS[self.kind][name]
        times_ns, values = _counted(self._planted, self._slot, key, counted)
        horizons = times_ns // np.uint64(horizon_ns)
        if counted.distinct:
            first = _firsts(horizons, values)
            times_ns, horizons, values = times_ns[first], horizons[first], np.ones(len(first))
        running = np.cumsum(values, dtype=np.float64)
        starts = np.searchsorted(horizons, horizons, side="left")
        within = running - np.concatenate([[0.0], running])[starts]
        reached = np.flatnonzero(within >= threshold)
        return int(times_ns[reached[0]]) if len(reached) else None


def label(planted: Planted, slot: Slot, kind: str) -> Label:
    """Label what is planted there."""
    start_ns, end_ns = (slot.origin_ns + t for t in planted.window_ns(slot))
    entity = planted.entity(slot)
    return Label(kind, entity, start_ns, end_ns, planted.related, planted, slot)


def _firsts(horizons: Words, values: Words) -> npt.NDArray[np.intp]:
    """Positions at which a value is seen for the first time in its horizon, ascending."""
    order = np.lexsort((values, horizons))
    h, v = horizons[order], values[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (h[1:] != h[:-1]) | (v[1:] != v[:-1])
    return np.sort(order[new])


@functools.lru_cache(maxsize=4)
def _counted(
    planted: Planted, slot: Slot, entity: tuple[tuple[str, str], ...], metric: Metric
) -> tuple[Words, Any]:
    """Time and value (hash of the fields, or weight) of each packet that counts, in time order."""
    streams = planted.streams(slot)
    parts = slices(streams, slot.begin_ns, slot.end_ns)
    found = [(np.empty(0, np.uint64), np.empty(0, np.uint64))]
    for packets in chunks(parts, slot.origin_ns, COUNT_CHUNK):
        chosen = packets[_matching(packets, entity, metric.only_syn)]
        fields = metric.distinct or (metric.weight,)
        values = np.concatenate([_words(chosen, name) for name in fields], axis=1)
        found.append((chosen["ts_ns"], hash_words(values) if metric.distinct else values[:, 0]))
    times_ns, counted = zip(*found, strict=True)
    return np.concatenate(times_ns), np.concatenate(counted)


def _matching(packets: Packets, entity: tuple[tuple[str, str], ...], only_syn: bool) -> Bools:
    chosen: Bools = np.ones(len(packets), np.bool_)
    if only_syn:
        chosen &= packets["tcp_flags"] == SYN
    for name, value in entity:
        if name == "src_net":
            chosen &= _in_network(packets["src_addr"], value)
        elif name.endswith("_addr"):
            chosen &= (_words(packets, name) == _address(value)).all(axis=1)
        else:
            chosen &= packets[name] == int(value)
    return chosen


def _words(packets: Packets, name: str) -> Words:
    """A field as (n, 1) or, for addresses, (n, 2) words."""
    values = np.ascontiguousarray(packets[name])
    if values.ndim == 2:
        return values.view(np.uint64)
    return values.astype(np.uint64)[:, None]


def _bytes(address: str) -> bytes:
    ip = ip_address(address)
    return bytes(10) + b"\xff\xff" + ip.packed if ip.version == 4 else ip.packed


def _address(address: str) -> Words:
    return np.frombuffer(_bytes(address), np.uint64)


def _in_network(addresses: Any, name: str) -> Bools:
    """Whether addresses (n, 16) are in a named network; its prefixes are whole bytes."""
    inside: Bools = np.zeros(len(addresses), np.bool_)
    for cidr in NETWORKS[name]:
        net = ip_network(cidr)
        prefix = _bytes(str(net.network_address))[: 16 - (net.max_prefixlen - net.prefixlen) // 8]
        inside |= (addresses[:, : len(prefix)] == np.frombuffer(prefix, np.uint8)).all(axis=1)
    return inside
