"""Key fields: from a packet through the flow table to the text in the result tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flows.settings import FIELDS as NAMES
from flows.windows.fields import FIELDS, FieldList, address_text
from flows.windows.tasks import Task
from schemas.record import PACKET
from tests.support.jobs import NETWORKS, units_of

PLAIN = {
    "src_port": ("src_port", 40_001, "40001"),
    "dst_port": ("dst_port", 65_535, "65535"),
    "vlan_id": ("vlan_id", 4_095, "4095"),
    "eth_type": ("eth_type", 0x86DD, "34525"),
    "ip_proto": ("ip_proto", 255, "255"),
    "direction": ("direction", 2, "egress"),
    "if_index": ("if_index", 2**32 - 1, "4294967295"),
    "tunnel_id": ("tunnel_id", 2**32 - 2, "4294967294"),
}


def keys_listed(packet: Any, fields: tuple[str, ...]) -> list[dict[str, str]]:
    task = Task("t", "frequency", FieldList(fields))
    (unit,) = units_of(packet, tasks=[task])
    sketch: Any = unit.sketches["t", "t"][0].sketch
    return [task.key.read(row.key, NETWORKS.names) for row in sketch.top().by_packets.rows]


def one_packet(**values: Any) -> np.ndarray:
    packet = np.zeros(1, PACKET)
    packet["eth_type"] = 0x0800
    packet["ts_ns"], packet["packets"], packet["wire_bytes"] = 10**18, 1, 60
    for name, value in values.items():
        packet[name] = value
    return packet


def mapped(*octets: int) -> list[int]:
    return [0] * 10 + [255, 255, *octets]


def test_every_field_of_the_settings_is_known() -> None:
    """What a task may name, the flow table can give."""
    assert set(FIELDS) == set(NAMES)


@pytest.mark.parametrize("field", sorted(PLAIN))
def test_a_field_is_read_where_it_was_written(field: str) -> None:
    """Each number comes back whole, with every other field of the packet set to all ones."""
    column, value, text = PLAIN[field]
    others = {n: np.iinfo(PACKET[n]).max for n, *_ in PLAIN.values() if n != column}
    packet = one_packet(**{**others, "src_addr": [255] * 16, "dst_addr": [255] * 16})
    packet[column] = value
    assert keys_listed(packet, (field,)) == [{field: text}]


@pytest.mark.parametrize("field", ["src_addr", "dst_addr"])
@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (mapped(192, 0, 2, 1), "192.0.2.1"),
        (mapped(0, 0, 0, 0), "0.0.0.0"),
        ([0x20, 1, 0xD, 0xB8, *[0] * 11, 7], "2001:db8::7"),
        ([0] * 16, "::"),
    ],
)
def test_addresses_are_written_as_people_do(field: str, octets: list[int], text: str) -> None:
    """IPv4 as IPv4, IPv6 shortened, none as ::."""
    assert keys_listed(one_packet(**{field: octets}), (field,)) == [{field: text}]


def test_networks_are_named() -> None:
    """src_net and dst_net give the names of the settings, empty outside all of them."""
    packet = one_packet(src_addr=mapped(10, 0, 0, 1), dst_addr=mapped(8, 8, 8, 8))
    fields = ("dst_net", "src_net")
    (key,) = keys_listed(packet, fields)
    assert list(key.items()) == [("dst_net", ""), ("src_net", "internal")]


def test_keys_keep_the_declared_order() -> None:
    """The order of the task's fields is the order in the key."""
    packet = one_packet(dst_port=53, dst_addr=mapped(1, 1, 1, 1), ip_proto=17)
    (key,) = keys_listed(packet, ("dst_port", "dst_addr", "ip_proto"))
    assert list(key.items()) == [("dst_port", "53"), ("dst_addr", "1.1.1.1"), ("ip_proto", "17")]


def test_unknown_direction_stays_a_number() -> None:
    """A code without a name is not mistaken for one that has one."""
    assert FieldList(("direction",)).read([7], [""]) == {"direction": "7"}
    assert FieldList(("direction",)).read([0], [""]) == {"direction": "unknown"}


def test_address_text_reads_little_endian_words() -> None:
    """Two words in memory order are the sixteen octets of the address."""
    assert address_text([0x01000000B80D0120, 0x0200000000000000]) == "2001:db8:0:1::2"
