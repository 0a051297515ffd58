"""What a unit says of the probes: packets that came, packets missing, who is there."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from flows.detect.window import ProbeFacts
from flows.windows.ledger import hops
from flows.windows.unit import Unit


@dataclass
class _Facts:
    arrived: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    alive: bool = False
    ended: bool = False


def facts(unit: Unit) -> list[ProbeFacts]:
    """One row for each probe and pane that the unit says something about.

    Who is alive is said for the unit's last pane. A probe that fell silent has a row there too,
    with nothing in it, so that somebody looks at its tenant even when nobody else is left in it.
    """
    rows: defaultdict[tuple[str, str, int], _Facts] = defaultdict(_Facts)

    def of(stream: int, pane: int) -> _Facts:
        where = unit.streams[stream]
        return rows[where.tenant, where.probe, pane]

    for row in hops(unit):
        if row.hop == "store":
            of(row.stream, row.pane).arrived += row.delivered
        for reason, packets in row.dropped.items():
            if reason != "sampled_out":
                of(row.stream, row.pane).dropped[f"{row.hop}:{reason}"] += packets
    last_pane = unit.watermark_ns // unit.pane_ns - 1
    for stream in unit.silent:
        of(stream, last_pane)
    for stream in unit.alive:
        of(stream, last_pane).alive = True
    for goodbye in unit.goodbyes:
        of(goodbye.stream, goodbye.pane).ended = True
    return [
        ProbeFacts(*place, found.arrived, dict(found.dropped), found.alive, found.ended)
        for place, found in sorted(rows.items())
    ]
