"""Labels of a scenario as lines of a file, for ``netspectra backtest --labels``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from probe.synthetic.scenario.labels import Label
from probe.synthetic.scenario.scenario import Scenario


class Threshold(NamedTuple):
    """From when on an attack must be found: its count reaches ``least`` in a horizon."""

    least: float
    horizon_ns: int
    metric: str | None = None


def lines(scenario: Scenario, thresholds: Mapping[str, Threshold]) -> Iterator[str]:
    """One JSON object a label.

    An attack that stays under its threshold is written like a look-alike: it needn't be found,
    and what may come of it is excused.

    Args:
        scenario: whose labels.
        thresholds: by detector; attacks of others must be found from their start.
    """
    for label in scenario.labels:
        wanted = thresholds.get(label.kind)
        crossed_ns = label.start_ns if wanted is None else label.crossing_ns(*wanted)
        yield _line(label, crossed_ns is not None, crossed_ns)
    for label in scenario.negatives:
        yield _line(label, False, None)


def _line(label: Label, attack: bool, crossed_ns: int | None) -> str:
    row = {
        "detector": label.kind,
        "entity": label.entity,
        "start": _text(label.start_ns),
        "end": _text(label.end_ns),
        "related": label.related,
        "attack": attack,
    }
    crossed = {} if crossed_ns is None else {"crossed": _text(crossed_ns)}
    return json.dumps(row | crossed)


def _text(time_ns: int) -> str:
    """UTC, cut to microseconds, which moves no time over the edge of a pane."""
    when = datetime.fromtimestamp(time_ns // 10**9, UTC)
    return when.replace(microsecond=time_ns // 1000 % 10**6).isoformat()
