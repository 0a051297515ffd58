"""Profile ``demo``: a small enterprise's traffic with five labelled actors."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from probe.synthetic.actors import SHIFTS, act
from probe.synthetic.applications import TURNS, Background, background
from probe.synthetic.background import converse
from probe.synthetic.bits import (
    B16,
    ETH_ARP,
    ETH_IPV4,
    MAX_FRAME,
    MIN_FRAME,
    ZERO,
    network_word,
    put,
)
from probe.synthetic.hosts import MAC, TTL, VLAN, host_table
from probe.synthetic.schedule import CYCLE_BITS, Schedule, derive, plan
from schemas.hashing import finish, mix

S11: Final = np.uint64(11)
UNIT: Final = 2.0**-53


class Demo(NamedTuple):
    """Everything the kernel reads."""

    schedule: Schedule
    background: Background
    hosts: npt.NDArray[np.uint64]
    seed: np.uint64


def build(seed: int, packets: int, span_ns: int) -> Demo:
    """Lay out the whole stream; takes some milliseconds."""
    schedule = plan(SHIFTS, packets, span_ns, derive(seed, 1))
    return Demo(schedule, background(derive(seed, 2)), host_table(), np.uint64(derive(seed, 3)))


@numba.njit(nogil=True, cache=True)
def fill(words: Any, first: Any, start_ns: Any, demo: Any) -> None:
    """Write the records from position ``first`` on into ``words`` (n, 11) uint64."""
    times, hosts, seed = demo.schedule, demo.hosts, demo.seed
    web_turns, web_payload = demo.background.applications[0, TURNS], demo.background.payload[0]
    segment = 0
    for row in range(words.shape[0]):
        i = first + row
        while i >= times.first[segment + 1]:
            segment += 1
        offset = i - times.first[segment]
        slot = np.int64(times.slots[segment, offset & ((1 << CYCLE_BITS) - 1)])
        stream = slot >> 16
        cycles = (offset >> CYCLE_BITS) * times.per_cycle[segment, stream]
        serial = times.base[segment, stream] + cycles + (slot & 0xFFFF)
        r = finish(mix(seed, np.uint64(i)))
        passed = np.int64(0)
        if i > 0:
            inside_ns = (offset + np.float64(r >> S11) * UNIT) * times.gap_ns[segment]
            passed = times.start_ns[segment] + np.int64(inside_ns)

        if stream == 0:
            (
                sender, receiver, vlan_id, eth_type, src, dst,
                src_port, dst_port, frame_bytes, protocol, flags, tos,
            ) = converse(serial, r, seed, demo.background, hosts)  # fmt: skip
        else:
            (
                sender, receiver, src_word, dst_word,
                src_port, dst_port, frame_bytes, protocol, flags,
            ) = act(stream, serial, r, seed, hosts, web_turns, web_payload)  # fmt: skip
            src, dst = (ZERO, src_word), (ZERO, dst_word)
            vlan_id = np.int64(hosts[sender, VLAN])
            eth_type, tos = np.int64(ETH_IPV4), np.int64(0)

        frame_bytes = min(max(frame_bytes, MIN_FRAME), MAX_FRAME) + 4 * np.int64(vlan_id > 0)
        ttl = np.int64(0) if eth_type == ETH_ARP else np.int64(hosts[sender, TTL])
        put(
            words,
            row,
            start_ns + np.uint64(passed),
            src,
            dst,
            (hosts[sender, MAC], hosts[receiver, MAC]),
            np.uint64(src_port) | (np.uint64(dst_port) << B16),
            np.uint64(frame_bytes),
            network_word(vlan_id, eth_type, protocol, flags, ttl, tos),
        )
