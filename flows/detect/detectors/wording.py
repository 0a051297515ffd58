"""Numbers, times and ports as people write them in summaries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from flows.detect.window import View

_SECOND_NS: Final = 10**9
_MINUTES_FROM_S: Final = 120
_HOURS_FROM_S: Final = 2 * 3600

_PROTOCOLS: Final = {"1": "ICMP", "6": "TCP", "17": "UDP", "58": "ICMPv6", "132": "SCTP"}

SERVICES: Final[Mapping[int, str]] = {
    17: "QOTD", 19: "CHARGEN", 53: "DNS", 69: "TFTP", 111: "portmap", 123: "NTP", 137: "NetBIOS",
    161: "SNMP", 389: "CLDAP", 520: "RIP", 1434: "MS SQL", 1900: "SSDP",
    3283: "Apple Remote Desktop", 3702: "WS-Discovery", 5353: "mDNS", 5683: "CoAP",
    11_211: "memcached", 27_015: "Steam",
}  # fmt: skip
"""Names of UDP services that are misused as reflectors."""


def span(view: View) -> str:
    """How much of its window is over: ``4 min``."""
    return _duration((view.pane_end_ns - view.start_ns) // _SECOND_NS)


def within(view: View) -> str:
    """In which window it was counted: ``in the 10 min window from 20:20:00 UTC``."""
    start = datetime.fromtimestamp(view.start_ns / _SECOND_NS, UTC)
    length = _duration(view.horizon_ns // _SECOND_NS)
    return f"in the {length} window from {start:%H:%M:%S} UTC"


def _duration(seconds: int) -> str:
    if seconds < _MINUTES_FROM_S:
        return f"{seconds} s"
    if seconds < _HOURS_FROM_S:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h"


def counted(value: float, lower: float, upper: float, noun: str) -> str:
    """``132 hosts (130 to 134)``; without bounds where they are the value."""
    text = f"{value:,.0f} {noun}{'' if round(value) == 1 else 's'}"
    return text if lower == upper else f"{text} ({lower:,.0f} to {upper:,.0f})"


def rate(value: float, unit: str) -> str:
    """``1.25 Gbit/s``, ``12.5 kpackets/s``."""
    for scale, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:,.3g} {prefix}{unit}"
    return f"{value:,.3g} {unit}"


def port_text(entity: Mapping[str, str]) -> str:
    """The service that an entity names: ``TCP port 445``."""
    protocol = entity["ip_proto"]
    name = _PROTOCOLS.get(protocol, f"protocol {protocol},")
    return f"{name} port {entity['dst_port']}"
