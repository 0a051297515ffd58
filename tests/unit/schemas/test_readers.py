"""The readable forms of packets."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import fastavro
import numpy as np
import pytest

from schemas import readers, registry
from schemas.batch import BatchHeader, encode_batch
from schemas.errors import DecodeError
from schemas.framing import unframe
from schemas.readers import address, iter_packets, mac, to_packet, uint
from schemas.record import PACKET, CapturePoint, Direction, PacketFlag, Packets

SCHEMA = registry.load("packet_batch", 2).definition


@pytest.fixture
def message(header: BatchHeader, packets: Packets) -> bytes:
    return encode_batch(header, packets)


def read_with_fastavro(message: bytes) -> list[dict[str, Any]]:
    _, start = unframe(message)
    return fastavro.schemaless_reader(io.BytesIO(message[start:]), SCHEMA, None)["packets"]


def test_integers_are_little_endian() -> None:
    """The first byte is the lowest."""
    assert uint(b"\x01\x02") == 513


def test_mapped_addresses_are_ipv4() -> None:
    """::ffff:a.b.c.d becomes an IPv4Address, anything else stays IPv6."""
    assert address(b"\0" * 10 + b"\xff\xff\xc0\0\2\1") == IPv4Address("192.0.2.1")
    assert address(b"\x20\1\x0d\xb8" + bytes(11) + b"\1") == IPv6Address("2001:db8::1")
    assert address(bytes(16)) == IPv6Address("::")


def test_macs_are_text() -> None:
    """Six bytes in order, in hexadecimal."""
    assert mac(b"\2\0\0\0\0\x0a") == "02:00:00:00:00:0a"


def test_without_registration_fastavro_gives_bytes(message: bytes) -> None:
    """Nothing is registered by importing."""
    assert all(isinstance(v, bytes) for p in read_with_fastavro(message) for v in p.values())


def test_registered_fastavro_gives_numbers_addresses_and_macs(
    message: bytes, packets: Packets
) -> None:
    """Every field, the ones that refer to a type by its name too, is converted."""
    readers.register()
    for packet, row in zip(read_with_fastavro(message), packets, strict=True):
        for name in ("src_addr", "dst_addr"):
            assert packet.pop(name) == address(row[name].tobytes())
        for name in ("src_mac", "dst_mac"):
            assert packet.pop(name) == row[name].tobytes().hex(":")
        assert packet == {name: int(row[name]) for name in packet}
        assert len(packet) == len(PACKET.names) - 4


def test_packets_of_a_message(message: bytes, packets: Packets) -> None:
    """iter_packets shows each record of the message, with numpy's values."""
    shown = list(iter_packets(message))
    assert len(shown) == len(packets)
    for packet, row in zip(shown, packets, strict=True):
        assert packet.src_addr == address(row["src_addr"].tobytes())
        assert packet.dst_mac == row["dst_mac"].tobytes().hex(":")
        numbers = [name for name in PACKET.names if not name.endswith(("addr", "mac"))]
        assert [getattr(packet, name) for name in numbers] == [int(row[name]) for name in numbers]


def test_both_ways_to_a_packet_agree(message: bytes) -> None:
    """A packet from fastavro's dict equals the one from the array."""
    assert [to_packet(p) for p in read_with_fastavro(message)] == list(iter_packets(message))


def packet_with(**fields: int) -> readers.Packet:
    packets = np.zeros(1, PACKET)
    for name, value in fields.items():
        packets[name] = value
    return to_packet({name: packets[0][name].tobytes() for name in PACKET.names})


def test_times_keep_their_nanoseconds() -> None:
    """The datetime is cut to microseconds, ts_ns stays exact."""
    packet = packet_with(ts_ns=1_767_225_600_123_456_789)
    assert packet.time == datetime(2026, 1, 1, 0, 0, 0, 123456, UTC)
    assert packet.ts_ns == 1_767_225_600_123_456_789


@pytest.mark.parametrize("ts_ns", [0, (1 << 64) - 1])
def test_every_time_can_be_shown(ts_ns: int) -> None:
    """First and last nanosecond of the field are valid times."""
    assert int(packet_with(ts_ns=ts_ns).time.timestamp()) == pytest.approx(ts_ns // 10**9, abs=1)


def test_enumerations_have_names() -> None:
    """Direction, capture point and flags are shown as their enumerations."""
    packet = packet_with(direction=2, capture_point=1, flags=9)
    assert packet.direction is Direction.EGRESS
    assert packet.capture_point is CapturePoint.XDP
    assert packet.flags == PacketFlag.LATER_FRAGMENT | PacketFlag.COALESCED


def test_values_without_a_name_stay_numbers() -> None:
    """A newer probe's values don't stop a reader."""
    packet = packet_with(direction=7, capture_point=200, flags=0x80)
    assert (packet.direction, packet.capture_point, packet.flags) == (7, 200, 0x80)


def test_damaged_messages_are_refused_at_once() -> None:
    """The error comes with the call, before the first packet is asked for."""
    with pytest.raises(DecodeError, match="frame"):
        iter_packets(b"no message")
