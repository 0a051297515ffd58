"""Kafka's clients, gaps between batches, and how batches and packets are written as lines."""

from __future__ import annotations

import json
import socket
from ipaddress import IPv6Address
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, Producer
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from flows.cli import main
from flows.errors import UsageError
from flows.kafka import client, lines, topics
from flows.kafka.continuity import Continuity, Finding
from flows.kafka.tail import BadMessage, Batch
from flows.settings.model import Kafka, Topics
from schemas.batch import BatchHeader, Counters, decode_batch, encode_batch
from schemas.record import PACKET, Direction, PacketFlag, Packets

SECOND_NS = 1_000_000_000
NOON_NS = 1_700_049_600 * SECOND_NS  # 2023-11-15 12:00 UTC


def records(*counts: int) -> Packets:
    """A TCP packet from 10.0.0.1:1234 to 10.0.0.2:443 for each record."""
    packets = np.zeros(len(counts), PACKET)
    for field, last in (("src_addr", 1), ("dst_addr", 2)):
        packets[field] = np.array([0] * 10 + [255, 255, 10, 0, 0, last], np.uint8)
    packets["ts_ns"] = NOON_NS + np.arange(len(counts))
    packets["src_port"], packets["dst_port"] = 1234, 443
    packets["wire_bytes"], packets["packets"] = 1500, counts
    packets["eth_type"], packets["ip_proto"], packets["tcp_flags"] = 0x0800, 6, 0x12
    packets["direction"], packets["if_index"] = Direction.INGRESS, 2
    return packets


def header(sequence: int = 0, count: int = 0, **more: Any) -> BatchHeader:
    values: dict[str, Any] = {
        "tenant": "default",
        "probe": "edge",
        "boot_id": bytes(16),
        "partition": 3,
        "sequence": sequence,
        "emit_time_ns": NOON_NS,
        "watermark_ns": NOON_NS - SECOND_NS // 4,
        "record_count": count,
        "packets_before": 0,
    }
    return BatchHeader(**values | more)


def batch(packets: Packets, finding: Finding | None = None, **more: Any) -> Batch:
    value = encode_batch(header(count=len(packets), **more), packets)
    return Batch(3, 41, NOON_NS // 10**6, value, *decode_batch(value), finding or Finding())


def test_a_batch_is_one_line() -> None:
    """Time, place, probe, number, packets, records, lost packets and the watermark's lag."""
    line = lines.batch_line(batch(records(1, 2), sequence=7))
    assert line.split() == ["12:00:00.000", "3", "41", "edge", "7", "3", "2", "0", "0.250s"]
    assert len(lines.HEADING.split()) == len(line.split())


def test_what_is_odd_about_a_batch_is_said() -> None:
    """Repeats, gaps, drops by reason, a wrong partition, aggregation and goodbye are named."""
    finding = Finding(True, 2, 50, {"ring_full": 5, "sampled_out": 90})
    line = lines.batch_line(batch(records(1), finding, partition=5, aggregated=True, goodbye=True))
    assert line.split()[7] == "55"  # what sampling left out isn't lost
    for words in ("repeated", "2 batches missing", "ring_full 5", "sampled_out 90",
                  "meant for partition 5", "aggregated", "goodbye"):  # fmt: skip
        assert words in line


def test_losses_that_are_not_known() -> None:
    """A gap of batches that don't count packets shows a question mark, not a zero."""
    assert Finding(missing_batches=1, missing_packets=None).lost is None
    line = lines.batch_line(batch(records(1), Finding(missing_batches=1, missing_packets=None)))
    assert line.split()[7] == "?"


@pytest.mark.parametrize("name", ["\x1b[2Jedge", "a\nb", "a\rb", "\u202eedge", "x" * 5000])
def test_names_off_the_wire_are_harmless(name: str) -> None:
    """A probe can neither move the reader's cursor nor break or stretch the line."""
    one = batch(records(1), Finding(dropped={name: 1}), probe=name)
    for line in (lines.batch_line(one), *lines.packet_lines(one)):
        assert line.isprintable()
        assert len(line) < 400


def test_a_batch_as_json() -> None:
    """The object has the header, where the batch was, and what it shows."""
    counters = Counters(seen=9, dropped={"ring_full": 5})
    finding = Finding(dropped={"ring_full": 5})
    found = json.loads(
        lines.batch_json(batch(records(1, 2), finding, boot_id=b"\xab" * 16, counters=counters))
    )
    assert found["boot_id"] == "ab" * 16
    assert (found["partition"], found["offset"], found["time_ms"]) == (3, 41, NOON_NS // 10**6)
    assert (found["packets"], found["record_count"], found["lost"]) == (3, 2, 5)
    assert found["counters"] == {"seen": 9, "dropped": {"ring_full": 5}}
    assert found["watermark_lag_ns"] == SECOND_NS // 4


def test_packets_are_lines() -> None:
    """A packet shows time, probe, way, protocol, both ends, flags and size."""
    (line,) = lines.packet_lines(batch(records(1)))
    assert line == (
        "2023-11-15 12:00:00.000000000  edge/2  in  tcp  10.0.0.1:1234 > 10.0.0.2:443  SA  "
        "1500 bytes"
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ip_proto": 17}, "udp  10.0.0.1:1234 > 10.0.0.2:443  1500 bytes"),
        ({"ip_proto": 1, "dst_port": 0x0301}, "icmp  10.0.0.1 > 10.0.0.2  type 3 code 1"),
        ({"ip_proto": 200}, "protocol 200  10.0.0.1 > 10.0.0.2"),
        ({"tcp_flags": 0}, "443  none  1500"),
        ({"eth_type": 0x0806}, "arp  00:00:00:00:00:00 > 00:00:00:00:00:00  1500 bytes"),
        ({"eth_type": 0x1234}, "0x1234  00:00"),
        ({"packets": 4}, "1500 bytes  4 packets"),
        ({"vlan_id": 9, "tunnel_id": 8}, "vlan 9  tunnel 8"),
        ({"flags": int(PacketFlag.COALESCED | PacketFlag.DECAPSULATED)}, "decapsulated  coalesced"),
        ({"flags": 0xF0}, "1500 bytes"),
        ({"direction": 77}, "edge/2  tcp"),
        ({"ts_ns": 2**64 - 1}, "2554-07-21 23:34:33.709551615"),
    ],
)
def test_packets_of_all_kinds(fields: dict[str, int], words: str) -> None:
    """Protocols, link-layer types, tags, tunnels and oddities have their words."""
    packets = records(1)
    for name, value in fields.items():
        packets[name] = value
    (line,) = lines.packet_lines(batch(packets))
    assert words in line


def test_ipv6_ends_are_bracketed() -> None:
    """A port is set apart from an IPv6 address."""
    packets = records(1)
    packets["src_addr"] = np.frombuffer(IPv6Address("2001:db8::1").packed, np.uint8)
    (line,) = lines.packet_lines(batch(packets))
    assert "[2001:db8::1]:1234 > 10.0.0.2:443" in line


def test_interfaces_by_name() -> None:
    """Where the probe names its interfaces, packets show the name, harmless like all names."""
    (line,) = lines.packet_lines(batch(records(1), interfaces={"eth0": 1, "wg\n0": 2}))
    assert "  edge/wg\\n0  in  " in line


def test_packets_as_json() -> None:
    """A packet's object has every field, with addresses as text."""
    (line,) = lines.packet_lines(batch(records(1)), as_json=True)
    found = json.loads(line)
    assert set(PACKET.names or ()) <= set(found)
    assert (found["src_addr"], found["ts_ns"], found["probe"]) == ("10.0.0.1", NOON_NS, "edge")


@pytest.mark.parametrize("time_ms", [-1, 2**63 - 1, -(2**63)])
def test_times_that_are_none(time_ms: int) -> None:
    """A message's time is its producer's word; any number can be shown."""
    line = lines.bad_line(BadMessage(3, 41, time_ms, "frame: nothing"))
    assert line.endswith("bad message: frame: nothing")
    assert json.loads(lines.bad_json(BadMessage(3, 41, time_ms, "x")))["time_ms"] == time_ms


@examples(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["comes", "lost", "twice"])), max_size=20)
)
def test_gaps_are_counted_exactly(batches: list[tuple[int, str]]) -> None:
    """Between the first and the last batch that came, packets that came and missing ones add up."""
    continuity = Continuity()
    came = missing = repeats = before = sent = 0
    started = False
    for sequence, (count, fate) in enumerate(batches):
        packets = records(*[1] * count)
        head = header(sequence, count, packets_before=before)
        before += count
        if fate == "lost":
            continue
        if not started:
            started, sent = True, before - count
        for finding in [continuity.note(head, packets) for _ in range(1 + (fate == "twice"))]:
            repeats += finding.repeated
            missing += finding.missing_packets or 0
        came += count
        end = before
    assert repeats == sum(fate == "twice" for _, fate in batches)
    assert came + missing == (end - sent if started else 0)


def test_probes_partitions_and_boots_are_apart() -> None:
    """Numbers are followed for each probe, boot and partition."""
    continuity = Continuity()
    for more in ({}, {"probe": "other"}, {"tenant": "other"}, {"boot_id": b"1" * 16},
                 {"partition": 4}):  # fmt: skip
        assert continuity.note(header(5, **more), records()) == Finding()
    assert continuity.note(header(7), records()).missing_batches == 1


def test_version_1_has_gaps_of_unknown_size() -> None:
    """Batches without packet totals tell how many are missing, not how much."""
    continuity = Continuity()
    continuity.note(header(0, packets_before=None), records())
    finding = continuity.note(header(3, packets_before=None), records())
    assert (finding.missing_batches, finding.missing_packets) == (2, None)
    assert continuity.note(header(4, packets_before=None), records()) == Finding()


def test_drops_are_told_once() -> None:
    """The probe's totals become what was dropped since they were last seen."""
    continuity = Continuity()
    found = []
    for sequence, dropped in enumerate(
        [{"ring_full": 5}, {"ring_full": 5}, {"ring_full": 7, "x": 1}]
    ):
        counters = Counters(seen=100, dropped=dropped)
        found.append(continuity.note(header(sequence, counters=counters), records()).dropped)
    assert found == [{"ring_full": 5}, {}, {"ring_full": 2, "x": 1}]


def test_properties_in_order() -> None:
    """The settings' properties win over the settings' names, the client's needs over both."""
    kafka = Kafka(brokers="a:1", properties={"client.id": "mine", "group.id": "mine", "acks": "1"})
    found = client.properties(kafka, group_id="ours", enable_auto_commit=False)
    assert found == {
        "bootstrap.servers": "a:1",
        "client.id": "mine",
        "group.id": "ours",
        "acks": "1",
        "enable.auto.commit": False,
    }


def test_secrets_are_masked() -> None:
    """Shown properties have no passwords, keys or tokens."""
    found = client.masked({"sasl.password": "hunter2", "sasl.username": "me", "ssl.key.pem": "k"})
    assert found["sasl.username"] == "me"
    assert "hunter2" not in str(found)
    assert found["ssl.key.pem"] == found["sasl.password"]


def test_unknown_property() -> None:
    """A property that librdkafka doesn't know is named, with where properties are set."""
    kafka = Kafka(properties={"fetch.maxbytes": "1"})
    with pytest.raises(UsageError, match=r'"fetch\.maxbytes"; see NETSPECTRA_KAFKA__PROPERTIES'):
        client.connect(Producer, client.properties(kafka))


def test_errors_quote_no_secrets() -> None:
    """Where librdkafka quotes a secret, the line doesn't."""
    found = {"group.id": "x", "max.poll.interval.ms": "hunter2", "sasl.password": "hunter2"}
    with pytest.raises(UsageError) as caught:
        client.connect(Consumer, found)
    assert "max.poll.interval.ms" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("arguments", [["list"], ["create"], ["tail"]])
def test_no_broker(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a broker one line names the address, the cause and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("NETSPECTRA_KAFKA__BROKERS", address)
        monkeypatch.setattr(client, "ANSWER_TIMEOUT_S", 1.0)
        assert main(["topics", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"netspectra: no Kafka broker answers at {address} (")
    assert "Connection refused" in error
    assert error.endswith("or name another with NETSPECTRA_KAFKA__BROKERS\n")
    assert error.count("\n") == 1


def test_bad_settings_are_usage_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A property that can't be used ends a command with exit code 2."""
    monkeypatch.setenv("NETSPECTRA_KAFKA__PROPERTIES__ACKKS", "1")
    assert main(["topics", "list"]) == 2
    assert 'No such configuration property: "ackks"' in capsys.readouterr().err


def test_our_topics() -> None:
    """Four topics: packets in 12 partitions for 6 hours by the log's time, alerts compacted."""
    plans = {plan.name: plan for plan in topics.plans(Topics(packets="p"))}
    assert list(plans) == ["p", "netspectra.alerts", "netspectra.windows", "netspectra.packets.dlq"]
    assert plans["p"].partitions == 12
    assert plans["p"].config["retention.ms"] == "21600000"
    assert plans["p"].config["message.timestamp.type"] == "LogAppendTime"
    assert plans["netspectra.alerts"].config == {"cleanup.policy": "compact"}


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [("-1", "for ever"), ("21600000", "6h"), ("604800000", "7d"), ("90000", "90s"),
     ("60000", "1m"), ("1500", "1500ms")],
)  # fmt: skip
def test_retention_in_words(milliseconds: str, text: str) -> None:
    """Retention is written in the greatest unit that fits."""
    assert topics.Topic("t", 1, {"retention.ms": milliseconds}, {}).retention == text


def test_lag_of_a_log() -> None:
    """Lag counts what is still there; a group that never read has none."""
    assert topics.Partition(10, 30, 25).lag == 5
    assert topics.Partition(10, 30, 3).lag == 20  # the rest was deleted unread
    assert topics.Partition(10, 30, None).lag is None
    partitions = {0: topics.Partition(10, 30, 25), 1: topics.Partition(0, 7, None)}
    topic = topics.Topic("t", 1, {}, partitions)
    assert (topic.messages, topic.lag) == (27, 5)
    assert topics.Topic("t", 1, {}, {1: partitions[1]}).lag is None
