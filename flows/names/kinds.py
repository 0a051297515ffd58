"""What can be named: the columns of each kind of file, and how their values are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from flows.settings.units import parse_network, parse_quantity

Row = tuple[Any, ...]
"""Values of a kind's columns, in their order."""

_MAPPED: Final = b"\0" * 10 + b"\xff\xff"
_MAPPED_BITS: Final = 96
_PROTOCOLS: Final = {"tcp": 6, "udp": 17, "dccp": 33, "sctp": 132}


class Prefix(NamedTuple):
    """A prefix.

    Attributes:
        address: its first address, 16 bytes; IPv4 as ::ffff:a.b.c.d.
        text: as people write it.
    """

    address: bytes
    text: str


IPV4_ALL: Final = Prefix(_MAPPED + bytes(4), "0.0.0.0/0")
"""All IPv4 addresses."""


@dataclass(frozen=True)
class Column:
    """A column of a CSV file.

    Attributes:
        read: reads a value; its ``ValueError`` says what is wanted.
        also: other names that a file may give it.
        default: of an empty value; None where there must be one.
    """

    read: Callable[[str], Any]
    also: tuple[str, ...] = ()
    default: Any = None


@dataclass(frozen=True)
class Kind:
    """A kind of names.

    Attributes:
        columns: by their names in the store; those up to ``key`` tell rows apart.
        key: how many columns are the key.
        values: of a network's record in an MMDB file, behind the prefix; None where it has none.
    """

    columns: Mapping[str, Column]
    key: int = 1
    values: Callable[[Any], Row | None] | None = None


def prefix_of(network: IPv4Network | IPv6Network) -> Prefix:
    """A prefix as the store has it; one of IPv4-mapped addresses is one of IPv4."""
    packed, bits = network.network_address.packed, network.prefixlen
    if isinstance(network, IPv4Network):
        return Prefix(_MAPPED + packed, str(network))
    if packed.startswith(_MAPPED) and bits >= _MAPPED_BITS:
        return prefix_of(IPv4Network((packed[12:], bits - _MAPPED_BITS)))
    return Prefix(packed, str(network))


def holds_ipv4(prefix: Prefix) -> bool:
    """Whether a prefix of IPv6 is so short that the engine finds IPv4 addresses in it."""
    bits = int(prefix.text.rpartition("/")[2])
    if ":" not in prefix.text or bits > _MAPPED_BITS:
        return False
    cut = 128 - bits
    return int.from_bytes(prefix.address) >> cut == int.from_bytes(IPV4_ALL.address) >> cut


def read_prefix(text: str) -> Prefix:
    """Read ``10.0.0.0/8``, ``2001:db8::/32`` or a lone address.

    Raises:
        ValueError: it is none.
    """
    try:
        return prefix_of(ip_network(text))
    except ValueError:
        parse_network(text)
        raise


def read_as_number(text: str) -> int:
    """Read ``64500`` or ``AS64500``.

    Raises:
        ValueError: it is none.
    """
    digits = text.upper().removeprefix("AS")
    if not (digits.isascii() and digits.isdecimal() and int(digits) < 2**32):
        msg = "an AS number such as 64500 or AS64500"
        raise ValueError(msg)
    return int(digits)


def read_country(text: str) -> str:
    """Read two letters.

    Raises:
        ValueError: it is something else.
    """
    if not (len(text) == 2 and text.isascii() and text.isalpha()):
        msg = "two letters such as DE (ISO 3166)"
        raise ValueError(msg)
    return text.upper()


def read_protocol(text: str) -> int:
    """Read the name or number of an IP protocol.

    Raises:
        ValueError: it is neither.
    """
    known = _PROTOCOLS.get(text.lower())
    if known is not None:
        return known
    if not (text.isascii() and text.isdecimal() and int(text) < 256):
        msg = f"{', '.join(_PROTOCOLS)} or the number of an IP protocol"
        raise ValueError(msg)
    return int(text)


def read_port(text: str) -> int:
    """Read a port.

    Raises:
        ValueError: it is none.
    """
    if not (text.isascii() and text.isdecimal() and int(text) < 2**16):
        msg = "a port from 0 to 65535"
        raise ValueError(msg)
    return int(text)


def read_speed(text: str) -> int:
    """Read a speed such as ``10Gbps`` or ``100000000``, in bit/s.

    Raises:
        ValueError: it is none.
    """
    speed = parse_quantity(text)
    if not 0 <= speed < 2**63:
        msg = "a speed such as 10Gbps"
        raise ValueError(msg)
    return int(speed)


def _autonomous_system(record: Any) -> Row | None:
    """Of MaxMind's and DB-IP's forms, and of IPinfo's."""
    number = record.get("autonomous_system_number", record.get("asn"))
    name = record.get("autonomous_system_organization", record.get("as_name", ""))
    return (read_as_number(str(number)), str(name)) if number else None


def _country(record: Any) -> Row | None:
    """Of MaxMind's and DB-IP's forms, and of IPinfo's."""
    country = record.get("country_code") or record.get("country")
    code = country.get("iso_code") if isinstance(country, Mapping) else country
    return (read_country(str(code)),) if code else None


_PREFIX: Final = Column(read_prefix, ("network", "cidr"))
_TEXT: Final = Column(str, default="")

KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "networks": Kind(
            {"prefix": _PREFIX, "name": Column(str), "site": _TEXT, "description": _TEXT}
        ),
        "as_numbers": Kind(
            {
                "prefix": _PREFIX,
                "asn": Column(read_as_number, ("as_number", "autonomous_system_number")),
                "name": Column(str, ("as_name", "autonomous_system_organization"), ""),
            },
            values=_autonomous_system,
        ),
        "countries": Kind(
            {"prefix": _PREFIX, "country": Column(read_country, ("country_code", "iso_code"))},
            values=_country,
        ),
        "interfaces": Kind(
            {
                "probe": Column(str),
                "interface": Column(str),
                "name": Column(str),
                "description": _TEXT,
                "speed_bps": Column(read_speed, ("speed",), 0),
            },
            key=2,
        ),
        "services": Kind(
            {
                "ip_proto": Column(read_protocol, ("protocol",)),
                "port": Column(read_port),
                "name": Column(str),
            },
            key=2,
        ),
    }
)
"""Kinds by name, which is that of the setting, and behind ``names_`` of the dictionary."""
