"""Filter rules: how they are written, their bytes, and which packets they match."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe import filters
from probe.errors import ProbeError
from probe.filters import MAX_RULES, PROTOCOLS, Rule, keep_matching, parse_rule, rules_array
from schemas.record import PACKET, Packets, as_words

NETS = ["10.0.0.0/8", "10.1.2.0/24", "10.1.2.3/32", "0.0.0.0/0", "fd00::/8", "fd00::1/128", "::/0"]
ADDRESSES = ["10.1.2.3", "10.1.2.9", "10.200.0.1", "192.0.2.1", "fd00::1", "fd00::2", "2001:db8::1"]


def network(text: str | None) -> Any:
    return None if text is None else ipaddress.ip_network(text)


ports = st.tuples(st.integers(0, 65_535), st.integers(0, 65_535)).map(
    lambda pair: (min(pair), max(pair))
)
rules = st.builds(
    Rule,
    network=st.one_of(st.none(), st.sampled_from(NETS)).map(network),
    ports=st.one_of(st.none(), st.sampled_from([(443, 443), (0, 0), (1000, 2000)]), ports),
    ip_proto=st.one_of(st.none(), st.sampled_from([0, 1, 6, 17, 58, 255])),
)
ends = st.tuples(
    st.sampled_from([*ADDRESSES, ""]), st.sampled_from([0, 443, 999, 1000, 2000, 65_535])
)


def as_record_address(text: str) -> bytes:
    if not text:
        return bytes(16)
    address = ipaddress.ip_address(text)
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def packet(src: tuple[str, int], dst: tuple[str, int], proto: int) -> Packets:
    record = np.frombuffer(bytes([0xA5]) * PACKET.itemsize, PACKET).copy()
    record["src_addr"] = np.frombuffer(as_record_address(src[0]), np.uint8)
    record["dst_addr"] = np.frombuffer(as_record_address(dst[0]), np.uint8)
    record["src_port"], record["dst_port"], record["ip_proto"] = src[1], dst[1], proto
    return record


def matches(rule: Rule, record: Any) -> bool:
    """The plain twin: the rule's own words, over one record."""
    if rule.ip_proto is not None and rule.ip_proto != record["ip_proto"]:
        return False
    for end in ("src", "dst"):
        address = ipaddress.IPv6Address(record[f"{end}_addr"].tobytes())
        net: Any = rule.network
        if net is not None and net.version == 4:
            net = ipaddress.ip_network(f"::ffff:{net.network_address}/{96 + net.prefixlen}")
        low, high = rule.ports or (0, 65_535)
        if (net is None or address in net) and low <= record[f"{end}_port"] <= high:
            return True
    return False


def kept(packets: Packets, keep: Sequence[Rule] = (), drop: Sequence[Rule] = ()) -> list[bool]:
    mask = np.empty(len(packets), np.bool_)
    count = keep_matching(as_words(packets), rules_array(keep), rules_array(drop), mask)
    assert count == mask.sum()
    return list(mask)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("tcp port 443", Rule(ports=(443, 443), ip_proto=6)),
        ("port 443 tcp", Rule(ports=(443, 443), ip_proto=6)),
        ("UDP  Port 8000-8099", Rule(ports=(8000, 8099), ip_proto=17)),
        ("net 10.0.0.0/8", Rule(network=ipaddress.ip_network("10.0.0.0/8"))),
        ("host fd00::1 icmp6", Rule(network=ipaddress.ip_network("fd00::1"), ip_proto=58)),
        ("proto 47", Rule(ip_proto=47)),
        ("proto 0", Rule(ip_proto=0)),
        ("port 0-65535", Rule(ports=(0, 65_535))),
    ],
)
def test_rules_are_read(text: str, rule: Rule) -> None:
    """Words in any order and case make one rule."""
    assert parse_rule(text) == rule


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("http", "what is 'http'?"),
        ("tcp 443", "what is '443'?"),
        ("src port 80", "what is 'src'?"),
        ("tcp udp", "'udp' comes on top of another one of its kind"),
        ("tcp proto 6", "'proto' comes on top"),
        ("port 80 port 443", "'port' comes on top"),
        ("net 10.0.0.0/8 host 10.0.0.1", "'host' comes on top"),
        ("port", "port wants a number from 0 to 65535, not ''"),
        ("port 65536", "port wants a number from 0 to 65535, not '65536'"),
        ("port -1", "port wants a number"),
        ("port 80-", "port wants a number from 0 to 65535, not ''"),
        ("port 90-80", "port 90-80 ends before it begins"),
        ("port ٣", "port wants a number"),
        ("proto 256", "proto wants a number from 0 to 255, not '256'"),
        ("proto tcp", "proto wants a number"),
        ("net 10.0.0.1/8", "did you mean 10.0.0.0/8?"),
        ("net 10.0.0.0/33", "net wants a range such as 10.0.0.0/8, not '10.0.0.0/33'"),
        ("net", "net wants a range"),
        ("host 10.0.0.0/8", "host wants one address, not '10.0.0.0/8'"),
        ("host example.org", "host wants an address, not 'example.org'"),
    ],
)
def test_what_is_no_rule_is_refused(text: str, why: str) -> None:
    """What can't be read is named, in one line that shows the grammar."""
    with pytest.raises(ProbeError) as caught:
        parse_rule(text)
    assert isinstance(caught.value, ValueError)
    assert why in str(caught.value)
    assert filters.GRAMMAR in str(caught.value)
    assert "\n" not in str(caught.value)


@given(rules)
@settings(max_examples=200)
def test_rules_are_written_as_they_are_read(rule: Rule) -> None:
    """The text of a rule reads as the same rule."""
    if str(rule):
        assert parse_rule(str(rule)) == rule
    else:
        assert rule == Rule()


def test_bytes_are_the_struct_of_the_programs() -> None:
    """An IPv4 rule becomes a mapped address and mask, ports, protocol and what counts."""
    data = parse_rule("tcp net 10.1.0.0/16 port 80-90").to_bytes()
    address, mask, low, high, proto, has_proto, has_ports, pad = struct.unpack(
        "<16s16sHHBBBB", data
    )
    assert address.hex() == "00000000000000000000ffff0a010000"
    assert mask.hex() == "ffffffffffffffffffffffffffff0000"
    assert (low, high, proto, has_proto, has_ports, pad) == (80, 90, 6, 1, 1, 0)


def test_bytes_of_a_rule_without_parts_match_anything() -> None:
    """What a rule leaves open has a zero mask, all ports, and no mark."""
    assert Rule().to_bytes() == bytes(32) + struct.pack("<HHBBBB", 0, 65_535, 0, 0, 0, 0)
    assert parse_rule("proto 0").to_bytes()[36:] == bytes([0, 1, 0, 0])


def test_more_rules_than_there_is_room_for_are_refused() -> None:
    """Rules that the kernel's programs can't hold are refused, and the most they hold aren't."""
    rule = parse_rule("tcp")
    assert rules_array([rule] * MAX_RULES).shape == (MAX_RULES, 5)
    with pytest.raises(ProbeError, match="9 filter rules of a kind, and there is room for 8"):
        rules_array([rule] * (MAX_RULES + 1))


def test_address_and_port_are_of_the_same_end() -> None:
    """A server's rule matches both ways, but not its address with the client's port."""
    rule = parse_rule("host 10.1.2.3 port 443")
    server, client = ("10.1.2.3", 443), ("192.0.2.1", 999)
    packets = np.concatenate(
        [
            packet(client, server, PROTOCOLS["tcp"]),
            packet(server, client, PROTOCOLS["udp"]),
            packet(("10.1.2.3", 999), ("192.0.2.1", 443), PROTOCOLS["tcp"]),
        ]
    )
    assert kept(packets, [rule]) == [True, True, False]


def test_every_ipv4_address_is_not_every_packet() -> None:
    """The widest IPv4 range leaves out IPv6 and what has no addresses."""
    packets = np.concatenate(
        [
            packet(("10.1.2.3", 0), ("10.1.2.9", 0), 6),
            packet(("fd00::1", 0), ("fd00::2", 0), 6),
            packet(("", 0), ("", 0), 0),
        ]
    )
    assert kept(packets, [parse_rule("net 0.0.0.0/0")]) == [True, False, False]
    assert kept(packets, [parse_rule("net ::/0")]) == [True, True, True]
    assert kept(packets) == [True, True, True]


@given(
    st.lists(st.tuples(ends, ends, st.sampled_from([0, 1, 6, 17, 58])), max_size=12),
    st.lists(rules, max_size=3),
    st.lists(rules, max_size=3),
)
@settings(max_examples=300, deadline=None)
def test_kernel_agrees_with_the_words_of_the_rules(
    drawn: list[tuple[tuple[str, int], tuple[str, int], int]], keep: list[Rule], drop: list[Rule]
) -> None:
    """Compiled and plain matching give the same, for packets and rules of all kinds."""
    packets = np.concatenate([np.empty(0, PACKET), *(packet(*each) for each in drawn)])
    expected = [
        (not keep or any(matches(rule, record) for rule in keep))
        and not any(matches(rule, record) for rule in drop)
        for record in packets
    ]
    assert kept(packets, keep, drop) == expected
