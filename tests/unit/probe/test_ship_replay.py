"""Capture files as a live capture: all packets, at the pace that was asked for."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from probe.capture import CaptureFile
from probe.errors import CaptureError
from probe.live import CaptureCounts
from probe.ship.replay import MAX_SPEED, FileCapture
from schemas.record import PACKET, CapturePoint, Packets
from tests.support import traffic

SECOND_NS = 10**9
FRAME = bytes(traffic.eth() / traffic.ip4(src="192.0.2.1", dst="192.0.2.2") / traffic.udp())


class Clock:
    """Seconds that a test moves by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def write(path: Path, times_s: list[float], cut_bytes: int = 0) -> Path:
    """A capture with a frame at each of these times."""
    data = traffic.pcap_header() + b"".join(
        traffic.pcap_record(FRAME, (int(time_s), round(time_s % 1 * 1e6))) for time_s in times_s
    )
    path.write_bytes(data[: len(data) - cut_bytes])
    return path


def drain(capture: FileCapture, size: int = 100) -> Packets:
    out = np.empty(size, PACKET)
    return out[: capture.read(out)].copy()


def seconds(packets: Packets) -> list[float]:
    return [time_ns / SECOND_NS for time_ns in packets["ts_ns"].tolist()]


def test_at_once_all_packets_of_all_files_come(tmp_path: Path) -> None:
    """The records are those that reading the files gives, and the counts are theirs."""
    first = write(tmp_path / "a.pcap", [10, 11, 12])
    second = write(tmp_path / "b.pcap", [20, 21])
    capture = FileCapture([first, second], speed=MAX_SPEED)
    assert (capture.point, capture.sampling_rate) == (CapturePoint.FILE, 1)
    assert not capture.finished
    packets = drain(capture)
    with CaptureFile(first) as a, CaptureFile(second) as b:
        assert packets.tobytes() == a.read(9).tobytes() + b.read(9).tobytes()
    assert capture.counts() == CaptureCounts(5)
    assert capture.finished
    assert len(drain(capture)) == 0


def test_a_small_buffer_gets_them_bit_by_bit(tmp_path: Path) -> None:
    """However small the reads are, nothing is lost between them."""
    path = write(tmp_path / "a.pcap", [10, 11, 12, 13, 14])
    capture = FileCapture([path], speed=MAX_SPEED)
    times = [seconds(drain(capture, 2)) for _ in range(4)]
    assert times == [[10, 11], [12, 13], [14], []]


@pytest.mark.parametrize("speed", [1.0, 2.0, 0.5])
def test_packets_come_at_their_pace(tmp_path: Path, clock: Clock, speed: float) -> None:
    """A packet comes when as much time has passed as in the capture, divided by the speed."""
    path = write(tmp_path / "a.pcap", [100, 100.5, 103])
    capture = FileCapture([path], speed=speed, now_s=clock)
    assert seconds(drain(capture)) == [100]
    clock.now_s += 0.49 / speed
    assert len(drain(capture)) == 0
    clock.now_s += 0.02 / speed
    assert seconds(drain(capture)) == [100.5]
    clock.now_s += 2.6 / speed
    assert seconds(drain(capture)) == [103]
    assert capture.finished


def test_the_watermark_follows_the_replays_clock(tmp_path: Path, clock: Clock) -> None:
    """In a pause it moves on with the pace, never past the next packet, and so does emit time."""
    path = write(tmp_path / "a.pcap", [100, 110])
    capture = FileCapture([path], now_s=clock)
    assert capture.watermark_ns() == 100 * SECOND_NS
    drain(capture)
    clock.now_s += 4
    assert capture.watermark_ns() == capture.emit_time_ns() == 104 * SECOND_NS
    clock.now_s += 400
    assert capture.watermark_ns() == 110 * SECOND_NS
    drain(capture)
    assert capture.watermark_ns() == 110 * SECOND_NS


def test_the_watermark_never_falls_when_packets_are_out_of_order(tmp_path: Path) -> None:
    """It is the latest time so far, over files too."""
    first = write(tmp_path / "a.pcap", [100, 90, 105, 95])
    second = write(tmp_path / "b.pcap", [50, 106])
    capture = FileCapture([first, second], speed=MAX_SPEED)
    marks = [capture.watermark_ns() // SECOND_NS]
    times = []
    while len(packets := drain(capture, 1)):
        times += seconds(packets)
        marks.append(capture.watermark_ns() // SECOND_NS)
    assert times == [100, 90, 105, 95, 50, 106]
    assert marks == [100, 100, 100, 105, 105, 105, 106]


def test_packets_out_of_order_go_with_those_before_them(tmp_path: Path, clock: Clock) -> None:
    """The order of the file is kept at any pace."""
    path = write(tmp_path / "a.pcap", [100, 102, 101, 103])
    capture = FileCapture([path], now_s=clock)
    assert seconds(drain(capture)) == [100]
    clock.now_s += 1.5
    assert len(drain(capture)) == 0
    clock.now_s += 1
    assert seconds(drain(capture)) == [102, 101]


def test_the_pause_between_files_is_skipped(tmp_path: Path, clock: Clock) -> None:
    """A file of another day begins when the one before ends."""
    first = write(tmp_path / "a.pcap", [100, 101])
    second = write(tmp_path / "b.pcap", [90_000, 90_001])
    capture = FileCapture([first, second], now_s=clock)
    clock.now_s += 1
    assert seconds(drain(capture)) == [100, 101, 90_000]
    clock.now_s += 1
    assert seconds(drain(capture)) == [90_001]


def test_a_cut_file_tells_its_lost_frame(tmp_path: Path) -> None:
    """What was seen is what was read and the frame that was cut."""
    path = write(tmp_path / "a.pcap", [1, 2, 3], cut_bytes=5)
    capture = FileCapture([path, write(tmp_path / "b.pcap", [4])], speed=MAX_SPEED)
    assert seconds(drain(capture)) == [1, 2, 4]
    assert capture.counts() == CaptureCounts(4, {"truncated": 1})


def test_names_of_interfaces_are_known_with_their_packets(tmp_path: Path) -> None:
    """A pcapng file's interfaces are named by number, and the mapping grows in place."""
    path = tmp_path / "a.pcapng"
    name = traffic.option(2, b"eth7")
    path.write_bytes(traffic.section() + traffic.interface(options=name) + traffic.enhanced(FRAME))
    capture = FileCapture([path], speed=MAX_SPEED)
    names = capture.interfaces
    drain(capture)
    assert names == {0: "eth7"}


def test_detached_it_replays_nothing_more(tmp_path: Path) -> None:
    """What was not read before is neither read nor counted."""
    capture = FileCapture([write(tmp_path / "a.pcap", [1, 2, 3])], speed=MAX_SPEED)
    drain(capture, 2)
    capture.detach()
    assert len(drain(capture)) == 0
    assert capture.counts() == CaptureCounts(2)
    capture.close()
    capture.close()


def test_a_capture_without_packets_is_finished_at_once(tmp_path: Path) -> None:
    """There is nothing to wait for, at any pace."""
    capture = FileCapture([write(tmp_path / "a.pcap", [])])
    assert len(drain(capture)) == 0
    assert capture.finished
    assert capture.watermark_ns() == 0


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_speeds_that_lead_nowhere_are_refused(tmp_path: Path, speed: float) -> None:
    """A speed must be above 0."""
    with pytest.raises(ValueError, match="speed is"):
        FileCapture([write(tmp_path / "a.pcap", [1])], speed=speed)


def test_no_file_is_refused(tmp_path: Path) -> None:
    """Neither an empty list nor a name without a file gives a capture."""
    with pytest.raises(ValueError, match="no capture file"):
        FileCapture([])
    with pytest.raises(CaptureError, match="does not exist"):
        FileCapture([tmp_path / "none.pcap"])


def test_rest_is_counted(tmp_path: Path, clock: Clock) -> None:
    """What was not taken of this file and of later ones is counted, each packet once."""
    files = [write(tmp_path / f"{name}.pcap", [10, 11, 12]) for name in "abc"]
    capture = FileCapture(files, speed=1, now_s=clock)
    assert len(drain(capture)) == 1
    capture.detach()
    assert capture.count_rest() == (8, True)
    assert capture.count_rest() == (0, True)


def test_rest_that_can_not_be_counted(tmp_path: Path) -> None:
    """A file that is no capture, or too little time, makes the count a lower bound."""
    first = write(tmp_path / "a.pcap", [10, 11, 12])
    second = tmp_path / "b.pcap"
    second.write_text("no capture")
    assert FileCapture([first, second], speed=MAX_SPEED).count_rest() == (3, False)
    assert FileCapture([first, first], speed=MAX_SPEED).count_rest(most_s=-1) == (3, False)
