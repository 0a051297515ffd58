"""Programs attach the best way that works, say which and why, and leave nothing behind."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from probe.choose import open_capture
from probe.ebpf import attach, clsact
from probe.ebpf.capture import EbpfCapture, open_ebpf
from probe.ebpf.loaded import LoadFiles
from probe.errors import LiveError, Unavailable
from probe.live import CaptureOptions
from schemas.record import PACKET, Direction
from tests.support.ebpf import DROP, UDP_FRAME, attached, load_returning
from tests.support.namespaces import DEVICE, End, inside, pair, run, send
from tests.support.processes import open_files

pytestmark = [pytest.mark.requires("bpf", "netns", "libbpf")]
ROOT = Path(__file__).parents[2]
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000

WAYS: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "tcx": ({"attach": "tcx"}, ["tcx ingress", "tcx egress"], f"TC by tcx links on {DEVICE}"),
    "clsact": (
        {"attach": "clsact"},
        ["clsact ingress", "clsact egress", "clsact"],
        f"TC by clsact filters on {DEVICE}",
    ),
    "native": ({"method": "xdp", "xdp_mode": "native"}, ["xdp"], f"XDP native on {DEVICE}"),
    "generic": (
        {"method": "xdp", "xdp_mode": "generic"},
        ["xdpgeneric"],
        f"XDP generic on {DEVICE}",
    ),
}


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    if not LoadFiles().compiled.is_file():
        pytest.skip("no compiled programs; make bpf")
    with pair() as both:
        yield both


def opened(end: End, files: LoadFiles | None = None, **options: Any) -> EbpfCapture:
    hook = "xdp" if options.get("method") == "xdp" else "tc"
    with inside(end.name):
        return open_ebpf(CaptureOptions(interfaces=(DEVICE,), **options), hook, files)


def wait_until(done: Any) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("way", WAYS)
def test_attached_and_gone(way: str, ends: tuple[End, End]) -> None:
    """Each way attaches as it is called, records what comes in, and is gone after closing."""
    left, right = ends
    options, expected, line = WAYS[way]
    with contextlib.closing(opened(right, **options)) as capture:
        assert attached(right) == expected
        assert line in capture.choices
        assert capture.interfaces == {right.if_index: DEVICE}
        sent = send(left.name, [UDP_FRAME], times=17)
        out = np.zeros(100, PACKET)
        capture.detach()
        assert attached(right) == []
        assert capture.read(out) == sent == 17
        assert send(left.name, [UDP_FRAME]) == 1
        assert capture.read(out) == 0
        assert capture.counts().seen == 17
        assert set(out["direction"][:17]) == {Direction.INGRESS}
        capture.detach()
    assert attached(right) == []
    capture.close()
    assert capture.counts().seen == 17


CHILD = """
import sys
from probe.choose import open_capture
from probe.live import CaptureOptions
capture = open_capture(CaptureOptions(interfaces=("wire",), **eval(sys.argv[1])))
print("attached", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("way", WAYS)
def test_nothing_stays_after_a_kill(way: str, ends: tuple[End, End]) -> None:
    """After kill -9, programs are gone at once, or a moment later where a process keeps them."""
    _, right = ends
    options, expected, _ = WAYS[way]
    with inside(right.name):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, repr(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"attached\n"
        assert attached(right) == expected
    finally:
        child.kill()
        child.communicate()
    wait_until(lambda: attached(right) == [])


@contextlib.contextmanager
def dropping(end: End) -> Iterator[None]:
    """Meanwhile another program drops what comes in, by a clsact filter."""
    program_fd = load_returning(DROP)
    try:
        with inside(end.name):
            filters = clsact.Filters()
        filters.attach(end.if_index, "ingress", program_fd, "other")
        yield
        filters.remove()
    finally:
        os.close(program_fd)


def test_clsact_of_others_stays(ends: tuple[End, End]) -> None:
    """A discipline that was there before, and filters that came meanwhile, stay."""
    _, right = ends
    run(right.name, "tc", "qdisc", "add", "dev", DEVICE, "clsact")
    opened(right, attach="clsact").close()
    assert attached(right) == ["clsact"]
    run(right.name, "tc", "qdisc", "del", "dev", DEVICE, "clsact")

    capture = opened(right, attach="clsact")
    with dropping(right):
        capture.close()
        assert attached(right) == ["clsact"]
        assert "other" in run(right.name, "tc", "filter", "show", "dev", DEVICE, "ingress")
    run(right.name, "tc", "qdisc", "del", "dev", DEVICE, "clsact")


@pytest.mark.parametrize("way", ["tcx", "clsact"])
def test_filters_of_others_come_after(way: str, ends: tuple[End, End]) -> None:
    """What a filter that was there before drops is still seen as it comes in."""
    left, right = ends
    with dropping(right), contextlib.closing(opened(right, attach=way)) as capture:
        send(left.name, [UDP_FRAME], times=5)
        capture.detach()
        assert capture.counts().seen == 5


def test_keeper_takes_back_what_it_could_attach(ends: tuple[End, End]) -> None:
    """When one of several filters is refused, none stays, and the refusal names the device."""
    _, right = ends
    with inside(right.name):
        keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", clsact.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[2],
        )
        wanted = [[right.if_index, "ingress", 2, "netspectra"]]  # not a program
        out, _ = keeper.communicate(json.dumps(wanted).encode() + b"\n")
    number, if_index = json.loads(out)
    assert number > 0
    assert if_index == right.if_index
    assert attached(right) == []


def test_without_tcx_clsact_runs(ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel doesn't know tcx links, it says so and clsact filters are used."""
    _, right = ends
    # Numbers that no kernel knows, which it answers as an old one answers those of tcx.
    monkeypatch.setattr(attach, "AttachType", SimpleNamespace(TCX_INGRESS=999, TCX_EGRESS=999))
    with contextlib.closing(opened(right)) as capture:
        assert attached(right) == WAYS["clsact"][1]
    reason = "no tcx links: they came with Linux 6.6"
    assert capture.choices[-2:] == (reason, WAYS["clsact"][2])
    with pytest.raises(Unavailable, match=reason):
        opened(right, attach="tcx")


def test_without_native_xdp_generic_runs(ends: tuple[End, End]) -> None:
    """Where the driver takes no XDP program, it says so and the kernel's generic path is used."""
    _, right = ends
    with inside(right.name):
        options = CaptureOptions(interfaces=("lo",), method="xdp")
        with contextlib.closing(open_ebpf(options, "xdp")) as capture:
            assert "xdpgeneric" in run(right.name, "ip", "link", "show", "lo")
        native = CaptureOptions(interfaces=("lo",), method="xdp", xdp_mode="native")
        with pytest.raises(Unavailable, match="the driver of lo has no native XDP"):
            open_ebpf(native, "xdp")
    assert "the driver of lo has no native XDP" in capture.choices
    assert "XDP generic on lo" in capture.choices


def test_xdp_of_others_stays(ends: tuple[End, End]) -> None:
    """A device that has an XDP program already is refused, and keeps it."""
    _, right = ends
    with contextlib.closing(opened(right, method="xdp")):
        with pytest.raises(Unavailable, match="has another XDP program already"):
            opened(right, method="xdp")
        assert attached(right) == ["xdp"]


@pytest.mark.requires("bcc")
@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (LoadFiles(compiled=Path("/nowhere/capture.bpf.o")), "libbpf: there is no capture.bpf.o"),
        (LoadFiles(libbpf=("libbpf.so.99",)), r"libbpf isn't installed"),
    ],
    ids=["no object", "no library"],
)
def test_without_libbpf_bcc_runs(files: LoadFiles, reason: str, ends: tuple[End, End]) -> None:
    """Without the compiled object, or without the library, BCC loads the programs."""
    left, right = ends
    with contextlib.closing(opened(right, files)) as capture:
        send(left.name, [UDP_FRAME], times=3)
        capture.detach()
        assert capture.read(np.zeros(10, PACKET)) == 3
    assert capture.choices[0].startswith(reason)
    assert capture.choices[1] == "eBPF programs loaded by bcc"
    with pytest.raises(Unavailable, match=reason):
        opened(right, files, loader="libbpf")


def bpf_descriptors() -> Counter[str]:
    return Counter({name: count for name, count in open_files().items() if "bpf" in name})


@pytest.mark.parametrize(
    "loader", ["libbpf", pytest.param("bcc", marks=pytest.mark.requires("bcc"))]
)
@pytest.mark.parametrize("way", WAYS)
def test_all_is_given_back(loader: str, way: str, ends: tuple[End, End]) -> None:
    """After closing, this process holds no program, map or link more than before."""
    _, right = ends
    before = bpf_descriptors()
    with contextlib.closing(opened(right, loader=loader, **WAYS[way][0])) as capture:
        assert bpf_descriptors() > before
        assert f"eBPF programs loaded by {loader}" in capture.choices
    assert not bpf_descriptors() - before
    assert capture.read(np.zeros(5, PACKET)) == 0


def test_without_any_loader(ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without libbpf's object and BCC, both reasons are told, each with what to do."""
    _, right = ends
    for name in [name for name in sys.modules if name.partition(".")[0] == "bcc"]:
        monkeypatch.delitem(sys.modules, name)
    files = LoadFiles(compiled=Path("/nowhere/capture.bpf.o"), bcc=Path("/nowhere/bcc"))
    with pytest.raises(Unavailable, match=r"`make bpf` compiles it; .*apt install python3-bpfcc"):
        opened(right, files)


@pytest.mark.requires("packet_socket")
def test_without_the_right_to_load(ends: tuple[End, End]) -> None:
    """With CAP_NET_RAW alone, a packet socket captures, and the reason names what is missing."""
    _, right = ends
    script = CHILD.replace("print(", "print(capture.point.name, capture.choices[0], ")
    caps = ["setpriv", "--bounding-set", "-all,+net_raw", "--inh-caps", "-all,+net_raw"]
    with inside(right.name):
        done = subprocess.run(
            [*caps, sys.executable, "-c", script, "{}"],
            input=b"",
            capture_output=True,
            cwd=ROOT,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(b"AF_PACKET no eBPF: eBPF isn't permitted here: run it with sudo")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"interfaces": ()}, "no interface is named"),
        ({"interfaces": ("nothere",)}, "there is no interface 'nothere'"),
        ({"interfaces": (DEVICE,), "ring_bytes": 5000}, "must be a power of two"),
        ({"interfaces": (DEVICE,), "ring_bytes": 2048}, "must be a power of two, at least 4096"),
        (
            {"interfaces": (DEVICE,), "method": "xdp", "directions": {Direction.EGRESS}},
            "XDP sees only what comes in",
        ),
        ({"interfaces": ("quiet",), "method": "xdp"}, "XDP needs Ethernet, which quiet isn't"),
    ],
)
def test_refused(options: dict[str, Any], reason: str, ends: tuple[End, End]) -> None:
    """What can't be captured is refused with the reason, and nothing else is tried."""
    _, right = ends
    run(right.name, "ip", "tuntap", "add", "quiet", "mode", "tun")
    with inside(right.name), pytest.raises(LiveError, match=reason) as refused:
        open_capture(CaptureOptions(**options))
    assert not isinstance(refused.value, Unavailable)
    assert attached(right) == []


def test_devices_without_a_link_header(ends: tuple[End, End]) -> None:
    """On a tunnel device, packets begin with the IP header and are read as such, both ways."""
    _, right = ends
    with inside(right.name), Path("/dev/net/tun").open("r+b", buffering=0) as tunnel:
        fcntl.ioctl(tunnel, TUNSETIFF, struct.pack("16sH22x", b"quiet", IFF_TUN | IFF_NO_PI))
        run(right.name, "ip", "address", "add", "10.99.0.1/24", "dev", "quiet")
        run(right.name, "ip", "link", "set", "quiet", "up")
        with contextlib.closing(
            open_capture(CaptureOptions(interfaces=("quiet",), method="tc"))
        ) as capture:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"x" * 100, ("10.99.0.2", 999))
            tunnel.write(tunnel.read(2000))  # what went out comes in again
            capture.detach()
            out = np.zeros(4, PACKET)
            assert capture.read(out) == 2
    assert list(out["direction"][:2]) == [Direction.EGRESS, Direction.INGRESS]
    for packet in out[:2]:
        assert (packet["eth_type"], packet["ip_proto"], packet["dst_port"]) == (0x0800, 17, 999)
        assert packet["wire_bytes"] == 128


def test_one_may_read_while_another_closes(ends: tuple[End, End]) -> None:
    """Reading, counting and closing from several threads neither crash nor lose."""
    left, right = ends
    capture = opened(right)
    stop = threading.Event()
    read = itertools.count()

    def drain() -> None:
        out = np.zeros(64, PACKET)
        while not stop.is_set():
            for _ in range(capture.read(out)):
                next(read)
            assert capture.counts().seen >= 0

    thread = threading.Thread(target=drain)
    thread.start()
    send(left.name, [UDP_FRAME] * 50, times=40)
    capture.detach()
    wait_until(lambda: capture.ring_fill() == 0)
    capture.close()
    stop.set()
    thread.join()
    assert next(read) == capture.counts().seen == 2000
