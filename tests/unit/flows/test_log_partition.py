"""A partition of the source: what goes with its units."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from flows.sources import partitions
from flows.sources.logs import DemoLog
from flows.sources.partitions import POSITION_EVERY_S, LogPartition
from flows.windows.control import RunControl
from flows.windows.networks import Networks
from flows.windows.partition import PartitionAccumulator, WindowConfig
from probe.synthetic import Traffic


class KeptLog(DemoLog):
    """Demo traffic that says where it is read on, and counts how often."""

    told = 0

    def position(self, last_unit: int) -> str:
        self.told += 1
        return f"after {last_unit}"


def test_a_position_goes_with_a_unit_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the first unit, then with none until time has passed; each names its own unit."""
    clock = SimpleNamespace(now_s=0.0)
    clock.monotonic = lambda: clock.now_s
    monkeypatch.setattr(partitions, "time", clock)
    log = KeptLog(Traffic(packets=262_144 * 10, packets_per_second=100_000))
    accumulator = PartitionAccumulator("demo", "0", WindowConfig(), [], Networks({}))
    partition = LogPartition(log, accumulator, RunControl())
    found = []
    for clock.now_s in (100.0, 100.1, 99.9 + POSITION_EVERY_S, 100.0 + POSITION_EVERY_S, 200.0):
        (unit,) = partition.next_batch()
        found.append(unit.position == f"after {unit.offset}" or unit.position)
    assert found == [True, "", "", True, True]
    assert log.told == 3


def test_an_idle_partition_is_asked_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 2 ms up to 32 ms between looks; at once again when something came."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(partitions, "datetime", SimpleNamespace(now=lambda zone: now))
    log = DemoLog(Traffic(packets=1, packets_per_second=1))
    accumulator = PartitionAccumulator("demo", "0", WindowConfig(), [], Networks({}))
    partition = LogPartition(log, accumulator, RunControl())

    def pauses_ms(count: int) -> list[float]:
        found = [partition.next_awake() for _ in range(count)]
        return [(at - now).total_seconds() * 1000 for at in found if at is not None]

    log.waiting = True
    assert pauses_ms(7) == [2, 4, 8, 16, 32, 32, 32]
    log.waiting = False
    assert pauses_ms(1) == []
    log.waiting = True
    assert pauses_ms(2) == [2, 4]
