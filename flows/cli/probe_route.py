"""Whether a probe would capture what it sends itself."""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from probe.filters import PROTOCOLS, Rule

_DEFAULT_PORT: Final = "9092"
_LAST_PORT: Final = 65_535
_NLMSG_ERROR: Final = 2
_RTM_GETROUTE, _NLM_F_REQUEST = 26, 1
_RTA_DST, _RTA_OIF = 1, 4
_HEADERS_BYTES: Final = 28
"""``struct nlmsghdr`` and ``struct rtmsg``."""


def own_traffic(
    brokers: str, interfaces: Sequence[str], keep: Sequence[Rule], drop: Sequence[Rule]
) -> Iterator[str]:
    """A line for each broker whose traffic passes a captured interface and the filter.

    Each batch that is sent would be captured and so make more to send.

    Args:
        brokers: ``host:port``, several with commas.
        interfaces: those that are captured.
        keep: rules of which a packet must match one, if there are any.
        drop: rules of which it must match none.
    """
    for address, port in addresses(brokers):
        caught = (not keep or any(matches(rule, address, port) for rule in keep)) and not any(
            matches(rule, address, port) for rule in drop
        )
        interface = outgoing(address) if caught else None
        if interface in interfaces:
            yield (
                f"Kafka at {address} port {port} is reached by {interface}, so the probe captures "
                f"its own traffic; leave it out with --except 'tcp host {address} port {port}'"
            )


def addresses(brokers: str) -> list[tuple[str, int]]:
    """Addresses and ports of brokers; those whose names mean nothing are left out."""
    found = []
    for broker in brokers.split(","):
        match = re.fullmatch(r"(?:\w+://)?(?:\[(.+)\]|([^:]+))(?::(\d+))?", broker.strip())
        host, port = (match[1] or match[2], match[3] or _DEFAULT_PORT) if match else ("", "0")
        if not host or int(port) > _LAST_PORT:
            continue
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            continue
        found += [(str(answer[4][0]), int(answer[4][1])) for answer in answers]
    return list(dict.fromkeys(found))


def matches(rule: Rule, address: str, port: int) -> bool:
    """Whether a rule matches the TCP traffic of a service."""
    low, high = rule.ports or (0, _LAST_PORT)
    there = rule.network is None or ipaddress.ip_address(address) in rule.network
    return there and low <= port <= high and rule.ip_proto in (None, PROTOCOLS["tcp"])


def outgoing(address: str) -> str | None:
    """Name of the interface by which an address is reached, as the kernel routes (RFC 3549)."""
    there = ipaddress.ip_address(address.partition("%")[0]).packed
    family = socket.AF_INET if len(there) == 4 else socket.AF_INET6
    route = struct.pack("=8BI", family, 8 * len(there), 0, 0, 0, 0, 0, 0, 0)
    route += struct.pack("=HH", 4 + len(there), _RTA_DST) + there
    header = struct.pack("=IHHII", 16 + len(route), _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asked:
            asked.settimeout(1)
            asked.send(header + route)
            answer = asked.recv(65_536)
        if struct.unpack_from("=H", answer, 4)[0] == _NLMSG_ERROR:
            return None
        at = _HEADERS_BYTES
        while at + 4 <= len(answer):
            length, kind = struct.unpack_from("=HH", answer, at)
            if kind == _RTA_OIF:
                return socket.if_indextoname(struct.unpack_from("=I", answer, at + 4)[0])
            at += max(4, length + 3 & ~3)
    except OSError:
        pass
    return None
