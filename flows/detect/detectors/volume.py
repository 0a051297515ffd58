"""A host or a named network that sends or receives far more than it usually does."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from flows.detect.alert import Severity
from flows.detect.baseline import Baseline, Keys, Octaves, Usual, octaves
from flows.detect.detector import MAX_READINGS, About, Reading, Readings
from flows.detect.detectors.flow_sql import statement
from flows.detect.detectors.wording import rate as rate_text
from flows.detect.window import View
from flows.sketches.frequency import BYTES, Frequency, Hitter
from flows.windows.fields import FieldList
from flows.windows.sampling import Sampling
from flows.windows.tasks import Task

STATE_VERSION: Final = 1

UNIT: Final = "bit/s"

CAPACITY: Final = 10_000
"""Entities of a tenant whose baseline is kept."""

FLOOR_SHARE: Final = 0.01
"""Share of ``at_least`` below which a rate is as good as none."""

GENERAL: Final = 0.99
"""Share of the known entities of a kind whose usual bounds a new one must be far above."""

GENERAL_ENTITIES: Final = 10
"""So many must be known before a new one is compared with them."""

# Those of hosts are the default tasks, and fed once if those run as they are.
TASKS: Final = (
    Task("top_src_addr", "frequency", FieldList(("src_addr",))),
    Task("top_dst_addr", "frequency", FieldList(("dst_addr",))),
    Task("_volume_src_net", "frequency", FieldList(("src_net",))),
    Task("_volume_dst_net", "frequency", FieldList(("dst_net",))),
)

_SECOND_NS: Final = 10**9
_NEVER_NS: Final = -1
_WORDS: Final = 3
"""Of an entity's key: number of the task, two words of the address or one of the network."""

Key = tuple[int, ...]


class Volume:
    """Bits per second of each host and network, as a source and as a destination.

    Measured is what was sent in the open window, spread over its full length: it only grows while
    the window lasts, so it is certain as soon as it is reached, and it is a plain sum of flows.
    It is compared with ``threshold`` times the most that is usual for the entity
    (``flows.detect.baseline``), and with ``at_least``.

    - Nothing is judged before ``learn`` of traffic was seen.
    - An entity of which fewer than 30 horizons are known is new: it is judged by what is usual
      for 99 % of the entities of its kind, if at least ten of those are known.
    - An alert is of low severity while less than two days are known of its entity, when a
      nightly job may be ahead, and when the rate is unusual for the hour only.
    - A rate under a hundredth of ``at_least`` is as good as none; 10,000 entities are kept.

    Args:
        threshold: times what is usual.
        at_least: bits per second below which nothing is a matter.
        learn_ns: traffic that must have been seen.
        horizon_ns: length of the window.
        network_names: by number; 0 is no network.
    """

    about: Final = About(
        name="volume",
        title="Unusual volume of traffic",
        metric="rate",
        unit=UNIT,
        severity=Severity.medium,
    )
    tasks: Final = TASKS

    def __init__(
        self,
        threshold: float,
        at_least: float,
        learn_ns: int,
        horizon_ns: int,
        network_names: Sequence[str],
    ) -> None:
        self.horizon_ns = horizon_ns
        self._horizon_s = horizon_ns / _SECOND_NS
        self._threshold = threshold
        self._at_least = at_least
        self._floor = at_least * FLOOR_SHARE
        self._margin = math.log2(max(threshold, 1.0))
        self._learn_horizons = -(-learn_ns // horizon_ns)
        self._names = network_names
        self._baseline = Baseline(_WORDS, CAPACITY, horizon_ns)
        self._horizons = 0
        self._start_ns = _NEVER_NS
        self._whole = True
        self._open: Mapping[str, Any] | None = None
        self._rates: tuple[Keys, Octaves] = _no_rates()
        self._general: dict[int, float] = {}
        self._known: dict[Key, Usual | None] = {}
        self._state: Any = None

    @property
    def _learning(self) -> bool:
        return self._horizons < self._learn_horizons

    def read(self, view: View, watched: Collection[Hashable]) -> Readings:
        """Measure."""
        if view.start_ns != self._start_ns:
            self._learn()
            self._known = {}
            self._start_ns, self._whole = view.start_ns, view.whole
        self._open = view.merged
        if self._learning:
            return Readings()
        rows = []
        for key, hitter in _heavy(view.merged, self._bytes(self._at_least)):
            usual = self._usual(key)
            if usual is not None:
                lower = _lower(hitter, view.sampling) * 8 / self._horizon_s
                if lower >= self._limit(usual):
                    rows.append(self._reading(key, hitter, usual, view.sampling))
        rows.sort(key=lambda reading: -reading.value)
        listed = rows[:MAX_READINGS]
        have = {reading.key for reading in listed}
        for key, hitter in _these(view.merged, [key for key in watched if key not in have]):
            usual = self._usual(key)
            if usual is not None:
                listed.append(self._reading(key, hitter, usual, view.sampling))
        return Readings(listed, len(rows))

    def _bytes(self, rate: float) -> float:
        """Bytes in a full window at a rate."""
        return rate * self._horizon_s / 8

    def _usual(self, key: Key) -> Usual | None:
        """What is usual for an entity in this window; None for one that can't be judged."""
        if key not in self._known:
            usual = self._baseline.usual(key, self._start_ns)
            general = self._general.get(key[0])
            if usual is None and general is not None:
                usual = Usual(0.0, general, general, seasonal=False, young=True, new=True)
            self._known[key] = usual
        return self._known[key]

    def _limit(self, usual: Usual) -> float:
        return max(self._at_least, self._threshold * self._rate(usual.this_hour))

    def _reading(self, key: Key, hitter: Hitter, usual: Usual, sampling: Sampling) -> Reading:
        lower = _lower(hitter, sampling) * 8 / self._horizon_s
        upper = float(hitter.bytes_upper)
        if sampling.rate > 1:
            upper = sampling.bytes(upper)[1]
        sure = not usual.young and lower > self._threshold * self._rate(usual.any_hour)
        expected = self._expected(usual)
        entity = TASKS[key[0]].key.read(key[1:], self._names)
        ((field, name),) = entity.items()
        does = "sends" if field.startswith("src") else "receives"
        return Reading(
            key=key,
            entity=entity,
            value=hitter.bytes * 8 / self._horizon_s,
            lower=lower,
            upper=upper * 8 / self._horizon_s,
            confidence=1.0 if sampling.rate == 1 else 0.95,
            threshold=self._limit(usual),
            facts={"packets": f"{hitter.packets}", "bytes": f"{hitter.bytes}"},
            expected=expected,
            summary=f"{name} {does} {rate_text(lower, UNIT)} or more; expected is {expected}.",
            severity=None if sure else Severity.low,
            title=f"{name} {does} far more than is usual",
        )

    def _rate(self, level: float) -> float:
        """Bits per second of so many octaves above the floor; the floor stands for less."""
        return float(self._floor * 2**level)

    def _expected(self, usual: Usual) -> str:
        upper = rate_text(self._rate(usual.this_hour), UNIT)
        if usual.new:
            return f"up to {upper} (usual for others: this one is new)"
        low = min(usual.low, usual.this_hour)
        span = f"{rate_text(self._rate(low), UNIT)} to {upper}" if low > 0 else f"up to {upper}"
        return f"{span} (usual for this hour)" if usual.seasonal else f"{span} (usual)"

    def _learn(self) -> None:
        """The window is over: what was measured in it is what the entities do."""
        keys, rates = self._measured()
        self._open, self._rates = None, _no_rates()
        if self._start_ns == _NEVER_NS or not self._whole:
            return
        least = math.inf if self._learning else octaves(self._at_least, self._floor)
        self._baseline.learn(keys, rates, self._start_ns, self._margin, least)
        self._horizons += 1
        known = self._baseline.known
        self._general = {}
        for number in range(len(TASKS)):
            chosen = known & (self._baseline.keys[:, 0] == number)
            if np.count_nonzero(chosen) >= GENERAL_ENTITIES:
                self._general[number] = self._baseline.level(chosen, GENERAL)
        self._state = None

    def _measured(self) -> tuple[Keys, Octaves]:
        """What the open window has of each entity, as octaves above the floor."""
        if self._open is None:
            return self._rates
        found = list(_heavy(self._open, self._bytes(self._floor)))
        keys = np.array([key for key, _ in found], np.uint64).reshape(-1, _WORDS)
        sums = np.array([hitter.bytes for _, hitter in found], np.float64)
        over = np.maximum(sums * 8 / self._horizon_s / self._floor, 1.0)
        return keys, np.log2(over).astype(np.float32)

    def sql(self, entity: Mapping[str, str], tenant: str, start_ns: int, end_ns: int) -> str:
        """The sum of bytes over ``flows``, spread over the full window."""
        (task,) = [task for task in TASKS if task.key.names[0] in entity] or TASKS[:1]
        value = f"sum(f.bytes) * 8 / {self._horizon_s:g}"
        return statement(task, value, entity, tenant, start_ns, end_ns)

    def snapshot(self) -> Any:
        """Picklable state; that of the baselines is made anew when they have learnt."""
        if self._state is None:
            self._state = self._baseline.to_state()
        keys, rates = self._measured()
        head = (self._horizons, self._start_ns, self._whole, tuple(self._general.items()))
        return (STATE_VERSION, head, keys.tobytes(), rates.tobytes(), self._state)

    def restore(self, state: Any) -> None:
        """Go on from a snapshot."""
        version, head, keys, rates, learnt = state
        if version != STATE_VERSION:
            msg = f"recovery state has version {version}, this program reads {STATE_VERSION}"
            raise ValueError(msg)
        self._horizons, self._start_ns, self._whole, general = head
        self._general = dict(general)
        self._open = None
        self._rates = (
            np.frombuffer(keys, np.uint64).reshape(-1, _WORDS),
            np.frombuffer(rates, np.float32),
        )
        self._baseline.restore(learnt)
        self._state = learnt


def _lower(hitter: Hitter, sampling: Sampling) -> float:
    """Lower bound of an entity's bytes."""
    lower = float(hitter.bytes_lower)
    return lower if sampling.rate == 1 else sampling.bytes(lower)[0]


def _heavy(merged: Mapping[str, Any], least_bytes: float) -> Iterator[tuple[Key, Hitter]]:
    """Entities that have at least so many bytes for certain."""
    for number, task in enumerate(TASKS):
        sketch = merged.get(task.name)
        if isinstance(sketch, Frequency) and sketch.total_bytes >= least_bytes:
            for hitter in sketch.over(BYTES, least_bytes):
                key = (number, *hitter.key, 0)[:_WORDS]
                if len(hitter.key) > 1 or hitter.key[0]:  # number 0 is no network
                    yield key, hitter


def _these(merged: Mapping[str, Any], keys: Sequence[Any]) -> Iterator[tuple[Key, Hitter]]:
    """Certain entities."""
    for number, task in enumerate(TASKS):
        sketch = merged.get(task.name)
        mine = [key for key in keys if key[0] == number]
        if isinstance(sketch, Frequency) and mine:
            words = np.array(mine, np.uint64)[:, 1 : 1 + sketch.words]
            yield from zip(mine, sketch.bounds(words), strict=True)


def _no_rates() -> tuple[Keys, Octaves]:
    return np.empty((0, _WORDS), np.uint64), np.empty(0, np.float32)
