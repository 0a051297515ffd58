"""The eBPF programs in the kernel, run on crafted frames: what they record, count and leave."""

from __future__ import annotations

import ctypes
import itertools
import struct
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address, ip_network
from typing import Any

import numpy as np
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, Dot1Q
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from probe.capture.frame import decode_frame
from schemas.record import PACKET, PACKET_WORDS, CapturePoint, Direction, PacketFlag, Packets
from tests.support import traffic
from tests.support.bpf_load import PROGRAMS, RULE, Loaded, built
from tests.support.traffic import CASES, eth, ip4, ip6

pytestmark = pytest.mark.requires("bpf", "clang", "libbpf")

LOOPBACK = 1  # what the kernel says is the device of a test run
NEXT, XDP_PASS = -1, 2
XDP_HAS_FRAGS = 1 << 5
SHORTEST = 14  # frame that the kernel takes for a test run
UNAME26 = 0x0020000

# program: link type, point, direction, verdict
WHERE = {
    "tc_ingress": (traffic.ETHERNET, CapturePoint.TC, Direction.INGRESS, NEXT),
    "tc_egress": (traffic.ETHERNET, CapturePoint.TC, Direction.EGRESS, NEXT),
    "tc_ingress_ip": (traffic.RAW, CapturePoint.TC, Direction.INGRESS, NEXT),
    "tc_egress_ip": (traffic.RAW, CapturePoint.TC, Direction.EGRESS, NEXT),
    "xdp_capture": (traffic.ETHERNET, CapturePoint.XDP, Direction.INGRESS, XDP_PASS),
}
FRAMES = [
    bytes(eth() / ip4() / TCP(sport=20001, dport=80, flags="S")),
    bytes(eth() / ip6() / UDP(sport=20002, dport=53) / Raw(b"question")),
    bytes(eth() / Dot1Q(vlan=9) / ip4() / ICMP(type=8, code=0)),
]
Load = Callable[..., Loaded]


@pytest.fixture
def load() -> Iterator[Load]:
    """Load the programs (one, unless told); closed after the test."""
    opened: list[Loaded] = []

    def loaded(**options: Any) -> Loaded:
        options.setdefault("programs", ("tc_ingress",))
        opened.append(Loaded(built(), **options))
        return opened[-1]

    yield loaded
    for one in opened:
        one.close()


@pytest.fixture(scope="module")
def everything() -> Iterator[Loaded]:
    """All programs, with nothing filtered or sampled."""
    with Loaded(built()) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def decapsulating() -> Iterator[Loaded]:
    with Loaded(built(), decapsulate=1) as loaded:
        yield loaded


def as_decoded(program: str, frame: bytes, decapsulate: bool = False) -> Any:
    """The record that the file decoder makes of a frame's first 256 bytes."""
    link_type, point, direction, _ = WHERE[program]
    words = np.zeros((1, PACKET_WORDS), np.uint64)
    data = np.frombuffer(frame[:256], np.uint8)
    place = (LOOPBACK, int(direction))
    decode_frame(
        data, 0, len(data), link_type, np.uint64(0), len(frame), *place, decapsulate, words, 0
    )
    record = words.view(PACKET)[0, 0]
    record["capture_point"] = point
    return record


def balanced(loaded: Loaded, records: Packets) -> dict[str, int]:
    """The counters, which must account for each packet."""
    counted = loaded.counters()
    lost = counted["ring_full"] + counted["sampled_out"]
    assert counted["seen"] == int(records["packets"].sum()) + lost
    return counted


def frames_for(program: str) -> list[bytes]:
    link_type = WHERE[program][0]
    frames = [frame for link, frame in CASES.values() if link == link_type]
    if link_type == traffic.RAW:
        frames += [frame[14:] for link, frame in CASES.values() if link == traffic.ETHERNET]
    frames += [frame + bytes(range(256)) for frame in frames]
    return [frame for frame in frames if len(frame) >= SHORTEST]


@pytest.mark.parametrize("decapsulate", [False, True])
@pytest.mark.parametrize("program", PROGRAMS)
def test_records_are_the_file_decoders(
    everything: Loaded, decapsulating: Loaded, program: str, decapsulate: bool
) -> None:
    """Each kind of frame gives the record that the file decoder makes of it, and goes on as is."""
    loaded = decapsulating if decapsulate else everything
    loaded.read()
    frames = frames_for(program)
    before_ns, before = time.monotonic_ns(), loaded.counters()
    for frame in frames:
        result = loaded.run(program, frame)
        assert result.verdict == WHERE[program][3]
        assert result.data == frame
    records = loaded.read().copy()
    times = records["ts_ns"].astype(np.int64)
    assert (np.diff(times, prepend=before_ns, append=time.monotonic_ns()) > 0).all()
    records["ts_ns"] = 0
    expected = [as_decoded(program, frame, decapsulate) for frame in frames]
    for frame, record, wanted in zip(frames, records, expected, strict=True):
        assert record.tobytes() == wanted.tobytes(), frame.hex()
    grown = {name: number - before[name] for name, number in loaded.counters().items()}
    assert grown == {
        **dict.fromkeys(before, 0),
        "seen": len(frames),
        "seen_bytes": sum(map(len, frames)),
        "buffers": len(frames),
    }


@pytest.mark.parametrize("decapsulate", [0, 1])
@pytest.mark.parametrize("rules", [0, 8])
def test_the_verifier_has_room_left(load: Load, decapsulate: int, rules: int) -> None:
    """Whatever is configured, programs take less than a third of the verifier's million steps."""
    some = [rule(ip_network("10.0.0.0/8"), (n, n + 9), 6) for n in range(rules)]
    loaded = load(programs=PROGRAMS, decapsulate=decapsulate, keep=some, drop=some, sampling_rate=9)
    assert max(loaded.verified_insns().values()) < 333_333


def test_a_full_ring_is_counted(load: Load) -> None:
    """Packets that find no room in the ring are counted as lost, and the others are whole."""
    loaded = load(ring_bytes=4096)
    loaded.run("tc_ingress", FRAMES[0], repeat=100)
    records = loaded.read()
    assert len(records) == 4096 // 96
    assert balanced(loaded, records)["ring_full"] == 100 - len(records)
    assert balanced(loaded, records)["seen_bytes"] == 100 * len(FRAMES[0])


def test_sampling(load: Load) -> None:
    """One packet in so many is recorded, at random; the others are counted."""
    loaded = load(sampling_rate=10, ring_bytes=1 << 21)
    loaded.run("tc_ingress", FRAMES[0], repeat=20_000)
    records = loaded.read()
    counted = balanced(loaded, records)
    assert counted["seen"] == 20_000
    assert 1_750 < len(records) < 2_250  # six standard deviations
    gaps = np.diff(records["ts_ns"])
    assert gaps.min() * 5 < gaps.max()


def rule(network: Any = None, ports: Any = None, ip_proto: Any = None) -> Any:
    """A rule as the programs read it."""
    packed = np.zeros(1, RULE)[0]
    if network is not None:
        prefix = network.prefixlen + (96 if network.version == 4 else 0)
        address = network.network_address
        if network.version == 4:
            address = IPv6Address(f"::ffff:{address}")
        packed["addr"] = list(address.packed)
        mask = ((1 << prefix) - 1) << (128 - prefix)
        packed["mask"] = list(mask.to_bytes(16, "big"))
    packed["port_low"], packed["port_high"] = ports or (0, 65535)
    packed["has_ports"] = ports is not None
    packed["ip_proto"] = ip_proto or 0
    packed["has_proto"] = ip_proto is not None
    return packed


def rule_matches(packed: Any, record: Any) -> bool:
    """The same in plain words: the protocol, and address and port of one end."""

    def end(address: Any, port: int) -> bool:
        inside = all((address ^ packed["addr"]) & packed["mask"] == 0)
        in_range = packed["port_low"] <= port <= packed["port_high"]
        return inside and (in_range or not packed["has_ports"])

    if packed["has_proto"] and packed["ip_proto"] != record["ip_proto"]:
        return False
    return end(record["src_addr"], record["src_port"]) or end(
        record["dst_addr"], record["dst_port"]
    )


A4, B4 = "10.1.2.3", "10.1.9.9"
A6, B6 = "fd00:1:2::3", "fd00:1:9::9"
TO_FILTER = [
    bytes(eth() / layer / (UDP if udp else TCP)(sport=sport, dport=dport))
    for (src, dst), (sport, dport), udp in itertools.product(
        ((A4, B4), (B4, A4), (A6, B6), (B6, A6)),
        ((40000, 80), (80, 40000), (81, 443), (40000, 40001), (65535, 40001)),
        (False, True),
    )
    for layer in [(IP if "." in src else IPv6)(src=src, dst=dst)]
] + [frame for link, frame in CASES.values() if link == traffic.ETHERNET and len(frame) >= SHORTEST]
RULES = {
    "protocol": rule(ip_proto=17),
    "hop-by-hop is a protocol too": rule(ip_proto=0),
    "port": rule(ports=(80, 80)),
    "ports": rule(ports=(81, 443)),
    "last port": rule(ports=(65535, 65535)),
    "network": rule(ip_network("10.1.0.0/21")),
    "host": rule(ip_network(f"{A4}/32")),
    "network, ipv6": rule(ip_network("fd00:1:2::/48")),
    "host, ipv6": rule(ip_network(f"{B6}/128")),
    "odd prefix": rule(ip_network("fd00:1:2::/47")),
    "all ipv4": rule(ip_network("0.0.0.0/0")),
    "address and port of the same end": rule(ip_network(f"{A4}/32"), (80, 80)),
    "everything": rule(ip_network("10.1.0.0/16"), (80, 443), 6),
    "any": rule(),
}
SETS = {
    **{f"keep {name}": ([one], []) for name, one in RULES.items()},
    "drop port": ([], [RULES["port"]]),
    "drop host of what is kept": ([RULES["protocol"], RULES["port"]], [RULES["host, ipv6"]]),
    "eight of each": (
        [RULES["last port"]] * 6 + [RULES["host"], RULES["network, ipv6"]],
        [RULES["last port"]] * 7 + [RULES["ports"]],
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_filters(load: Load, name: str) -> None:
    """Kept is what a keep rule matches, and no drop rule; the rest is counted apart."""
    keep, drop = SETS[name]
    loaded = load(keep=keep, drop=drop)
    expected = []
    for frame in TO_FILTER:
        record = as_decoded("tc_ingress", frame)
        kept = not keep or any(rule_matches(one, record) for one in keep)
        if kept and not any(rule_matches(one, record) for one in drop):
            expected.append(record.tobytes())
        loaded.run("tc_ingress", frame)
    records = loaded.read().copy()
    counted = balanced(loaded, records)
    records["ts_ns"] = 0
    assert [record.tobytes() for record in records] == expected
    assert counted["filtered"] == len(TO_FILTER) - len(expected)
    assert counted["buffers"] == len(TO_FILTER)
    assert len(expected) > 0
    assert len(expected) < len(TO_FILTER) or name == "keep any"


def skb(gso_size: int = 0, gso_segs: int = 0) -> bytes:
    """The context of a coalesced buffer: struct __sk_buff."""
    context = bytearray(192)
    struct.pack_into("<I", context, 164, gso_segs)
    struct.pack_into("<I", context, 176, gso_size)
    return bytes(context)


OPTIONS = [("Timestamp", (1, 2)), ("NOP", None), ("NOP", None)]
VXLAN_OUTER = eth() / ip4() / UDP(sport=1, dport=4789) / VXLAN(vni=7)
COALESCED: dict[str, tuple[Packet, int]] = {  # frame without payload, bytes of all its headers
    "tcp": (eth() / ip4() / TCP(sport=1, dport=80), 54),
    "tcp options": (eth() / ip4() / TCP(sport=1, dport=80, options=OPTIONS), 66),
    "ipv6": (eth() / ip6() / TCP(sport=1, dport=80), 74),
    "udp": (eth() / ip4() / UDP(sport=1, dport=443), 42),
    "vlan": (eth() / Dot1Q(vlan=5) / ip4() / TCP(sport=1, dport=80), 58),
    "vxlan": (VXLAN_OUTER / eth() / ip4() / TCP(sport=1, dport=80, options=OPTIONS), 116),
    "vxlan of udp": (VXLAN_OUTER / eth() / ip6() / UDP(sport=1, dport=443), 112),
    "gre": (eth() / ip4() / GRE() / ip4() / TCP(sport=1, dport=80), 78),
}


@pytest.mark.parametrize("gso_segs", [0, 4, 1])
@pytest.mark.parametrize("decapsulate", [False, True])
@pytest.mark.parametrize("name", COALESCED)
def test_coalesced_buffers(
    everything: Loaded, decapsulating: Loaded, name: str, decapsulate: bool, gso_segs: int
) -> None:
    """A coalesced buffer counts its segments and all their headers, in tunnels too."""
    loaded = decapsulating if decapsulate else everything
    headers, header_bytes = COALESCED[name]
    frame = bytes(headers / Raw(bytes(3 * 500 + 1)))
    assert len(frame) == header_bytes + 1501
    segments = 1 if gso_segs == 1 else 4
    wire_bytes = len(frame) + (segments - 1) * header_bytes
    loaded.read()
    before = loaded.counters()
    loaded.run("tc_egress", frame, context=skb(gso_size=500, gso_segs=gso_segs))
    (record,) = loaded.read()
    assert (record["packets"], record["wire_bytes"]) == (segments, wire_bytes)
    as_one = as_decoded("tc_egress", frame, decapsulate)
    assert record["flags"] == as_one["flags"] | (segments > 1) * PacketFlag.COALESCED
    for field in set(PACKET.names or ()) - {"ts_ns", "packets", "wire_bytes", "flags"}:
        assert np.array_equal(record[field], as_one[field]), field
    after = loaded.counters()
    assert after["seen"] - before["seen"] == segments
    assert after["seen_bytes"] - before["seen_bytes"] == wire_bytes
    assert after["buffers"] - before["buffers"] == 1


@pytest.mark.parametrize(("payload_bytes", "segments"), [(999, 2), (1000, 2), (1001, 3)])
def test_the_last_segment_may_be_short(
    everything: Loaded, payload_bytes: int, segments: int
) -> None:
    """Segments that the kernel didn't count are those that the payload fills, and what remains."""
    everything.read()
    frame = bytes(COALESCED["tcp"][0] / Raw(bytes(payload_bytes)))
    everything.run("tc_egress", frame, context=skb(gso_size=500))
    (record,) = everything.read()
    assert record["packets"] == segments


def test_segments_are_counted_whatever_becomes_of_them(load: Load) -> None:
    """Lost, sampled and filtered buffers are counted in packets, like recorded ones."""
    coalesced = bytes(COALESCED["tcp"][0] / Raw(bytes(1000)))
    context = skb(gso_size=100, gso_segs=10)
    full = load(ring_bytes=4096)
    full.run("tc_ingress", coalesced, repeat=50, context=context)
    assert balanced(full, full.read())["ring_full"] == (50 - 4096 // 96) * 10
    sampling = load(sampling_rate=1 << 31)
    sampling.run("tc_ingress", coalesced, repeat=50, context=context)
    assert balanced(sampling, sampling.read())["sampled_out"] == 500
    filtering = load(drop=[RULES["port"]])
    filtering.run("tc_ingress", coalesced, repeat=50, context=context)
    assert filtering.counters()["filtered"] == 500
    assert filtering.counters()["buffers"] == 50


def unix_offset_ns() -> int:
    return time.time_ns() - time.monotonic_ns()


def test_flows_are_counted_exactly(load: Load) -> None:
    """With aggregation on, each flow's packets and bytes are in the table, and none in the ring."""
    loaded = load(programs=("tc_ingress", "tc_egress"))
    loaded.control(aggregate=1, unix_offset_ns=unix_offset_ns())
    flows = [
        bytes(eth() / ip4() / TCP(sport=1000 + n, dport=80, flags="S") / Raw(bytes(n)))
        for n in range(40)
    ] + FRAMES[1:]
    start_ns = time.monotonic_ns()
    for n, frame in enumerate(flows):
        loaded.run("tc_ingress", frame, repeat=n + 1)
        loaded.run("tc_egress", frame, repeat=2)
    for n in range(40):
        later = bytes(eth() / ip4() / TCP(sport=1000 + n, dport=80, flags="PA") / Raw(bytes(7)))
        loaded.run("tc_ingress", later)
    end_ns = time.monotonic_ns()
    keys, values = loaded.flows()
    assert len(loaded.read()) == 0
    counted = loaded.counters()
    assert (counted["table_full"], counted["ring_full"]) == (0, 0)

    offset = unix_offset_ns()
    seconds = range((start_ns + offset) // 10**9, (end_ns + offset) // 10**9 + 1)
    total: dict[tuple[bytes, int], Any] = {}
    for key, per_cpu in zip(keys, values, strict=True):
        assert int(key["second"]) in seconds
        assert not key["pad"].any()
        assert (key["if_index"], key["capture_point"]) == (LOOPBACK, CapturePoint.TC)
        used = per_cpu[per_cpu["packets"] > 0]
        assert len(used)
        assert ((used["first_ns"] < used["last_ns"]) == (used["packets"] > 1)).all()
        assert (used["first_ns"] >= start_ns).all()
        assert (used["last_ns"] <= end_ns).all()
        ends = b"".join(key[name].tobytes() for name in ("src_addr", "dst_addr", "src_port"))
        name = (ends, int(key["direction"]))
        sums = total.setdefault(name, {"packets": 0, "bytes": 0, "tcp_flags": 0})
        sums["packets"] += int(used["packets"].sum())
        sums["bytes"] += int(used["bytes"].sum())
        sums["tcp_flags"] |= int(np.bitwise_or.reduce(used["tcp_flags"]))
        record = as_decoded("tc_ingress", flows[0])
        if ends[-2:] == struct.pack("<H", 1000):
            for field in ("src_mac", "dst_mac", "ttl", "tos"):
                assert (used[field] == record[field]).all()
    for n, frame in enumerate(flows):
        record = as_decoded("tc_ingress", frame)
        ends = b"".join(record[name].tobytes() for name in ("src_addr", "dst_addr", "src_port"))
        later = n < 40
        assert total.pop((ends, Direction.INGRESS)) == {
            "packets": n + 1 + later,
            "bytes": (n + 1) * len(frame) + (later and 61),
            "tcp_flags": 0x02 | 0x18 if later else 0,
        }
        assert total.pop((ends, Direction.EGRESS))["packets"] == 2
    assert not total
    assert counted["seen"] == int(values["packets"].sum())
    assert counted["seen_bytes"] == int(values["bytes"].sum())


def test_a_full_flow_table_falls_back_to_the_ring(load: Load) -> None:
    """Packets of flows that have no room in the table become records, and none is lost."""
    loaded = load(flows=4)
    loaded.control(aggregate=1)
    for n in range(10):
        frame = bytes(eth() / ip4() / UDP(sport=1000 + n, dport=9))
        loaded.run("tc_ingress", frame, repeat=3)
    _, values = loaded.flows()
    records = loaded.read()
    counted = loaded.counters()
    assert counted["seen"] == 30 == int(values["packets"].sum()) + len(records)
    assert counted["table_full"] == len(records) >= 3 * (10 - 4 - loaded.cpus)
    assert counted["ring_full"] == 0


def test_aggregation_can_be_turned_on_and_off(load: Load) -> None:
    """The switch works on running programs: packets before and after it become records."""
    loaded = load()
    for aggregate in (0, 1, 0):
        loaded.control(aggregate=aggregate)
        loaded.run("tc_ingress", FRAMES[0], repeat=5)
    _, values = loaded.flows()
    assert int(values["packets"].sum()) == 5
    assert len(loaded.read()) == 10


def test_xdp_frames_of_several_buffers(load: Load) -> None:
    """A frame that is larger than a page is counted with all its bytes."""
    loaded = load(programs=("xdp_capture",), xdp_flags=XDP_HAS_FRAGS)
    frame = bytes(eth() / ip4() / UDP(sport=5, dport=6) / Raw(bytes(8972)))
    result = loaded.run("xdp_capture", frame)
    assert (result.verdict, result.data) == (XDP_PASS, frame)
    (record,) = loaded.read()
    assert (record["wire_bytes"], record["dst_port"]) == (len(frame), 6)


def test_xdp_on_kernels_without_its_load_helper(load: Load) -> None:
    """On a kernel that says to be old the first buffer is read directly, with the same records."""
    libc = ctypes.CDLL(None)
    before = libc.personality(0xFFFFFFFF)
    libc.personality(before | UNAME26)
    try:
        loaded = load(programs=("xdp_capture",), xdp_flags=XDP_HAS_FRAGS)
    finally:
        libc.personality(before)
    frames = frames_for("xdp_capture")
    for frame in frames:
        loaded.run("xdp_capture", frame)
    records = loaded.read().copy()
    records["ts_ns"] = 0
    assert [record.tobytes() for record in records] == [
        as_decoded("xdp_capture", frame).tobytes() for frame in frames
    ]
    loaded.run("xdp_capture", bytes(eth() / ip4() / UDP(sport=5, dport=6) / Raw(bytes(8972))))
    (record,) = loaded.read()
    assert record["wire_bytes"] < 4096  # it was that path: the first buffer is all there is
