"""From streams to packets in time order.

The span is cut into slices of about equally many packets. For each slice the exchanges under
way and those that begin give their packets, which are sorted by time; unfinished exchanges go
on in the next slice. Cuts depend on the streams alone, so chunks of any size are one sequence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from probe.synthetic.bits import (
    B16,
    BYTE0,
    ETH_IPV4,
    ETH_IPV6,
    LOW16,
    LOW32,
    MAX_FRAME,
    MIN_FRAME,
    PSH,
    TCP,
    mac_word,
    network_word,
    put,
    tcp_header,
    tcp_turn,
)
from probe.synthetic.hosts import ROUTER_MAC
from probe.synthetic.scenario.addresses import INTERNAL_BYTE, S24, address_words
from probe.synthetic.scenario.exchange import (
    CLIENT,
    COLUMNS,
    GAP,
    KEY,
    LENGTH,
    NETWORK,
    NEXT,
    PORTS,
    SCRIPT,
    SERVER,
    SHORTEST_CONNECTION,
    SIZES,
    START,
    TURNS,
    Stream,
    Words,
    begin,
)
from schemas.hashing import finish, mix
from schemas.record import PACKET, Packets, as_words

SLICE_PACKETS: Final = 1 << 17
"""Packets that a slice has on average."""

FULL_SEGMENT: Final = 1448
S32: Final = np.uint64(32)
UNIT: Final = 2.0**-32
ROUTER: Final = np.uint64(mac_word(ROUTER_MAC))
HOST_MACS: Final = np.uint64(mac_word("02:4e:53:00:00:00"))
OUTSIDE_HOPS: Final = np.uint64(15)


class Slice(NamedTuple):
    """The n packets of a slice, not yet sorted."""

    exchanges: Words
    times_ns: Words
    """(n,) since the origin."""
    packets: Words
    """(n,) row of ``exchanges`` << 32 | number of the packet in its exchange."""


@numba.njit(inline="always")
def packet_time(start: Any, gap: Any, k: Any, key: Any) -> Any:
    """When an exchange's k-th packet goes (ns since the origin), and the packet's random word."""
    r = finish(mix(key, np.uint64(k)))
    jitter = np.float64(r >> S32) * UNIT if k > 0 else 0.0
    return start + np.uint64((k + jitter) * np.float64(gap)), r


@numba.njit(nogil=True, cache=True)
def most_due(rows: Any, until: Any) -> Any:
    """At least as many packets as the exchanges ``rows`` (n, 12) send before a time."""
    total = np.int64(0)
    for i in range(rows.shape[0]):
        left = np.int64(rows[i, LENGTH] - rows[i, NEXT])
        if rows[i, START] >= until:
            continue
        more = np.int64((until - rows[i, START]) // rows[i, GAP]) + 2 - np.int64(rows[i, NEXT])
        total += more if more < left else left
    return total


@numba.njit(nogil=True, cache=True)
def send(rows: Any, until: Any, times: Any, packets: Any) -> Any:
    """Let all exchanges send what is due before a time; returns how many packets it was."""
    sent = 0
    for i in range(rows.shape[0]):
        k, length = np.int64(rows[i, NEXT]), np.int64(rows[i, LENGTH])
        while k < length:
            at, _ = packet_time(rows[i, START], rows[i, GAP], k, rows[i, KEY])
            if at >= until:
                break
            times[sent] = at
            packets[sent] = (np.uint64(i) << S32) | np.uint64(k)
            sent += 1
            k += 1
        rows[i, NEXT] = np.uint64(k)
    return sent


@numba.njit(inline="always")
def station(host: Any) -> Any:
    """MAC and TTL of a host: its own inside, the router's and fewer hops' worth outside."""
    if host >> S24 == INTERNAL_BYTE:
        return HOST_MACS | ((host & np.uint64(0xFFFFFF)) << S24), np.int64(64)
    return ROUTER, np.int64(62) - np.int64(finish(host) & OUTSIDE_HOPS)


@numba.njit(nogil=True, cache=True)
def write(words: Any, rows: Any, packets: Any, order: Any, origin_ns: Any) -> None:
    """Write the packets ``order`` of a slice as records (n, 11) uint64."""
    for out in range(words.shape[0]):
        packet = packets[order[out]]
        row, k = rows[np.int64(packet >> S32)], np.int64(packet & LOW32)
        at, r = packet_time(row[START], row[GAP], k, row[KEY])
        protocol, ipv6 = np.int64(row[NETWORK] & BYTE0), row[NETWORK] > BYTE0
        length, turns = np.int64(row[LENGTH]), np.int64(row[TURNS])
        flags, data, header = np.int64(0), np.int64(1), np.int64(8)
        if protocol == TCP:
            if length >= SHORTEST_CONNECTION:
                reply, flags, data = tcp_turn(k, length, turns)
            else:
                reply, data = (turns >> k) & 1, np.int64(0)
                flags = np.int64(row[SCRIPT] >> np.uint64(8 * k)) & 0xFF
            header = tcp_header(flags)
        else:
            reply = (turns >> (k & 15)) & 1

        size = row[SIZES] >> np.uint64(32 * reply)
        spread = (size >> B16) & LOW16
        carried = data * np.int64((size & LOW16) + (((r & LOW32) * spread) >> S32))
        if protocol == TCP and 0 < carried < FULL_SEGMENT:
            flags |= PSH
        sender, receiver = row[CLIENT], row[SERVER]
        ports = row[PORTS]
        if reply:
            sender, receiver = receiver, sender
            ports = (ports >> B16) | ((ports & LOW16) << B16)
        mac, ttl = station(sender)
        other_mac, _ = station(receiver)
        frame_bytes: Any = 34 + 20 * np.int64(ipv6) + header + carried
        put(
            words,
            out,
            origin_ns + at,
            address_words(sender, ipv6),
            address_words(receiver, ipv6),
            (mac, other_mac),
            ports,
            np.uint64(min(max(frame_bytes, MIN_FRAME), MAX_FRAME)),
            network_word(0, ETH_IPV6 if ipv6 else ETH_IPV4, protocol, flags, ttl, 0),
        )


def _cuts(streams: Sequence[Stream], start_ns: int, end_ns: int) -> list[int]:
    """Where slices end: each about ``SLICE_PACKETS`` after the one before, also at the start."""
    edges = np.unique(np.concatenate([[0, end_ns], *(s.arrivals.edges_ns for s in streams)]))
    # One packet over the whole span comes on top, so that no time is without any.
    sent = edges / end_ns
    for s in streams:
        sent += np.interp(edges, s.arrivals.edges_ns, s.arrivals.begun) * s.mean_packets
    last = float(np.interp(end_ns, edges, sent))
    marks = np.linspace(0, last, math.ceil(last / SLICE_PACKETS) + 1)[1:-1]
    inner = np.rint(np.interp(marks, sent, edges)).astype(np.int64)
    return sorted({start_ns, *inner.tolist(), end_ns})


def slices(streams: Sequence[Stream], start_ns: int, end_ns: int) -> Iterator[Slice]:
    """The packets from start to end (ns since the origin), slice by slice.

    What was sent between the origin and the start is left out.
    """
    rows = np.empty((0, COLUMNS), np.uint64)
    done = [0] * len(streams)
    for cut in _cuts(streams, start_ns, end_ns):
        fresh = [rows]
        for i, s in enumerate(streams):
            new = np.empty((max(s.arrivals.before(cut) - done[i], 0), COLUMNS), np.uint64)
            if len(new):
                begin(new, done[i], s)
                done[i] += len(new)
                fresh.append(new)
        rows = np.concatenate(fresh)
        until = np.uint64(cut)
        times_ns, packets = np.empty((2, most_due(rows, until)), np.uint64)
        sent = send(rows, until, times_ns, packets)
        if cut > start_ns:
            yield Slice(rows, times_ns[:sent], packets[:sent])
        rows = rows[rows[:, NEXT] < rows[:, LENGTH]]


def chunks(parts: Iterator[Slice], origin_ns: int, size: int) -> Iterator[Packets]:
    """Sort and write slices; ``size`` records a chunk, fewer in the last."""
    out, filled = np.empty(size, PACKET), 0
    for part in parts:
        order: npt.NDArray[np.int64] = np.argsort(part.times_ns, kind="stable")
        while len(order):
            now = order[: size - filled]
            words = as_words(out[filled : filled + len(now)])
            write(words, part.exchanges, part.packets, now, np.uint64(origin_ns))
            filled, order = filled + len(now), order[len(now) :]
            if filled == size:
                yield out
                out, filled = np.empty(size, PACKET), 0
    if filled:
        yield out[:filled]
