"""An alert as a syslog message: RFC 5424 with structured data, or with CEF as its text.

CEF is ArcSight's Common Event Format, version 0: a header between ``|`` and extensions as
``key=value`` with names out of its dictionary.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final

from flows import __version__
from flows.detect.alert import Alert, Severity
from flows.notify.formats.facts import is_over, state
from flows.notify.text import cut_bytes, iso, line

SD_ID: Final = "netspectra@32473"
"""Name of our structured data; 32473 is the enterprise number that RFC 5612 lends to everybody."""

MAX_BYTES: Final = 8192
"""Longest message; its text is cut."""

DATAGRAM_BYTES: Final = 2048
"""Longest message by UDP, which receivers should take (RFC 5426, section 3.2)."""

_VALUE_CHARS: Final = 120
_LEVELS: Final[Mapping[Severity, int]] = {
    Severity.info: 6,
    Severity.low: 5,
    Severity.medium: 4,
    Severity.high: 3,
    Severity.critical: 2,
}
"""Severities of syslog: informational, notice, warning, error, critical."""

_CEF_SEVERITIES: Final[Mapping[Severity, int]] = {
    Severity.info: 1,
    Severity.low: 3,
    Severity.medium: 5,
    Severity.high: 8,
    Severity.critical: 10,
}
_NOTICE: Final = 5

_IN_DATA: Final = '\\"]'
_IN_CEF_HEADER: Final = "\\|"
_IN_CEF_VALUE: Final = "\\="


def render(
    alert: Alert, facility: int, *, as_cef: bool = False, max_bytes: int = MAX_BYTES
) -> bytes:
    """An alert as one message, without what frames it.

    Args:
        alert: a revision; the message has the time of its last sign, or of its end.
        facility: number of the kind of program that it is from.
        as_cef: write the text as CEF.
        max_bytes: longest message; the text is cut.
    """
    level = _NOTICE if is_over(alert) else _LEVELS[alert.severity]
    head = " ".join(
        (
            f"<{facility * 8 + level}>1",
            iso(alert.resolved_at_ns or alert.last_seen_ns or alert.first_seen_ns) or "-",
            _name(socket.gethostname(), 255),
            "netspectra",
            str(os.getpid()),
            _name(alert.event, 32),
            _data(alert, max_bytes // 2),
        )
    ).encode()
    # The mark says that what follows is UTF-8.
    text = cef(alert) if as_cef else f"\ufeff{_text(alert)}"
    return cut_bytes(head.decode() + " " + text, max_bytes)


def _text(alert: Alert) -> str:
    return line(f"{state(alert)}: {alert.title}. {alert.summary}", 2000)


def _data(alert: Alert, max_bytes: int) -> str:
    """Structured data of at most so many bytes; what matters most comes first."""
    values = {
        "alert": alert.alert_id,
        "revision": str(alert.revision),
        "status": alert.status.name,
        "severity": alert.severity.name,
        "rule": alert.rule,
        "tenant": alert.tenant,
        "probe": alert.probe,
        "entity": alert.entity_text,
        "src": alert.src_addr,
        "dst": alert.dst_addr,
        "dport": str(alert.dst_port or ""),
        "technique": alert.attack_technique,
        "value": f"{alert.value:g}",
        "lower": f"{alert.lower:g}",
        "upper": f"{alert.upper:g}",
        "threshold": f"{alert.threshold:g}",
        "unit": alert.unit,
        "members": str(alert.member_count or ""),
    }
    found = [SD_ID]
    left = max_bytes
    for name, value in values.items():
        part = f'{name}="{_escape(line(value, _VALUE_CHARS), _IN_DATA)}"'
        left -= len(part.encode()) + 1
        if value and left > 0:
            found.append(part)
    return f"[{' '.join(found)}]"


def cef(alert: Alert) -> str:
    """An alert as one line of CEF."""
    header = (
        "CEF:0",
        "NetSpectra",
        "NetSpectra",
        __version__,
        alert.rule,
        f"{state(alert)}: {alert.title}",
        str(_CEF_SEVERITIES[alert.severity]),
    )
    extensions = {
        "externalId": alert.delivery_id,
        "rt": _ms(alert.resolved_at_ns or alert.last_seen_ns),
        "start": _ms(alert.first_seen_ns),
        "end": _ms(alert.resolved_at_ns) if is_over(alert) else "",
        "act": alert.event,
        "cat": alert.detector,
        **_address("src", "c6a2", "Source IPv6 Address", alert.src_addr),
        **_address("dst", "c6a3", "Destination IPv6 Address", alert.dst_addr),
        "dpt": str(alert.dst_port or ""),
        "dvchost": alert.probe,
        "cs1Label": "entity",
        "cs1": alert.entity_text,
        "cs2Label": "technique" if alert.attack_technique else "",
        "cs2": alert.attack_technique,
        "cs3Label": "tenant",
        "cs3": alert.tenant,
        "cfp1Label": alert.metric,
        "cfp1": f"{alert.value:g}",
        "cfp2Label": "threshold",
        "cfp2": f"{alert.threshold:g}",
        "msg": alert.summary,
    }
    first = "|".join(_escape(line(part), _IN_CEF_HEADER) for part in header)
    rest = " ".join(
        f"{name}={_escape(line(value, 1000), _IN_CEF_VALUE)}"
        for name, value in extensions.items()
        if value
    )
    return f"{first}|{rest}"


def _address(name: str, name6: str, label: str, address: str) -> dict[str, str]:
    """CEF has one key for IPv4 and another, that needs a label, for IPv6."""
    try:
        is_ipv4 = ip_address(address).version == 4
    except ValueError:
        return {}
    return {name: address} if is_ipv4 else {name6: address, f"{name6}Label": label}


def _escape(text: str, special: str) -> str:
    return re.sub(f"([{re.escape(special)}])", r"\\\1", text)


def _name(text: str, limit: int) -> str:
    """A field of the header: printable ASCII without spaces."""
    return re.sub(r"[^\x21-\x7e]", "_", text)[:limit] or "-"


def _ms(time_ns: int) -> str:
    return str(time_ns // 10**6) if time_ns else ""
