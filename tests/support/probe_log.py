"""Logs of probes that send heartbeats, read as a partition's units, and views of what they say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from flows.detect.probe_facts import facts
from flows.detect.window import ProbeFacts, View
from flows.windows.networks import Networks
from flows.windows.partition import PartitionAccumulator, WindowConfig
from flows.windows.receiver import BatchReceiver, ReceiverConfig
from flows.windows.unit import Unit
from schemas.batch import BatchHeader, Counters
from schemas.record import PACKET
from tests.support.sender import Batch

SECOND = 10**9
START = 1_700_000_040
"""Start of a minute, Unix s."""

PANE_NS = 2 * SECOND


def heartbeats(
    probe: str, seconds: Iterable[int], *, boot: int = 1, tenant: str = "t", goodbye: bool = False
) -> list[Batch]:
    """Empty batches, one for each second; the last one may be a goodbye."""
    times = [(START + second) * SECOND for second in seconds]
    return [
        (
            BatchHeader(
                tenant=tenant,
                probe=probe,
                boot_id=boot.to_bytes(16),
                partition=0,
                sequence=number,
                emit_time_ns=time_ns,
                watermark_ns=time_ns,
                record_count=0,
                packets_before=0,
                counters=Counters(seen=0, dropped={}),
                goodbye=goodbye and number == len(times) - 1,
            ),
            np.empty(0, PACKET),
        )
        for number, time_ns in enumerate(times)
    ]


def read(*senders: Iterable[Batch], end: bool = False, idle_s: int = 10) -> list[Unit]:
    """The units of a partition that these probes write to, in order of their times."""
    accumulator = PartitionAccumulator("log", "0", WindowConfig(), [], Networks({}))
    receiver = BatchReceiver(accumulator, ReceiverConfig(idle_ns=idle_s * SECOND))
    log = sorted((b for each in senders for b in each), key=lambda b: b[0].emit_time_ns)
    units = []
    for offset, (header, packets) in enumerate(log):
        receiver.receive(header, packets, header.emit_time_ns)
        unit = accumulator.end_message(offset)
        if unit is not None:
            units.append(unit)
    return [*units, accumulator.end(len(log))] if end else units


def views(
    units: Iterable[Unit], horizon_ns: int = 60 * SECOND, tenant: str = "t"
) -> Iterator[View]:
    """What a detector sees of a tenant: pane by pane, late words with the next one."""
    last = -1
    late: list[ProbeFacts] = []
    for unit in units:
        panes: defaultdict[int, list[ProbeFacts]] = defaultdict(list)
        for fact in facts(unit):
            if fact.tenant == tenant:
                (panes[fact.pane] if fact.pane > last else late).append(fact)
        for last, found in sorted(panes.items()):
            start_ns = last * PANE_NS
            window_ns = start_ns - start_ns % horizon_ns
            said, late = late + found, []
            yield View(tenant, start_ns, PANE_NS, window_ns, horizon_ns, {}, {}, said)
