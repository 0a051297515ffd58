"""Topics, batches and packets as lines, for people and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from flows.kafka.continuity import total
from flows.kafka.tail import BadMessage, Batch
from flows.kafka.topics import Topic
from schemas.readers import Packet, iter_packets
from schemas.record import Direction

_COLUMNS: Final = "{:<12} {:>9} {:>8} {:<16} {:>9} {:>8} {:>7} {:>6} {:>8}"
HEADING: Final = _COLUMNS.format(
    *("time", "partition", "offset", "probe", "sequence", "packets", "records", "lost", "lag")
)

_LONGEST: Final = 64
_PROTOCOLS: Final = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "icmp6",
                     89: "ospf", 132: "sctp"}  # fmt: skip
_WITH_PORTS: Final = frozenset({6, 17, 132})
_IP: Final = frozenset({0x0800, 0x86DD})
_ETH_TYPES: Final = {0x0806: "arp", 0x88CC: "lldp", 0x8847: "mpls"}
_WAYS: Final[Mapping[int, str]] = {Direction.INGRESS: "in", Direction.EGRESS: "out"}


def topic_table(names: Sequence[str], found: Sequence[Topic]) -> Iterator[str]:
    """A heading, then a line a topic, also for those that weren't found."""
    topics = {topic.name: topic for topic in found}
    width = max(map(len, names))
    row = f"{{:<{width}}} {{:>10}} {{:>8}} {{:>12}} {{:>12}}  {{}}".format
    yield row("topic", "partitions", "replicas", "messages", "lag", "retention")
    for name in names:
        if name not in topics:
            yield row(name, *"----", "isn't there; netspectra topics create")
            continue
        topic = topics[name]
        lag = "-" if topic.lag is None else topic.lag
        numbers = len(topic.partitions), topic.replicas, topic.messages, lag
        yield row(name, *numbers, topic.retention)


def topic_objects(found: Sequence[Topic]) -> Iterator[str]:
    """A topic on each line, as an object of JSON."""
    for topic in found:
        yield _json(
            {
                "topic": topic.name,
                "partitions": len(topic.partitions),
                "replicas": topic.replicas,
                "messages": topic.messages,
                "lag": topic.lag,
                "retention": topic.retention,
                "offsets": {n: dataclasses.asdict(at) for n, at in topic.partitions.items()},
            }
        )


def batch_line(batch: Batch) -> str:
    """One line about a batch; ``lag`` is how far its watermark is behind its making."""
    header, finding = batch.header, batch.finding
    line = _COLUMNS.format(
        _clock(batch.time_ms),
        batch.partition,
        batch.offset,
        _safe(header.probe),
        header.sequence,
        total(batch.packets),
        header.record_count,
        "?" if finding.lost is None else finding.lost,
        f"{(header.emit_time_ns - header.watermark_ns) / 1e9:.3f}s",
    )
    return "  ".join([line, *_notes(batch)])


def _notes(batch: Batch) -> Iterator[str]:
    header, finding = batch.header, batch.finding
    if finding.repeated:
        yield "repeated"
    if finding.missing_batches:
        yield f"{finding.missing_batches} batches missing"
    for reason, count in finding.dropped.items():
        yield f"{_safe(reason)} {count}"
    if header.partition != batch.partition:
        yield f"meant for partition {header.partition}"
    if header.aggregated:
        yield "aggregated"
    if header.goodbye:
        yield "goodbye"


def bad_line(message: BadMessage) -> str:
    """One line about a message that is no batch."""
    return (
        f"{_clock(message.time_ms):<12} {message.partition:>9} {message.offset:>8} "
        f"bad message: {message.reason}"
    )


def batch_json(batch: Batch) -> str:
    """A batch's header, and what it shows, as an object of JSON on one line."""
    header, finding = batch.header, batch.finding
    return _json(
        _place(batch)
        | dataclasses.asdict(header)
        | {
            "partition": batch.partition,
            "meant_for_partition": header.partition,
            "boot_id": header.boot_id.hex(),
            "packets": total(batch.packets),
            "watermark_lag_ns": header.emit_time_ns - header.watermark_ns,
            "repeated": finding.repeated,
            "missing_batches": finding.missing_batches,
            "missing_packets": finding.missing_packets,
            "newly_dropped": dict(finding.dropped),
            "lost": finding.lost,
        }
    )


def bad_json(message: BadMessage) -> str:
    """A message that is no batch, as an object of JSON on one line."""
    return _json(_place(message) | {"bad_message": message.reason})


def packet_lines(batch: Batch, as_json: bool = False) -> Iterator[str]:
    """A line a packet of a batch."""
    interfaces = {index: name for name, index in batch.header.interfaces.items()}
    for packet in iter_packets(batch.value):
        if as_json:
            where = {"partition": batch.partition, "offset": batch.offset}
            yield _json(where | {"probe": batch.header.probe} | dataclasses.asdict(packet))
        else:
            yield _packet_line(packet, batch.header.probe, interfaces)


def _packet_line(packet: Packet, probe: str, interfaces: Mapping[int, str]) -> str:
    second, rest_ns = divmod(packet.ts_ns, 1_000_000_000)
    words = [
        f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S}.{rest_ns:09}",
        f"{_safe(probe)}/{_safe(interfaces.get(packet.if_index, str(packet.if_index)))}",
    ]
    if packet.direction in _WAYS:
        words.append(_WAYS[packet.direction])
    if packet.eth_type in _IP:
        ports = packet.ip_proto in _WITH_PORTS
        words.append(_PROTOCOLS.get(packet.ip_proto, f"protocol {packet.ip_proto}"))
        words.append(
            f"{_end(packet.src_addr, packet.src_port, ports)} > "
            f"{_end(packet.dst_addr, packet.dst_port, ports)}"
        )
        if packet.ip_proto in (1, 58):
            words.append(f"type {packet.dst_port >> 8} code {packet.dst_port & 255}")
        if packet.ip_proto == 6:
            words.append(_tcp_flags(packet.tcp_flags))
    else:
        words.append(_ETH_TYPES.get(packet.eth_type, f"0x{packet.eth_type:04x}"))
        words.append(f"{packet.src_mac} > {packet.dst_mac}")
    words.append(f"{packet.wire_bytes} bytes")
    if packet.packets != 1:
        words.append(f"{packet.packets} packets")
    if packet.vlan_id:
        words.append(f"vlan {packet.vlan_id}")
    if packet.tunnel_id:
        words.append(f"tunnel {packet.tunnel_id}")
    words += [str(flag.name).lower() for flag in packet.flags]
    return "  ".join(words)


def _end(address: Any, port: int, ports: bool) -> str:
    if not ports:
        return str(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _tcp_flags(flags: int) -> str:
    """The letters of tcpdump, in the order of the bits."""
    return "".join(letter for bit, letter in enumerate("FSRPAUEW") if flags >> bit & 1) or "none"


def _clock(time_ms: int) -> str:
    second, rest_ms = divmod(time_ms, 1000)
    try:
        return f"{datetime.fromtimestamp(second, UTC):%H:%M:%S}.{rest_ms:03}"
    except (OverflowError, ValueError, OSError):  # a producer may write any number
        return f"{time_ms}ms"


def _safe(text: str) -> str:
    """Text off the wire, which must neither move the cursor nor break the line."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:_LONGEST])
    return shown if len(text) <= _LONGEST else f"{shown}…"


def _place(message: Batch | BadMessage) -> dict[str, Any]:
    return {
        "time_ms": message.time_ms,
        "partition": message.partition,
        "offset": message.offset,
    }


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, default=str)  # addresses
