"""The life of alerts: from readings of one rule and tenant to revisions of alerts.

pending -> firing -> resolved, or muted in between. An alert is over after a full horizon, from
its start to its end, in which its entity wasn't over the threshold: that a horizon begins anew
with nothing ends no alert. Everything is a function of the readings and their event times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from flows.detect.alert import Alert, Event, Status, alert_id, text_of
from flows.detect.detector import Detector, Reading, Readings
from flows.detect.group import GROUP, Members
from flows.detect.policy import Policy, RuleSpec, Wishes
from flows.detect.window import View

STATE_VERSION: Final = 1

KEEP_SHARE: Final = 0.8
"""Share of the threshold under which an entity with an alert is no longer over it."""

GROWTH: Final = 2.0
"""Times its value, or its members, that make an alert be told again at once."""

EVIDENCE_ROWS: Final = 5

_BEGINNINGS: Final[Mapping[Status, Event]] = {
    Status.pending: "pending",
    Status.muted: "muted",
    Status.firing: "fired",
}


@dataclass(frozen=True)
class Life:
    """What is known of one alert; replaced, never changed.

    Attributes:
        alert: its newest revision.
        key: of its entity; None while that is not known (after a start from the store).
        told_ns: event time of the newest revision.
        told_value: value of the newest revision.
        told_members: of a group, how many the newest revision had.
        told: whether notifiers have heard of it.
        until_ns: of one that is over: how long it can be taken up again; else 0.
        closed: whether somebody closed it by hand: it is not taken up again.
        members: of a group.
    """

    alert: Alert
    key: Hashable = None
    told_ns: int = 0
    told_value: float = 0.0
    told_members: int = 0
    told: bool = False
    until_ns: int = 0
    closed: bool = False
    members: Members | None = None


@dataclass
class Lifecycle:
    """Alerts of one rule and tenant.

    Args:
        spec: the rule.
        detector: that it uses, for what people are told of it.
        tenant: whose traffic it is.
        policy: what holds for all rules.
        wishes: what people want kept quiet.
    """

    spec: RuleSpec
    detector: Detector
    tenant: str
    policy: Policy
    wishes: Wishes
    _lives: dict[str, Life] = field(default_factory=dict)

    @property
    def watched(self) -> list[Hashable]:
        """Keys of the entities with an open alert."""
        return [
            life.key
            for life in self._lives.values()
            if life.key is not None and not life.until_ns and life.members is None
        ]

    def seed(self, alerts: Sequence[Alert]) -> None:
        """Take over alerts that an earlier run left open, and that recovery knows nothing of."""
        for alert in alerts:
            known = self._lives.get(alert.entity_text)
            if known is None and not alert.member_count:
                told = alert.status is Status.firing
                self._lives[alert.entity_text] = Life(
                    alert, None, alert.last_seen_ns, alert.value, told=told
                )

    def step(self, readings: Readings, view: View) -> list[Alert]:
        """Judge the readings of a pane that has closed; returns new revisions."""
        found = list(self.advance(view.pane_start_ns))
        fresh: list[Reading] = []
        seen: set[str] = set()
        for reading in readings.rows:
            if not self.spec.concerns(reading.entity):
                continue
            text = text_of(reading.entity)
            life = self._lives.get(text)
            if life is None or life.until_ns:
                if reading.over() and not (life is not None and life.closed):
                    fresh.append(reading)
                continue
            seen.add(text)
            if reading.over(KEEP_SHARE):
                found += self._go_on(text, life, reading, view)
            elif life.alert.status is Status.pending:
                found.append(self._drop(text, life))
        for text, life in list(self._lives.items()):
            if life.alert.status is Status.pending and text not in seen:
                found.append(self._drop(text, life))
        # Those over the threshold that aren't listed: all that can be said is how many.
        unlisted = max(readings.over - sum(r.over() for r in readings.rows), 0)
        return found + self._begin(fresh, unlisted, view)

    def advance(self, now_ns: int) -> Iterator[Alert]:
        """What the passing of event time alone ends, up to ``now_ns``."""
        for text, life in list(self._lives.items()):
            last_ns = life.alert.last_seen_ns
            if life.until_ns:
                if now_ns >= life.until_ns:
                    del self._lives[text]
                continue
            if life.alert.alert_id in self.wishes.closed:
                yield self._end(text, life, max(now_ns, last_ns), closed=True)
            elif life.alert.status is Status.pending:
                if now_ns >= last_ns + self.spec.horizon_ns:
                    yield self._drop(text, life)
            elif now_ns >= (deadline_ns := self._deadline_ns(last_ns)):
                yield self._end(text, life, deadline_ns)

    def last_words(self) -> Iterator[Alert]:
        """There is no more to read: tell what has grown since it was told."""
        for text, life in list(self._lives.items()):
            alert = life.alert
            grown = alert.value > life.told_value or alert.member_count > life.told_members
            if grown and not life.until_ns and alert.status is not Status.pending:
                yield self._tell(text, life, alert, "updated", alert.last_seen_ns)

    def _deadline_ns(self, last_ns: int) -> int:
        """End of the first whole horizon without a sign, and of the least quiet time."""
        horizon_ns = self.spec.horizon_ns
        next_start_ns = -(-last_ns // horizon_ns) * horizon_ns
        return max(next_start_ns + horizon_ns, last_ns + self.policy.resolve_after_ns)

    def _begin(self, fresh: list[Reading], unlisted: int, view: View) -> list[Alert]:
        group = self._lives.get(GROUP)
        if group is not None and group.until_ns:
            group = None
        members = group.members if group is not None else None
        if members is not None:
            joined = [r for r in fresh if members.has(r.key)]
            fresh = [r for r in fresh if not members.has(r.key)]
        else:
            joined = []
        is_open = sum(1 for life in self._lives.values() if not life.until_ns)
        crowd = len(fresh) + unlisted > self.policy.group_above
        if crowd or unlisted or is_open + len(fresh) > self.policy.max_open:
            joined, fresh = joined + fresh, []
        found = [alert for reading in fresh for alert in self._open(reading, view)]
        return found + self._join(group, joined, unlisted, view)

    def _open(self, reading: Reading, view: View) -> list[Alert]:
        text = text_of(reading.entity)
        known = self._lives.get(text)
        if known is not None:
            # Within its cooldown it is the same alert again.
            start_ns, first = known.alert.first_seen_ns, known.alert
        else:
            start_ns, first = view.pane_start_ns, None
        alert = self._measured(reading, view, text, start_ns, first)
        life = Life(alert, reading.key)
        return self._judge(text, life, alert, view.pane_end_ns, new=True)

    def _go_on(self, text: str, life: Life, reading: Reading, view: View) -> list[Alert]:
        alert = self._measured(reading, view, text, life.alert.first_seen_ns, life.alert)
        life = replace(life, key=reading.key)
        return self._judge(text, life, alert, view.pane_end_ns)

    def _judge(
        self, text: str, life: Life, alert: Alert, now_ns: int, *, new: bool = False
    ) -> list[Alert]:
        """Decide what an alert that is over its threshold is now, and whether that is told."""
        before = life.alert.status
        mute = self.wishes.muted_by(self.spec.name, self.tenant, alert.entity, now_ns)
        held = now_ns - alert.first_seen_ns >= self.spec.hold_ns
        status = Status.pending if not held else Status.muted if mute else Status.firing
        alert = replace(alert, status=status, muted_by=mute)
        if new or status is not before:
            return [self._tell(text, life, alert, _BEGINNINGS[status], now_ns)]
        grown = alert.value >= GROWTH * life.told_value > 0
        grown = grown or alert.member_count >= GROWTH * life.told_members > 0
        due = now_ns - life.told_ns >= self.policy.update_every_ns
        if status is not Status.pending and (grown or due):
            return [self._tell(text, life, alert, "updated", now_ns)]
        self._lives[text] = replace(life, alert=alert)
        return []

    def _tell(self, text: str, life: Life, alert: Alert, event: Event, now_ns: int) -> Alert:
        alert = replace(alert, revision=alert.revision + 1, event=event)
        told = life.told or alert.status is Status.firing
        self._lives[text] = replace(
            life,
            alert=alert,
            told_ns=now_ns,
            told_value=alert.value,
            told_members=alert.member_count,
            told=told,
        )
        return alert

    def _drop(self, text: str, life: Life) -> Alert:
        """A pending alert came to nothing."""
        del self._lives[text]
        revision = life.alert.revision + 1
        return replace(life.alert, revision=revision, event="dropped", status=Status.resolved)

    def _end(self, text: str, life: Life, now_ns: int, *, closed: bool = False) -> Alert:
        alert = replace(
            life.alert,
            revision=life.alert.revision + 1,
            event="resolved",
            status=Status.resolved,
            resolved_at_ns=now_ns,
            # Who was told that it fires is told that it is over.
            muted_by="" if life.told else life.alert.muted_by,
        )
        until_ns = now_ns + max(self.spec.cooldown_ns, 1)
        self._lives[text] = replace(
            life, alert=alert, told_ns=now_ns, told=False, until_ns=until_ns, closed=closed
        )
        return alert

    def _join(
        self, group: Life | None, joined: list[Reading], unlisted: int, view: View
    ) -> list[Alert]:
        """Put entities into the group of this rule, which begins with them if there is none."""
        if not joined and not (group is not None and unlisted):
            return []
        members = group.members if group is not None and group.members else Members()
        members = members.joined(joined, unlisted)
        top = max(joined, key=lambda r: r.value, default=None)
        if top is None:
            assert group is not None
            quiet = replace(group.alert, last_seen_ns=view.pane_end_ns)
            self._lives[GROUP] = replace(group, alert=quiet, members=members)
            return []
        known = group.alert if group is not None else None
        start_ns = known.first_seen_ns if known is not None else view.pane_start_ns
        entity = dict(members.shared)
        alert = self._measured(replace(top, entity=entity), view, GROUP, start_ns, known)
        alert = replace(
            alert,
            title=f"{members.text}: {alert.metric} over {top.threshold:g}",
            entity_text=members.text,
            members=members.top,
            member_count=members.count,
            summary=f"{members.text}, the largest: {top.summary}" if top.summary else members.text,
        )
        life = replace(group, members=members) if group is not None else Life(alert, None)
        life = replace(life, members=members)
        return self._judge(GROUP, life, alert, view.pane_end_ns, new=group is None)

    def _measured(
        self, reading: Reading, view: View, text: str, start_ns: int, known: Alert | None
    ) -> Alert:
        """The alert with a measurement; the largest one is what it shows."""
        row = self._evidence(reading, view)
        if known is not None and known.value >= reading.value and not reading.below:
            evidence = (row, *known.evidence)[:EVIDENCE_ROWS]
            return replace(known, evidence=evidence, last_seen_ns=view.pane_end_ns)
        about, entity = self.detector.about, dict(reading.entity)
        port = entity.get("dst_port", "0")
        return Alert(
            alert_id=known.alert_id
            if known is not None
            else alert_id(self.spec.name, self.tenant, text, start_ns),
            revision=known.revision if known is not None else 0,
            event="fired",
            tenant=self.tenant,
            probe=reading.probe,
            rule=self.spec.name,
            detector=about.name,
            title=reading.title or _filled(about.title, entity),
            severity=reading.severity or self.spec.severity,
            status=Status.pending,
            entity=entity,
            entity_text=text,
            src_addr=entity.get("src_addr", ""),
            dst_addr=entity.get("dst_addr", ""),
            dst_port=int(port) if port.isdecimal() else 0,
            attack_technique=about.technique,
            metric=reading.metric or about.metric,
            unit=reading.unit or about.unit,
            horizon_s=view.horizon_ns // 10**9,
            value=reading.value,
            lower=reading.lower,
            upper=reading.upper,
            confidence=reading.confidence,
            threshold=reading.threshold,
            expected=reading.expected,
            window_start_ns=view.start_ns,
            first_seen_ns=start_ns,
            last_seen_ns=view.pane_end_ns,
            resolved_at_ns=0,
            evidence=(row, *(known.evidence if known is not None else ()))[:EVIDENCE_ROWS],
            evidence_sql=self.detector.sql(entity, self.tenant, view.start_ns, view.pane_end_ns),
            summary=reading.summary,
            notify=self.spec.notify,
        )

    @staticmethod
    def _evidence(reading: Reading, view: View) -> dict[str, str]:
        return {
            "window_start": _time(view.start_ns),
            "window_end": _time(view.pane_end_ns),
            "value": f"{reading.value:g}",
            "lower": f"{reading.lower:g}",
            "upper": f"{reading.upper:g}",
            "threshold": f"{reading.threshold:g}",
            **reading.facts,
        }

    def snapshot(self) -> tuple[Any, ...]:
        """Immutable, picklable state."""
        return (STATE_VERSION, tuple(self._lives.items()))

    def restore(self, state: tuple[Any, ...]) -> None:
        """Go on from a snapshot."""
        version, lives = state
        if version != STATE_VERSION:
            msg = f"recovery state has version {version}, this program reads {STATE_VERSION}"
            raise ValueError(msg)
        self._lives = dict(lives)


def _filled(title: str, entity: Mapping[str, str]) -> str:
    """A title with the entity's fields in it."""
    return title.format_map(defaultdict(lambda: "?", entity))


def _time(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
