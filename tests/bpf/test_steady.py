"""Interfaces that go down, are removed and come back while they are captured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NoReturn

import numpy as np
import pytest
from scapy.layers.inet import UDP
from scapy.packet import Raw

from probe.errors import LiveError
from probe.live import CaptureOptions
from probe.steady import SteadyCapture
from schemas.record import PACKET
from tests.support.live import NAP_SECONDS, Method, param
from tests.support.namespaces import DEVICE, SECONDS, End, inside, pair, run, send
from tests.support.traffic import eth, ip4

FRAMES = [bytes(eth() / ip4() / UDP(sport=n, dport=9) / Raw(bytes(20))) for n in range(1, 51)]


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    with pair() as both:
        yield both


def read(capture: SteadyCapture, times: int = 4) -> int:
    """Packets that wait; some reads more, for a capture that begins anew takes one."""
    buffer = np.empty(1000, PACKET)
    return sum(capture.read(buffer) for _ in range(times))


def told(capture: SteadyCapture, lines: list[str], what: str) -> int:
    """Packets read until a line says it: the kernel takes a second to notice its own changes."""
    count, deadline_s = 0, time.monotonic() + SECONDS
    while lines[-1:] != [f"interface {DEVICE} is {what}"]:
        assert time.monotonic() < deadline_s, lines
        count += read(capture)
        time.sleep(NAP_SECONDS)
    return count


def ip(end: End, words: str) -> None:
    run(end.name, "ip", *words.split())


def make(left: End, right: End, number: int) -> None:
    """Join the two again, by a new interface of that number on the right."""
    ip(right, f"link add {DEVICE} index {number} type veth peer {DEVICE} netns {left.name}")
    for end in (left, right):
        ip(end, f"link set {DEVICE} up")


@pytest.mark.parametrize("method", [param("AF_PACKET"), param("tcx"), param("clsact")])
def test_what_goes_and_comes_back_is_told_and_captured(
    ends: tuple[End, End], method: Method
) -> None:
    """Down and up, removed and made anew: each is a line, and packets are counted all along."""
    left, right = ends
    lines: list[str] = []
    options: dict[str, Any] = {"interfaces": (DEVICE,), **method.options}
    with inside(right.name):
        capture = SteadyCapture(CaptureOptions(**options), lines.append, look_s=0)
        with closing(capture):
            (number,) = capture.interfaces
            send(left.name, FRAMES)
            assert read(capture) == 50
            ip(right, f"link set {DEVICE} down")
            assert told(capture, lines, "down") == 0
            ip(right, f"link set {DEVICE} up")
            told(capture, lines, "back")
            send(left.name, FRAMES)
            assert read(capture) == 50
            send(left.name, FRAMES)
            ip(right, f"link delete {DEVICE}")
            assert told(capture, lines, "gone") == 50  # those that it had seen
            watermark_ns = capture.watermark_ns()
            make(left, right, number + 7)
            told(capture, lines, "back")
            send(left.name, FRAMES)
            assert read(capture) == 50
            assert capture.interfaces == {number: DEVICE, number + 7: DEVICE}
            assert capture.absences == {DEVICE: 2}
            counts = capture.counts()
            assert (counts.seen, sum(counts.dropped.values())) == (200, 0)
            assert capture.watermark_ns() >= watermark_ns
            capture.detach()
            ip(right, f"link delete {DEVICE}")
            assert read(capture) == 0
            assert [line.split()[-1] for line in lines] == ["down", "back", "gone", "back"]


@pytest.mark.requires("netns", "packet_socket")
def test_what_can_t_be_captured_again_is_told_once(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal of what came back is one line however often it is tried; time goes on."""
    left, right = ends

    def refuse(_: CaptureOptions) -> NoReturn:
        raise LiveError("no")

    lines: list[str] = []
    options = CaptureOptions(interfaces=(DEVICE,), method="packet")
    with inside(right.name), closing(SteadyCapture(options, lines.append, look_s=0)) as capture:
        ip(right, f"link delete {DEVICE}")
        told(capture, lines, "gone")
        before = capture.counts(), capture.watermark_ns()
        with monkeypatch.context() as patch:
            patch.setattr("probe.steady.open_capture", refuse)
            make(left, right, 77)
            for _ in range(3):
                assert read(capture) == 0
            assert lines.count("interfaces can't be captured again: no") == 1
            assert capture.counts() == before[0]
            assert capture.watermark_ns() > before[1]
        read(capture)
        assert lines[-1] == "interfaces are captured again"
        assert 77 in capture.interfaces


@pytest.mark.requires("netns", "packet_socket")
def test_an_interface_that_is_down_at_the_start_is_told(ends: tuple[End, End]) -> None:
    """Captured it is all the same, from when it is up."""
    left, right = ends
    ip(right, f"link set {DEVICE} down")
    lines: list[str] = []
    options = CaptureOptions(interfaces=(DEVICE,), method="packet")
    with inside(right.name), closing(SteadyCapture(options, lines.append, look_s=0)) as capture:
        told(capture, lines, "down")
        ip(right, f"link set {DEVICE} up")
        told(capture, lines, "back")
        send(left.name, FRAMES)
        assert read(capture) == 50
        assert len(lines) == 2
