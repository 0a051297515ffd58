"""How rules and the alerts of all rules are to be treated, and what people want kept quiet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from typing import Final

from flows.detect.alert import Severity
from flows.detect.detector import Detector
from flows.detect.matching import Matcher
from flows.windows.tasks import Task

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class RuleSpec:
    """One rule, ready to run.

    Attributes:
        name: of the rule.
        severity: of its alerts.
        hold_ns: how long it must be over its threshold before it fires.
        cooldown_ns: how long after its end an alert is taken up again.
        where: entities that are looked at; without conditions all.
        unless: entities that are not.
        notify: notifiers that are told; none named tells all.
        detector: makes the detector of one tenant.
        horizon_ns: of the window that it looks at.
        tasks: that it wants fed; without any it looks at what probes say.
    """

    name: str
    severity: Severity
    hold_ns: int
    cooldown_ns: int
    where: Matcher
    unless: Matcher
    notify: tuple[str, ...]
    detector: Callable[[], Detector]
    horizon_ns: int
    tasks: tuple[Task, ...]

    def concerns(self, entity: Mapping[str, str]) -> bool:
        """Whether the rule looks at an entity."""
        if self.where and not self.where.matches(entity):
            return False
        return not (self.unless and self.unless.matches(entity))


@dataclass(frozen=True)
class Policy:
    """What holds for the alerts of every rule.

    Attributes:
        group_above: more entities than this in one pane are one alert.
        max_open: alerts of one rule and tenant that are open at a time.
        update_every_ns: how often an alert that lasts is told again.
        resolve_after_ns: how long it must be quiet at least before it is over.
    """

    group_above: int = 20
    max_open: int = 200
    update_every_ns: int = 60 * 10**9
    resolve_after_ns: int = 60 * 10**9


@dataclass(frozen=True)
class Quiet:
    """A mute, or hours of maintenance.

    Attributes:
        name: shown as ``muted_by``.
        matcher: entities that are meant; without conditions all.
        rule: that is meant; empty for all.
        tenant: that is meant; empty for all.
        since_ns: when it begins.
        until_ns: when it ends; 0 for never.
        hours: times of day at which it begins and ends, for one that recurs.
        days: numbers of the days on which it begins, Monday is 0; none means every day.
    """

    name: str
    matcher: Matcher
    rule: str = ""
    tenant: str = ""
    since_ns: int = 0
    until_ns: int = 0
    hours: tuple[time, time] | None = None
    days: frozenset[int] = frozenset()

    def covers(self, rule: str, tenant: str, entity: Mapping[str, str], now_ns: int) -> bool:
        """Whether an alert of this rule and entity is kept quiet at a time."""
        if self.rule not in ("", rule) or self.tenant not in ("", tenant):
            return False
        if now_ns < self.since_ns or (self.until_ns and now_ns >= self.until_ns):
            return False
        if self.hours is not None and not self._in_hours(now_ns):
            return False
        return not self.matcher or self.matcher.matches(entity)

    def _in_hours(self, now_ns: int) -> bool:
        assert self.hours is not None
        now = datetime.fromtimestamp(now_ns / 1e9, UTC)
        since, until = self.hours
        at, day = now.time(), now.weekday()
        if since <= until:
            begun, inside = day, since <= at < until
        else:
            # Over midnight: the early hours belong to the day before.
            begun, inside = (day if at >= since else (day - 1) % 7), at >= since or at < until
        return inside and (not self.days or begun in self.days)


def day_numbers(names: Sequence[str]) -> frozenset[int]:
    """Numbers of days of the week, Monday is 0."""
    return frozenset(map(_DAYS.index, names))


@dataclass
class Wishes:
    """What people want of alerts now; replaced as a whole while the job runs, by any thread.

    Attributes:
        quiet: mutes and maintenance.
        closed: alerts that somebody closed by hand.
    """

    quiet: tuple[Quiet, ...] = ()
    closed: frozenset[str] = field(default_factory=frozenset)

    def muted_by(self, rule: str, tenant: str, entity: Mapping[str, str], now_ns: int) -> str:
        """Name of the first mute that covers an alert; empty for none."""
        for each in self.quiet:
            if each.covers(rule, tenant, entity, now_ns):
                return each.name
        return ""
