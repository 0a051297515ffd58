"""What waits for a receiver: never more than it needs, never less."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.detect.alert import Alert, Event, Severity, Status
from flows.notify.selection import NOTHING, Selection, Told
from flows.notify.waiting import Waiting
from flows.settings.notifiers import File
from tests.support.alerts import alert


def selection(**more: Any) -> Selection:
    return Selection(File(**{"name": "log", "type": "file", "path": "x", **more}))


def revision(number: int, status: Status, **more: Any) -> Alert:
    events: dict[Status, Event] = {
        Status.pending: "pending",
        Status.muted: "muted",
        Status.resolved: "resolved",
        Status.firing: "updated",
    }
    return replace(alert(), revision=number, status=status, event=events[status], **more)


@pytest.mark.parametrize(
    ("changes", "told", "wanted"),
    [
        ({}, NOTHING, True),
        ({"severity": Severity.info}, NOTHING, False),
        ({"status": Status.pending, "event": "pending"}, NOTHING, False),
        ({"status": Status.muted, "event": "muted"}, NOTHING, False),
        ({"revision": 5}, Told(5, True, 3, 0), False),
        ({"revision": 6}, Told(5, True, 3, 0), False),
        ({"revision": 6}, Told(5, True, 2, 0), True),
        ({"revision": 6, "member_count": 99}, Told(5, True, 3, 10), False),
        ({"revision": 6, "member_count": 100}, Told(5, True, 3, 10), True),
        ({"revision": 6}, Told(5, False, 3, 0), True),
        ({"revision": 6, "status": Status.resolved, "event": "resolved"}, NOTHING, False),
        ({"revision": 6, "status": Status.resolved, "event": "resolved"}, Told(5, True), True),
        ({"revision": 6, "status": Status.resolved, "event": "dropped"}, Told(5, True), False),
    ],
)
def test_what_is_wanted(changes: dict[str, Any], told: Told, wanted: bool) -> None:
    """By default: that it fired, that it got worse, that it is over; no repetitions."""
    assert selection().wants(alert(**changes), told) is wanted


def test_events_can_be_chosen() -> None:
    """Without `resolved` no end is told; with `updated` every revision is."""
    over = revision(6, Status.resolved)
    assert not selection(events="fired,escalated").wants(over, Told(5, True))
    assert selection(events="fired,updated").wants(revision(6, Status.firing), Told(5, True, 3))


def test_who_is_meant_by_a_rule_is_told() -> None:
    """`notify` of a rule names notifiers; one that is told everything doesn't mind it."""
    named = alert(notify=("pager",))
    assert not selection().wants(named, NOTHING)
    assert selection(name="pager").wants(named, NOTHING)
    settings = File(name="all", type="file", path="x")
    assert Selection(settings, everything=True).wants(named, NOTHING)


STATUSES = st.lists(st.sampled_from(list(Status)), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(STATUSES, st.lists(st.booleans(), min_size=12, max_size=12), st.booleans())
def test_a_receiver_always_ends_up_knowing(
    statuses: list[Status], away: list[bool], updates: bool
) -> None:
    """However an alert goes and whenever the receiver is away: what it hears is a story.

    Revisions rise; it hears that the alert fired before it hears of an end; in the end it takes
    the alert for one that lasts or is over as the last firing or resolved revision said, unless it
    never fired; and never do more than two revisions wait.
    """
    events = "fired,updated,resolved" if updates else "fired,resolved"
    waiting, told, heard = Waiting(selection(events=events)), NOTHING, list[Alert]()
    for number, (status, gone) in enumerate(zip(statuses, away, strict=False), 1):
        waiting.put(revision(number, status), told)
        assert len(waiting) <= 2
        while not gone and waiting:
            heard.append(waiting.next())
            told = Told.by(heard[-1])
            waiting.remove(heard[-1])
    while waiting:
        heard.append(waiting.next())
        waiting.remove(heard[-1])
    numbers = [each.revision for each in heard]
    assert numbers == sorted(set(numbers))
    firing = False
    for each in heard:
        assert each.status in (Status.firing, Status.resolved)
        assert firing or each.status is Status.firing
        firing = each.status is Status.firing
    ever = [s for s in statuses if s in (Status.firing, Status.resolved)]
    if Status.firing in ever:
        assert heard
        assert firing == (ever[-1] is Status.firing)


def test_other_alerts_go_before_one_that_failed() -> None:
    """Postponed, an alert keeps its revisions in order behind the others."""
    waiting = Waiting(selection())
    first, second = alert(), alert(rule="b")
    waiting.put(first, NOTHING)
    waiting.put(second, NOTHING)
    waiting.put(replace(first, revision=2, event="resolved", status=Status.resolved), NOTHING)
    waiting.postpone(first)
    assert [(a.rule, a.revision) for a in waiting] == [("b", 1), ("host_scan", 1), ("host_scan", 2)]
