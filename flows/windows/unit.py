"""The unit: what one message of a partition closes, and the unit of exactly-once storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from flows.windows.tasks import PaneSketch

Words = npt.NDArray[np.uint64]

END_OF_TIME_NS: Final = 2**63 - 1
"""Watermark of a partition that has ended."""

GIVE_UP_NS: Final = 86_400 * 10**9
"""A probe that is silent for so long is no longer expected."""


@dataclass(frozen=True)
class Stream:
    """Where packets of a partition come from; flows carry its number.

    Attributes:
        tenant: whose traffic it is.
        probe: which probe saw it.
        sampling_rate: one of how many packets was recorded; counts are multiplied by it.
        interfaces: interface names by number.
        counted: whether the probe says itself what reached its capture point (``Seen``), as
            live probes do; for others that is what is read plus what is known to be missing.
        shipped: whether its packets came over a transport that can lose some.
        directions: ways through an interface that tasks count, None for all: a probe on several
            interfaces sees forwarded packets twice.
    """

    tenant: str
    probe: str
    sampling_rate: int = 1
    interfaces: Mapping[int, str] = field(default_factory=dict, hash=False)
    counted: bool = False
    shipped: bool = False
    directions: frozenset[int] | None = None


@dataclass(frozen=True)
class Seen:
    """Packets that reached a probe's capture point, as it counted them; not scaled."""

    stream: int
    pane: int
    packets: int


@dataclass(frozen=True)
class Drop:
    """Packets that are missing, where and why; not scaled."""

    stream: int
    pane: int
    reason: str
    packets: int
    hop: Literal["capture", "transport", "decode"] = "capture"


@dataclass(frozen=True)
class Goodbye:
    """A probe said that nothing more will come, in this pane."""

    stream: int
    pane: int


@dataclass(frozen=True)
class Unit:
    """Panes that a message closed, with late packets of older panes.

    Attributes:
        topic: name of the log.
        partition: of the log.
        offset: of the message that closed the panes.
        pane_ns: length of a pane.
        watermark_ns: of the partition after this message.
        streams: by number.
        entries: flow-table entries (n, 16), flows before folded rows.
        networks: named networks of source and destination, (n, 2).
        network_names: by number.
        totals: pane totals (m, 16).
        seen: what probes counted at their capture points in these panes.
        drops: packets known to be missing from these panes.
        sketches: by tenant and task, in order of panes.
        position: where to read on after this unit, for logs that are kept, every few seconds;
            else empty.
        since_ns: event time before which this run has no sketches: it began there.
        alive: streams of probes that were there when the panes closed, with packets or without.
        silent: streams of probes that are not, though they didn't say goodbye; for a day.
        goodbyes: those said in these panes.
    """

    topic: str
    partition: str
    offset: int
    pane_ns: int
    watermark_ns: int
    streams: tuple[Stream, ...]
    entries: Words
    networks: npt.NDArray[np.uint16]
    network_names: tuple[str, ...]
    totals: Words
    seen: tuple[Seen, ...]
    drops: tuple[Drop, ...]
    sketches: Mapping[tuple[str, str], list[PaneSketch]]
    position: str = ""
    since_ns: int = 0
    alive: tuple[int, ...] = ()
    silent: tuple[int, ...] = ()
    goodbyes: tuple[Goodbye, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether it only moves the watermark: there is nothing to store."""
        return not (len(self.totals) or self.seen or self.drops)
