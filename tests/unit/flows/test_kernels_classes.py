"""Classes of flows: as the plain twin has them, and rule by rule."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.kernels.classes import ATTEMPT, INITIATED, REFLECTED, SYN, classify
from flows.kernels.layout import ENTRY_WORDS
from schemas.hashing import PARTITION_SEED
from tests.support.naive_classes import naive_classes

REFLECTORS: Final = (53, 123, 11_211)
MAPPED: Final = 0xFFFF0000
TCP, UDP, ICMP, ICMP6, GRE = 6, 17, 1, 58, 47
NOTHING, FIN, SYN_FLAG, RST, ACK = 0, 1, 2, 4, 16
XMAS: Final = 0x29
A, B = "10.0.0.1", "10.0.0.2"


def address(text: str) -> tuple[int, int]:
    if ":" in text:
        raw = bytes.fromhex("".join(part.rjust(4, "0") for part in text.split(":")))
        return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")
    return 0, MAPPED | int.from_bytes(bytes(map(int, text.split("."))), "little") << 32


def flow(
    src: str,
    dst: str,
    src_port: int,
    dst_port: int,
    protocol: int = TCP,
    flags: int = 0,
    *,
    first: int = 1,
    frame: int = 60,
    packets: int = 1,
    stream: int = 0,
    pane: int = 7,
    place: int = 0,
    vlan: int = 0,
    eth_type: int = 0x0800,
) -> list[int]:
    """An entry of the flow table."""
    row = [pane, *address(src), *address(dst)]
    row += [src_port | dst_port << 16 | vlan << 32 | eth_type << 48, protocol | stream << 32, place]
    return [*row, packets, packets * frame, first, first, flags << 48, 0, 0, 0]


def classes(*flows: list[int], owners: tuple[int, ...] = (0, 0, 1)) -> list[int]:
    entries = np.array(flows, np.uint64).reshape(-1, ENTRY_WORDS)
    return run(entries, owners)


def run(entries: npt.NDArray[np.uint64], owners: tuple[int, ...]) -> list[int]:
    ports = np.zeros(1 << 16, np.bool_)
    ports[list(REFLECTORS)] = True
    out = np.full(len(entries), 255, np.uint8)
    classify(np.asfortranarray(entries), np.array(owners, np.uint64), ports, out)
    found: list[int] = out.tolist()
    return found


FLOWS = st.builds(
    flow,
    st.sampled_from([A, B, "224.0.0.1"]),
    st.sampled_from([A, B, "224.0.0.1", "255.255.255.255", "ff02:0:0:0:0:0:0:1"]),
    st.sampled_from([0, 53, 80, 5000]),
    st.sampled_from([0, 53, 80, 5000, 8 << 8, 128 << 8, 129 << 8]),
    st.sampled_from([TCP, TCP, UDP, UDP, ICMP, ICMP6, GRE]),
    st.sampled_from([NOTHING, FIN, SYN_FLAG, RST, ACK, SYN_FLAG | ACK, SYN_FLAG | RST, RST | ACK]),
    first=st.integers(1, 4),
    frame=st.sampled_from([60, 200, 201]),
    packets=st.integers(1, 3),
    stream=st.integers(0, 2),
    pane=st.sampled_from([7, 8]),
    place=st.integers(0, 1),
    eth_type=st.sampled_from([0x0800, 0x0800, 0x0800, 0x86DD, 0x0806]),
)


@given(st.lists(FLOWS, max_size=40))
def test_the_kernel_agrees_with_the_plain_twin(flows: Any) -> None:
    """Random flows between few ends get the twin's classes."""
    entries = np.array(flows, np.uint64).reshape(-1, ENTRY_WORDS)
    owners = (0, 0, 1)
    assert run(entries, owners) == naive_classes(entries, owners, REFLECTORS)


def test_many_flows_agree_too() -> None:
    """A thousand flows, so that the index has long probes, get the twin's classes."""
    rng = np.random.default_rng(PARTITION_SEED)
    ends = [f"10.0.0.{n}" for n in range(6)]
    flows = [
        flow(
            *rng.choice(ends, 2),
            *(int(port) for port in rng.choice([53, 443, 4000, 4001], 2)),
            int(rng.choice([TCP, UDP])),
            int(rng.choice([2, 18, 16, 0, 4])),
            first=int(rng.integers(1, 1000)),
        )
        for _ in range(1000)
    ]
    entries = np.array(flows, np.uint64)
    found = run(entries, (0,))
    assert found == naive_classes(entries, (0,), REFLECTORS)
    assert len(set(found)) == 5


def test_a_connection_that_came_about_was_begun_by_one_side() -> None:
    """SYN and ACK both ways: no attempt, and the earlier side began it."""
    asked = flow(A, B, 5000, 80, flags=SYN_FLAG | ACK, first=1)
    answered = flow(B, A, 80, 5000, flags=SYN_FLAG | ACK, first=2)
    assert classes(asked, answered) == [INITIATED, 0]
    assert classes(answered, asked) == [0, INITIATED]


def test_a_syn_is_an_attempt_whatever_answers_it() -> None:
    """Nothing, a refusal or a SYN-ACK: without an ACK of its own no connection came about."""
    probe = flow(A, B, 5000, 80, flags=SYN_FLAG)
    for flags in (RST | ACK, SYN_FLAG | ACK):
        answer = flow(B, A, 80, 5000, flags=flags, first=2)
        assert classes(probe, answer) == [ATTEMPT | SYN | INITIATED, 0]
    assert classes(probe) == [ATTEMPT | SYN | INITIATED]


@pytest.mark.parametrize("flags", [FIN, XMAS, SYN_FLAG | RST])
def test_odd_flags_without_ack_are_attempts(flags: int) -> None:
    """FIN and XMAS scans, and a SYN that was taken back."""
    (found,) = classes(flow(A, B, 5000, 80, flags=flags))
    assert found & ATTEMPT


@pytest.mark.parametrize("flags", [RST, ACK, RST | ACK, FIN | ACK])
def test_answers_and_whole_connections_are_no_attempts(flags: int) -> None:
    """A RST alone, and all that has an ACK."""
    assert classes(flow(A, B, 5000, 80, flags=flags)) == [0]


def test_tcp_without_flags_is_a_scan_only_if_it_is_refused() -> None:
    """A RST proves that there was a header; silence, or a fragment without ports, doesn't."""
    probe = flow(A, B, 5000, 80, flags=NOTHING)
    assert classes(probe) == [0]
    assert classes(probe, flow(B, A, 80, 5000, flags=RST | ACK)) == [ATTEMPT, 0]
    assert classes(probe, flow(B, A, 80, 5000, flags=NOTHING)) == [0, 0]
    assert classes(flow(A, B, 0, 0), flow(B, A, 0, 0, flags=RST)) == [0, 0]


def test_udp_is_an_attempt_until_it_is_answered() -> None:
    """The answer may come through another interface or VLAN, but is of the same pane and tenant."""
    asked = flow(A, B, 5000, 80, UDP)
    ends = B, A, 80, 5000, UDP
    assert classes(asked) == [ATTEMPT | INITIATED]
    assert classes(asked, flow(*ends, first=2, place=3, vlan=9, stream=1)) == [INITIATED, 0]
    assert classes(asked, flow(*ends, first=2, stream=2)) == [ATTEMPT | INITIATED, 0]
    assert classes(asked, flow(*ends, first=2, pane=8)) == [ATTEMPT | INITIATED, 0]


def test_udp_from_a_service_is_no_beginning_unless_it_is_answered() -> None:
    """From a port below 1024 to a higher one; with an answer the times tell."""
    said = flow(A, B, 53, 5000, UDP)
    assert classes(said) == [0]
    assert classes(said, flow(B, A, 5000, 53, UDP, first=2)) == [0, 0]
    assert classes(flow(A, B, 5000, 6000, UDP), flow(B, A, 6000, 5000, UDP, first=2)) == [
        INITIATED,
        0,
    ]


def test_a_whole_connection_of_which_one_way_was_seen_is_told_by_its_ports() -> None:
    """A server's half of a connection is no beginning."""
    assert classes(flow(A, B, 443, 5000, flags=SYN_FLAG | ACK)) == [0]
    assert classes(flow(A, B, 5000, 443, flags=SYN_FLAG | ACK)) == [INITIATED]


def test_echo_requests_are_attempts_until_a_reply_comes() -> None:
    """Ping in IPv4 and IPv6; a reply is no beginning."""
    for protocol, asks, replies in ((ICMP, 8 << 8, 0), (ICMP6, 128 << 8, 129 << 8)):
        request = flow(A, B, 0, asks, protocol)
        assert classes(request) == [ATTEMPT | INITIATED]
        assert classes(request, flow(B, A, 0, replies, protocol)) == [INITIATED, 0]


@pytest.mark.parametrize("dst", ["224.0.0.251", "255.255.255.255", "ff02:0:0:0:0:0:0:fb"])
def test_what_is_said_to_many_counts_nowhere(dst: str) -> None:
    """Multicast and broadcast destinations."""
    assert classes(flow(A, dst, 5353, 5353, UDP)) == [0]
    assert classes(flow(A, dst, 0, 0, GRE)) == [0]


def test_large_answers_of_reflector_ports_are_reflected() -> None:
    """Over 200 bytes a frame on average, from a listed port, to another port."""
    ends = A, B, 123, 5000, UDP
    assert classes(flow(*ends, frame=201)) == [REFLECTED]
    assert classes(flow(*ends, frame=200)) == [0]
    assert classes(flow(A, B, 124, 5000, UDP, frame=1400)) == [0]
    assert classes(flow(A, B, 123, 123, UDP, frame=1400)) == [ATTEMPT | INITIATED]


def test_other_protocols_are_begun_by_who_is_first() -> None:
    """GRE both ways."""
    assert classes(flow(A, B, 0, 0, GRE, first=2), flow(B, A, 0, 0, GRE, first=1)) == [0, INITIATED]
