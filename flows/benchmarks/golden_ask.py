"""Questions whose answers are known, and the traffic in which they are found.

Two days of a small network, made by hand: a nightly backup, a host that scans since an hour, a
probe that loses packets. Addresses outside are those reserved for documentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flows.storage.store import Store

TENANT: Final = "golden"
PROBE: Final = "edge-1"
NOW_MS: Final = 1_790_000_000_000 // 86_400_000 * 86_400_000 + 12 * 3_600_000
"""Noon of the second day, Unix ms, UTC."""

_FLOWS: Final = (
    # Every hour of both days some clients of the web server.
    ("198.51.100.20", "10.4.0.80", 443, "number % 6", 48, "number", 4_000, 3_000_000),
    ("10.4.3.31", "198.51.100.53", 53, "0", 48, "number", 20, 4_000),
    # The backup, at two in the night of both days.
    ("10.4.0.5", "10.4.9.20", 873, "0", 2, "14 + 24 * number", 9_000_000, 12_000_000_000),
    # A scan for SMB within the last hour.
    ("10.4.2.15", "10.4.7.0", 445, "number", 250, "47", 3, 180),
)
"""Source, first destination, port, what is added to it, rows, hour since the begin, packets, bytes;
the last two of each row."""


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        text: as somebody asks it.
        says: patterns (regular expressions, any case) of which the answer must have one each.
        names: texts that must be named.
    """

    text: str
    says: Sequence[str]
    names: Sequence[str]


QUESTIONS: Final = (
    Question(
        "why was 10.4.0.5 so loud last night?",
        [r"873|rsync|backup|one host|single (host|peer)", r"12(\.0)? ?GB|12,?0{3},?0{3},?0{3}"],
        ["10.4.0.5", "10.4.9.20"],
    ),
    Question(
        "what is 10.4.2.15 doing since 11 o'clock?",
        [r"445|smb", r"scan|many (different )?hosts|250"],
        ["10.4.2.15"],
    ),
    Question(
        "is anything missing in what we see?",
        [r"drop|lost|missing|incomplete", r"ring.?full|buffer"],
        [PROBE],
    ),
    Question(
        "what did 10.4.8.200 send today?",
        [r"nothing|no (flow|traffic|data|host|packet|row|record)|not? (found|seen|appear)"],
        ["10.4.8.200"],
    ),
)


def fill(store: Store) -> None:
    """Put the traffic into an empty store."""
    begin = f"toDateTime64({NOW_MS // 1000} - 48 * 3600, 3, 'UTC')"
    for src, dst, port, plus, count, hour, packets, octets in _FLOWS:
        at = f"{begin} + toIntervalHour({hour})"
        store.command(
            "INSERT INTO flows (tenant, probe, window_start, src_addr, dst_addr, dst_port, "  # noqa: S608
            "src_port, ip_proto, eth_type, src_net, dst_net, packets, bytes, first_seen, "
            f"last_seen, tcp_flags, sampling_rate) SELECT '{TENANT}', '{PROBE}', {at}, "
            f"toIPv6('{src}'), "
            f"toIPv6(IPv4NumToString(toUInt32(IPv4StringToNum('{dst}') + {plus}))), "
            f"{port}, 40000, 6, 2048, if(startsWith('{src}', '10.'), 'internal', ''), "
            f"if(startsWith('{dst}', '10.'), 'internal', ''), {packets}, {octets}, {at}, {at}, "
            f"{2 if packets < 10 else 26}, 1 FROM numbers({count})"
        )
    store.command(
        "INSERT INTO totals (tenant, probe, window_start, pane_ms, packets, bytes) "
        "SELECT tenant, probe, window_start, 2000, sum(packets), sum(bytes) FROM flows "
        "GROUP BY tenant, probe, window_start"
    )
    store.command(
        "INSERT INTO ledger (tenant, probe, window_start, hop, seen, delivered, dropped) "
        "SELECT tenant, probe, window_start, 'capture', sum(packets) + 7000, sum(packets), "
        "map('ring_full', 7000) FROM totals GROUP BY tenant, probe, window_start"
    )
