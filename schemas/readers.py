"""Packets as Python people like to see them: numbers, addresses, times, names.

For looking at a topic and for small jobs: a packet costs microseconds here. Whoever wants
millions of them takes the arrays of ``schemas.batch.decode_batch``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from fastavro.read import LOGICAL_READERS

from schemas.batch import decode_batch
from schemas.framing import Resolve
from schemas.record import PACKET, CapturePoint, Direction, PacketFlag


def uint(data: bytes) -> int:
    """Read an unsigned little-endian integer of any size."""
    return int.from_bytes(data, "little")


def address(data: bytes) -> IPv4Address | IPv6Address:
    """Read an address of 16 bytes; a mapped one (``::ffff:a.b.c.d``) becomes IPv4."""
    v6 = IPv6Address(data)
    return v6.ipv4_mapped or v6


def mac(data: bytes) -> str:
    """Read an Ethernet address as text, ``02:00:00:00:00:01``."""
    return data.hex(":")


_READERS: Final = {"netspectra-uint": uint, "netspectra-ip": address, "netspectra-mac": mac}


def register() -> None:
    """Make fastavro show packets' integers as int, addresses as ipaddress, MACs as text.

    Adds readers for our logical types to fastavro's own table, so it holds for the whole
    process. Without it fastavro gives every field of a packet as bytes.
    """
    for logical_type, reader in _READERS.items():
        LOGICAL_READERS[f"fixed-{logical_type}"] = _as_logical(reader)


def _as_logical(reader: Any) -> Any:
    def read(data: bytes, writer_schema: Any = None, reader_schema: Any = None) -> Any:
        return reader(data)

    return read


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """One packet record; fields and units as in the table of ``schemas/README.md``."""

    ts_ns: int
    src_addr: IPv4Address | IPv6Address
    dst_addr: IPv4Address | IPv6Address
    src_mac: str
    dst_mac: str
    src_port: int
    dst_port: int
    wire_bytes: int
    packets: int
    if_index: int
    tunnel_id: int
    vlan_id: int
    eth_type: int
    ip_proto: int
    tcp_flags: int
    ttl: int
    tos: int
    direction: Direction | int
    capture_point: CapturePoint | int
    flags: PacketFlag
    reserved: int
    duration_us: int

    @property
    def time(self) -> datetime:
        """Time of capture in UTC, cut to microseconds; ``ts_ns`` is exact."""
        seconds, rest_ns = divmod(self.ts_ns, 1_000_000_000)
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // 1000)


def to_packet(fields: Mapping[str, bytes]) -> Packet:
    """Make a friendly packet of its fields' bytes, as fastavro decodes them unregistered.

    Values that no enumeration names stay numbers.
    """
    values: dict[str, Any] = {name: _FIELDS.get(name, uint)(fields[name]) for name in _SPANS}
    return Packet(**values)


def iter_packets(message: bytes, resolve: Resolve | None = None) -> Iterator[Packet]:
    """Decode a message and give its packets one by one.

    Args:
        message: a whole message as it came from the topic ``netspectra.packets``.
        resolve: looks a schema registry's id up, see ``framing.unframe``.

    Raises:
        DecodeError: the message is damaged or of an unknown schema; raised by the call itself.
    """
    _, packets = decode_batch(message, resolve)
    return (to_packet(_split(row.tobytes())) for row in packets)


def _split(record: bytes) -> dict[str, bytes]:
    return {name: record[start:end] for name, (start, end) in _SPANS.items()}


def _direction(data: bytes) -> Direction | int:
    try:
        return Direction(data[0])
    except ValueError:
        return data[0]


def _capture_point(data: bytes) -> CapturePoint | int:
    try:
        return CapturePoint(data[0])
    except ValueError:
        return data[0]


def _flags(data: bytes) -> PacketFlag:
    return PacketFlag(data[0])


_FIELDS: Final[Mapping[str, Any]] = {
    "src_addr": address,
    "dst_addr": address,
    "src_mac": mac,
    "dst_mac": mac,
    "direction": _direction,
    "capture_point": _capture_point,
    "flags": _flags,
}
_SPANS: Final = {
    name: (offset, offset + dtype.itemsize)
    for name, (dtype, offset, *_) in (PACKET.fields or {}).items()
}
