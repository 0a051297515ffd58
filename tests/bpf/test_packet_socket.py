"""AF_PACKET on real devices: losses, filters and sampling are counted, and little is needed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scapy.layers.inet import UDP
from scapy.packet import Raw

from probe.errors import FilterError, LiveError, Unavailable
from probe.filters import parse_rule
from probe.live import CaptureOptions
from probe.packet_socket import PacketSocketCapture
from probe.packet_socket.frames import SLOT_BYTES
from probe.packet_socket.sockets import BLOCK_BYTES, PacketSocket
from schemas.record import PACKET, CapturePoint, Direction, Packets
from tests.support.namespaces import DEVICE, SECONDS, End, inside, pair, run, send
from tests.support.processes import open_files
from tests.support.traffic import eth, ip4

pytestmark = pytest.mark.requires("netns", "packet_socket")

ROOT = Path(__file__).parents[2]
INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS
OPTIONS = CaptureOptions(interfaces=(DEVICE,))
SMALL = replace(OPTIONS, ring_bytes=BLOCK_BYTES)
SMALL_SLOTS = BLOCK_BYTES // SLOT_BYTES
FRAMES = [
    bytes(eth() / ip4() / UDP(sport=1000 + n % 7, dport=53 if n % 3 else 123) / Raw(bytes(n)))
    for n in range(100)
]


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[End, End]]:
    with pair() as both:
        yield both


@contextlib.contextmanager
def at(end: End, options: CaptureOptions = OPTIONS) -> Iterator[PacketSocketCapture]:
    with inside(end.name):
        capture = PacketSocketCapture(options)
    with contextlib.closing(capture):
        yield capture


def read_all(capture: PacketSocketCapture, room: int = 1000) -> Packets:
    parts = [np.empty(0, PACKET)]
    buffer = np.empty(room, PACKET)
    while rows := capture.read(buffer):
        parts.append(buffer[:rows].copy())
    return np.concatenate(parts)


def test_what_a_full_ring_lost_is_counted(ends: tuple[End, End]) -> None:
    """Sent is read plus lost, and both are seen, to the last packet, over many overflows."""
    sender, receiver = ends
    sent = rows = 0
    with at(receiver, SMALL) as capture:
        for times in (1, 2, 1, 5, 3):
            sent += send(sender.name, FRAMES, times=times)
            rows += len(read_all(capture))
            counts = capture.counts()
            assert counts.seen == sent == rows + counts.dropped["ring_full"]
        assert counts.dropped["ring_full"] == 3 * 100 + 5 * 100 + 2 * 100 - 3 * SMALL_SLOTS
        capture.detach()
        assert capture.counts() == counts


def test_what_waits_at_the_end_is_counted(ends: tuple[End, End]) -> None:
    """After detaching, seen is read, waiting and dropped, however much of it is then read."""
    sender, receiver = ends
    rules = {"keep": (parse_rule("udp port 53"),), "sampling_rate": 2}
    wanted = sum(n % 3 != 0 for n in range(100)) * 2
    with at(receiver, replace(OPTIONS, **rules)) as capture:
        send(sender.name, FRAMES)
        rows = capture.read(np.empty(20, PACKET))
        send(sender.name, FRAMES)
        capture.detach()
        counts = capture.counts()
        assert (counts.seen, counts.filtered) == (wanted, 200 - wanted)
        before = capture.watermark_ns()
        records = read_all(capture, room=7)
        assert counts.seen == rows + len(records) + counts.dropped["sampled_out"]
        assert (records["ts_ns"] >= before).all()
        assert (records["dst_port"] == 53).all()
        assert capture.counts() == counts
    with at(receiver) as capture:
        send(sender.name, FRAMES)
    assert capture.counts().seen == 100  # closed with all of it unread


def test_a_ring_goes_with_its_last_reference(ends: tuple[End, End]) -> None:
    """A socket can be closed while a traceback, say, still refers to its ring."""
    with inside(ends[1].name):
        opened = PacketSocket(DEVICE, {INGRESS}, BLOCK_BYTES)
    view = memoryview(opened.map)
    name = str(Path(f"/proc/self/fd/{opened._socket.fileno()}").readlink())
    assert open_files()[name] == 2  # a map has its own
    opened.close()
    assert len(view) == BLOCK_BYTES
    del opened, view
    assert not open_files()[name]


def test_a_detached_capture_keeps_what_waits(ends: tuple[End, End]) -> None:
    """What came before is read, what comes after isn't seen; counts stay after closing."""
    sender, receiver = ends
    with at(receiver) as capture:
        send(sender.name, FRAMES)
        capture.detach()
        send(sender.name, FRAMES)
        send(sender.name, [FRAMES[0][:12] + b"\xff\xff" + bytes(50)])
        assert len(read_all(capture)) == len(FRAMES)
        before = capture.counts()
        assert before.seen == len(FRAMES)
        capture.detach()
    capture.close()
    assert capture.counts() == before
    assert capture.read(np.empty(5, PACKET)) == 0


def test_never_more_than_there_is_room_for(ends: tuple[End, End]) -> None:
    """Reads fill the array they get, and the rest comes with the next ones."""
    sender, receiver = ends
    with at(receiver, SMALL) as capture:
        send(sender.name, FRAMES)
        buffer = np.zeros(7, PACKET)
        assert [capture.read(buffer) for _ in range(16)] == [7] * 14 + [2, 0]
        assert capture.read(np.empty(0, PACKET)) == 0


@pytest.mark.parametrize("direction", [INGRESS, EGRESS])
def test_only_wanted_directions(ends: tuple[End, End], direction: Direction) -> None:
    """The other direction is neither read nor counted, nor does it take room in the ring."""
    left, right = ends
    with at(left, replace(SMALL, directions=frozenset({direction}))) as capture:
        wanted, other = (left, right) if direction == EGRESS else (right, left)
        send(other.name, FRAMES, times=5)
        send(wanted.name, FRAMES)
        records = read_all(capture)
        assert len(records) == len(FRAMES) == capture.counts().seen
        assert capture.counts().dropped == {"ring_full": 0, "sampled_out": 0}
        assert (records["direction"] == direction).all()


def test_both_directions_once_each(ends: tuple[End, End]) -> None:
    """What goes out is seen once, and so is what comes in."""
    left, right = ends
    with at(left) as capture:
        send(left.name, FRAMES)
        send(right.name, FRAMES[:40])
        records = read_all(capture)
        assert (records["direction"] == [EGRESS] * 100 + [INGRESS] * 40).all()


def test_rules_and_sampling_balance(ends: tuple[End, End]) -> None:
    """Filtered packets aren't seen; seen is recorded plus sampled out."""
    sender, receiver = ends
    rules = {"keep": (parse_rule("udp port 53"),), "drop": (parse_rule("port 1003"),)}
    wanted = sum(n % 3 != 0 and n % 7 != 3 for n in range(100)) * 50
    with at(receiver, replace(OPTIONS, **rules)) as capture:
        send(sender.name, FRAMES, times=50)
        records = read_all(capture)
        assert len(records) == wanted
        assert (records["dst_port"] == 53).all()
        assert (records["src_port"] != 1003).all()
        counts = capture.counts()
        assert (counts.seen, counts.filtered) == (wanted, 5000 - wanted)
    with at(receiver, replace(OPTIONS, **rules, sampling_rate=10)) as capture:
        send(sender.name, FRAMES, times=50)
        records = read_all(capture)
        counts = capture.counts()
        assert (counts.seen, counts.filtered) == (wanted, 5000 - wanted)
        assert counts.seen == len(records) + counts.dropped["sampled_out"]
        # 2,800 trials at a tenth: 280 +- 15.9; six standard deviations.
        assert abs(len(records) - wanted / 10) < 6 * (wanted * 0.09) ** 0.5
        assert len(set(records["wire_bytes"].tolist())) > 20  # not each tenth frame of a hundred


def test_all_filtered_out(ends: tuple[End, End]) -> None:
    """A read that finds nothing of interest gives nothing, and has done its work."""
    sender, receiver = ends
    with at(receiver, replace(SMALL, keep=(parse_rule("tcp"),))) as capture:
        send(sender.name, FRAMES)
        assert capture.read(np.empty(10, PACKET)) == 0
        assert capture.counts().filtered == 100


def test_time_passes_the_watermark(ends: tuple[End, End]) -> None:
    """No record is older than the watermark of an earlier read; with no traffic it follows time."""
    sender, receiver = ends
    with at(receiver) as capture:
        buffer = np.empty(33, PACKET)
        watermark = capture.watermark_ns()
        for _ in range(20):
            send(sender.name, FRAMES)
            for _ in range(2):
                rows = capture.read(buffer)
                assert (buffer["ts_ns"][:rows] >= watermark).all()
                assert capture.watermark_ns() >= watermark
                watermark = capture.watermark_ns()
                if rows == len(buffer):
                    assert watermark <= buffer["ts_ns"][-1]
        read_all(capture)
        assert time.time_ns() - capture.watermark_ns() < 1_000_000_000


def test_several_interfaces(ends: tuple[End, End]) -> None:
    """Each has its ring, each record its interface; a busy one doesn't keep others waiting."""
    sender, receiver = ends
    options = replace(OPTIONS, interfaces=(DEVICE, "lo", DEVICE), ring_bytes=4 * BLOCK_BYTES)
    with at(receiver, options) as capture:
        assert set(capture.interfaces.values()) == {DEVICE, "lo"}
        with inside(receiver.name), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as local:
            local.bind(("127.0.0.1", 0))
            local.sendto(b"hello", local.getsockname())
        send(sender.name, FRAMES, times=2)
        names: list[str] = []
        for _ in range(2):
            buffer = np.empty(50, PACKET)
            rows = capture.read(buffer)
            names += [capture.interfaces[int(n)] for n in buffer["if_index"][:rows]]
        assert names.count("lo") == 2  # out and in
        names += [capture.interfaces[int(n)] for n in read_all(capture)["if_index"]]
        assert (names.count("lo"), names.count(DEVICE)) == (2, 200)
        assert capture.counts().seen == 202


CHILD = """
import json, sys, time
import numpy as np
from probe.live import CaptureOptions
from probe.packet_socket import PacketSocketCapture
from schemas.record import PACKET
effective = next(x for x in open("/proc/self/status") if x.startswith("CapEff"))
capture = PacketSocketCapture(CaptureOptions(interfaces=("wire",)))
out = np.empty(1000, PACKET)
capture.read(out)
print("ready", flush=True)
rows, deadline = 0, time.monotonic() + 60
while rows < 100 and time.monotonic() < deadline:
    rows += capture.read(out[rows:])
capture.detach()
seen = capture.counts().seen
capture.close()
print(json.dumps([int(effective.split()[1], 16), rows, seen]), flush=True)
"""


READY_MADE = """
import gc, sys
import numpy as np
from numba.core.dispatcher import Dispatcher
from probe.filters import parse_rule
from probe.live import CaptureOptions
from probe.packet_socket import PacketSocketCapture
from schemas.record import PACKET
def loaded():
    kernels = [k for k in gc.get_objects() if isinstance(k, Dispatcher)]
    return len(sys.modules), sum(len(kernel.overloads) for kernel in kernels)
rules = {"drop": (parse_rule("tcp"),), "sampling_rate": 2}
capture = PacketSocketCapture(CaptureOptions(interfaces=("wire",), **rules))
before = loaded()
print("ready", flush=True)
sys.stdin.readline()
out = np.empty(60, PACKET)
assert capture.read(out)
capture.detach()
capture.read(out)
capture.counts()
capture.close()
assert loaded() == before, (before, loaded())
"""


def test_what_reading_needs_is_there_before_frames_are(ends: tuple[End, End]) -> None:
    """Nothing is compiled or imported any more when a capture has been opened."""
    sender, receiver = ends
    with inside(receiver.name):
        process = subprocess.Popen(
            [sys.executable, "-c", READY_MADE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    send(sender.name, FRAMES)
    _, errors = process.communicate("\n", timeout=SECONDS)
    assert not errors


def start_with(receiver: End, *capabilities: str) -> subprocess.Popen[str]:
    kept = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    limits = f"--bounding-set={kept}", "--inh-caps=-all", "--no-new-privs"
    with inside(receiver.name):
        return subprocess.Popen(
            ["setpriv", *limits, sys.executable, "-c", CHILD],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )


def test_cap_net_raw_is_enough(ends: tuple[End, End]) -> None:
    """A process with this one capability captures."""
    sender, receiver = ends
    with start_with(receiver, "net_raw") as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            send(sender.name, FRAMES)
            output, errors = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert not errors
    net_raw = 1 << 13
    assert json.loads(output) == [net_raw, 100, 100]


def test_without_it_the_message_says_so(ends: tuple[End, End]) -> None:
    """A process without capabilities is told which one it needs."""
    with start_with(ends[1]) as process:
        _, errors = process.communicate(timeout=SECONDS)
    assert errors.splitlines()[-1].endswith(
        "Unavailable: AF_PACKET needs the capability CAP_NET_RAW: run as root"
    )


def test_refusals(ends: tuple[End, End]) -> None:
    """What can't be captured is refused with what to do, and nothing stays open."""
    with inside(ends[1].name):
        before = open_files()
        with pytest.raises(LiveError, match=f"no interface eth9; there are: lo, {DEVICE}"):
            PacketSocketCapture(CaptureOptions(interfaces=(DEVICE, "eth9")))
        with pytest.raises(LiveError, match="name an interface"):
            PacketSocketCapture(CaptureOptions(interfaces=()))
        with pytest.raises(LiveError, match="and a direction"):
            PacketSocketCapture(replace(OPTIONS, directions=frozenset()))
        with pytest.raises(Unavailable, match="use mode packets"):
            PacketSocketCapture(replace(OPTIONS, mode="flows"))
        with pytest.raises(FilterError, match="9 filter rules"):
            PacketSocketCapture(replace(OPTIONS, keep=(parse_rule("tcp"),) * 9))
        assert not open_files() - before


def test_a_device_without_link_headers(ends: tuple[End, End]) -> None:
    """Frames of a tunnel device begin with their IP header, both ways."""
    end = ends[0]
    received = bytes(ip4(dst="10.79.0.1") / UDP(sport=4001, dport=4002) / Raw(b"hello"))
    with tunnel(end, "l3") as tun, at(end, replace(OPTIONS, interfaces=("l3",))) as capture:
        with inside(end.name), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talker:
            talker.sendto(b"hello", ("10.79.0.2", 4000))
        os.write(tun, received)
        capture.detach()
        out, in_ = read_all(capture)[:2]
    assert (out["dst_port"], out["direction"]) == (4000, EGRESS)
    assert (in_["dst_port"], in_["direction"]) == (4002, INGRESS)
    assert bytes(out["dst_addr"][12:]) == bytes([10, 79, 0, 2])
    for record in (out, in_):
        assert (record["wire_bytes"], record["eth_type"]) == (20 + 8 + 5, 0x0800)
        assert record["capture_point"] == CapturePoint.AF_PACKET


@contextlib.contextmanager
def tunnel(end: End, name: str) -> Iterator[int]:
    """A tunnel device whose other side is the descriptor."""
    set_device, no_link_header = 0x400454CA, 0x1001
    with inside(end.name):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        with inside(end.name):
            fcntl.ioctl(
                descriptor, set_device, struct.pack("16sH22x", name.encode(), no_link_header)
            )
        run(end.name, "ip", "link", "set", name, "addrgenmode", "none")
        run(end.name, "ip", "link", "set", name, "up")
        run(end.name, "ip", "address", "add", "10.79.0.1/24", "dev", name)
        yield descriptor
    finally:
        os.close(descriptor)


def test_an_interface_that_goes_away(ends: tuple[End, End]) -> None:
    """What was taken can be read, and the capture be detached and closed."""
    left, _ = ends
    run(left.name, "ip", "link", "add", "gone", "type", "veth", "peer", "gone2")
    with at(left, replace(OPTIONS, interfaces=("gone",))) as capture:
        run(left.name, "ip", "link", "delete", "gone")
        capture.read(np.empty(10, PACKET))
        capture.detach()
        assert capture.counts().seen == 0
