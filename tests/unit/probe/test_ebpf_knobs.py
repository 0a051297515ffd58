"""The constants of programs: bytes for libbpf, an initializer for BCC's compiler."""

from __future__ import annotations

import re
import struct
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.ebpf.bcc import knobs_initializer
from probe.ebpf.knobs import KNOBS_BYTES, MAX_RULES, pack_knobs
from probe.errors import LiveError
from probe.filters import Rule
from probe.live import CaptureOptions

RULES = st.builds(
    Rule,
    network=st.sampled_from(
        [None, ip_network("10.0.0.0/8"), ip_network("fd77::/64"), ip_network("192.0.2.1/32")]
    ),
    ports=st.sampled_from([None, (80, 80), (0, 65535), (1024, 2047)]),
    ip_proto=st.sampled_from([None, 0, 6, 255]),
)


def options(keep: tuple[Rule, ...] = (), drop: tuple[Rule, ...] = ()) -> CaptureOptions:
    return CaptureOptions(interfaces=(), sampling_rate=7, decapsulate=True, keep=keep, drop=drop)


def test_layout() -> None:
    """Each field of a rule is where ``struct rule`` has it; IPv4 is mapped into IPv6."""
    rule = Rule(network=ip_network("10.1.0.0/16"), ports=(53, 99), ip_proto=17)
    knobs = pack_knobs(options(drop=(rule,)))
    assert len(knobs) == KNOBS_BYTES == 656
    assert struct.unpack_from("<4I", knobs) == (7, 1, 0, 1)
    assert knobs[16 : 16 + 320] == bytes(320)
    raw = knobs[16 + 320 :]
    assert raw[:16] == bytes.fromhex("00000000000000000000ffff0a010000")
    assert raw[16:32] == bytes.fromhex("ffffffffffffffffffffffffffff0000")
    assert struct.unpack_from("<HHBBBB", raw, 32) == (53, 99, 17, 1, 1, 0)
    assert raw[40:] == bytes(280)


def test_a_rule_for_everything() -> None:
    """A rule without conditions has a mask of zeros, all ports and no flags."""
    raw = pack_knobs(options(keep=(Rule(),)))[16:56]
    assert raw == bytes(32) + struct.pack("<HHBBBB", 0, 65535, 0, 0, 0, 0)


def test_protocol_zero_is_a_protocol() -> None:
    """A rule may ask for protocol 0."""
    assert pack_knobs(options(keep=(Rule(ip_proto=0),)))[16 + 36 : 16 + 40] == b"\0\1\0\0"


@pytest.mark.parametrize("kind", ["keep", "drop"])
def test_too_many_rules(kind: str) -> None:
    """Eight rules of a kind fit, nine are refused."""
    pack_knobs(options(**{kind: (Rule(),) * MAX_RULES}))
    with pytest.raises(LiveError, match=f"9 rules to {kind}, at most 8 fit"):
        pack_knobs(options(**{kind: (Rule(),) * 9}))


@settings(max_examples=50)
@given(keep=st.lists(RULES, max_size=8), drop=st.lists(RULES, max_size=8))
def test_initializer_has_the_same_numbers(keep: list[Rule], drop: list[Rule]) -> None:
    """Read as C, BCC's initializer is the bytes that libbpf gets."""
    knobs = pack_knobs(options(tuple(keep), tuple(drop)))
    text = knobs_initializer(knobs)
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    rules = [numbers[at : at + 10] for at in range(4, len(numbers), 10)]
    assert len(rules) == 16
    again = struct.pack("<4I", *numbers[:4])
    again += b"".join(struct.pack("<4Q2H4B", *rule) for rule in rules)
    assert again == knobs
    assert text.count("{") == text.count("}") == 1 + 2 + 16 * 3
