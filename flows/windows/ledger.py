"""What each hop gave on and what it lost: a unit's part of the ledger.

The hops are counted by different code: ``capture`` by the probe, ``transport`` by the receiver
of its batches, ``window`` per record against per flow. So a hop that doesn't get what the one
before gave on is a fault or still under way, and shows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flows.kernels.layout import KIND, PACKETS, PANE, STREAM_SHIFT, T_KIND, T_PACKETS, T_PANE
from flows.windows.unit import Unit

Words = npt.NDArray[np.uint64]
Place = tuple[int, int]
"""Stream and pane."""


@dataclass(frozen=True, slots=True)
class HopRow:
    """What one hop did with a stream's packets of a pane; not scaled by sampling."""

    stream: int
    pane: int
    hop: str
    delivered: int
    dropped: dict[str, int]


def hops(unit: Unit) -> Iterator[HopRow]:
    """Every hop of every stream and pane that the unit says something about."""
    read = _sums(unit, unit.totals, T_KIND, T_PANE, T_PACKETS)
    aggregated = _sums(unit, unit.entries, KIND, PANE, PACKETS)
    seen: defaultdict[Place, int] = defaultdict(int)
    for each in unit.seen:
        seen[each.stream, each.pane] += each.packets
    dropped: defaultdict[tuple[Place, str], dict[str, int]] = defaultdict(dict)
    for drop in unit.drops:
        reasons = dropped[(drop.stream, drop.pane), drop.hop]
        reasons[drop.reason] = reasons.get(drop.reason, 0) + drop.packets
    for place in {**read, **aggregated, **seen, **{place: 0 for place, _ in dropped}}:
        stream = unit.streams[place[0]]
        lost = {hop: dropped.get((place, hop), {}) for hop in ("capture", "transport", "decode")}
        arrived = read.get(place, 0)
        if not stream.counted:
            yield HopRow(*place, "capture", arrived, lost["capture"])
        elif place in seen or lost["capture"]:
            given = seen[place] - sum(lost["capture"].values())
            yield HopRow(*place, "capture", given, lost["capture"])
        if stream.shipped and (arrived or lost["transport"] or lost["decode"]):
            undecoded = sum(lost["decode"].values())
            yield HopRow(*place, "transport", arrived + undecoded, lost["transport"])
            yield HopRow(*place, "decode", arrived, lost["decode"])
        kept = aggregated.get(place, 0)
        if arrived or kept:
            fault = {"unaccounted": arrived - kept} if arrived != kept else {}
            yield HopRow(*place, "window", kept, fault)
            yield HopRow(*place, "store", kept, {})


def _sums(unit: Unit, rows: Words, kind: int, pane: int, packets: int) -> dict[Place, int]:
    """Packets by stream and pane, as they were recorded: the sampling rate is taken out."""
    pairs = np.stack((rows[:, kind] >> STREAM_SHIFT, rows[:, pane]), axis=1)
    if not len(pairs):
        return {}
    starts = np.flatnonzero(np.r_[True, (pairs[1:] != pairs[:-1]).any(axis=1)])
    sums: defaultdict[Place, int] = defaultdict(int)
    totals = np.add.reduceat(rows[:, packets], starts).tolist()
    for (stream, number), total in zip(pairs[starts].tolist(), totals, strict=True):
        sums[stream, number] += total // unit.streams[stream].sampling_rate
    return sums
