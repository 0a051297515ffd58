"""Statements over ``flows`` and ``ledger`` for what is behind an alert."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from flows.storage.embedded import quote

MOST_ROWS: Final = 20

_ADDRESSES: Final = ("src_addr", "dst_addr")
_NUMBERS: Final = (
    "src_port", "dst_port", "ip_proto", "eth_type", "vlan_id", "tunnel_id", "if_index",
)  # fmt: skip
_TEXTS: Final = ("src_net", "dst_net", "direction")
FLOW_FIELDS: Final = frozenset((*_ADDRESSES, *_NUMBERS, *_TEXTS))
"""Fields of an entity by which flows are found."""

_COLUMNS: Final = (
    "ip_text(src_addr) AS source, toString(src_port) AS source_port, "
    "ip_text(dst_addr) AS destination, toString(dst_port) AS destination_port, "
    "proto_name(ip_proto) AS protocol, tcp_flags_text(groupBitOr(tcp_flags)) AS flags, "
    "toString(sum(packets)) AS packet_count, toString(sum(bytes)) AS byte_count, "
    "toString(toDateTime64(min(first_seen), 3, 'UTC')) AS first, "
    "toString(toDateTime64(max(last_seen), 3, 'UTC')) AS last"
)

COLUMNS: Final[Mapping[str, str]] = {
    "source": "src_addr",
    "source_port": "src_port",
    "destination": "dst_addr",
    "destination_port": "dst_port",
    "protocol": "ip_proto",
    "flags": "tcp_flags",
    "packet_count": "packets",
    "byte_count": "bytes",
    "first": "first_seen",
    "last": "last_seen",
}
"""Columns of ``largest_flows`` (text, and named apart from those of the table), and what they are
called in rows of evidence."""


def entity_of(text: str) -> dict[str, str]:
    """An entity out of its text: ``src_addr=10.0.2.15 dst_port=443``."""
    parts = re.findall(r"(\w+)=(.*?)(?=\s\w+=|$)", text)
    return dict(parts)


def in_window(tenant: str, start_ns: int, end_ns: int) -> str:
    """Condition on the panes of a tenant from one time to another, Unix ns.

    Of ``flows`` the engine finds the rows by five minutes, with which the key goes on after the
    tenant; ``window_start`` at its end excludes nothing.
    """
    five = "toStartOfFiveMinutes"
    return (
        f"tenant = {quote(tenant)} AND window_start >= {_time(start_ns)} AND {before(end_ns)}"
        f" AND {five}(window_start) >= {five}({_time(start_ns)})"
        f" AND {five}(window_start) <= {five}({_time(end_ns)})"
    )


def before(end_ns: int) -> str:
    """Condition on the panes that begin before a time, Unix ns."""
    return f"window_start < {_time(end_ns)}"


def of_entity(entity: Mapping[str, str]) -> str:
    """Condition on the flows of an entity; empty when nothing of it is a field of a flow.

    Raises:
        ValueError: an address or a number is none.
    """
    parts = []
    for name, value in entity.items():
        if name in _ADDRESSES:
            parts.append(f"{name} = toIPv6({quote(value)})")
        elif name in _NUMBERS:
            parts.append(f"{name} = {int(value)}")
        elif name in _TEXTS:
            parts.append(f"{name} = {quote(value)}")
    return " AND ".join(parts)


def largest_flows(
    entities: Sequence[Mapping[str, str]],
    window: str,
    by: Literal["packets", "bytes"] = "packets",
) -> str:
    """The largest flows of some entities, of each as many as of the others.

    Args:
        entities: at least one, all with the same fields, some of ``FLOW_FIELDS`` among them.
        window: condition on the panes, see ``in_window``.
        by: what makes a flow large.
    """
    wanted = " OR ".join(f"({of_entity(entity)})" for entity in entities)
    share = ""
    if len(entities) > 1:
        fields = ", ".join(name for name in entities[0] if name in FLOW_FIELDS)
        most_each = max(MOST_ROWS // len(entities), 1)
        share = f"LIMIT {most_each} BY {fields} "
    key = "src_addr, src_port, dst_addr, dst_port, ip_proto"
    if share:
        # LIMIT BY sees what is selected only.
        extra = [
            name for name in entities[0] if name in FLOW_FIELDS and name not in key.split(", ")
        ]
        key = ", ".join((key, *extra))
    return (
        f"SELECT {_COLUMNS} FROM flows WHERE {window} AND ({wanted}) GROUP BY {key} "
        f"ORDER BY sum({by}) DESC, min(first_seen), {key} "
        f"{share}LIMIT {MOST_ROWS}"
    )


def beginning(entities: Sequence[Mapping[str, str]], window: str) -> str:
    """When the first flow of some entities began, ``first_ns``, Unix ns; no row without a flow.

    Args:
        entities: at least one, each with some of ``FLOW_FIELDS``.
        window: condition on the panes, see ``in_window``.
    """
    wanted = " OR ".join(f"({of_entity(entity)})" for entity in entities)
    return (
        "SELECT toUnixTimestamp64Nano(toDateTime64(min(first_seen), 9, 'UTC')) AS first_ns "
        f"FROM flows WHERE {window} AND ({wanted}) HAVING count() > 0"
    )


def hops(probe: str, window: str) -> str:
    """What the ledger says of a probe, hop by hop, for alerts that are about a probe."""
    return (
        "SELECT toString(hop) AS at_hop, toString(sum(seen)) AS packets_seen, "
        "toString(sum(delivered)) AS packets_delivered, "
        "toString(sum(in_flight)) AS packets_in_flight, "
        "toString(sumMap(dropped)) AS packets_dropped "
        f"FROM ledger WHERE {window} AND probe = {quote(probe)} GROUP BY hop ORDER BY hop"
    )


def _time(time_ns: int) -> str:
    return f"fromUnixTimestamp64Milli({time_ns // 10**6}, 'UTC')"
