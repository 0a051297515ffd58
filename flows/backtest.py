"""What rules found, held against what really happened."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final

from flows.detect.alert import Alert, Severity, Status
from flows.labels import Label

Entity = Mapping[str, str]

DAY_NS: Final = 86_400 * 10**9

_ADDRESSES: Final = ("src_addr", "dst_addr")
_NETWORKS: Final = frozenset({"src_net", "dst_net"})
_FIELD: Final = re.compile(r"(\w+)=(.*?)(?= \w+=|$)")


@dataclass(frozen=True)
class Fired:
    """An alert that fired, with all that became of it. Times are Unix ns.

    Attributes:
        alert: its newest revision.
        fired_ns: end of the pane with which it fired.
        notices: how often notifiers are told by default: that it fired, and that it is over.
    """

    alert: Alert
    fired_ns: int
    notices: int

    @property
    def lasted_ns(self) -> int:
        """From its first pane over the threshold to the end of the last one."""
        return self.alert.last_seen_ns - self.alert.first_seen_ns

    @property
    def entities(self) -> list[Entity]:
        """Whom it names: one, or the members of a group that are listed."""
        if not self.alert.member_count:
            return [self.alert.entity]
        return [dict(_FIELD.findall(member)) for member in self.alert.members]

    def names(self, label: Label) -> bool:
        """Whether it is of the label's kind, at its time, about its entity."""
        kinds = (self.alert.detector, self.alert.rule)
        same = label.detector in kinds and self._overlaps(label)
        return same and any(_agree(entity, label.entity) for entity in self.entities)

    def relates_to(self, label: Label) -> bool:
        """Whether it may come of what is labelled.

        It is of a related kind and about one of its hosts, or of a related or its own kind and
        about a network, or of a network's host: who is in a network isn't told by its name.
        """
        related = self.alert.detector in label.related
        own = label.detector in (self.alert.detector, self.alert.rule)
        if not (related or own) or not self._overlaps(label):
            return False
        if any(_is_network(entity) for entity in (label.entity, *self.entities)):
            return True
        return related and any(_hosts(entity) & _hosts(label.entity) for entity in self.entities)

    def _overlaps(self, label: Label) -> bool:
        """Whether both are of one time; in a long window it may fire when all is over."""
        start_ns = min(self.alert.window_start_ns, self.alert.first_seen_ns)
        return start_ns <= label.end_ns and self.alert.last_seen_ns >= label.start_ns


def _agree(one: Entity, other: Entity) -> bool:
    """Whether all fields that one of them names are the same in the other."""
    shared = [name for name in one if name in other]
    whole = len(shared) == min(len(one), len(other)) > 0
    return whole and all(one[name] == other[name] for name in shared)


def _hosts(entity: Entity) -> set[str]:
    return {entity[name] for name in _ADDRESSES if name in entity}


def _is_network(entity: Entity) -> bool:
    return not _NETWORKS.isdisjoint(entity)


def fired(revisions: Iterable[Alert]) -> list[Fired]:
    """The alerts that fired, in that order, out of all revisions, in order."""
    found: dict[str, Fired] = {}
    for alert in revisions:
        known = found.get(alert.alert_id)
        if alert.event == "fired":
            times = known.notices if known else 0
            since_ns = known.fired_ns if known else alert.last_seen_ns
            found[alert.alert_id] = Fired(alert, since_ns, times + 1)
        elif known is not None:
            over = alert.status is Status.resolved
            found[alert.alert_id] = Fired(alert, known.fired_ns, known.notices + over)
    return list(found.values())


@dataclass(frozen=True)
class Find:
    """A label, and the first alert that found it."""

    label: Label
    alert: Fired

    def delay_panes(self, pane_ns: int) -> int:
        """How many panes after that in which the threshold was reached it fired."""
        return (self.alert.fired_ns - 1) // pane_ns - self.label.due_ns // pane_ns


@dataclass
class Score:
    """What alerts of one rule, or detector, were worth.

    Attributes:
        found: attacks that were found.
        missed: attacks that were not.
        right: alerts that found an attack.
        related: alerts that are neither right nor wrong.
        wrong: alerts about something else.
    """

    found: list[Find] = field(default_factory=list)
    missed: list[Label] = field(default_factory=list)
    right: list[Fired] = field(default_factory=list)
    related: list[Fired] = field(default_factory=list)
    wrong: list[Fired] = field(default_factory=list)

    def __add__(self, other: Score) -> Score:
        """Both together."""
        return Score(
            self.found + other.found,
            self.missed + other.missed,
            self.right + other.right,
            self.related + other.related,
            self.wrong + other.wrong,
        )

    @property
    def recall(self) -> float | None:
        """Share of the attacks that were found; None without any."""
        return _share(len(self.found), len(self.missed))

    @property
    def precision(self) -> float | None:
        """Share of the alerts that are right, related ones left out; None without any."""
        return _share(len(self.right), len(self.wrong))

    @property
    def misnamed(self) -> list[Fired]:
        """Wrong alerts at the time of an attack of their kind: they name somebody else."""
        labels = [find.label for find in self.found] + self.missed
        return [alert for alert in self.wrong if any(alert._overlaps(label) for label in labels)]

    def delays_panes(self, pane_ns: int) -> tuple[float, int] | None:
        """Mean and worst delay of what was found; None if nothing was."""
        delays = [find.delay_panes(pane_ns) for find in self.found]
        return (fmean(delays), max(delays)) if delays else None


def _share(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None


def judge(alerts: Sequence[Fired], labels: Sequence[Label], names: Sequence[str]) -> Score:
    """Judge the alerts of one rule.

    Args:
        alerts: that fired, in that order.
        labels: all that is known of the traffic.
        names: of the rule and its detector: labels of these must be found.
    """
    score = Score()
    attacks = [label for label in labels if label.attack]
    for label in attacks:
        first = next((alert for alert in alerts if alert.names(label)), None)
        if label.detector in names:
            if first is None:
                score.missed.append(label)
            else:
                score.found.append(Find(label, first))
    for alert in alerts:
        if any(alert.names(label) for label in attacks):
            score.right.append(alert)
        elif any(alert.relates_to(label) for label in labels):
            score.related.append(alert)
        else:
            score.wrong.append(alert)
    return score


@dataclass(frozen=True)
class Tally:
    """What a rule would have meant for those who are told.

    Attributes:
        alerts: that fired.
        serious: of them those of severity medium and above.
        groups: of them those that stand for many entities.
        lasted_ns: how long each lasted, ascending.
        notices_per_day: how often notifiers are told.
        entities: most often concerned, with how often.
    """

    alerts: int
    serious: int
    groups: int
    lasted_ns: tuple[int, ...]
    notices_per_day: float
    entities: tuple[tuple[str, int], ...]


def tally(alerts: Sequence[Fired], span_ns: int, top: int = 5) -> Tally:
    """Sum up the alerts of one rule over a span of event time."""
    times: dict[str, int] = {}
    for each in alerts:
        times[each.alert.entity_text] = times.get(each.alert.entity_text, 0) + 1
    ranked = sorted(times.items(), key=lambda item: (-item[1], item[0]))
    return Tally(
        len(alerts),
        sum(each.alert.severity >= Severity.medium for each in alerts),
        sum(each.alert.member_count > 0 for each in alerts),
        tuple(sorted(each.lasted_ns for each in alerts)),
        sum(each.notices for each in alerts) * DAY_NS / max(span_ns, 1),
        tuple(ranked[:top]),
    )
