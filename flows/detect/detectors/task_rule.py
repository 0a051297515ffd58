"""A rule of the user's own on a task."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, Final, Literal

from flows.detect.alert import Severity, text_of
from flows.detect.detector import MAX_READINGS, About, Reading, Readings
from flows.detect.detectors.flow_sql import DIFFERENT, statement
from flows.detect.detectors.rates import Weight, weights, weighty
from flows.detect.detectors.spread import (
    SAMPLED_CONFIDENCE,
    confidence,
    others,
    over,
    sampling_facts,
    unsampled,
)
from flows.detect.detectors.wording import span
from flows.detect.window import View
from flows.sketches.distinct import Distinct
from flows.windows.tasks import Task

Metric = Literal["distinct", "packets_per_second", "bits_per_second", "packets", "bytes"]
Op = Literal[">", ">=", "<", "<="]

_SECOND_NS: Final = 10**9
_UNITS: Final[Mapping[Metric, str]] = {
    "distinct": "",
    "packets_per_second": "packets/s",
    "bits_per_second": "bit/s",
    "packets": "packets",
    "bytes": "bytes",
}


class TaskDetector:
    """What a task measures, compared with a threshold.

    Per second means on average over the whole window, also while it is open. Too little
    (``<``, ``<=``; distinct tasks only) is judged when the window has come to its end; a window
    without any packet is not judged.

    Args:
        task: whose sketches are read.
        metric: that is compared.
        op: which side of the threshold is wrong.
        threshold: in the metric's unit.
        horizon_ns: length of the window.
        network_names: by number, for keys that are networks.
    """

    def __init__(
        self,
        task: Task,
        metric: Metric,
        op: Op,
        threshold: float,
        horizon_ns: int,
        network_names: Sequence[str] = (),
    ) -> None:
        self.about = About(
            name=task.name,
            title=f"{task.name}: {metric} {op} {threshold:,.15g}",
            metric=metric,
            unit=_UNITS[metric] or " + ".join(task.elements.names),
            severity=Severity.medium,
        )
        self.tasks = (task,)
        self.horizon_ns = horizon_ns
        self._task = task
        self._metric = metric
        self._below = op in ("<", "<=")
        # Reached is wrong for >= and <=; for the others the next number is.
        away = {">": math.inf, "<": -math.inf}.get(op)
        self._threshold = threshold if away is None else math.nextafter(threshold, away)
        self._network_names = network_names
        horizon_s = horizon_ns / _SECOND_NS
        self._factor = {
            "packets_per_second": 1 / horizon_s,
            "bits_per_second": 8 / horizon_s,
        }.get(metric, 1.0)

    def read(self, view: View, watched: Collection[Hashable]) -> Readings:
        """Measure."""
        if self._task.kind == "distinct":
            return self._read_distinct(view)
        if self._task.kind == "spread":
            found, total = over(view, self._task, self._threshold)
            found += others(view, self._task, found, watched)
            certain = confidence(view, self._task)
            rows = [Weight(*unsampled(view, row)) for row in found]
        else:
            weight = self._weight
            heavy = weighty(view, self._task, weight, self._threshold / self._factor)
            heavy, total = heavy[:MAX_READINGS], len(heavy)
            heavy += weights(view, self._task, weight, heavy, watched)
            certain = 1.0 if view.sampling.rate == 1 else SAMPLED_CONFIDENCE
            rows = [row.times(self._factor) for row in heavy]
        readings = [
            self._reading(view, row, self._task.key.read(row.key, self._network_names), certain)
            for row in rows
        ]
        return Readings(readings, total)

    @property
    def _weight(self) -> Literal["packets", "bytes"]:
        return "bytes" if self._metric in ("bytes", "bits_per_second") else "packets"

    def _read_distinct(self, view: View) -> Readings:
        merged = view.merged.get(self._task.name)
        at_end = view.whole and view.pane_end_ns == view.start_ns + view.horizon_ns
        if not isinstance(merged, Distinct) or (self._below and not at_end):
            return Readings()
        value, lower, upper, certain = merged.estimate()
        row = Weight((), value, lower, upper)
        if view.sampling.rate > 1:
            hidden = round(view.sampling.packets(view.packets)[1])
            row = row._replace(upper=max(upper, hidden))
            certain = min(certain, SAMPLED_CONFIDENCE)
        reading = self._reading(view, row, {"task": self._task.name}, certain)
        return Readings((reading,), int(reading.over()))

    def _reading(
        self, view: View, row: Weight, entity: Mapping[str, str], certain: float
    ) -> Reading:
        what = f"{self._metric} of {self._task.name}"
        where = "" if "task" in entity else f" for {text_of(entity)}"
        between = "" if row.lower == row.upper else f" ({row.lower:,.6g} to {row.upper:,.6g})"
        return Reading(
            key=row.key,
            entity=entity,
            value=row.value,
            lower=row.lower,
            upper=row.upper,
            confidence=certain,
            threshold=self._threshold,
            facts=sampling_facts(view),
            title=f"{self.about.title}{where}",
            summary=f"{what}{where} is {row.value:,.6g}{between} after {span(view)}.",
            below=self._below,
        )

    def sql(self, entity: Mapping[str, str], tenant: str, start_ns: int, end_ns: int) -> str:
        """The same out of the flows, exactly."""
        value = DIFFERENT
        if self._task.kind == "frequency":
            value = f"sum(f.{self._weight}) * {self._factor!r}"
        return statement(self._task, value, entity, tenant, start_ns, end_ns)

    def snapshot(self) -> Any:
        """Nothing beyond the sketches."""
        return None

    def restore(self, state: Any) -> None:
        """Nothing to go on with."""
