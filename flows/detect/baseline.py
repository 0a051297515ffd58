"""What is usual for each of many entities: a robust, seasonal upper bound of a rate.

Rates are kept as octaves above a floor (their binary logarithm), for traffic varies by factors.
Of each entity three things are known:

- *recent*: the 99 % quantile of its rates, by stochastic approximation (Robbins and Monro, 1951;
  Tierney, 1983) with a constant step, so that it follows: half an octave up for a rate above it,
  a hundredth of that down for one below. It forgets within about a day.
- *any hour*: the second largest of its daily highs of the last seven days. What happened on one
  day only, however large and long, doesn't count; what recurs is usual from the third day on.
- *this hour*: the same of the highs between the hour before and the hour after, UTC, once that
  is known of three days. An entity that was far above it on an earlier one of the last seven
  days, but not above any hour, doesn't keep to hours, and then this is not used of it.

An entity is judged once ``OWN_HORIZONS`` are known of it; whatever it did in them is usual.

Rates that were judged too large are an episode. It teaches *recent* nothing for ``ACCEPT_NS``
(``ACCEPT_YOUNG_NS`` while little is known of the entity); then the new level is taken for usual.
In the daily highs it counts when it is over, for the day on which it began, so that midnight
doesn't make two days of it. Episodes that begin within that time are one occasion; what two
occasions reached is usual for a week, whatever the calendar says.

At most ``capacity`` entities are kept. New ones take the place of those that were not seen for the
longest time, the lightest first, and never that of one seen in the same horizon.
"""

from __future__ import annotations

import math
import zlib
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

DAY_NS: Final = 86_400 * 10**9
HOUR_NS: Final = 3600 * 10**9

OWN_HORIZONS: Final = 30
"""Horizons after which an entity is known."""

ACCEPT_NS: Final = 12 * HOUR_NS
"""After so long a new level is usual."""

ACCEPT_YOUNG_NS: Final = HOUR_NS
"""The same while little is known of an entity."""

YOUNG_NS: Final = 3 * DAY_NS
"""Little is known of an entity for so long: a job of every night may be ahead."""

DAYS: Final = 7
HOURS: Final = 24
SEASON_DAYS: Final = 3
QUANTILE: Final = 0.99
LOW_QUANTILE: Final = 0.1
STEP: Final = 0.5
"""Octaves that an estimate moves at most in a horizon."""

LOW_STEP: Final = 0.2
_SCALE: Final = 8
"""Steps of an octave in which highs are kept."""

Keys = npt.NDArray[np.uint64]
Octaves = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


class Usual(NamedTuple):
    """What is usual for an entity; rates in octaves above the floor.

    Attributes:
        low: 10 % quantile of its rates.
        any_hour: most that is usual at any hour.
        this_hour: most that is usual now: at this hour, where that is known.
        seasonal: whether it is.
        young: whether little is known of the entity.
        new: whether nothing is, and this is what others do.
    """

    low: float
    any_hour: float
    this_hour: float
    seasonal: bool
    young: bool
    new: bool = False


class Baseline:
    """What is usual for each of at most ``capacity`` entities.

    Args:
        words: 64-bit words of a key.
        capacity: entities that are kept.
        horizon_ns: length of the windows whose rates it is told.
    """

    def __init__(self, words: int, capacity: int, horizon_ns: int) -> None:
        self._horizon_ns = horizon_ns
        self._capacity = capacity
        self._columns = _columns(0, words)
        self._index: dict[tuple[int, ...], int] = {}
        self._day = -1
        self._usual: dict[int, tuple[npt.NDArray[Any], ...]] = {}
        """Columns of ``Usual`` for all entities in the hour that was asked for last."""

    def __len__(self) -> int:
        return len(self._index)

    def usual(self, key: tuple[int, ...], time_ns: int) -> Usual | None:
        """What is usual for an entity at a time; None for one that isn't known."""
        row = self._index.get(key)
        if row is None or self._columns["horizons"][row] < OWN_HORIZONS:
            return None
        hours_now = time_ns // HOUR_NS
        if hours_now not in self._usual:
            rows = np.arange(len(self))
            any_hour, this_hour, days = self._most(rows, hours_now)
            kept = self._keeps_hours(rows, hours_now // HOURS) & (days >= SEASON_DAYS)
            this_hour = np.where(kept, np.minimum(this_hour, any_hour), any_hour)
            columns = self._columns["low"], any_hour, this_hour, kept, self._young
            self._usual = {hours_now: columns}
        low, most, now, seasonal, young = (each[row] for each in self._usual[hours_now])
        return Usual(float(low), float(most), float(now), bool(seasonal), bool(young))

    def level(self, chosen: Mask, quantile: float) -> float:
        """A quantile, over some of the entities, of what is usual for each of them."""
        return float(np.quantile(self._columns["recent"][chosen], quantile))

    @property
    def keys(self) -> Keys:
        """Keys of the entities, (n, words)."""
        return self._columns["key"]

    @property
    def known(self) -> Mask:
        """Which entities are judged, (n,)."""
        known: Mask = self._columns["horizons"] >= OWN_HORIZONS
        return known

    def learn(self, keys: Keys, rates: Octaves, time_ns: int, margin: float, least: float) -> None:
        """Take what was measured in a whole horizon; entities that aren't named had nothing.

        Args:
            keys: of the entities, (n, words), no two alike.
            rates: octaves above the floor, (n,), 0 and more.
            time_ns: start of the horizon.
            margin: octaves above what is usual from which a rate was judged too large.
            least: rate below which none was; infinite where nothing was judged.
        """
        day, hour = time_ns // DAY_NS, time_ns // HOUR_NS % HOURS
        self._begin(day)
        here = self._rows(keys, rates, time_ns // self._horizon_ns)
        known = here >= 0
        x = np.zeros(len(self), np.float32)
        x[here[known]] = rates[known]
        over = self._judge(x, day, hour, margin, least)
        self._end_episodes(~over & (self._columns["episode"] > 0), time_ns // HOUR_NS)
        self._go_on(x, over, time_ns // HOUR_NS)
        self._follow(x, over)
        highs = self._columns["highs"][:, day % DAYS, hour]
        highs[:] = np.where(over, highs, np.maximum(highs, _steps(x)))
        self._usual = {}

    def _judge(self, x: Octaves, day: int, hour: int, margin: float, least: float) -> Mask:
        """Which rates are too large; notes who had one that is so for the hour only."""
        over = np.zeros(len(x), np.bool_)
        rows = np.flatnonzero((x >= least) & (self._columns["horizons"] >= OWN_HORIZONS))
        if not len(rows):
            return over
        any_hour, this_hour, days = self._most(rows, day * HOURS + hour)
        large = x[rows] > any_hour + margin
        stray = ~large & (x[rows] > this_hour + margin) & (days > 1)
        self._columns["strays"][rows[stray]] |= np.uint8(1 << day % DAYS)
        over[rows] = large | (stray & self._keeps_hours(rows, day) & (days >= SEASON_DAYS))
        return over

    def _keeps_hours(self, rows: Rows, day: int) -> Mask:
        """Which entities had no rate on an earlier day that was unusual for its hour only."""
        keeps: Mask = self._columns["strays"][rows] & np.uint8(~(1 << day % DAYS) & 0xFF) == 0
        return keeps

    def _end_episodes(self, ended: Mask, hours_now: int) -> None:
        """What an episode reached is a high of all its hours, on the day on which it began."""
        c = self._columns
        apart = self._accept_ns // HOUR_NS
        for row in np.flatnonzero(ended).tolist():
            begun, peak = int(c["begun"][row]), c["peak"][row]
            if begun - int(c["occasion"][row]) < apart[row]:
                c["reached"][row] = max(c["reached"][row], peak)
            else:
                twice = min(c["reached"][row], peak) if c["occasion"][row] else 0
                if twice >= c["twice"][row] or begun - int(c["agreed"][row]) >= DAYS * HOURS:
                    c["twice"][row], c["agreed"][row] = twice, begun
                c["occasion"][row], c["reached"][row] = begun, peak
            hours = np.arange(begun, min(hours_now, begun + HOURS - 1) + 1) % HOURS
            highs = c["highs"][row, begun // HOURS % DAYS]
            highs[hours] = np.maximum(highs[hours], _steps(peak))

    def _go_on(self, x: Octaves, over: Mask, hours_now: int) -> None:
        """Episodes begin and go on."""
        c = self._columns
        c["begun"] = np.where(c["episode"] > 0, c["begun"], hours_now).astype(np.int32)
        c["peak"] = np.where(over, np.maximum(c["peak"], x), np.float32(0))
        c["episode"] = np.where(over, np.minimum(c["episode"] + 1, 65_000), 0).astype(np.uint16)

    def _follow(self, x: Octaves, over: Mask) -> None:
        """Move the estimates, but for those in an episode that isn't accepted."""
        c = self._columns
        accepted = over & (c["episode"] > self._accept_ns // self._horizon_ns)
        # The highs of earlier days say nothing of the hours of a new level.
        c["strays"] = np.where(accepted, np.uint8(0xFF), c["strays"])
        for name, quantile, step in (
            ("recent", QUANTILE, STEP),
            ("low", LOW_QUANTILE, LOW_STEP),
        ):
            known = c[name]
            moved = np.clip(x, known - step * (1 - quantile), known + step * quantile)
            moved = np.where(c["horizons"] == 0, x, moved)
            c[name] = np.where(over & ~accepted, known, moved).astype(np.float32)
        c["horizons"] = c["horizons"] + np.uint32(1)

    def _most(self, rows: Rows, hours_now: int) -> tuple[Octaves, Octaves, Rows]:
        """Most that is usual at any hour and at this one, and of how many days that is known."""
        highs = self._columns["highs"][rows]
        near = highs[:, :, [(hours_now + more) % HOURS for more in (-1, 0, 1)]].max(axis=2)
        since = hours_now - self._columns["agreed"][rows]
        twice = np.where(since < DAYS * HOURS, self._columns["twice"][rows], np.float32(0))
        any_hour = np.maximum(self._columns["recent"][rows], _second(highs.max(axis=2)))
        this_hour = np.where((since + 1) % HOURS <= 2, twice, np.float32(0))
        this_hour = np.maximum(this_hour, _second(near))
        return np.maximum(any_hour, twice), this_hour, np.count_nonzero(near, axis=1)

    @property
    def _accept_ns(self) -> npt.NDArray[np.int64]:
        """How long an episode of each entity may last."""
        return np.where(self._young, ACCEPT_YOUNG_NS, ACCEPT_NS)

    @property
    def _young(self) -> Mask:
        """Of which entities little is known."""
        young: Mask = self._columns["horizons"] * float(self._horizon_ns) < YOUNG_NS
        return young

    def _begin(self, day: int) -> None:
        """Forget the days that are more than a week ago."""
        for new in range(max(self._day + 1, day - DAYS + 1), day + 1):
            self._columns["highs"][:, new % DAYS] = 0
            self._columns["strays"] &= np.uint8(~(1 << new % DAYS) & 0xFF)
        self._day = max(self._day, day)

    def _rows(self, keys: Keys, rates: Octaves, now: int) -> Rows:
        """Row of each entity; new ones get one if there is room, and -1 if not."""
        names = [tuple(key) for key in keys.tolist()]
        rows = np.array([self._index.get(name, -1) for name in names], np.intp)
        self._columns["active"][rows[rows >= 0]] = now
        fresh = np.flatnonzero(rows < 0)
        fresh = fresh[np.argsort(-rates[fresh], kind="stable")][: self._capacity]
        free = self._free(len(fresh), now)
        for number, row in zip(fresh.tolist(), free.tolist(), strict=False):
            for name, column in self._columns.items():
                column[row] = keys[number] if name == "key" else now if name == "active" else 0
            self._index[names[number]] = row
            rows[number] = row
        return rows

    def _free(self, wanted: int, now: int) -> Rows:
        """Rows for new entities: beyond the end, then those of entities long gone."""
        used = len(self)
        grown = min(used + wanted, self._capacity)
        if grown > used:
            more = _columns(grown - used, self.keys.shape[1])
            self._columns = {n: np.concatenate((c, more[n])) for n, c in self._columns.items()}
        room = np.arange(used, grown)
        wanted -= len(room)
        if not wanted:
            return room
        active = self._columns["active"][:used]
        order = np.lexsort((self._columns["recent"][:used], active))
        taken = order[active[order] < now][:wanted]
        for key in self.keys[taken].tolist():
            del self._index[tuple(key)]
        return np.concatenate((room, taken))

    def to_state(self) -> Any:
        """Immutable, picklable, compressed."""
        columns = tuple(
            (name, zlib.compress(column.tobytes(), 1)) for name, column in self._columns.items()
        )
        return (self._day, len(self), columns)

    def restore(self, state: Any) -> None:
        """Go on from ``to_state``."""
        self._day, n, columns = state
        empty = _columns(n, self.keys.shape[1])
        for name, data in columns:
            kind = empty[name]
            empty[name] = (
                np.frombuffer(zlib.decompress(data), kind.dtype).reshape(kind.shape).copy()
            )
        self._columns = empty
        self._usual = {}
        self._index = {tuple(key): row for row, key in enumerate(self.keys.tolist())}


def octaves(rate: float, floor: float) -> float:
    """A rate as octaves above the floor, 0 below it."""
    return math.log2(rate / floor) if rate > floor else 0.0


def _columns(n: int, words: int) -> dict[str, npt.NDArray[Any]]:
    return {
        "key": np.zeros((n, words), np.uint64),
        "active": np.zeros(n, np.int64),
        "horizons": np.zeros(n, np.uint32),
        "recent": np.zeros(n, np.float32),
        "low": np.zeros(n, np.float32),
        "episode": np.zeros(n, np.uint16),
        "peak": np.zeros(n, np.float32),  # of the episode
        "occasion": np.zeros(n, np.int32),  # hour at which the last one began, since 1970
        "reached": np.zeros(n, np.float32),  # at that occasion
        "twice": np.zeros(n, np.float32),  # reached on two occasions
        "agreed": np.zeros(n, np.int32),  # hour at which the second one began
        "begun": np.zeros(n, np.int32),  # hour, since 1970
        "strays": np.zeros(n, np.uint8),
        "highs": np.zeros((n, DAYS, HOURS), np.uint8),
    }


def _steps(x: Any) -> Any:
    """Octaves as steps from 1 on: 0 stands for what isn't known."""
    return 1 + np.minimum(np.ceil(x * _SCALE), 254).astype(np.uint8)


def _second(highs: npt.NDArray[np.uint8]) -> Octaves:
    """The second largest high of each row's days, as octaves; 0 where it isn't known."""
    second = np.partition(highs, -2, axis=1)[:, -2].astype(np.float32)
    octaves_up: Octaves = np.maximum(second - np.float32(1), np.float32(0)) / np.float32(_SCALE)
    return octaves_up
