"""The parser of the eBPF programs, compiled for this machine, decodes just as the file decoder."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from random import Random
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.contrib.geneve import GENEVE
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, PadN
from scapy.layers.l2 import GRE, Dot1AD, Dot1Q
from scapy.layers.sctp import SCTP
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from probe.capture.frame import decode_frame
from schemas.record import PACKET, Packets, as_words
from tests.support.bpf_load import SOURCE
from tests.support.traffic import CASES, ETHERNET, RAW, eth, ip4, ip6, random_frame

pytestmark = pytest.mark.requires("cc")

FRAME_BYTES = 256
ROOM = FRAME_BYTES + 48  # the parser may read that far, but must not care what is there
AT_ETHERNET, AT_RAW_IP = 0, 1

SHIM = r"""
#include "scratch.h"

u32 decode(const u8 (*frames)[FRAME_BYTES + FRAME_SLACK], const u32 *captured, u32 n, u32 first,
			u32 decapsulate, u32 all_headers, struct packet *out,
			u32 *header_bytes)
{
	u32 unfinished = 0;

	for (u32 i = 0; i < n; i++) {
		struct parser s;

		__builtin_memset(&s, 0xA5, sizeof(s));
		__builtin_memset(&out[i], 0xA5, sizeof(out[i]));
		parse_begin(&s, &out[i], first, captured[i]);
		parse(&s, frames[i], &out[i], decapsulate, all_headers);
		out[i].packets = 1;
		header_bytes[i] = s.header_bytes;
		unfinished += s.step != DONE;
	}
	return unfinished;
}
"""

Decode = Callable[..., tuple[Packets, npt.NDArray[np.uint32]]]


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Decode:
    folder = tmp_path_factory.mktemp("parser")
    (folder / "shim.c").write_text(SHIM)
    library = folder / "parser.so"
    command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, f"-I{SOURCE}", "-o", library, folder / "shim.c"], check=True)
    function = ctypes.CDLL(str(library)).decode
    function.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_uint32] * 4 + [ctypes.c_void_p] * 2

    def decode(
        frames: Any, lengths: Any, first: int, decapsulate: bool, all_headers: bool = False
    ) -> tuple[Packets, npt.NDArray[np.uint32]]:
        out = np.zeros(len(frames), PACKET)
        header_bytes = np.zeros(len(frames), np.uint32)
        pointers = [array.ctypes.data for array in (frames, lengths, out, header_bytes)]
        unfinished = function(
            *pointers[:2], len(frames), first, decapsulate, all_headers, *pointers[2:]
        )
        assert unfinished == 0, "the parser ran out of passes"
        return out, header_bytes

    return decode


@numba.njit
def decode_all(frames: Any, lengths: Any, link_type: Any, decapsulate: Any, out: Any) -> None:
    for row in range(len(frames)):
        frame = frames[row]
        end = np.int64(lengths[row])
        decode_frame(frame, 0, end, link_type, np.uint64(0), 0, 0, 0, decapsulate, out, row)


def compare(native: Decode, frames: Any, lengths: Any, link_type: int, decapsulate: bool) -> None:
    """Decode frames by both, which must agree in every byte."""
    expected = np.zeros(len(frames), PACKET)
    decode_all(frames, lengths, link_type, decapsulate, as_words(expected))
    first = AT_ETHERNET if link_type == ETHERNET else AT_RAW_IP
    for all_headers in (False, True):
        found, _ = native(frames, lengths, first, decapsulate, all_headers)
        same = (as_words(found) == as_words(expected)).all(axis=1)
        if not same.all():
            bad = int(np.argmin(same))
            frame = bytes(frames[bad][: lengths[bad]]).hex()
            pytest.fail(f"{frame}\nexpected {expected[bad]}\nfound    {found[bad]}")


def noisy(frames: list[bytes], seed: int = 0) -> Any:
    """Frames one below the other, with noise behind each."""
    rows = np.random.default_rng(seed).integers(0, 256, (len(frames), ROOM), np.uint8)
    for row, frame in zip(rows, frames, strict=True):
        start = frame[:FRAME_BYTES]
        row[: len(start)] = np.frombuffer(start, np.uint8)
    return rows


def truncated(frame: bytes) -> tuple[Any, npt.NDArray[np.uint32]]:
    """A frame, cut off at each length."""
    lengths = range(min(len(frame), FRAME_BYTES) + 1)
    return noisy([frame[:n] for n in lengths]), np.array(lengths, np.uint32)


def nested(layer: Callable[[], Packet], times: int, last: Packet) -> bytes:
    packet = eth()
    for _ in range(times):
        packet /= layer()
    return bytes(packet / last)


DEEPEST = {
    "vlan": nested(lambda: Dot1Q(vlan=7), 70, ip4() / UDP(dport=9)),
    "vlan to the last byte": nested(lambda: Dot1AD(vlan=7), 60, ip4())[:256],
    "mpls": nested(lambda: MPLS(s=0), 70, Raw(b"")),
    "mpls to the last byte": nested(lambda: MPLS(s=0), 60, Raw(b"\0\0\1\0")),
    "hop-by-hop": bytes(eth() / IPv6(nh=0)) + bytes(256),
    "fragment headers": bytes(eth() / IPv6(nh=44)) + bytes([44, 0, 0, 0, 0, 0, 0, 0]) * 32,
    "ip in ip": nested(lambda: IP(src="1.2.3.4", dst="5.6.7.8"), 12, UDP(dport=9)),
    "ip in ip, cut": nested(lambda: IP(src="1.2.3.4"), 4, Raw(b"\x45" + bytes(18))),
    "gre in gre": nested(lambda: IP(src="1.2.3.4") / GRE(), 9, ip4() / UDP(dport=9)),
    "snap": bytes.fromhex("020000000001020000000002 0040 aaaa03 000000 0806 0001") + bytes(40),
    "snap of a length": bytes.fromhex("020000000001020000000002 0040 aaaa03 000000 05ff")
    + bytes.fromhex("aaaa03 000000 0800")
    + bytes(ip4() / UDP(dport=9)),
    "bridged by ethernet": bytes.fromhex("0200000000010200000000026558") + bytes(60),
}
FRAMES = [frame for link, frame in CASES.values() if link == ETHERNET] + list(DEEPEST.values())
RAW_FRAMES = [frame for link, frame in CASES.values() if link == RAW] + [f[14:] for f in FRAMES]


@pytest.mark.parametrize("decapsulate", [False, True])
@pytest.mark.parametrize("link_type", [ETHERNET, RAW])
def test_every_layer_at_every_length(native: Decode, link_type: int, decapsulate: bool) -> None:
    """Frames of every kind, cut off at each length, become the file decoder's records."""
    for frame in FRAMES if link_type == ETHERNET else RAW_FRAMES:
        compare(native, *truncated(frame), link_type, decapsulate)


INTERESTING_BYTES = np.frombuffer(
    bytes.fromhex("00 01 04 05 06 11 21 29 2b 2c 2d 2f 32 33 3a 3b 3c 40 45 4f 50 60 84 87")
    + bytes.fromhex("88 8b 8c aa ff"),
    np.uint8,
)
INTERESTING_PAIRS = np.frombuffer(
    bytes.fromhex("0800 86dd 8100 88a8 9100 8847 8848 6558 0806 aaaa 0000 0001 05ff 0600 ffff")
    + bytes.fromhex("12b5 2118 17c1 2000 8000 1000 b000 0003 1fff 0008 0014 0100 4500 6000"),
    np.uint8,
).reshape(-1, 2)


@pytest.fixture(scope="module")
def corpus() -> list[bytes]:
    random = Random(1)
    return FRAMES + [random_frame(random) for _ in range(300)]


def mutated(corpus: list[bytes], seed: int, count: int) -> tuple[Any, npt.NDArray[np.uint32]]:
    """Frames of the corpus with some bytes replaced, by values that mean something or any."""
    rng = np.random.default_rng(seed)
    base = noisy(corpus, seed)
    sizes = np.array([min(len(frame), FRAME_BYTES) for frame in corpus])
    picked = rng.integers(0, len(corpus), count)
    frames, lengths = base[picked], sizes[picked]
    for _ in range(4):
        rows = np.flatnonzero(rng.random(count) < 0.5)
        at = (rng.random(len(rows)) ** 2 * lengths[rows]).astype(np.int64)
        frames[rows, at] = rng.choice(INTERESTING_BYTES, len(rows))
        rows = np.flatnonzero(rng.random(count) < 0.4)
        at = rng.integers(0, 60, len(rows)) * 2
        pairs = INTERESTING_PAIRS[rng.integers(0, len(INTERESTING_PAIRS), len(rows))]
        frames[rows, at], frames[rows, at + 1] = pairs.T
        rows = np.flatnonzero(rng.random(count) < 0.2)
        at = rng.integers(0, FRAME_BYTES, len(rows))
        frames[rows, at] = rng.integers(0, 256, len(rows))
    # Whole, cut off anywhere, or longer, with noise as payload.
    how = rng.integers(0, 3, count)
    lengths = np.where(how == 1, (rng.random(count) * (lengths + 1)).astype(np.int64), lengths)
    lengths = np.where(how == 2, FRAME_BYTES, lengths)
    return frames, lengths.astype(np.uint32)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), raw=st.booleans())
def test_mutated_frames(native: Decode, corpus: list[bytes], seed: int, raw: bool) -> None:
    """Random damage to frames, 15,000 at a time, is read as the file decoder reads it."""
    frames, lengths = mutated(corpus, seed, 15_000)
    if raw:
        frames = np.ascontiguousarray(np.roll(frames, -14, axis=1))
        lengths = np.maximum(lengths, 14) - np.uint32(14)
    for decapsulate in (False, True):
        compare(native, frames, lengths, RAW if raw else ETHERNET, decapsulate)


def test_mutations_reach_every_outcome(native: Decode, corpus: list[bytes]) -> None:
    """The damage leaves enough intact: all flags, tunnels, protocols and tags come up often."""
    frames, lengths = mutated(corpus, 1, 40_000)
    records, _ = native(frames, lengths, AT_ETHERNET, True)
    for flags in (0, 1, 2, 4, 5, 6):
        assert (records["flags"] == flags).sum() > 100, flags
    for proto in (1, 6, 17, 33, 47, 50, 58, 132, 136):
        assert (records["ip_proto"] == proto).sum() > 20, proto
    assert (records["vlan_id"] != 0).sum() > 1000
    assert (records["tunnel_id"] != 0).sum() > 1000


def ends(*layers: Packet) -> tuple[bytes, int]:
    """A frame with 100 bytes of payload, and where its headers end."""
    packet = layers[0]
    for layer in layers[1:]:
        packet /= layer
    frame = bytes(packet / Raw(bytes(100)))
    return frame, len(frame) - 100


PORTS = {"sport": 20001, "dport": 30001}
OPTIONS = [("Timestamp", (1, 2)), ("NOP", None), ("NOP", None)]
VXLAN_OUTER = eth() / ip4() / UDP(sport=1, dport=4789) / VXLAN(vni=7)
HEADERS = {
    "tcp": ends(eth(), ip4(), TCP(**PORTS)),
    "tcp options": ends(eth(), ip4(), TCP(**PORTS, options=OPTIONS)),
    "udp": ends(eth(), ip4(), UDP(**PORTS)),
    "sctp": ends(eth(), ip4(), SCTP(**PORTS)),
    "vlan": ends(eth(), Dot1Q(vlan=1), ip4(), TCP(**PORTS, options=OPTIONS)),
    "extension headers": ends(
        eth(),
        ip6(),
        IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(9))]),
        IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(1))]),
        TCP(**PORTS),
    ),
    "vxlan": ends(VXLAN_OUTER, eth(), ip4(), TCP(**PORTS, options=OPTIONS)),
    "vxlan, ipv6": ends(VXLAN_OUTER, eth(), ip6(), UDP(**PORTS)),
    "geneve": ends(
        eth(), ip4(), UDP(sport=1, dport=6081), GENEVE(vni=1), eth(), ip4(), TCP(**PORTS)
    ),
    "gre": ends(eth(), ip4(), GRE(key_present=1, key=9), ip6(), TCP(**PORTS)),
    "ip in ip in ip": ends(eth(), ip4(), ip6(), ip4(), TCP(**PORTS)),
}


@pytest.mark.parametrize("decapsulate", [False, True])
def test_all_headers_are_measured(native: Decode, decapsulate: bool) -> None:
    """Where segments' payload begins is found through tunnels, whatever the record describes."""
    frames = noisy([frame for frame, _ in HEADERS.values()])
    lengths = np.array([min(len(f), FRAME_BYTES) for f, _ in HEADERS.values()], np.uint32)
    _, found = native(frames, lengths, AT_ETHERNET, decapsulate, True)
    assert dict(zip(HEADERS, found.tolist(), strict=True)) == {
        name: end for name, (_, end) in HEADERS.items()
    }
