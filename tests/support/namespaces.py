"""Two private network namespaces joined by a veth pair, where nothing speaks unless a test does.

Each namespace has, besides loopback, one device that is called ``wire``::

    with pair() as (left, right):
        with inside(right.name):
            capture = ...  # its sockets and links belong to the right namespace for good
        send(left.name, frames)
        assert counters(right.name).rx_packets == len(frames)

Neighbours are static, ARP and neighbour discovery are off, IPv6 sends no solicitations and no
multicast reports: counts are exact. Frames to foreign MAC addresses get no answers.

Beware of ``ip netns exec`` and ``tc -n``: they mount a new ``/sys``, so pinned programs vanish.
``run`` moves the thread instead.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import itertools
import os
import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

DEVICE = "wire"
PREFIX = "nstest"
MOST_PAIRS = 8
SECONDS = 60
"""Longest that a command may take."""

OFFLOADS = ("tso", "gso", "gro")

_NAMESPACES = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_numbers = itertools.count()
_open: set[str] = set()


@dataclass(frozen=True, slots=True)
class End:
    """One namespace; the addresses are those of its device."""

    name: str
    mac: str
    ipv4: str
    ipv6: str

    @property
    def if_index(self) -> int:
        with inside(self.name):
            return socket.if_nametoindex(DEVICE)


@dataclass(frozen=True, slots=True)
class Counters:
    """What the device itself counts, from ``/proc/net/dev``."""

    rx_bytes: int
    rx_packets: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_dropped: int

    def __sub__(self, before: Counters) -> Counters:
        names = self.__slots__
        return Counters(*(getattr(self, name) - getattr(before, name) for name in names))


@contextlib.contextmanager
def pair(*, mtu: int = 1500) -> Iterator[tuple[End, End]]:
    """Make the two namespaces; they are removed at the end, however that comes."""
    if len(_open) >= 2 * MOST_PAIRS:
        raise RuntimeError("too many namespaces are open")
    remove_leftovers()
    stem = f"{PREFIX}-{os.getpid()}-{next(_numbers)}"
    ends = [
        End(f"{stem}{side}", f"02:77:00:00:00:0{i}", f"10.77.0.{i}", f"fd77::{i}")
        for i, side in enumerate("lr", 1)
    ]
    names = [end.name for end in ends]
    try:
        for name in names:
            _open.add(name)
            _ip("netns", "add", name)
            _silence(name)
        left, right = (f"name {DEVICE} netns {end.name} address {end.mac}" for end in ends)
        _ip(*f"link add {left} mtu {mtu} type veth peer {right} mtu {mtu}".split())
        for end, peer in zip(ends, reversed(ends), strict=True):
            commands = f"""
                link set lo up
                link set {DEVICE} arp off addrgenmode none
                link set {DEVICE} up
                address add {end.ipv4}/24 dev {DEVICE}
                address add {end.ipv6}/64 dev {DEVICE} nodad
                neighbour replace {peer.ipv4} lladdr {peer.mac} nud permanent dev {DEVICE}
                neighbour replace {peer.ipv6} lladdr {peer.mac} nud permanent dev {DEVICE}
            """
            with inside(end.name):
                _ip("-batch", "-", stdin=commands)
        yield ends[0], ends[1]
    finally:
        for name in names:
            _remove(name)


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """Move this thread, and only it, into a namespace; what it makes there stays there.

    ``/proc/net`` goes on showing the namespace of the process; read ``/proc/thread-self/net``.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(_NAMESPACES / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def run(name: str, *argv: str, check: bool = True) -> str:
    """Run a command inside a namespace and return its output."""
    with inside(name):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr or done.stdout}")
    return done.stdout


@contextlib.contextmanager
def running(name: str, *argv: str) -> Iterator[subprocess.Popen[str]]:
    """Keep a command running inside a namespace meanwhile."""
    pipe = subprocess.PIPE
    with inside(name):
        process = subprocess.Popen(argv, stdout=pipe, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=SECONDS)


def offload(name: str, on: bool, *, features: Sequence[str] = OFFLOADS) -> None:
    """Switch the device's offloads: segmentation when sending, coalescing when receiving."""
    run(name, "ethtool", "-K", DEVICE, *(x for f in features for x in (f, "on" if on else "off")))


def counters(name: str) -> Counters:
    """Read the device's counters."""
    with inside(name):
        text = Path("/proc/thread-self/net/dev").read_text()
    found = re.search(rf"^ *{DEVICE}:(.*)$", text, re.MULTILINE)
    assert found
    numbers = [int(word) for word in found[1].split()]
    rx, tx = numbers[:8], numbers[8:]
    return Counters(rx[0], rx[1], rx[3], tx[0], tx[1], tx[3])


def snmp(name: str) -> dict[str, int]:
    """Read the protocol counters of ``/proc/net/snmp``, named as in ``TcpOutSegs``."""
    with inside(name):
        lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
    values: dict[str, int] = {}
    for heads, numbers in zip(lines[::2], lines[1::2], strict=True):
        protocol, *fields = heads.split()
        for field, number in zip(fields, numbers.split()[1:], strict=True):
            values[protocol.rstrip(":") + field] = int(number)
    return values


def send(name: str, frames: Sequence[bytes], *, times: int = 1, burst: int = 64) -> int:
    """Send frames as they are out of the device, as fast as it goes; returns how many went.

    The bytes pass the whole sending path once (AF_PACKET, sendmmsg), segmentation excluded.
    """
    if not frames:
        return 0
    messages, keep_alive = _messages(frames)
    with inside(name), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.bind((DEVICE, 0))
        sent = 0
        for _ in range(times):
            first = 0
            while first < len(frames):
                first += _sendmmsg(sender, messages[first : first + burst])
            sent += first
    del keep_alive
    return sent


def remove_leftovers() -> None:
    """Remove namespaces of test processes that are gone."""
    for path in _NAMESPACES.glob(f"{PREFIX}-*"):
        found = re.match(rf"{PREFIX}-(\d+)-", path.name)
        if found and not Path(f"/proc/{found[1]}").exists():
            _remove(path.name)


def why_not() -> str | None:
    """Try to make a pair; the reason when that fails."""
    try:
        with pair():
            return None
    except (OSError, RuntimeError) as error:
        return f"no network namespaces ({error}); needs root, iproute2 and veth".replace("\n", " ")


_LIBC = ctypes.CDLL(None, use_errno=True)


def _setns(descriptor: int) -> None:
    # os.setns came with Python 3.12.
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def _ip(*argv: str, stdin: str = "") -> None:
    done = subprocess.run(
        ("ip", *argv), input=stdin, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(argv)}: {done.stderr.strip()}")


def _remove(name: str) -> None:
    if (_NAMESPACES / name).exists():
        _ip("netns", "delete", name)
    _open.discard(name)


@atexit.register
def _remove_all() -> None:
    for name in sorted(_open):
        with contextlib.suppress(RuntimeError):
            _remove(name)


def _silence(name: str) -> None:
    """Switch off what the kernel says of its own accord; new devices inherit it."""
    values = {
        "accept_dad": 0,
        "accept_ra": 0,
        "autoconf": 0,
        "dad_transmits": 0,
        "router_solicitations": 0,
    }
    with inside(name):
        for scope, (key, value) in itertools.product(("all", "default"), values.items()):
            Path(f"/proc/sys/net/ipv6/conf/{scope}/{key}").write_text(str(value))


_MESSAGE = np.dtype(
    {
        "names": ["iov", "iov_len", "sent"],
        "formats": ["<u8", "<u8", "<u4"],
        "offsets": [16, 24, 56],
        "itemsize": 64,
    }
)


def _messages(frames: Sequence[bytes]) -> tuple[npt.NDArray[np.void], tuple[object, ...]]:
    """Build the array of struct mmsghdr, and what it points into."""
    data = np.frombuffer(b"".join(frames), np.uint8)
    lengths = np.array([len(frame) for frame in frames], np.uint64)
    pieces = np.empty((len(frames), 2), np.uint64)
    pieces[:, 0] = np.uint64(data.ctypes.data) + np.cumsum(lengths) - lengths
    pieces[:, 1] = lengths
    messages = np.zeros(len(frames), _MESSAGE)
    messages["iov"] = np.uint64(pieces.ctypes.data) + np.arange(len(frames), dtype=np.uint64) * 16
    messages["iov_len"] = 1
    return messages, (data, pieces)


def _sendmmsg(sender: socket.socket, messages: npt.NDArray[np.void]) -> int:
    sent = _LIBC.sendmmsg(sender.fileno(), ctypes.c_void_p(messages.ctypes.data), len(messages), 0)
    if sent < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"sendmmsg: {os.strerror(number)}")
    return int(sent)
