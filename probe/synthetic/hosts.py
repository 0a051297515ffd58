"""The imagined network of the profile ``demo``: its hosts, and which of them serve what.

Clients are 10.10.0.0 to 10.25.255.255 (one /16 a department, six of sixteen in a VLAN) and
fd00:0:0:a:: to fd00:0:0:19::; servers are 10.1.0.0/16 and fd00:0:0:1::; the internet is the
documentation ranges, then 198.18.0.0/16, and 2001:db8::/32. A host's number is its rank: host n of
a pool is met about 1/n as often as the first. Actors have addresses that the background never
uses, so that what they do can be counted by address.
"""

from __future__ import annotations

import functools
import ipaddress
from typing import Final

import numpy as np
import numpy.typing as npt

from probe.synthetic.bits import ipv4_word, mac_word
from schemas.hashing import hash_words

V4, V6_HIGH, V6_LOW, MAC, TTL, VLAN = range(6)
"""Columns of the host table: record words of its addresses, MAC, ttl of what it sends, VLAN."""

ROUTER_MAC: Final = "02:4e:53:ff:00:01"

POOLS: Final = {"clients": 12, "internet": 13, "servers": 5, "resolvers": 2, "gateway": 1}
"""Octaves of each pool, in the order of their rows: a pool has 2**octaves - 1 hosts."""

ACTORS: Final = {
    "host_scan": ("10.12.99.21", 102),
    "port_scan": ("10.21.99.7", 0),
    "port_scan_target": ("10.1.99.10", 0),
    "syn_flood_target": ("10.1.99.80", 0),
    "super_spreader": ("10.17.99.150", 0),
    "amplification_target": ("10.1.99.25", 0),
    "everyone": ("255.255.255.255", 0),
}
"""Address and VLAN of the actors, and the receiver of broadcasts, in the order of their rows."""


def pool_first(name: str) -> int:
    """Row of the first host of a pool; of the first actor for ``"actors"``."""
    names = [*POOLS, "actors"]
    return sum(2 ** POOLS[n] - 1 for n in names[: names.index(name)])


def actor_row(name: str) -> int:
    """Row of an actor's host."""
    return pool_first("actors") + list(ACTORS).index(name)


EVERYONE: Final = actor_row("everyone")
"""Row of the receiver of broadcasts."""


def _client(n: int) -> tuple[str, str, int]:
    department, k = n % 16, n // 16
    v4 = f"10.{10 + department}.{k // 200}.{10 + k % 200}"
    return v4, f"fd00:0:0:{10 + department:x}::{k + 1:x}", 100 + department if department < 6 else 0


def _internet(n: int) -> tuple[str, str, int]:
    named = ("192.0.2", "198.51.100", "203.0.113")
    v4 = f"{named[n % 3]}.{1 + n // 3}" if n < 750 else f"198.18.{n * 29 % 256}.{n // 32 % 256}"
    return v4, f"2001:db8:{n % 4096:x}::{n + 1:x}", 0


def _pool_host(pool: str, n: int) -> tuple[str, str, int]:
    if pool == "clients":
        return _client(n)
    if pool == "internet":
        return _internet(n)
    row = list(POOLS).index(pool)
    return f"10.1.{row}.{n + 1}", f"fd00:0:0:1::{row}:{n + 1:x}", 0


@functools.cache
def host_table() -> npt.NDArray[np.uint64]:
    """All hosts as an (n, 6) table of words, read-only; the columns are ``V4`` to ``VLAN``."""
    named = [(pool, *_pool_host(pool, n)) for pool, k in POOLS.items() for n in range(2**k - 1)]
    named += [("actors", v4, "::", vlan_id) for v4, vlan_id in ACTORS.values()]
    random = hash_words(np.arange(len(named), dtype=np.uint64)[:, None])
    table = np.empty((len(named), 6), np.uint64)
    for row, (pool, v4, v6, vlan_id) in enumerate(named):
        routed = pool in ("internet", "gateway")
        packed = ipaddress.IPv6Address(v6).packed
        mac = ROUTER_MAC if routed else f"02:4e:53:00:{row >> 8:02x}:{row & 255:02x}"
        start = 64 if pool not in ("clients", "internet") or random[row] & np.uint64(1) else 128
        hops = int(random[row] >> np.uint64(8)) % 18 + 5 if pool == "internet" else 0
        table[row] = (
            ipv4_word(v4),
            int.from_bytes(packed[:8], "little"),
            int.from_bytes(packed[8:], "little"),
            mac_word(mac),
            start - hops,
            vlan_id,
        )
    table[EVERYONE, MAC] = mac_word("ff:ff:ff:ff:ff:ff")
    table.flags.writeable = False
    return table
