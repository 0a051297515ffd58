"""Frames kept as pcapng while they pass through a veth pair."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapNgReader

from probe.capture import CaptureFile
from probe.filters import parse_rule
from probe.keep import Keeper, KeepOptions, open_keeper
from probe.live import CaptureOptions
from schemas.record import Direction, Packets
from tests.support import namespaces, traffic
from tests.support.namespaces import DEVICE, End, inside, send
from tests.support.processes import gone, stopped, until

pytestmark = [pytest.mark.requires("netns"), pytest.mark.requires("packet_socket")]

MIB = 1 << 20
LARGE = [bytes.fromhex("0277000000020277000000010800") + bytes([i]) * 1500 for i in range(61)]


@pytest.fixture
def wire() -> Iterator[tuple[End, End]]:
    with namespaces.pair() as ends:
        yield ends


@contextlib.contextmanager
def keeping(
    path: Path, end: End, *, device: str = DEVICE, capture: Any = None, **changed: Any
) -> Iterator[Keeper]:
    options = CaptureOptions(interfaces=(device,), **(capture or {}))
    with inside(end.name):
        keep = open_keeper(KeepOptions(path, **changed), options, {2: device})
    with keep:
        yield keep


def files(path: Path) -> list[Path]:
    return sorted(path.glob("netspectra-*"), key=lambda file: int(file.stem[28:]))


def frames_of(path: Path) -> list[bytes]:
    """All frames in the directory's files, by scapy."""
    found: list[bytes] = []
    for file in files(path):
        with RawPcapNgReader(str(file)) as reader:
            found += [bytes(data) for data, _ in reader]
    return found


def records_of(path: Path) -> Packets:
    """The records of the only file, by our own reader."""
    (file,) = files(path)
    with CaptureFile(file) as capture:
        records = capture.read(1 << 20)
        assert capture.truncated is None
    return records


def test_byte_for_byte(tmp_path: Path, wire: tuple[End, End]) -> None:
    """Every kind of frame, tags included, is in the file as often and as it was sent."""
    left, right = wire
    kinds = [data for link, data in traffic.CASES.values() if link == 1 and len(data) >= 60]
    kinds = [data for data in kinds if len(data) <= 1514]
    began_ns = time.time_ns()
    with keeping(tmp_path, right) as keep:
        send(left.name, kinds, times=7)
        send(right.name, kinds[:3])
    frames, records = frames_of(tmp_path), records_of(tmp_path)
    assert frames == kinds * 7 + kinds[:3]
    assert keep.counts().kept == keep.counts().offered == len(frames)
    ways = [Direction.INGRESS] * len(kinds) * 7 + [Direction.EGRESS] * 3
    assert records["direction"].tolist() == ways
    assert began_ns < records["ts_ns"].min() <= records["ts_ns"].max() < time.time_ns()
    assert records["wire_bytes"].tolist() == [len(frame) for frame in frames]


def test_own_tools_read_it(tmp_path: Path, wire: tuple[End, End]) -> None:
    """Tcpdump reads the file, and the end of it tells what the ring received and lost."""
    left, right = wire
    with keeping(tmp_path, right):
        send(left.name, LARGE)
    (file,) = files(tmp_path)
    assert file.read_bytes()[-52:-48] == struct.pack("<I", 5)
    assert struct.unpack("<Q4xQ", file.read_bytes()[-28:-8]) == (61, 0)
    command = ["tcpdump", "-nr", str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("tcpdump isn't installed")
    assert len(done.stdout.splitlines()) == len(LARGE)


@pytest.mark.parametrize("way", [Direction.INGRESS, Direction.EGRESS])
def test_direction(tmp_path: Path, wire: tuple[End, End], way: Direction) -> None:
    """Only frames of the wanted direction are kept, and only they count."""
    left, right = wire
    with keeping(tmp_path, right, capture={"directions": frozenset({way})}) as keep:
        send(left.name, LARGE[:5])
        send(right.name, LARGE[:11])
    count = 5 if way is Direction.INGRESS else 11
    assert records_of(tmp_path)["direction"].tolist() == [way] * count
    assert keep.counts().offered == keep.counts().kept == count


def test_filter_and_snap_length(tmp_path: Path, wire: tuple[End, End]) -> None:
    """Only frames that pass the filter are kept, cut as wished, their length told."""
    left, right = wire
    ether = Ether(src=left.mac, dst=right.mac)
    wanted = bytes(ether / IP(dst="192.0.2.1") / TCP(dport=443) / bytes(500))
    others = [bytes(ether / IP(dst="192.0.2.1") / UDP(dport=443) / bytes(500))]
    others.append(bytes(ether / IP(dst="198.51.100.1") / TCP(dport=443) / bytes(500)))
    rules = {"keep": (parse_rule("tcp"),), "drop": (parse_rule("net 198.51.100.0/24"),)}
    with keeping(tmp_path, right, capture=rules, snap_bytes=80) as keep:
        send(left.name, [wanted, *others], times=13)
    assert frames_of(tmp_path) == [wanted[:80]] * 13
    assert records_of(tmp_path)["wire_bytes"].tolist() == [len(wanted)] * 13
    assert keep.counts().offered == keep.counts().kept == 13


def test_rotation_and_limit(tmp_path: Path, wire: tuple[End, End]) -> None:
    """Under the limit the newest frames stay, in files that follow on one another."""
    left, right = wire
    limits = {"limit_bytes": 4 * MIB, "rotate_bytes": MIB}
    with keeping(tmp_path, right, **limits) as keep:
        for _ in range(10):
            send(left.name, LARGE, times=20)
            with stopped(keep.pid):
                assert sum(file.stat().st_size for file in files(tmp_path)) <= 4 * MIB
    assert sum(file.stat().st_size for file in files(tmp_path)) <= 4 * MIB
    assert all(file.stat().st_size <= MIB for file in files(tmp_path))
    counts = keep.counts()
    assert counts.kept == 61 * 200
    assert counts.files - counts.deleted_files == len(files(tmp_path)) >= 4
    frames = frames_of(tmp_path)
    assert len(frames) > 2000
    assert frames == (LARGE * 200)[-len(frames) :]


def test_writer_stands_still(tmp_path: Path, wire: tuple[End, End]) -> None:
    """What doesn't fit into the ring is counted to the last frame, and keeping resumes."""
    left, right = wire
    with keeping(tmp_path, right) as keep:
        with stopped(keep.pid):
            sent = send(left.name, LARGE, times=500)
        until(lambda: keep.counts().kept > 0)
        sent += send(left.name, LARGE)
    counts = keep.counts()
    assert counts.offered == sent
    assert counts.skipped == {"ring_full": sent - counts.kept}
    assert counts.skipped["ring_full"] > 0
    frames = frames_of(tmp_path)
    assert len(frames) == counts.kept
    assert frames[-61:] == LARGE


def test_writer_killed(tmp_path: Path, wire: tuple[End, End]) -> None:
    """After a kill -9 in the middle of work the file has the frames that were counted."""
    left, right = wire
    with keeping(tmp_path, right) as keep:
        while keep.counts().kept < 3000:
            send(left.name, LARGE, times=10)
        os.kill(keep.pid, signal.SIGKILL)
        until(lambda: keep.trouble is not None)
        assert "ended (SIGKILL): nothing is kept" in str(keep.trouble)
        counts = keep.counts()
    (file,) = files(tmp_path)
    with CaptureFile(file) as capture:
        assert len(capture.read(1 << 20)) >= counts.kept
    frames = frames_of(tmp_path)
    assert frames == (LARGE * (len(frames) // 61 + 1))[: len(frames)]


PARENT = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from probe.keep import KeepOptions, open_keeper
from probe.live import CaptureOptions
name = "wire"
keep = open_keeper(KeepOptions(Path(sys.argv[1])), CaptureOptions(interfaces=(name,)), {2: name})
print(keep.pid, flush=True)
time.sleep(1000)
"""


def test_parent_killed(tmp_path: Path, wire: tuple[End, End]) -> None:
    """A killed probe leaves no process behind; frames that waited are in the file, whole."""
    left, right = wire
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", PARENT, str(tmp_path), root]
    with inside(right.name):
        parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        send(left.name, LARGE, times=3)
        parent.kill()
    until(lambda: gone(pid))
    assert frames_of(tmp_path) == LARGE * 3
    assert len(records_of(tmp_path)) == 183


def test_coalesced_buffers(tmp_path: Path, wire: tuple[End, End]) -> None:
    """A coalesced buffer is kept as it is, larger than any frame of the wire."""
    left, right = wire
    namespaces.offload(left.name, True)
    namespaces.offload(right.name, True)
    with inside(right.name):
        listener = socket.create_server((right.ipv4, 5001))
    with inside(left.name):
        client = socket.create_connection((right.ipv4, 5001))
    data = os.urandom(MIB)
    received = bytearray()
    with listener, client, listener.accept()[0] as server, keeping(tmp_path, right):
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        while len(received) < MIB:
            received += server.recv(MIB)
        sender.join()
    assert received == data
    segments = {}
    for frame in frames_of(tmp_path):
        packet = Ether(frame)
        if packet.haslayer(TCP) and packet[TCP].dport == 5001:
            segments[packet[TCP].seq] = bytes(packet[TCP].payload)
    first = min(segments)
    assert b"".join(segments[seq] for seq in sorted(segments)) == data
    assert max(map(len, segments.values())) > 1500
    assert first + MIB == max(segments) + len(segments[max(segments)])


def test_interface_without_link_header(tmp_path: Path, wire: tuple[End, End]) -> None:
    """A tun interface gives raw IP packets."""
    end, _ = wire
    packets = [bytes(IP(src="10.9.0.2", dst="10.9.0.3") / UDP(dport=i)) for i in range(1, 8)]
    with inside(end.name), contextlib.ExitStack() as stack:
        try:
            tun = stack.enter_context(open("/dev/net/tun", "r+b", buffering=0))  # noqa: PTH123
            fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"tun7", 0x1001))
        except OSError as error:
            pytest.skip(f"no tun interface: {error}")
        namespaces.run(end.name, "ip", "link", "set", "tun7", "up")
        with keeping(tmp_path, end, device="tun7"):
            for packet in packets:
                tun.write(packet)
    with CaptureFile(files(tmp_path)[0]) as capture:
        records = capture.read(100)
        assert capture.interfaces[0].link_type == 101
    assert frames_of(tmp_path) == packets
    assert records["dst_port"].tolist() == list(range(1, 8))


def test_interface_goes_down_and_up(tmp_path: Path, wire: tuple[End, End]) -> None:
    """Keeping goes on when an interface comes back."""
    left, right = wire
    with keeping(tmp_path, right) as keep:
        send(left.name, LARGE[:3])
        until(lambda: keep.counts().kept == 3)
        namespaces.run(right.name, "ip", "link", "set", DEVICE, "down")
        namespaces.run(right.name, "ip", "link", "set", DEVICE, "up")
        send(left.name, LARGE[3:10])
        until(lambda: keep.counts().kept == 10)
    assert frames_of(tmp_path) == LARGE[:10]


def test_two_interfaces(tmp_path: Path, wire: tuple[End, End]) -> None:
    """Frames of several interfaces are in one file, each with its interface."""
    left, right = wire
    options = CaptureOptions(interfaces=(DEVICE, "lo"))
    with inside(right.name):
        keep = open_keeper(KeepOptions(tmp_path), options, {2: DEVICE, 1: "lo"})
        with keep, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            send(left.name, LARGE[:5])
            sender.sendto(b"x" * 100, ("127.0.0.1", 9))
    records = records_of(tmp_path)
    with CaptureFile(files(tmp_path)[0]) as capture:
        capture.read(1)
        assert [interface.name for interface in capture.interfaces] == [DEVICE, "lo"]
    assert (records["if_index"] == 0).sum() == 5
    udp = records[(records["if_index"] == 1) & (records["ip_proto"] == 17)]
    assert sorted(udp["direction"].tolist()) == [Direction.INGRESS, Direction.EGRESS]
