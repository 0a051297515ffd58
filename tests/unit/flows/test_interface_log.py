"""The interface source: live packets, the capture's clock, its losses, its end."""

from __future__ import annotations

from flows.kernels.layout import T_PACKETS
from flows.sources.interface import InterfaceLog
from flows.sources.partitions import LogPartition
from flows.windows.control import RunControl
from flows.windows.ledger import hops
from flows.windows.networks import Networks
from flows.windows.partition import PartitionAccumulator, WindowConfig
from flows.windows.unit import END_OF_TIME_NS, Stream, Unit
from probe.synthetic import Traffic
from tests.support.synthetic_capture import SyntheticCapture

SECOND = 10**9


def traffic(packets: int) -> Traffic:
    return Traffic(
        seed=3, packets=packets, packets_per_second=10_000, start_ns=1_700_000_000 * SECOND
    )


def read_all(
    capture: SyntheticCapture, *, stop_after: int | None = None
) -> tuple[InterfaceLog, list[Unit], RunControl]:
    """Drive a partition as the engine does, asking it to stop when so many packets are read."""
    log = InterfaceLog(capture, Stream("t", "p", interfaces=capture.interfaces, counted=True))
    accumulator = PartitionAccumulator("live", "0", WindowConfig(), [], Networks({}))
    control = RunControl()
    partition = LogPartition(log, accumulator, control)
    units: list[Unit] = []
    while True:
        done = capture.finished if stop_after is None else log.progress.packets >= stop_after
        if done and not control.stopping:
            control.stop()
        try:
            units += partition.next_batch()
        except StopIteration:
            return log, units, control


def stored(units: list[Unit]) -> int:
    return sum(int(unit.totals[:, T_PACKETS].sum()) for unit in units)


def test_a_stop_takes_all_that_was_seen() -> None:
    """Asked to end, nothing new is taken and everything that was seen is in a unit."""
    capture = SyntheticCapture(traffic(2_000_000), rate=50_000, ring_records=2_000_000)
    log, units, _ = read_all(capture, stop_after=50_000)
    assert capture.detached
    counts = capture.counts()
    assert stored(units) == counts.seen - sum(counts.dropped.values()) == log.progress.packets
    assert 50_000 <= stored(units) < 2_000_000
    assert units[-1].watermark_ns == END_OF_TIME_NS
    assert log.faults == []


def test_panes_close_by_the_captures_clock() -> None:
    """Units come while packets pass, each with the panes below its watermark."""
    _, units, _ = read_all(SyntheticCapture(traffic(100_000)))
    assert len(units) >= 3
    assert [unit.watermark_ns for unit in units] == sorted(unit.watermark_ns for unit in units)


def test_what_the_ring_lost_is_in_the_ledger() -> None:
    """Seen at the capture point = given on + lost by reason, and the run says so."""
    capture = SyntheticCapture(traffic(600_000), ring_records=1000, rate=5_000_000)
    log, units, _ = read_all(capture)
    seen = lost = given = windowed = 0
    for row in (row for unit in units for row in hops(unit)):
        if row.hop == "capture":
            given += row.delivered
            lost += row.dropped.get("ring_full", 0)
            seen += row.delivered + sum(row.dropped.values())
        windowed += row.delivered if row.hop == "window" else 0
    counts = capture.counts()
    assert (seen, lost) == (counts.seen, counts.dropped["ring_full"])
    assert given == windowed == stored(units)
    assert lost > 0
    assert log.faults == [f"{lost:,} of {seen:,} packets were lost at capture (ring_full {lost:,})"]


def test_an_empty_interface_is_asked_again_after_a_pause() -> None:
    """With nothing to read the partition asks to be woken later, instead of spinning."""
    capture = SyntheticCapture(traffic(10), rate=1e-9)
    log = InterfaceLog(capture, Stream("t", "p", counted=True))
    accumulator = PartitionAccumulator("live", "0", WindowConfig(), [], Networks({}))
    partition = LogPartition(log, accumulator, RunControl())
    assert partition.next_awake() is None
    assert partition.next_batch() == []
    assert partition.next_awake() is not None
