"""When exchanges begin: rates that are constant between edges, and the day-and-night rhythm."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

DAY_NS: Final = 86_400 * 10**9
HOUR_NS: Final = 3_600 * 10**9
STEP_NS: Final = HOUR_NS // 4
"""A rhythm changes its rate this often."""

Floats = npt.NDArray[np.float64]


class Arrivals(NamedTuple):
    """A piecewise constant rate over k spans; times are nanoseconds since the origin."""

    edges_ns: Floats
    """(k + 1,) ascending."""
    begun: Floats
    """(k + 1,) how many exchanges have begun at each edge."""

    @property
    def total(self) -> int:
        """How many exchanges begin in all."""
        return math.floor(float(self.begun[-1]) + 1e-6)

    def before(self, time_ns: float) -> int:
        """At least as many as begin before a time; one to spare, for the rounding of floats."""
        begun = float(np.interp(time_ns, self.edges_ns, self.begun))
        return min(math.ceil(begun) + 1, self.total)


def stepwise(edges_ns: Sequence[float] | Floats, per_second: Sequence[float] | Floats) -> Arrivals:
    """Rates (k,) between edges (k + 1,)."""
    edges = np.asarray(edges_ns, np.float64)
    begun = np.concatenate([[0.0], np.cumsum(np.diff(edges) * np.asarray(per_second) / 1e9)])
    return Arrivals(edges, begun)


def steady(start_ns: float, end_ns: float, per_second: float) -> Arrivals:
    """One rate from start to end."""
    return stepwise([start_ns, end_ns], [per_second])


def nightly(origin_ns: int, end_ns: int, hour: float, length_ns: int, count: float) -> Arrivals:
    """``count`` exchanges each night, spread over ``length_ns`` from an hour of the day (UTC).

    Args:
        origin_ns: Unix time of the origin.
        end_ns: end of the span after the origin.
        hour: hour of the day.
        length_ns: how long each night's exchanges go on beginning.
        count: exchanges a night.
    """
    first = -(origin_ns % DAY_NS) + round(hour * HOUR_NS)
    starts = [t for t in range(first, end_ns, DAY_NS) if t >= 0]
    edges = [0, *(edge for t in starts for edge in (t, t + length_ns)), max(end_ns, DAY_NS)]
    edges[-1] = max(edges[-1], edges[-2])
    rates = [0.0] + [count / length_ns * 1e9, 0.0] * len(starts)
    return stepwise(edges, rates)


@dataclass(frozen=True)
class Rhythm:
    """Day and night: the rate swings between a busiest and a quietest hour."""

    factor: float = 6.0
    """Rate at the busiest hour over that at the quietest, 1 to 100."""
    busiest_hour: float = 14.0
    """Hour of the day, UTC."""
    weekend: float = 0.4
    """Rate on Saturdays and Sundays over that of other days, above 0."""

    def __post_init__(self) -> None:
        """Refuse what isn't a rhythm.

        Raises:
            ValueError: a parameter is out of range.
        """
        within("factor", self.factor, 1, 100)
        within("busiest_hour", self.busiest_hour, 0, 24)
        within("weekend", self.weekend, 0.01, 1)

    def weight(self, time_ns: int) -> float:
        """Relative rate at a Unix time."""
        at = datetime.fromtimestamp(time_ns / 1e9, UTC)
        turn = (at.hour + at.minute / 60 - self.busiest_hour) / 24
        weekend = self.weekend if at.weekday() >= 5 else 1.0
        return weekend * float(self.factor ** ((1 + math.cos(2 * math.pi * turn)) / 2))

    def arrivals(self, origin_ns: int, end_ns: int) -> Callable[[float], Arrivals]:
        """Arrivals of a mean rate (exchanges/s, over a whole week) from the origin to the end."""
        first = -(origin_ns % STEP_NS)
        steps = np.arange(first, end_ns, STEP_NS)
        edges = np.concatenate([[0.0], steps[1:].astype(np.float64), [float(end_ns)]])
        weights = np.array([self.weight(origin_ns + int(t)) for t in steps])
        week = [self.weight(k * STEP_NS) for k in range(7 * DAY_NS // STEP_NS)]
        weights /= sum(week) / len(week)
        return lambda per_second: stepwise(edges, weights * per_second)


def within(name: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside its range.

    Raises:
        ValueError: it is outside; the text names it and the range.
    """
    if not low <= value <= high:
        msg = f"{name} is {value}: give {low:g} to {high:g}"
        raise ValueError(msg)
