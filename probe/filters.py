"""Which packets are of interest: rules over protocol, address and port of either end."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network


@dataclass(frozen=True, slots=True)
class Rule:
    """Matches a packet when the protocol does, and address and port of one of its ends do.

    Attributes:
        network: of the address; None for any.
        ports: first and last port; None for any.
        ip_proto: protocol number; None for any.
    """

    network: IPv4Network | IPv6Network | None = None
    ports: tuple[int, int] | None = None
    ip_proto: int | None = None
