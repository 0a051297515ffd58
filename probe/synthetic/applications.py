"""What the background of the profile ``demo`` consists of, as data: one line an application.

A *lane* is a place for one conversation at a time; when it ends the next one follows, with
another client, server and port. All conversations of a lane have the same length in packets, a
sample of a bounded Pareto distribution, and a lane's share of its application's packets falls
with its rank: both ends, lengths and rates are heavy-tailed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from probe.synthetic.bits import ICMP, TCP, UDP
from probe.synthetic.hosts import POOLS, pool_first
from probe.synthetic.schedule import Ints, apportion, derive, interleave
from schemas.hashing import hash_words

NEIGHBOUR: Final = 0
"""Stands for address resolution: ARP, or neighbour solicitation and advertisement in IPv6."""

LANE_BITS: Final = 14
"""The background's cycle of lanes has 2**14 slots."""

PALETTE: Final = 64
"""Payload sizes that an application has for each direction."""

PARETO: Final = 1.1
"""Exponent of the distribution of conversation lengths; near 1, so few hold most packets."""

PROTOCOL, PORT, TURNS, TOS, FIRST, OCTAVES = range(6)
"""Columns of ``Background.applications``."""

COUNT, PHASE, LENGTH, APPLICATION = range(4)
"""Columns of ``Background.lanes``."""


@dataclass(frozen=True)
class Application:
    """One kind of conversation."""

    name: str
    protocol: int
    port: int
    share: float
    """Part of the background's packets."""
    lanes: int
    """Conversations under way at once."""
    servers: str
    """Pool that the other end is picked from."""
    shortest: int
    longest: int
    """Length of conversations in packets, both directions."""
    turns: int
    """Who sends the n-th packet with data: bit n modulo 16 is 1 for a reply."""
    request_bytes: tuple[int, ...]
    reply_bytes: tuple[int, ...]
    """Payload sizes, each equally likely."""
    tos: int = 0


ALTERNATE: Final = 0xAAAA
DOWNLOAD: Final = 0x6DB6
UPLOAD: Final = 0x4924
BULK: Final = (1448, 1448, 1448, 1448, 1448, 980, 330)

APPLICATIONS: Final = (
    Application(
        "https", TCP, 443, 0.36, 220, "internet", 9, 4000, DOWNLOAD, (0, 0, 0, 0, 517, 93), BULK
    ),
    Application("http", TCP, 80, 0.04, 40, "internet", 9, 900, DOWNLOAD, (0, 0, 0, 420), BULK),
    Application(
        "quic",
        UDP,
        443,
        0.15,
        70,
        "internet",
        8,
        3000,
        DOWNLOAD,
        (33, 35, 41, 1200),
        (1250, 1250, 1250, 240),
    ),
    Application("smb", TCP, 445, 0.12, 40, "servers", 20, 9000, DOWNLOAD, (0, 0, 124, 190), BULK),
    Application(
        "backup", TCP, 873, 0.07, 5, "servers", 90_000, 400_000, UPLOAD, BULK, (0, 0, 0, 12)
    ),
    Application(
        "postgresql",
        TCP,
        5432,
        0.06,
        25,
        "servers",
        12,
        2000,
        ALTERNATE,
        (90, 140, 260),
        (60, 300, 1100),
    ),
    Application(
        "imaps", TCP, 993, 0.03, 20, "internet", 14, 500, ALTERNATE, (60, 90, 0), (120, 700, 1448)
    ),
    Application(
        "ssh", TCP, 22, 0.02, 10, "servers", 40, 5000, ALTERNATE, (36, 36, 52, 0), (36, 84, 36, 420)
    ),
    Application(
        "dns", UDP, 53, 0.06, 40, "resolvers", 2, 2, ALTERNATE, (32, 37, 44, 51), (48, 93, 120, 210)
    ),
    Application("ntp", UDP, 123, 0.01, 8, "gateway", 2, 2, ALTERNATE, (48,), (48,)),
    Application(
        "voice", UDP, 5004, 0.05, 12, "clients", 900, 9000, ALTERNATE, (172,), (172,), tos=184
    ),
    Application("ping", ICMP, 0, 0.01, 6, "internet", 8, 8, ALTERNATE, (56,), (56,)),
    Application("neighbour", NEIGHBOUR, 0, 0.02, 12, "gateway", 2, 2, ALTERNATE, (24,), (24,)),
)


class Background(NamedTuple):
    """The background as kernels read it: l lanes of a applications."""

    slots: npt.NDArray[np.uint32]
    """(16384,) lane << 16 | rank of each slot of the cycle."""
    lanes: Ints
    """(l, 4) slots in a cycle, phase, conversation length in packets, application."""
    applications: Ints
    """(a, 6) protocol, port, turns, tos, first row and octaves of the pool of servers."""
    payload: Ints
    """(a, 2, 64) payload sizes in bytes of requests and of replies."""


def _lengths(app: Application, seed: int) -> Ints:
    """One conversation length a lane: quantiles of the bounded Pareto, shuffled."""
    quantile = (np.arange(app.lanes) + 0.5) / app.lanes
    low, high = float(app.shortest) ** -PARETO, float(app.longest) ** -PARETO
    lengths = np.rint((low - quantile * (low - high)) ** (-1 / PARETO)).astype(np.int64)
    order = np.argsort(hash_words(np.arange(app.lanes, dtype=np.uint64)[:, None], seed))
    return np.asarray(lengths[order], np.int64)


def background(seed: int) -> Background:
    """Lay out the lanes of all applications."""
    by_app = apportion([a.share for a in APPLICATIONS], 1 << LANE_BITS)
    lanes: list[tuple[int, int, int, int]] = []
    for k, app in enumerate(APPLICATIONS):
        counts = apportion([1 / (rank + 3) for rank in range(app.lanes)], by_app[k])
        lengths = _lengths(app, derive(seed, 2 * k)).tolist()
        numbers = np.arange(app.lanes, dtype=np.uint64)[:, None]
        phases = hash_words(numbers, derive(seed, 2 * k + 1))
        for count, length, phase in zip(counts, lengths, phases.tolist(), strict=True):
            lanes.append((count, phase % length, length, k))
    applications = [
        (a.protocol, a.port, a.turns, a.tos, pool_first(a.servers), POOLS[a.servers])
        for a in APPLICATIONS
    ]
    payload = [
        (np.resize(a.request_bytes, PALETTE), np.resize(a.reply_bytes, PALETTE))
        for a in APPLICATIONS
    ]
    return Background(
        interleave([lane[COUNT] for lane in lanes], seed),
        np.array(lanes, np.int64),
        np.array(applications, np.int64),
        np.array(payload, np.int64),
    )
