"""Stopped after any message and gone on from its position, a partition gives the same units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.detect.probe_facts import facts
from flows.windows.fields import FieldList
from flows.windows.ledger import hops
from flows.windows.networks import Networks
from flows.windows.partition import PartitionAccumulator, WindowConfig
from flows.windows.position import VERSION, Position, PositionError
from flows.windows.receiver import BadMessage, ReceiverConfig
from flows.windows.resumable import ResumableReceiver
from flows.windows.tasks import Task
from flows.windows.unit import Unit
from schemas.batch import Counters
from tests.support.naive_flows import random_packets
from tests.support.sender import Batch, batches

SECOND = 10**9
TASKS = [Task("sources", "distinct", FieldList(()), FieldList(("src_addr",)))]
CONFIG = ReceiverConfig(idle_ns=5 * SECOND, max_tenants=2)
Log = list[tuple[Batch, int]]
"""Batches with their log times."""


def make_log(seed: int) -> Log:
    """Three probes of three tenants with gaps, repeats, silence, restarts, late and bad batches."""
    rng = np.random.default_rng(seed)
    log: Log = []
    for number in range(3):
        packets = random_packets(rng, int(rng.integers(200, 700)), hosts=30, span_ns=25 * SECOND)
        packets = packets[np.argsort(packets["ts_ns"], kind="stable")]
        late = rng.random(len(packets)) < 0.03
        packets["ts_ns"][late] -= np.uint64(6 * SECOND)
        size = int(rng.integers(15, 60))
        sent = [
            *batches(
                packets[: len(packets) // 2], size, tenant=f"t{number}", boot=number, dropped=number
            ),
            *batches(
                packets[len(packets) // 2 :], size, tenant=f"t{number}", boot=10 + number, rate=3
            ),
        ]
        shift_ns = int(rng.integers(0, 8 * SECOND))
        for header, part in sent:
            if rng.random() < 0.1:
                continue
            header = replace(header, interfaces={f"eth{number}": number})
            if rng.random() < 0.05:
                header = replace(header, emit_time_ns=0)  # absurd: a dead letter
            if rng.random() < 0.2:
                header = replace(header, counters=Counters(seen=header.sequence, dropped={}))
            log.append(((header, part), header.watermark_ns + shift_ns))
            if rng.random() < 0.1:
                log.append(((header, part), header.watermark_ns + shift_ns))
    log.sort(key=lambda each: each[1])
    return log


class Reader:
    """What a source step does with a partition."""

    def __init__(self, text: str | None) -> None:
        position = None if text is None else Position.from_text(text)
        config = WindowConfig(max_flows=60)
        self.accumulator = PartitionAccumulator("log", "0", config, TASKS, Networks({}))
        self.receiver = ResumableReceiver(self.accumulator, CONFIG, position)
        self.offset = 0 if position is None else position.offset
        self.last_unit = -1 if position is None else position.last_unit
        self.units: list[Unit] = []

    def read(self, log: Log, until: int) -> str:
        while self.offset < until:
            (header, packets), log_ns = log[self.offset]
            try:
                self.receiver.receive(self.offset, header, packets, log_ns)
            except BadMessage:
                self.receiver.skip(self.offset)
            unit = self.accumulator.end_message(self.offset)
            if unit is not None and self.offset > self.last_unit:
                self.last_unit = self.offset
                self.units.append(unit)
            self.offset += 1
        return self.receiver.position(self.last_unit).to_text()


def content(unit: Unit) -> Any:
    """All that is stored of a unit, what its sketches say, and who was there."""
    return (
        unit.offset,
        unit.watermark_ns,
        unit.entries.tobytes(),
        unit.totals.tobytes(),
        sorted(map(repr, hops(unit))),
        facts(unit),
        [(s.tenant, s.probe, s.sampling_rate, dict(s.interfaces)) for s in unit.streams],
        {
            key: [(pane.pane, pane.packets, pane.sketch.estimate()) for pane in panes]  # type: ignore[union-attr]
            for key, panes in unit.sketches.items()
        },
    )


def same_streams(units: list[Unit]) -> list[Any]:
    """Contents, with the streams known at the end: a resumed run knows them from its start."""
    return [content(replace(unit, streams=units[-1].streams)) for unit in units]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.data())
def test_units_are_the_same_however_often_it_stops(seed: int, data: st.DataObject) -> None:
    """Every stop, its position written as text and read again, changes no byte of any unit."""
    log = make_log(seed)
    whole = Reader(None)
    whole.read(log, len(log))
    stops = sorted(data.draw(st.sets(st.integers(0, len(log)), max_size=8)))
    units: list[Unit] = []
    text: str | None = None
    for stop in [*stops, len(log)]:
        reader = Reader(text)
        text = reader.read(log, stop)
        units += reader.units
    assert len(whole.units) > 2
    assert same_streams(units) == same_streams(whole.units)


def test_a_position_needs_only_what_is_open() -> None:
    """Far behind the log's start, and never before a message of an open pane."""
    log = make_log(1)
    reader = Reader(None)
    offsets = []
    for stop in range(1, len(log)):
        position = Position.from_text(reader.read(log, stop))
        assert position.offset <= stop
        offsets.append(position.offset)
    assert offsets == sorted(offsets)
    assert offsets[-1] > len(log) // 2


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda text: text.replace(f'"version":{VERSION}', '"version":99'), "version 99"),
        (lambda text: text[:20], "can't be read"),
        (lambda text: "[]", "can't be read"),
    ],
)
def test_foreign_positions_are_refused(change: Callable[[str], str], fault: str) -> None:
    """Another version and damage are told, not guessed at."""
    text = Reader(None).read(make_log(2), 10)
    with pytest.raises(PositionError, match=fault):
        Position.from_text(change(text))
