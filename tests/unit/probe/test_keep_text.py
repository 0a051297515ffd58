"""Lines of text, against a twin in plain Python."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from probe.capture import CaptureFile
from probe.keep.text import COLUMNS, LINE_BYTES, TextLines
from schemas.readers import Packet, address, mac, to_packet
from schemas.record import PACKET, Packets

NAMES = {2: "eth0", 3: "wlan-15-bytes.9", 4294967295: "e"}
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp"}
NOTES = ["fragment", "unreadable", "decapsulated", "coalesced"]


def friendly(record: Any) -> Packet:
    fields = PACKET.fields or {}
    data = record.tobytes()
    return to_packet(
        {name: data[offset : offset + kind.itemsize] for name, (kind, offset, *_) in fields.items()}
    )


def end(packet: Packet, which: str) -> str:
    port = getattr(packet, f"{which}_port")
    host = getattr(packet, f"{which}_addr")
    if packet.ip_proto in (1, 58) or not (packet.src_port or packet.dst_port):
        return str(host)
    return f"[{host}]:{port}" if host.version == 6 else f"{host}:{port}"


def twin(packet: Packet) -> str:
    """The line of a packet, put together with the standard library."""
    second, rest_ns = divmod(packet.ts_ns, 10**9)
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    is_ip = any(int(host) or host.version == 4 for host in (packet.src_addr, packet.dst_addr))
    flags = "-"
    if is_ip and packet.ip_proto in (1, 58) and not int(packet.flags) & 3:
        flags = f"{packet.dst_port >> 8}/{packet.dst_port & 255}"
    elif packet.ip_proto == 6:
        letters = [letter for i, letter in enumerate("FSRPAUEC") if packet.tcp_flags >> i & 1]
        flags = "".join(letters) or "-"
    protocol = PROTOCOLS.get(packet.ip_proto, str(packet.ip_proto))
    if not is_ip:
        protocol = "arp" if packet.eth_type == 0x806 else f"0x{packet.eth_type:04x}"
    notes = ",".join(note for i, note in enumerate(NOTES) if int(packet.flags) >> i & 1)
    columns = [
        f"{time:%Y-%m-%dT%H:%M:%S}.{rest_ns:09}Z",
        NAMES.get(packet.if_index, f"#{packet.if_index}"),
        {1: "in", 2: "out"}.get(int(packet.direction), "-"),
        end(packet, "src") if is_ip else packet.src_mac,
        ">",
        end(packet, "dst") if is_ip else packet.dst_mac,
        protocol,
        flags,
        packet.wire_bytes,
        packet.packets,
        packet.vlan_id or "-",
        packet.tunnel_id if int(packet.flags) & 4 else "-",
        packet.ttl if is_ip else "-",
        packet.tos if is_ip else "-",
        notes or "-",
    ]
    return " ".join(map(str, columns))


def lines(packets: Packets) -> list[str]:
    return b"".join(TextLines(NAMES).encode(packets)).decode().splitlines()


def records(count: int) -> st.SearchStrategy[Packets]:
    """Any bytes, with common values in the fields that lines depend on."""
    return st.builds(
        one_like_it,
        hnp.arrays(np.uint8, (count, 88)),
        st.sampled_from([None, 0, bytes(10) + b"\xff\xff", bytes(15) + b"\1"]),
        st.sampled_from([None, 0, 1, 6, 17, 58, 132]),
        st.sampled_from([None, 0x800, 0x806]),
        st.sampled_from([None, 0, 2, 3]),
        st.integers(0, 15),
        st.integers(0, 0xFFFF),
    )


def one_like_it(
    data: Any, start: Any, proto: Any, eth_type: Any, number: Any, flags: int, zeros: int
) -> Packets:
    data = np.ascontiguousarray(data)
    for side in (8, 24):
        if start == 0:
            data[:, side : side + 16] = 0
        elif start is not None:
            data[:, side : side + len(start)] = np.frombuffer(start, np.uint8)
        for group in range(8):  # runs of zero groups
            if zeros >> group & 1:
                data[:, side + 2 * group : side + 2 * group + 2] = 0
    packets = data.view(PACKET).reshape(-1)
    for name, value in (("ip_proto", proto), ("eth_type", eth_type), ("if_index", number)):
        if value is not None:
            packets[name] = value
    packets["flags"] = flags
    return packets


@settings(max_examples=200, deadline=None)
@given(packets=records(3))
@example(packets=np.zeros(3, PACKET))
@example(packets=np.full(3 * 88, 255, np.uint8).view(PACKET))
def test_twin(packets: Packets) -> None:
    """Any record gives the line that the standard library gives, in as many columns."""
    packets["flags"] &= 15
    got = lines(packets)
    assert got == [twin(friendly(record)) for record in packets]
    assert all(len(line.split(" ")) == len(COLUMNS.split(" ")) for line in got)
    assert max(map(len, got)) < LINE_BYTES


@settings(max_examples=300, deadline=None)
@given(day=st.integers(0, 2**64 // 10**9 // 86_400 - 1))
@example(day=11_016)  # 2000-02-29
@example(day=47_540)  # 2100-02-28
@example(day=47_541)  # 2100-03-01
def test_calendar(day: int) -> None:
    """Every day from 1970 to 2554 is right."""
    packets = np.zeros(1, PACKET)
    packets["ts_ns"] = day * 86_400 * 10**9 + 86_399_999_999_999
    (line,) = lines(packets)
    date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
    assert line.startswith(f"{date:%Y-%m-%d}T23:59:59.999999999Z ")


def test_longest_line() -> None:
    """The widest values of all columns stay within the room for a line."""
    packets = np.full(88, 255, np.uint8).view(PACKET)
    packets["if_index"], packets["ip_proto"] = 3, 6
    assert len(lines(packets)[0]) < LINE_BYTES
    names = {1: "x" * 15}
    packets["if_index"] = 1
    assert sum(part.nbytes for part in TextLines(names).encode(packets)) <= LINE_BYTES


def test_examples() -> None:
    """Lines as people read them."""
    packets = np.zeros(3, PACKET)
    packets["ts_ns"] = 1_767_323_045_000_000_007
    packets["if_index"], packets["direction"] = [2, 9, 2], [1, 2, 0]
    packets["wire_bytes"], packets["packets"], packets["ttl"] = [74, 3000, 42], [1, 2, 1], 64
    packets["src_addr"][0] = np.frombuffer(bytes(10) + b"\xff\xff\x0a\0\0\1", np.uint8)
    packets["dst_addr"][0] = np.frombuffer(bytes(10) + b"\xff\xff\x0a\0\0\2", np.uint8)
    packets["src_port"][:2], packets["dst_port"][:2] = 50_000, 443
    packets["ip_proto"], packets["tcp_flags"], packets["vlan_id"] = [6, 17, 0], [2, 0, 0], [5, 0, 0]
    packets["dst_addr"][1, [0, 1, 15]] = [0x20, 0x01, 7]
    packets["flags"], packets["tunnel_id"], packets["eth_type"] = [0, 12, 0], [0, 9, 0], 0x806
    time = "2026-01-02T03:04:05.000000007Z"
    assert lines(packets) == [
        f"{time} eth0 in 10.0.0.1:50000 > 10.0.0.2:443 tcp S 74 1 5 - 64 0 -",
        f"{time} #9 out [::]:50000 > [2001::7]:443 udp - 3000 2 - 9 64 0 decapsulated,coalesced",
        f"{time} eth0 - 00:00:00:00:00:00 > 00:00:00:00:00:00 arp - 42 1 - - - - -",
    ]


@pytest.mark.requires("captures")
@pytest.mark.parametrize("name", ["synscan.pcap", "http_ipv6.pcap", "dns_udp_tcp_random.pcap"])
def test_real_traffic(captures: Path, name: str) -> None:
    """Lines of real packets are the twin's."""
    with CaptureFile(captures / name) as capture:
        packets = capture.read(500)
    assert lines(packets) == [twin(friendly(record)) for record in packets]


def test_odd_names_of_interfaces() -> None:
    """Names of capture files are cut to 15 bytes without blanks; without one it is the number."""
    packets = np.zeros(4, PACKET)
    packets["if_index"] = range(4)
    names = {0: "a b\tc", 1: "", 2: "ä" * 40, 3: "  "}
    shown = b"".join(TextLines(names).encode(packets)).decode().splitlines()
    assert [line.split(" ")[1] for line in shown] == ["a_b_c", "#1", "ä" * 7, "#3"]


def test_head() -> None:
    """A file's first line names the columns."""
    assert TextLines(NAMES).head == f"# {COLUMNS}\n".encode()
    assert str(address(bytes(16))) == "::"
    assert mac(bytes(6)) == "00:00:00:00:00:00"
