"""Frames made with scapy, what scapy reads in a frame, and capture files around them."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

import numpy as np
from scapy.contrib.geneve import GENEVE, GeneveOptions
from scapy.contrib.mpls import MPLS
from scapy.fields import ByteField, FieldLenField, StrLenField
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.ipsec import AH, ESP
from scapy.layers.l2 import (
    ARP,
    GRE,
    LLC,
    SNAP,
    STP,
    CookedLinux,
    CookedLinuxV2,
    Dot1AD,
    Dot1Q,
    Dot3,
    Ether,
)
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.layers.vxlan import VXLAN
from scapy.packet import NoPayload, Packet, Raw, bind_bottom_up, bind_layers, split_layers

ETHERNET, RAW, NULL, LOOP, SLL, SLL2, RAW4, RAW6 = 1, 101, 0, 108, 113, 276, 228, 229


class OtherExtension(Packet):
    """Extension headers of the usual form that scapy doesn't know: HIP, shim6."""

    name = "OtherExtension"
    fields_desc = [  # noqa: RUF012
        ByteField("nh", 59),
        FieldLenField("len", None, length_of="data", fmt="B", adjust=lambda _, n: (n + 2) // 8 - 1),
        StrLenField("data", bytes(6), length_from=lambda packet: packet.len * 8 + 6),
    ]


for _number in (139, 140):
    bind_layers(IPv6, OtherExtension, nh=_number)
split_layers(AH, IP, nh=0)  # 0 is hop-by-hop options
for _lower in (OtherExtension, AH):  # scapy knows no chain that goes on behind these
    bind_layers(_lower, TCP, nh=6)
    bind_layers(_lower, UDP, nh=17)
    bind_layers(_lower, GRE, nh=47)
    bind_layers(_lower, ICMPv6EchoRequest, nh=58)
    bind_layers(_lower, SCTP, nh=132)
    bind_layers(_lower, IPv6ExtHdrHopByHop, nh=0)
    bind_layers(_lower, IPv6ExtHdrRouting, nh=43)
    bind_layers(_lower, IPv6ExtHdrFragment, nh=44)
    bind_layers(_lower, AH, nh=51)
    bind_layers(_lower, IPv6ExtHdrDestOpt, nh=60)
for _lower in (Ether, Dot1Q, Dot1AD):
    bind_bottom_up(_lower, Dot1AD, type=0x9100)
    bind_bottom_up(_lower, MPLS, type=0x8848)
bind_layers(UDP, VXLAN, dport=8472)

MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
IP4 = {"src": "192.0.2.1", "dst": "198.51.100.2"}
IP6 = {"src": "2001:db8::1", "dst": "2001:db8:1::2"}
EXTENSIONS = (
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrRouting,
    IPv6ExtHdrFragment,
    AH,
    OtherExtension,
)


def eth(**fields: Any) -> Packet:
    return Ether(**{**MACS, **fields})


def ip4(**fields: Any) -> Packet:
    return IP(**{**IP4, **fields})


def ip6(**fields: Any) -> Packet:
    return IPv6(**{**IP6, **fields})


def authentication(icv_words: int) -> Packet:
    return AH(payloadlen=icv_words + 1, icv=bytes(4 * icv_words))


def tcp() -> Packet:
    return TCP(sport=40000, dport=443, flags="SA") / Raw(b"tcp data")


def udp() -> Packet:
    return UDP(sport=5000, dport=5001) / Raw(b"udp data")


def inner(**fields: Any) -> Packet:
    return Ether(src="02:aa:00:00:00:01", dst="02:aa:00:00:00:02", **fields)


def _cases() -> dict[str, tuple[int, Packet | bytes]]:
    flow4 = ip4(ttl=61, tos=0xB8) / tcp()
    flow6 = ip6(hlim=61, tc=0xB8) / udp()
    inner4 = IP(src="10.0.0.1", dst="10.0.0.2", ttl=9) / tcp()
    inner6 = IPv6(src="fd00::1", dst="fd00::2", hlim=9) / udp()
    vxlan = ip4() / UDP(sport=1, dport=4789) / VXLAN(vni=70000)
    ports = struct.pack("!HH", 7, 9)
    mh = Raw(bytes([59, 0, 1, 0, 0, 0, 0, 0]))
    ethernet = {
        "ipv4 tcp": eth() / flow4,
        "ipv4 udp": eth() / ip4() / udp(),
        "ipv4 options": eth() / ip4(options=IPOption_RR(routers=["1.2.3.4"] * 3)) / tcp(),
        "ipv4 padded": bytes(eth() / ip4() / UDP(sport=1, dport=2)).ljust(60, b"\xff"),
        "ipv4 padded, no layer 4": bytes(eth() / ip4(proto=47)).ljust(60, b"\xff"),
        "ipv4 total length 0": eth() / ip4(len=0) / tcp(),
        "ipv4 first fragment": eth() / ip4(flags="MF") / udp(),
        "ipv4 later fragment": eth() / ip4(frag=100, proto=17) / Raw(b"x" * 40),
        "ipv6 tcp": eth() / ip6() / tcp(),
        "ipv6 udp": eth() / flow6,
        "ipv6 hop by hop": eth()
        / ip6()
        / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"x" * 20)])
        / tcp(),
        "ipv6 routing": eth() / ip6() / IPv6ExtHdrRouting(addresses=["2001:db8::9"]) / udp(),
        "ipv6 destination": eth() / ip6() / IPv6ExtHdrDestOpt() / tcp(),
        "ipv6 first fragment": eth() / ip6() / IPv6ExtHdrFragment(m=1) / udp(),
        "ipv6 later fragment": eth() / ip6() / IPv6ExtHdrFragment(offset=99, nh=17) / Raw(b"x" * 9),
        "ipv6 ah": eth() / ip6() / authentication(3) / tcp(),
        "ipv6 hip": eth() / ip6(nh=139) / OtherExtension(nh=6, data=bytes(14)) / tcp(),
        "ipv6 shim6": eth() / ip6(nh=140) / OtherExtension(nh=17) / udp(),
        "ipv6 chain": eth()
        / ip6()
        / IPv6ExtHdrHopByHop()
        / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrRouting(addresses=["2001:db8::9"])
        / IPv6ExtHdrFragment(m=1)
        / authentication(3)
        / IPv6ExtHdrDestOpt()
        / tcp(),
        "ipv6 esp": eth() / ip6() / ESP(spi=1, seq=2, data=b"secret secret"),
        "ipv6 no next header": eth() / ip6(nh=59) / Raw(b"ignored"),
        "ipv6 mobility": eth() / ip6(nh=135) / mh,
        "icmp": eth() / ip4() / ICMP(type=3, code=13) / inner4,
        "icmpv6": eth() / ip6() / ICMPv6EchoRequest(data=b"ping"),
        "icmpv6 neighbour": eth() / ip6() / IPv6ExtHdrHopByHop() / ICMPv6ND_NS(tgt="fe80::1"),
        "sctp": eth() / ip4() / SCTP(sport=2905, dport=2906) / SCTPChunkInit(),
        "udp-lite": eth() / ip4(proto=136) / Raw(ports + bytes(8)),
        "dccp": eth() / ip6(nh=33) / Raw(ports + bytes(12)),
        "unknown protocol": eth() / ip4(proto=253) / Raw(b"x" * 30),
        "arp": eth() / ARP(psrc="192.0.2.1", pdst="192.0.2.2"),
        "unknown eth type": eth(type=0x88CC) / Raw(b"lldp"),
        "vlan": eth() / Dot1Q(vlan=100, prio=5) / flow4,
        "stacked vlans": eth() / Dot1AD(vlan=200) / Dot1Q(vlan=300) / flow6,
        "old stacked vlans": eth(type=0x9100)
        / Dot1AD(vlan=9)
        / Dot1Q(vlan=8)
        / Dot1Q(vlan=7)
        / flow4,
        "vlan arp": eth() / Dot1Q(vlan=4094) / ARP(),
        "mpls ipv4": eth() / MPLS(label=16, s=1) / flow4,
        "mpls ipv6": eth()
        / MPLS(label=16, s=0)
        / MPLS(label=17, s=0)
        / MPLS(label=18, s=1)
        / flow6,
        "mpls multicast": eth(type=0x8848) / Raw(bytes(MPLS(label=16, s=1) / flow4)),
        "vlan mpls": eth() / Dot1Q(vlan=5) / MPLS(label=16, s=1) / flow4,
        "mpls other": eth() / MPLS(label=16, s=1) / Raw(b"\x10 neither IPv4 nor IPv6"),
        "llc": Dot3(**MACS) / LLC() / STP(),
        "snap ipv4": Dot3(**MACS) / LLC() / SNAP(code=0x800) / flow4,
        "vxlan": eth() / Dot1Q(vlan=12) / vxlan / inner() / inner4,
        "vxlan ipv6": eth()
        / ip6()
        / UDP(dport=8472)
        / VXLAN(vni=1)
        / inner()
        / Dot1Q(vlan=3)
        / inner6,
        "vxlan arp": eth() / vxlan / inner() / ARP(),
        "geneve": eth() / ip4() / UDP(dport=6081) / GENEVE(vni=4242) / inner() / inner4,
        "geneve options": eth()
        / ip4()
        / UDP(dport=6081)
        / GENEVE(vni=5, options=[GeneveOptions(data=bytes(8))])
        / inner()
        / inner6,
        "geneve ip": eth() / ip6() / UDP(dport=6081) / GENEVE(vni=6, proto=0x800) / inner4,
        "gre": eth() / ip4() / GRE() / inner4,
        "gre all fields": eth()
        / ip4()
        / GRE(chksum_present=1, key_present=1, key=77, seqnum_present=1, sequence_number=3)
        / inner6,
        "gretap": eth() / ip6() / GRE(key_present=1, key=78, proto=0x6558) / inner() / inner4,
        "nvgre": eth()
        / ip4()
        / GRE(key_present=1, key=(0x5000 << 8) | 7, proto=0x6558)
        / inner()
        / inner4,
        "ip in ip": eth() / ip4() / inner4,
        "6in4": eth() / ip4() / inner6,
        "4in6": eth() / ip6() / inner4,
        "6in6": eth() / ip6() / IPv6ExtHdrDestOpt() / inner6,
        "tunnel in tunnel": eth() / vxlan / inner() / ip4() / GRE() / inner4,
        "five tunnels": eth()
        / ip4(ttl=1)
        / ip4(ttl=2)
        / ip4(ttl=3)
        / ip4(ttl=4)
        / ip4(ttl=5)
        / ip4(ttl=6)
        / tcp(),
    }
    sll2 = {"ifindex": 12, "lladdrtype": 1, "lladdrlen": 6, "src": b"\2\0\0\0\0\1\0\0"}
    others: dict[str, tuple[int, Packet | bytes]] = {
        "raw ipv4": (RAW, flow4),
        "raw ipv6": (RAW, flow6),
        "raw ipv4, BSD": (12, flow4),
        "raw ipv6, OpenBSD": (14, flow6),
        "only ipv4": (RAW4, flow4),
        "only ipv6": (RAW6, flow6),
        "cooked in": (SLL, CookedLinux(pkttype=0, lladdrlen=6, src=b"\2\0\0\0\0\1\0\0") / flow4),
        "cooked out": (SLL, CookedLinux(pkttype=4, lladdrlen=6, src=b"\2\0\0\0\0\1\0\0") / flow6),
        "cooked, no address": (SLL, CookedLinux(pkttype=1, lladdrlen=0, src=bytes(8)) / flow4),
        "cooked vlan": (
            SLL,
            CookedLinux(pkttype=3, lladdrlen=6, proto=0x8100) / Dot1Q(vlan=6) / flow4,
        ),
        "cooked arp": (SLL, CookedLinux(pkttype=0, lladdrlen=6) / ARP()),
        "cooked 2 in": (SLL2, CookedLinuxV2(pkttype=0, **sll2) / flow4),
        "cooked 2 out": (SLL2, CookedLinuxV2(pkttype=4, **sll2) / flow6),
        "cooked gre": (SLL, CookedLinux(pkttype=0, lladdrlen=6) / ip4() / GRE() / inner4),
    }
    for family, flow in (
        (2, flow4),
        (10, flow6),
        (23, flow6),
        (24, flow6),
        (28, flow6),
        (30, flow6),
    ):
        for order in "<>":
            header = struct.pack(f"{order}I", family)
            others[f"loopback {family} {order}"] = NULL, header + bytes(flow)
    others["OpenBSD loopback"] = LOOP, struct.pack(">I", 2) + bytes(flow4)
    return {name: (ETHERNET, packet) for name, packet in ethernet.items()} | others


CASES: dict[str, tuple[int, bytes]] = {
    name: (link_type, bytes(packet)) for name, (link_type, packet) in _cases().items()
}
"""Link type and frame by name: every layer that the decoder knows."""


def random_frame(random: Random, depth: int = 0) -> bytes:
    """Build an Ethernet frame of a random stack of layers."""
    packet: Packet = Ether(src=f"02:00:00:00:00:{random.randrange(256):02x}", dst=MACS["dst"])
    for _ in range(random.choice([0, 0, 0, 1, 2])):
        packet /= random.choice([Dot1Q, Dot1AD])(vlan=random.randrange(4096))
    if random.random() < 0.1:
        packet /= MPLS(label=random.randrange(1 << 20), s=1)
    version6 = random.random() < 0.5
    if version6:
        packet /= IPv6(
            src=str(ipaddress.IPv6Address(random.getrandbits(128))),
            dst=str(ipaddress.IPv6Address(random.getrandbits(128))),
            hlim=random.randrange(256),
            tc=random.randrange(256),
            fl=random.getrandbits(20),
        )
        for _ in range(random.choice([0, 0, 1, 2, 3])):
            packet /= random.choice(
                [
                    IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(random.randrange(30)))]),
                    IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(random.randrange(30)))]),
                    IPv6ExtHdrRouting(addresses=["::1"] * random.randrange(4)),
                    IPv6ExtHdrFragment(m=1, id=random.getrandbits(32)),
                    authentication(random.randrange(1, 5)),
                ]
            )
    else:
        packet /= IP(
            src=str(ipaddress.IPv4Address(random.getrandbits(32))),
            dst=str(ipaddress.IPv4Address(random.getrandbits(32))),
            ttl=random.randrange(256),
            tos=random.randrange(256),
            flags=random.choice(["", "DF", "MF"]),
            options=[IPOption_RR(routers=["9.9.9.9"] * random.randrange(9))]
            if random.random() < 0.2
            else [],
        )
    if depth < 3 and random.random() < 0.4:
        below = Raw(random_frame(random, depth + 1))
        vni = random.getrandbits(24)
        packet /= random.choice(
            [
                UDP(sport=random.randrange(1024, 4000), dport=4789) / VXLAN(vni=vni) / below,
                UDP(sport=random.randrange(1024, 4000), dport=6081)
                / GENEVE(vni=vni, proto=0x6558)
                / below,
                GRE(key_present=1, key=random.getrandbits(32), proto=0x6558) / below,
                GRE(chksum_present=1, proto=0x6558) / below,
            ]
        )
    else:
        # Ports of which scapy knows no protocol: it would dissect what we mean as data.
        low, high = random.randrange(20000, 30000), random.randrange(30000, 40000)
        packet /= random.choice(
            [
                TCP(sport=low, dport=high, flags=random.getrandbits(8)),
                UDP(sport=low, dport=high),
                SCTP(sport=low, dport=high),
                ICMPv6EchoRequest() if version6 else ICMP(type=8, code=random.randrange(256)),
            ]
        ) / Raw(bytes(random.randrange(40)))
    return bytes(packet).ljust(random.choice([0, 60]), b"\0")


def layers(packet: Packet) -> Iterator[Packet]:
    while not isinstance(packet, NoPayload):
        yield packet
        packet = packet.payload


def dissect(link_type: int, frame: bytes) -> Packet:
    if link_type in (NULL, LOOP):
        frame = frame[4:]
    classes = {ETHERNET: Ether, SLL: CookedLinux, SLL2: CookedLinuxV2}
    default = IP if link_type not in classes and frame[0] >> 4 == 4 else IPv6
    return classes.get(link_type, default)(frame)


def expected(link_type: int, frame: bytes, *, decapsulate: bool = False) -> dict[str, Any]:
    """Build from scapy's reading of a sound frame the record that it should become.

    Fields of time, length and capture point are left out; addresses are text as in ``text``.
    """
    record: dict[str, Any] = {
        "src_mac": "00:00:00:00:00:00",
        "dst_mac": "00:00:00:00:00:00",
        "if_index": 0,
        "tunnel_id": 0,
        "vlan_id": 0,
        "direction": 0,
        "flags": 0,
    }
    blank = dict.fromkeys(("src_port", "dst_port", "ip_proto", "tcp_flags", "ttl", "tos"), 0)
    blank |= {"src_addr": "::", "dst_addr": "::", "eth_type": 0}
    record |= blank
    tunnels = 0
    vlan_seen = False
    before: Packet | None = None
    for layer in layers(dissect(link_type, frame)):
        nested_ip = isinstance(layer, IP | IPv6) and (isinstance(before, (IP, IPv6, *EXTENSIONS)))
        if isinstance(before, MPLS) and not isinstance(layer, MPLS | IP | IPv6):
            break  # scapy guesses Ethernet
        if isinstance(layer, VXLAN | GENEVE | GRE) or nested_ip:
            if not decapsulate or tunnels == 4:
                break
            if tunnels == 0:
                record["tunnel_id"] = _tunnel_id(layer)
            tunnels += 1
            record |= blank
        if isinstance(layer, Ether | Dot3):
            record |= {"src_mac": layer.src, "dst_mac": layer.dst}
            record["eth_type"] = layer.type if isinstance(layer, Ether) else 0
        elif isinstance(layer, Dot1Q | Dot1AD):
            if not vlan_seen and tunnels == 0:
                record["vlan_id"] = layer.vlan
            vlan_seen = True
            record["eth_type"] = layer.type
        elif isinstance(layer, SNAP):
            record["eth_type"] = layer.code
        elif isinstance(layer, CookedLinux | CookedLinuxV2):
            record["eth_type"] = layer.proto
            record["direction"] = 2 if layer.pkttype == 4 else 1
            if layer.lladdrlen == 6:
                record["src_mac"] = bytes(layer.src)[:6].hex(":")
            if isinstance(layer, CookedLinuxV2):
                record["if_index"] = layer.ifindex
        elif isinstance(layer, IP):
            record |= {
                "src_addr": "::ffff:" + layer.src,
                "dst_addr": "::ffff:" + layer.dst,
                "ip_proto": layer.proto,
                "ttl": layer.ttl,
                "tos": layer.tos,
                "eth_type": 0x0800,
            }
            if layer.frag:
                record["flags"] = 1
                break
        elif isinstance(layer, IPv6):
            record |= {
                "src_addr": layer.src,
                "dst_addr": layer.dst,
                "ip_proto": layer.nh,
                "ttl": layer.hlim,
                "tos": layer.tc,
                "eth_type": 0x86DD,
            }
        elif isinstance(layer, EXTENSIONS):
            record["ip_proto"] = layer.nh
            if isinstance(layer, IPv6ExtHdrFragment) and layer.offset:
                record["flags"] = 1
                break
        elif isinstance(layer, TCP):
            record |= {"src_port": layer.sport, "dst_port": layer.dport}
            record["tcp_flags"] = int(layer.flags) & 0xFF
            break
        elif isinstance(layer, UDP | SCTP):
            record |= {"src_port": layer.sport, "dst_port": layer.dport}
            if isinstance(layer, SCTP):
                break
        elif isinstance(layer, ICMP) or record["ip_proto"] == 58:
            record["dst_port"] = layer.type * 256 + layer.code
            break
        elif record["ip_proto"] in (33, 136) and isinstance(layer, Raw):
            record["src_port"], record["dst_port"] = struct.unpack_from("!HH", layer.load)
            break
        before = layer
    if tunnels:
        record["flags"] |= 4
    return record


def _tunnel_id(layer: Packet) -> int:
    if isinstance(layer, VXLAN | GENEVE):
        return int(layer.vni)
    if not isinstance(layer, GRE) or not layer.key_present:
        return 0
    nvgre = layer.proto == 0x6558 and not layer.chksum_present and not layer.seqnum_present
    return layer.key >> 8 if nvgre and layer.key >> 8 >= 0x1000 else int(layer.key)


def text(record: np.void) -> dict[str, Any]:
    """Show a decoded record in the form of ``expected``."""

    def address(value: Any) -> str:
        packed = ipaddress.IPv6Address(bytes(value))
        return f"::ffff:{packed.ipv4_mapped}" if packed.ipv4_mapped else str(packed)

    shown = {
        "src_addr": address(record["src_addr"]),
        "dst_addr": address(record["dst_addr"]),
        "src_mac": bytes(record["src_mac"]).hex(":"),
        "dst_mac": bytes(record["dst_mac"]).hex(":"),
    }
    numbers = (
        "if_index tunnel_id vlan_id direction flags src_port dst_port ip_proto tcp_flags "
        "ttl tos eth_type"
    )
    return shown | {name: int(record[name]) for name in numbers.split()}


def pcap_record(
    frame: bytes, ts: tuple[int, int] = (0, 0), wire: int | None = None, order: str = "<"
) -> bytes:
    wire = len(frame) if wire is None else wire
    return struct.pack(f"{order}IIII", *ts, len(frame), wire) + frame


def pcap_header(
    link_type: int = ETHERNET,
    magic: int = 0xA1B2C3D4,
    order: str = "<",
    snap_len: int = 262144,
    version: tuple[int, int] = (2, 4),
) -> bytes:
    return struct.pack(f"{order}IHHiIII", magic, *version, 0, 0, snap_len, link_type)


def pcap(frames: Iterable[bytes], link_type: int = ETHERNET, **header: Any) -> bytes:
    """Build a pcap file, one frame each microsecond of the second 1700000000."""
    order = header.get("order", "<")
    records = (
        pcap_record(frame, (1_700_000_000, i), order=order) for i, frame in enumerate(frames)
    )
    return pcap_header(link_type, **header) + b"".join(records)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = len(body) + 12
    return struct.pack(f"{order}II", kind, size) + body + struct.pack(f"{order}I", size)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str = "<", version: tuple[int, int] = (1, 0)) -> bytes:
    body = struct.pack(f"{order}IHHq", 0x1A2B3C4D, *version, -1)
    return block(0x0A0D0D0A, body, order)


def interface(
    link_type: int = ETHERNET, order: str = "<", snap_len: int = 0, options: bytes = b""
) -> bytes:
    return block(1, struct.pack(f"{order}HHI", link_type, 0, snap_len) + options, order)


def enhanced(
    frame: bytes,
    number: int = 0,
    units: int = 0,
    wire: int | None = None,
    order: str = "<",
    options: bytes = b"",
) -> bytes:
    wire = len(frame) if wire is None else wire
    head = struct.pack(f"{order}5I", number, units >> 32, units & 0xFFFFFFFF, len(frame), wire)
    return block(6, head + frame + bytes(-len(frame) % 4) + options, order)


def simple(frame: bytes, wire: int | None = None, order: str = "<") -> bytes:
    return block(3, struct.pack(f"{order}I", len(frame) if wire is None else wire) + frame, order)


def old_packet(
    frame: bytes, number: int = 0, units: int = 0, order: str = "<", options: bytes = b""
) -> bytes:
    high, low = units >> 32, units & 0xFFFFFFFF
    head = struct.pack(f"{order}HHIIII", number, 0, high, low, len(frame), len(frame))
    return block(2, head + frame + bytes(-len(frame) % 4) + options, order)
