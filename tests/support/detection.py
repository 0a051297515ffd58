"""What detectors read of packets in memory, and what they should read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from flows.detect.detector import Detector
from flows.detect.window import DetectUpdate, OpenWindows, View
from flows.windows.partition import WindowConfig
from flows.windows.tasks import Task
from flows.windows.unit import Unit
from schemas.record import Packets
from tests.support.jobs import SECOND, units_of
from tests.support.naive_classes import Flow, naive_classes, naive_take_back, read_flows

PANE_NS: Final = 2 * SECOND


def config(ports: Collection[int] = ()) -> WindowConfig:
    """Windows of the default pane with these reflector ports."""
    return WindowConfig(pane_ns=PANE_NS, reflector_ports=frozenset(ports))


def views_of(units: Iterable[Unit], horizon_ns: int, partitions: int = 1) -> Iterator[View]:
    """What is seen after each pane, the units of all partitions being given in any order.

    A view is of now: look at it before asking for the next.
    """
    names = [f"log/{number}" for number in range(partitions)]
    windows = OpenWindows(horizon_ns, names)
    for unit in units:
        name = f"{unit.topic}/{unit.partition}"
        head = name, unit.offset, unit.watermark_ns, unit.pane_ns
        yield from windows.add(DetectUpdate(*head, unit.sketches))


def views(
    packets: Packets, detector: Detector, *, ports: Collection[int] = (), tasks: Sequence[Task] = ()
) -> Iterator[View]:
    """The views of one partition's packets, as ``views_of`` gives them."""
    fed = [*detector.tasks, *tasks]
    units = units_of(packets, config=config(ports), tasks=fed)
    return views_of(units, detector.horizon_ns)


def classified(units: Iterable[Unit], ports: Collection[int] = ()) -> list[tuple[Flow, int]]:
    """All flows of units with their classes, by the plain twin."""
    kept = [unit.entries[unit.entries[:, 14] == 0] for unit in units]
    entries = np.concatenate(kept)
    owners = [0] * (int(entries[:, 6].max(initial=0) >> np.uint64(32)) + 1)
    judged: list[int] = []
    for each in kept:
        judged += naive_classes(each, owners, ports)
    classes = naive_take_back(entries, entries, owners, PANE_NS, judged)
    return list(zip(read_flows(entries, owners), classes, strict=True))
