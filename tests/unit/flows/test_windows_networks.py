"""Named networks against the standard library's addresses."""

from __future__ import annotations

import ipaddress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.kernels.layout import DST, ENTRY_WORDS, SRC
from flows.settings.model import INTERNAL
from flows.windows.networks import Networks

Ranges = dict[str, list[str]]


def words(text: str) -> np.ndarray:
    address = ipaddress.ip_address(text)
    raw = address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed
    return np.frombuffer(raw, "<u8")


def entries_of(pairs: list[tuple[str, str]]) -> np.ndarray:
    entries = np.zeros((len(pairs), ENTRY_WORDS), np.uint64)
    for row, (src, dst) in zip(entries, pairs, strict=True):
        row[SRC : SRC + 2], row[DST : DST + 2] = words(src), words(dst)
    return entries


def look_up(ranges: Ranges, *addresses: str) -> list[str]:
    networks = Networks(ranges)
    numbers = networks.lookup(entries_of([(a, "::") for a in addresses]))
    return [networks.names[number] for number in numbers[:, 0]]


def naive(ranges: Ranges, text: str) -> set[str]:
    """Names of the most specific ranges around an address: more than one where they are equal."""
    address = ipaddress.ip_address(text)
    around = [
        (network.prefixlen, name)
        for name, cidrs in ranges.items()
        for network in map(ipaddress.ip_network, cidrs)
        if network.version == address.version and address in network
    ]
    longest = max((length for length, _ in around), default=0)
    return {name for length, name in around if length == longest} or {""}


@st.composite
def cidrs(draw: st.DrawFn) -> str:
    """Ranges crowded into few bits, so that they nest, touch and repeat."""
    low = draw(st.integers(0, 255))
    if draw(st.booleans()):
        length = draw(st.sampled_from([0, 1, 8, 23, 24, 25, 28, 31, 32]))
        return str(ipaddress.ip_network((0x0A000000 + low, length), strict=False))
    length = draw(st.sampled_from([0, 7, 64, 120, 124, 127, 128]))
    return str(ipaddress.ip_network(((0xFD << 120) + low, length), strict=False))


@st.composite
def addresses(draw: st.DrawFn) -> str:
    low = draw(st.integers(-2, 257))
    bases = [0x0A000000, 0, 0xFFFFFFFF]
    if draw(st.booleans()):
        value = min(max(draw(st.sampled_from(bases)) + low, 0), 2**32 - 1)
        return str(ipaddress.IPv4Address(value))
    value = min(max(draw(st.sampled_from([0xFD << 120, 0, 2**128 - 1])) + low, 0), 2**128 - 1)
    return str(ipaddress.IPv6Address(value))


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.lists(cidrs(), min_size=1, max_size=4)),
    st.lists(addresses(), min_size=1, max_size=20),
)
def test_any_address_lies_in_its_most_specific_network(ranges: Ranges, many: list[str]) -> None:
    """However ranges nest, touch or repeat, the look-up agrees with a walk over all of them."""
    for address, name in zip(many, look_up(ranges, *many), strict=True):
        assert name in naive(ranges, address)


def test_edges_of_a_range_belong_to_it() -> None:
    """First and last address are inside, their neighbours outside."""
    found = look_up({"dns": ["192.0.2.8/29"]}, "192.0.2.7", "192.0.2.8", "192.0.2.15", "192.0.2.16")
    assert found == ["", "dns", "dns", ""]


def test_ipv6_ranges_do_not_mean_ipv4() -> None:
    """::/0 names IPv6 traffic only, 0.0.0.0/0 IPv4 traffic only."""
    assert look_up({"six": ["::/0"]}, "10.0.0.1", "2001:db8::1", "::") == ["", "six", "six"]
    assert look_up({"four": ["0.0.0.0/0"]}, "10.0.0.1", "2001:db8::1", "::") == ["four", "", ""]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("10.255.255.255", "internal"),
        ("172.32.0.0", ""),
        ("192.168.0.0", "internal"),
        ("8.8.8.8", ""),
        ("fe80::1", "internal"),
        ("2001:db8::1", ""),
        ("::1", "internal"),
        ("::", ""),
    ],
)
def test_internal_is_the_private_ranges(address: str, name: str) -> None:
    """The default network holds private, link-local and loopback addresses, and nothing else."""
    assert look_up({"internal": list(INTERNAL)}, address) == [name]


def test_source_and_destination_are_looked_up_apart() -> None:
    """Each flow has the networks of its own two ends."""
    networks = Networks({"a": ["10.0.0.0/8"], "b": ["fd00::/8"]})
    pairs = [("10.0.0.1", "fd00::1"), ("fd00::2", "8.8.8.8")]
    assert networks.lookup(entries_of(pairs)).tolist() == [[1, 2], [2, 0]]


def test_no_networks_and_no_flows_are_fine() -> None:
    """Without ranges everything is outside; without flows there is nothing."""
    assert look_up({}, "10.0.0.1", "::1") == ["", ""]
    assert Networks({}).lookup(entries_of([])).shape == (0, 2)
