"""Explanations by written-down templates: one for each detector, one for all others.

A template is a Jinja file whose four blocks are the four texts; what a detector's own doesn't say
is said by ``general``. They are rendered without escaping, as plain text, of values that were made
harmless before; whoever shows them as HTML or on a terminal escapes them as any other text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from flows.detect.alert import Alert, Status
from flows.detect.explanation import Explanation
from flows.enrich.words import duration, number, quantity
from flows.notify.text import line

VERSION: Final = "2"
"""Raised when what a template says changes."""

GENERAL: Final = "general"
DETECTORS: Final = (
    "host_scan", "port_scan", "super_spreader", "fan_in", "syn_flood", "amplification", "volume",
    "data_loss",
)  # fmt: skip
"""Detectors with a template of their own."""

SERVICES: Final[Mapping[int, str]] = {
    17: "QOTD", 19: "CHARGEN", 21: "FTP", 22: "SSH", 23: "Telnet", 25: "SMTP", 53: "DNS",
    69: "TFTP", 80: "HTTP", 88: "Kerberos", 110: "POP3", 111: "portmapper", 123: "NTP",
    135: "Windows RPC", 137: "NetBIOS", 139: "NetBIOS", 143: "IMAP", 161: "SNMP", 389: "LDAP",
    443: "HTTPS", 445: "SMB", 502: "Modbus", 520: "RIP", 1433: "Microsoft SQL Server",
    1434: "SQL Server Browser", 1521: "Oracle", 1883: "MQTT", 1900: "SSDP", 2049: "NFS",
    2375: "Docker", 3306: "MySQL", 3283: "Apple Remote Desktop", 3389: "RDP", 3702: "WS-Discovery",
    5060: "SIP", 5353: "mDNS", 5432: "PostgreSQL", 5555: "Android Debug Bridge", 5683: "CoAP",
    5900: "VNC", 5985: "WinRM", 6379: "Redis", 6443: "Kubernetes", 8080: "HTTP", 8443: "HTTPS",
    9200: "Elasticsearch", 11_211: "memcached", 27_015: "Source game servers", 27_017: "MongoDB",
}  # fmt: skip
"""What usually listens on a port."""

_MEASURED: Final = frozenset({"window_start", "window_end", "value", "lower", "upper", "threshold"})
_BLOCKS: Final = ("assessment", "root_cause", "next_checks", "mitigation")
_MOST_FACTS: Final = 6
_LONG_WINDOW_S: Final = 60
"""From which length on a window is much longer than what may be counted in it."""


class Templates:
    """Explains alerts.

    Args:
        networks: ranges by name, for what is said of hosts of ours and of others.
    """

    def __init__(self, networks: Mapping[str, tuple[str, ...]]) -> None:
        self._internal = [ip_network(each) for each in networks.get("internal", ())]

    def explain(self, alert: Alert) -> Explanation:
        """Explain one alert, whatever it is."""
        name = alert.detector if alert.detector in DETECTORS else GENERAL
        template = _template(name)
        context = template.new_context(self._context(alert))
        texts = {block: _tidy("".join(template.blocks[block](context))) for block in _BLOCKS}
        return Explanation(**texts, prompt_version=f"{name}-{VERSION}")  # type: ignore[arg-type]

    def is_internal(self, address: str) -> bool:
        """Whether an address is in the network ``internal``."""
        try:
            ip = ip_address(address)
        except ValueError:
            return False
        mapped = getattr(ip, "ipv4_mapped", None)
        return any((mapped or ip) in network for network in self._internal)

    def _any_internal(self, alert: Alert, field: str) -> bool:
        """Whether that address of the alert, or of one of its largest members, is ours."""
        named = (re.search(rf"{field}=(\S+)", member) for member in alert.members)
        addresses = [alert.entity.get(field, ""), *(match[1] for match in named if match)]
        return any(map(self.is_internal, addresses))

    def _context(self, alert: Alert) -> dict[str, Any]:
        unit = line(alert.unit, 40)
        exact = alert.lower == alert.value == alert.upper
        low, high = quantity(alert.lower, unit), quantity(alert.upper, unit)
        bounds = (
            "exact"
            if exact
            else (f"{low.removesuffix(f' {unit}')} to {high}, {alert.confidence:.0%} confidence")
        )
        newest = alert.evidence[0] if alert.evidence else {}
        facts = [
            f"{line(name, 40).replace('_', ' ')} {line(value, 60)}"
            for name, value in newest.items()
            if name not in _MEASURED
        ]
        over = alert.status is Status.resolved
        window = duration(alert.horizon_s)
        lasted = duration(max(alert.last_seen_ns - alert.first_seen_ns, 0) / 1e9)
        # A measurement keeps what came early in its window.
        early = (
            f"; the traffic may have ended sooner, for it counts until its {window} window ends"
            if alert.horizon_s >= _LONG_WINDOW_S and alert.entity.get("fault") != "silence"
            else ""
        )
        limit = quantity(alert.threshold, unit)
        measured = f"{quantity(alert.value, unit)} ({bounds})"
        metric = line(alert.metric, 100)
        what = "" if metric == unit else f"{metric} "
        times = f", {_times(alert)}the threshold of {limit}"
        return {
            "entity": line(alert.entity_text, 200),
            "src": line(alert.src_addr, 60),
            "dst": line(alert.dst_addr, 60),
            "port": alert.dst_port,
            "service": SERVICES.get(alert.dst_port, ""),
            "probe": line(alert.probe, 100) or "?",
            "fault": line(alert.entity.get("fault", ""), 20),
            "src_internal": self._any_internal(alert, "src_addr"),
            "dst_internal": self._any_internal(alert, "dst_addr"),
            "rule": line(alert.rule, 64),
            "measured": measured,
            "counted": f"Measured within {window}: {what}{measured}{times}.",
            "sure": ""
            if exact
            else "It is over the threshold at least with that confidence, for its lower bound is.",
            "life": f"The rule held for {lasted}{early}. The alert is over."
            if over
            else f"The rule has held for {lasted} so far{early}.",
            "expected": line(alert.expected, 100),
            "members": alert.member_count,
            "largest": ", ".join(line(member, 80) for member in alert.members[:3]),
            "facts": f"Also measured: {', '.join(facts[:_MOST_FACTS])}." if facts else "",
            "severity": alert.severity.name,
        }


def _times(alert: Alert) -> str:
    """How many times its threshold a value is, as words before that; empty if it says nothing."""
    if alert.threshold <= 0 or alert.value < 1.05 * alert.threshold:
        return "against "
    return f"{number(round(alert.value / alert.threshold, 1))} times "


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("flows.enrich", "templates"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - plain text; see above
    )
    child = environment.get_template(f"{name}.j2")
    if name == GENERAL:
        return child
    # Blocks that a template lacks are those of the general one.
    child.blocks = {**environment.get_template(f"{GENERAL}.j2").blocks, **child.blocks}
    return child


def _tidy(text: str) -> str:
    """Lines of a block: one paragraph or point each, however it is wrapped in the file."""
    points: list[str] = []
    for raw in text.strip().splitlines():
        part = " ".join(raw.split())
        if part.startswith("- ") or not points:
            points.append(part)
        elif part:
            points[-1] += f" {part}"
    return "\n".join(points)
