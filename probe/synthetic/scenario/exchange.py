"""Exchanges: what a scenario is made of, and the kernels that begin and continue them.

An *exchange* is a few packets between two ends: a TCP connection, a query and its answer, a
probe, a lone SYN. A ``Stream`` is endlessly many of one sort, as data: the n-th one is a pure
function of the stream and n, so its packets are the same however they are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from probe.synthetic.bits import LOW32, TCP, scatter, skewed
from probe.synthetic.scenario.arrivals import Arrivals
from probe.synthetic.scenario.outcomes import Outcome
from probe.synthetic.schedule import apportion
from schemas.hashing import finish, mix

Words = npt.NDArray[np.uint64]

START, GAP, LENGTH, NEXT, SCRIPT, TURNS, CLIENT, SERVER, PORTS, SIZES, NETWORK, KEY = range(12)
"""Columns of an exchange under way, all uint64: ns since the origin of its first packet, mean ns
between packets, how many packets, the next one's number, flags of each packet, who sends it
(1 for the server), both hosts, client's port + server's << 16, sizes, protocol + 256 for IPv6,
its random word."""

COLUMNS: Final = 12

SHORTEST_CONNECTION: Final = 7
"""TCP exchanges of fewer packets follow their script; others are whole connections."""

ONE, EACH, EVEN, SKEWED, FAVOURITE = range(5)
"""How an exchange picks a number from a range: always the first; all in turn, each once before
any comes again; at random, each equally likely; by Zipf's law; as before among the few that its
client knows, which are chosen by Zipf's law."""

PALETTE_BITS: Final = 10
PALETTE: Final = 1 << PALETTE_BITS
"""Each run of so many exchanges has every outcome of its stream's palette once."""

FAVOURITES: Final = np.uint64(5)
"""Octaves of the servers that a client knows: 31."""

PRIME: Final = np.uint64(2_654_435_761)
"""Larger than any range, so that its multiples visit each number of a range once."""

PICK_BITS: Final = np.uint64(PALETTE_BITS)
PICK_MASK: Final = np.uint64(PALETTE - 1)
S11: Final = np.uint64(11)
S16: Final = np.uint64(16)
S32: Final = np.uint64(32)
UNIT: Final = 2.0**-53
HALF: Final = 0.5


class Pick(NamedTuple):
    """A range of hosts or ports, and how an exchange picks from it."""

    first: int
    size: int = 1
    rule: int = ONE


EPHEMERAL: Final = Pick(32_768, 28_232, EVEN)
"""Ports of clients."""


class Stream(NamedTuple):
    """Exchanges of one sort, as the kernels read it."""

    arrivals: Arrivals
    picks: npt.NDArray[np.int64]
    """(4, 4) first, size, rule, octaves for clients, servers, client ports, server ports."""
    palette: Words
    """(1024, 4) length, gap in ns, turns, script."""
    sizes: np.uint64
    """Payload bytes, 16 bits each: smallest and spread of requests, then of replies."""
    network: np.uint64
    seed: np.uint64

    @property
    def mean_packets(self) -> float:
        """Packets of an exchange, on average."""
        return float(self.palette[:, 0].mean())


def stream(
    arrivals: Arrivals,
    seed: int,
    *,
    clients: Pick,
    servers: Pick,
    server_ports: Pick,
    outcomes: Sequence[Outcome],
    client_ports: Pick = EPHEMERAL,
    request_bytes: tuple[int, int] = (0, 0),
    reply_bytes: tuple[int, int] = (0, 0),
    protocol: int = TCP,
    ipv6: bool = False,
) -> Stream:
    """Lay out a stream.

    Args:
        arrivals: when its exchanges begin.
        seed: decides everything that is random.
        clients: hosts that begin an exchange.
        servers: hosts at the other end.
        server_ports: their ports.
        outcomes: how exchanges go; at most 1024.
        client_ports: ports of clients.
        request_bytes: smallest and largest payload of the client's packets with data.
        reply_bytes: likewise of the server's.
        protocol: TCP or UDP.
        ipv6: whether hosts use their IPv6 address.
    """
    seats = apportion([o.share for o in outcomes], PALETTE)
    cells = [(o.length, max(round(o.gap_s * 1e9), 1), o.turns, o.script) for o in outcomes]
    (low, high), (reply_low, reply_high) = request_bytes, reply_bytes
    sizes = low | (high - low + 1) << 16 | reply_low << 32 | (reply_high - reply_low + 1) << 48
    return Stream(
        arrivals,
        np.array(
            [(*p, p.size.bit_length()) for p in (clients, servers, client_ports, server_ports)],
            np.int64,
        ),
        np.repeat(np.array(cells, np.uint64), seats, axis=0),
        np.uint64(sizes),
        np.uint64(protocol | int(ipv6) << 8),
        np.uint64(seed),
    )


@numba.njit(inline="always")
def choose(pick: Any, n: Any, r: Any, key: Any, client: Any) -> Any:
    """A number from a range, for exchange ``n``; ``r`` is 32 random bits. All uint64."""
    first, size, rule = np.uint64(pick[0]), np.uint64(pick[1]), pick[2]
    if rule == EACH:
        return first + ((n % size) * PRIME + (key & LOW32)) % size
    if rule == EVEN:
        return first + (((r & LOW32) * size) >> S32)
    if rule == SKEWED:
        return first + skewed(r, np.uint64(pick[3]))
    if rule == FAVOURITE:
        known = finish(mix(key ^ client, skewed(r, FAVOURITES)))
        return first + skewed(known, np.uint64(pick[3]))
    return first


@numba.njit(nogil=True, cache=True)
def begin(rows: Any, first: Any, stream: Any) -> None:
    """Write the exchanges from number ``first`` on into ``rows`` (n, 12) uint64.

    One begins somewhere in each n-th part of the arrivals, so that any time has its share.
    """
    edges, begun = stream.arrivals.edges_ns, stream.arrivals.begun
    seed, picks = stream.seed, stream.picks
    span = 0
    for row in range(rows.shape[0]):
        n = np.uint64(first + row)
        r = finish(mix(seed, n))
        place = first + row + np.float64(r >> S11) * UNIT
        while begun[span + 1] <= place and span + 2 < len(begun):
            span += 1
        inside = (place - begun[span]) / (begun[span + 1] - begun[span])
        at = edges[span] + min(inside, 1.0) * (edges[span + 1] - edges[span])

        hand = mix(seed, ~(n >> PICK_BITS))
        cell = stream.palette[np.int64(scatter(n & PICK_MASK, PICK_BITS, hand))]
        a = finish(mix(r, seed))
        b = finish(a)
        client = choose(picks[0], n, a, seed, n)
        rows[row, START] = np.uint64(at)
        rows[row, LENGTH] = cell[0]
        stretch = HALF + np.float64(a >> S11) * UNIT
        rows[row, GAP] = np.uint64(max(np.float64(cell[1]) * stretch, 1.0))
        rows[row, NEXT] = np.uint64(0)
        rows[row, TURNS] = cell[2]
        rows[row, SCRIPT] = cell[3]
        rows[row, CLIENT] = client
        rows[row, SERVER] = choose(picks[1], n, a >> S32, seed, client)
        src_port = choose(picks[2], n, b, seed, client)
        rows[row, PORTS] = src_port | (choose(picks[3], n, b >> S32, seed, client) << S16)
        rows[row, SIZES] = stream.sizes
        rows[row, NETWORK] = stream.network
        rows[row, KEY] = b
