"""Profiles ``zipf`` and ``flood``: traffic for benchmarks, IPv4 only, no conversations.

``zipf`` draws each packet's flow from Zipf's law by Walker's alias method (Vose, "A linear
algorithm for generating random numbers with a given distribution", 1991): one table look-up a
packet. ``flood`` makes each packet a new flow from a new source.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from probe.synthetic.bits import (
    ACK,
    B8,
    B16,
    B24,
    B32,
    BYTE0,
    ETH_IPV4,
    LOW32,
    MIN_FRAME,
    SYN,
    TCP,
    UDP,
    ZERO,
    mac_word,
    mapped,
    network_word,
    put,
    scatter,
)
from schemas.hashing import finish, mix

ADDRESS_BITS: Final = np.uint64(29)
SOURCES_NET: Final = np.uint64(0x20000000)  # 32.0.0.0/3
DESTINATIONS_NET: Final = np.uint64(0x40000000)  # 64.0.0.0/3
FLOOD_VICTIM: Final = np.uint64(0xC0000250)  # 192.0.2.80
MOST_FLOWS: Final = 1 << 29
"""Addresses of sources, and of destinations: no stream can have more flows."""

MACS: Final = (np.uint64(mac_word("02:4e:53:ff:00:01")), np.uint64(mac_word("02:4e:53:ff:00:02")))
S11: Final = np.uint64(11)
UNIT: Final = 2.0**-53
UDP_OF_256: Final = np.uint64(50)
PORTS: Final = np.array([443, 443, 443, 443, 80, 22, 53, 8080], np.int64)
FRAMES: Final = np.array([66, 66, 66, 118, 310, 590, 1514, 1514], np.int64)


class Zipf(NamedTuple):
    """Everything the kernel reads: n flows."""

    cells: npt.NDArray[np.uint64]
    """(n,) alias << 32 | chance of the cell's own flow, of 2**32."""
    sources: npt.NDArray[np.uint32]
    """(n,) number of each flow's source."""
    seed: np.uint64


@numba.njit(nogil=True, cache=True)
def alias_cells(chances: Any, cells: Any, stack: Any) -> None:
    """Build Vose's table in place: ``chances`` (n,) float64 of mean 1; ``stack`` (n,) int64."""
    n = len(chances)
    small, large = 0, n
    for k in range(n):
        if chances[k] < 1.0:
            stack[small] = k
            small += 1
        else:
            large -= 1
            stack[large] = k
        cells[k] = (np.uint64(k) << B32) | LOW32
    while small > 0 and large < n:
        small -= 1
        poor, rich = stack[small], stack[large]
        cells[poor] = (np.uint64(rich) << B32) | np.uint64(chances[poor] * 4294967295.0)
        chances[rich] -= 1.0 - chances[poor]
        if chances[rich] < 1.0:
            large += 1
            stack[small] = rich
            small += 1


def zipf_chances(flows: int, skew: float) -> npt.NDArray[np.float64]:
    """Probability of each flow, by rank."""
    weights = np.arange(1, flows + 1, dtype=np.float64) ** -skew
    return np.asarray(weights / weights.sum(), np.float64)


def build(seed: int, flows: int, skew: float, sources: int | None) -> Zipf:
    """Make the tables; about 0.05 µs and 12 bytes a flow."""
    cells = np.empty(flows, np.uint64)
    alias_cells(zipf_chances(flows, skew) * flows, cells, np.empty(flows, np.int64))
    owner = np.arange(flows, dtype=np.uint32)
    if sources is not None:
        # Log-uniform: source s has about 1/s as many flows as the first. The first flows go
        # round all sources, so that each has one.
        quantile = (np.arange(flows - sources) + 0.5) / max(flows - sources, 1)
        rest = np.minimum(np.exp(quantile * np.log(sources + 1.0)) - 1.0, sources - 1)
        owner = np.concatenate([np.arange(sources), rest]).astype(np.uint32)
    shuffled = np.empty(flows, np.uint32)
    deal(owner, np.uint64(seed), shuffled)
    return Zipf(cells, shuffled, np.uint64(seed))


@numba.njit(nogil=True, cache=True)
def deal(owners: Any, seed: Any, out: Any) -> None:
    """Shuffle by Fisher and Yates, so that a source's flows are of all ranks."""
    for k in range(len(owners)):
        out[k] = owners[k]
    for k in range(len(out) - 1, 0, -1):
        other = np.int64(finish(mix(seed, np.uint64(k))) % np.uint64(k + 1))
        out[k], out[other] = out[other], out[k]


@numba.njit(inline="always")
def draw(position: Any, tables: Any) -> Any:
    """The packet's flow (int64) and its random word."""
    r = finish(mix(tables.seed, np.uint64(position)))
    n = np.uint64(len(tables.cells))
    column = ((r >> B32) * n) >> B32
    cell = tables.cells[np.int64(column)]
    second = finish(r)
    flow = column if (second & LOW32) <= (cell & LOW32) else cell >> B32
    return np.int64(flow), second


@numba.njit(inline="always")
def uniform_ns(position: Any, r: Any, gap_ns: Any) -> Any:
    """Nanoseconds since the first packet: one packet somewhere in each gap."""
    jitter = np.float64(r >> S11) * UNIT if position > 0 else 0.0
    return np.uint64((position + jitter) * gap_ns)


@numba.njit(nogil=True, cache=True)
def fill_zipf(words: Any, first: Any, start_ns: Any, gap_ns: Any, tables: Any) -> None:
    """Write the records from position ``first`` on into ``words`` (n, 11) uint64."""
    seed = tables.seed
    for row in range(words.shape[0]):
        flow, r = draw(first + row, tables)
        f = np.uint64(flow)
        c = finish(mix(seed, ~f))
        source = np.uint64(tables.sources[flow])
        udp = (c & BYTE0) < UDP_OF_256
        frame_bytes = FRAMES[np.int64((r >> B32) & np.uint64(7))]
        src_port = np.uint64(32768) + ((c >> B8) & np.uint64(0x7FFF))
        dst_port = np.uint64(PORTS[np.int64((c >> B24) & np.uint64(7))])
        put(
            words,
            row,
            start_ns + uniform_ns(first + row, finish(r), gap_ns),
            (ZERO, mapped(SOURCES_NET + scatter(source, ADDRESS_BITS, seed))),
            (ZERO, mapped(DESTINATIONS_NET + scatter(f, ADDRESS_BITS, seed))),
            MACS,
            src_port | (dst_port << B16),
            np.uint64(frame_bytes),
            network_word(0, ETH_IPV4, UDP if udp else TCP, 0 if udp else ACK, 60, 0),
        )


@numba.njit(nogil=True, cache=True)
def see_zipf(first: Any, last: Any, tables: Any, flows: Any, sources: Any) -> None:
    """Mark the flows and the sources, (n,) uint8, of the positions ``first`` to ``last`` - 1."""
    for position in range(first, last):
        flow, _ = draw(position, tables)
        flows[flow] = 1
        sources[tables.sources[flow]] = 1


@numba.njit(nogil=True, cache=True)
def fill_flood(words: Any, first: Any, start_ns: Any, gap_ns: Any, seed: Any, one: Any) -> None:
    """Write the records from position ``first`` on; ``one`` is whether all have one victim."""
    for row in range(words.shape[0]):
        i = np.uint64(first + row)
        r = finish(mix(seed, i))
        number = scatter(i, ADDRESS_BITS, ~seed)
        victim = FLOOD_VICTIM if one else DESTINATIONS_NET + number
        put(
            words,
            row,
            start_ns + uniform_ns(first + row, r, gap_ns),
            (ZERO, mapped(SOURCES_NET + scatter(i, ADDRESS_BITS, seed))),
            (ZERO, mapped(victim)),
            MACS,
            (np.uint64(1024) + (r & np.uint64(0x7FFF))) | (np.uint64(443) << B16),
            np.uint64(MIN_FRAME),
            network_word(0, ETH_IPV4, TCP, SYN, 60, 0),
        )
