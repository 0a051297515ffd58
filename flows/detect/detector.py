"""What a detector is: it reads measurements out of a closed pane and can say them again in SQL."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from flows.detect.alert import Severity
from flows.detect.window import View
from flows.windows.tasks import Task

MAX_READINGS: Final = 1000
"""Readings over the threshold that a detector gives at most; ``over`` counts the others."""


@dataclass(frozen=True)
class About:
    """What people are told of a detector.

    Attributes:
        name: in the settings, in tables and in rules.
        title: of its alerts; ``{src_addr}`` and other fields of the entity are filled in.
        metric: what it measures.
        unit: of the measurement.
        severity: of its alerts, unless the settings say otherwise.
        technique: id in MITRE ATT&CK, empty for none.
    """

    name: str
    title: str
    metric: str
    unit: str
    severity: Severity
    technique: str = ""


@dataclass(frozen=True)
class Place:
    """What a detector is made for.

    Attributes:
        horizon_ns: length of its window, a multiple of the pane.
        pane_ns: length of a pane.
        networks: address ranges by name.
        seed: of all hashes.
    """

    horizon_ns: int
    pane_ns: int
    networks: Mapping[str, Sequence[str]]
    seed: int


@dataclass(frozen=True)
class Reading:
    """One entity's measurement in the window that is open.

    Attributes:
        key: tells entities apart; the words of a flow key, or anything else that is hashable
            and picklable.
        entity: fields of the flow key by name, in order, as text.
        value: estimate.
        lower: bound of it, which is compared with the threshold.
        upper: bound of it.
        confidence: probability that the bounds hold.
        threshold: that it is compared with.
        facts: what else was measured, as text by name: a row of the evidence.
        expected: usual range as text, for detectors that learn one.
        summary: a sentence for people.
        probe: that it is about, if any.
        severity: instead of the rule's, for what is less certain than usual.
        below: whether it is too little that is wrong: the upper bound must be under the threshold.
        metric: what was measured, where it isn't what the detector measures as a rule.
        unit: of the value, where it isn't the detector's.
        title: of an alert, where it says more than the detector's.
    """

    key: Hashable
    entity: Mapping[str, str]
    value: float
    lower: float
    upper: float
    confidence: float
    threshold: float
    facts: Mapping[str, str] = field(default_factory=dict)
    expected: str = ""
    summary: str = ""
    probe: str = ""
    severity: Severity | None = None
    below: bool = False
    metric: str = ""
    unit: str = ""
    title: str = ""

    def over(self, share: float = 1.0) -> bool:
        """Whether it is on the wrong side of its threshold, whatever its true value is.

        Args:
            share: of the threshold that is asked for, for entities that were over it before.
        """
        if self.below:
            return self.upper <= self.threshold / share
        return self.lower >= self.threshold * share


@dataclass(frozen=True)
class Readings:
    """What a detector read of one pane.

    Attributes:
        rows: of entities over the threshold, largest first, at most ``MAX_READINGS``, and of
            every watched entity that has a value, whatever it is.
        over: entities over the threshold, listed or not.
    """

    rows: Sequence[Reading] = ()
    over: int = 0


class Detector(Protocol):
    """One detector of one tenant; it is asked once for each closed pane, in order of time."""

    @property
    def about(self) -> About:
        """What people are told."""

    @property
    def tasks(self) -> Sequence[Task]:
        """Sketches that it wants fed; ``View`` has them by name.

        Detectors may share a task of one name, which then must be equal. One without tasks looks
        at what probes say.
        """

    @property
    def horizon_ns(self) -> int:
        """Length of the window that it looks at, a multiple of the pane."""

    def read(self, view: View, watched: Collection[Hashable]) -> Readings:
        """Measure.

        Args:
            view: the open window after the pane was closed.
            watched: keys of entities with an open alert.
        """

    def sql(self, entity: Mapping[str, str], tenant: str, start_ns: int, end_ns: int) -> str:
        """A statement over ``flows`` (or other tables) that says the measurement exactly.

        Its columns are the fields of the entity and ``value``, largest value first. Empty where
        there is no such statement.

        Args:
            entity: fields that are fixed; others are grouped by, so that an empty one lists all.
            tenant: whose traffic.
            start_ns: start of the window, Unix ns.
            end_ns: end of the window's last closed pane.
        """

    def snapshot(self) -> Any:
        """Picklable state beyond that of the window's sketches; None for none."""

    def restore(self, state: Any) -> None:
        """Go on from a snapshot."""
