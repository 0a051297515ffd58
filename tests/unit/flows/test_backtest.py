"""Alerts against labels: what is right, related, wrong and missed, and how late."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flows.backtest import DAY_NS, Fired, fired, judge, tally
from flows.detect.alert import Alert, Severity, Status, text_of
from flows.labels import Label
from tests.support.alerts import alert

S = 10**9
PANE_NS = 2 * S
T0_NS = 1_700_000_000 * S
SCAN = {"src_addr": "10.0.0.1", "dst_port": "445", "ip_proto": "6"}


def scan(entity: dict[str, str] | None = None, at_s: int = 0, **changes: Any) -> Alert:
    """An alert that fires with the pane that starts at ``at_s``."""
    since_ns = T0_NS + at_s * S
    known = {"first_seen_ns": since_ns, "last_seen_ns": since_ns + PANE_NS, "event": "fired"}
    known |= {"window_start_ns": since_ns - since_ns % (600 * S)}
    return alert(entity=dict(entity or SCAN), **(known | changes))


def label(entity: dict[str, str] | None = None, **changes: Any) -> Label:
    known = Label("host_scan", entity or SCAN, T0_NS, T0_NS + 60 * S)
    return replace(known, **changes)


def judged(alerts: list[Alert], *labels: Label) -> list[int]:
    """How many were found, missed; right, related, wrong alerts."""
    score = judge(fired(alerts), labels, ("host_scan",))
    groups = (score.found, score.missed, score.right, score.related, score.wrong)
    return [len(group) for group in groups]


@pytest.mark.parametrize(
    "entity",
    [SCAN, {"src_addr": "10.0.0.1"}, {**SCAN, "src_port": "7"}],
    ids=["the same", "fewer fields", "more fields"],
)
def test_an_alert_that_names_the_entity_is_right(entity: dict[str, str]) -> None:
    """Fields that only one of both names don't matter if all of the other's agree."""
    assert judged([scan(entity)], label()) == [1, 0, 1, 0, 0]


@pytest.mark.parametrize(
    "entity",
    [
        {**SCAN, "dst_port": "80"},
        {"dst_addr": "10.0.0.1"},
        {"src_addr": "10.0.0.1", "vlan_id": "1"},
    ],
    ids=["another value", "another role", "a field of its own"],
)
def test_an_alert_that_names_another_is_wrong(entity: dict[str, str]) -> None:
    """The attack is missed then, and the alert is one that names somebody else."""
    assert judged([scan(entity)], label()) == [0, 1, 0, 0, 1]
    assert len(judge(fired([scan(entity)]), [label()], ("host_scan",)).misnamed) == 1


def test_an_alert_of_another_time_is_wrong() -> None:
    """What fires a window later, or was over before, isn't about the label."""
    late = scan(at_s=1300)
    early = scan(at_s=-1300)
    assert judged([early, late], label()) == [0, 1, 0, 0, 2]
    assert not judge(fired([early, late]), [label()], ("host_scan",)).misnamed


def test_a_group_finds_what_its_members_name() -> None:
    """One alert finds the labels of two listed members; one that isn't listed is missed."""
    members = ({**SCAN, "src_addr": "10.0.0.2"}, SCAN)
    group = scan(
        {"dst_port": "445"},
        members=tuple(text_of(member) for member in members),
        member_count=30,
        entity_text="30 sources, dst_port=445",
    )
    absent = label({**SCAN, "src_addr": "10.0.0.9"})
    assert judged([group], label(), label(dict(members[0])), absent) == [2, 1, 1, 0, 0]


def test_a_related_alert_is_neither_right_nor_wrong() -> None:
    """It must be about a host of the label, in whatever role."""
    flood = label({"dst_addr": "10.0.0.9"}, detector="syn_flood", related=("host_scan",))
    answers = {"src_addr": "10.0.0.9", "dst_port": "80"}
    assert judged([scan(answers)], flood) == [0, 0, 0, 1, 0]
    assert judged([scan(SCAN)], flood) == [0, 0, 0, 0, 1]
    assert judged([scan({"src_net": "lab"})], flood) == [0, 0, 0, 1, 0]


def test_an_alert_about_the_network_of_a_host_is_related() -> None:
    """Also of the label's own kind; one about another host, or another probe, is wrong."""
    host = label({"src_addr": "10.0.0.9"})
    assert judged([scan({"src_net": "lab"})], host) == [0, 1, 0, 1, 0]
    assert judged([scan({"src_addr": "10.0.0.8"})], label({"src_net": "lab"})) == [0, 1, 0, 1, 0]
    assert judged([scan({"probe": "two"})], label({"probe": "one"})) == [0, 1, 0, 0, 1]


def test_what_is_clean_must_not_be_found() -> None:
    """An alert about a look-alike is wrong, and nothing is missed without one."""
    assert judged([scan()], label(attack=False)) == [0, 0, 0, 0, 1]
    assert judged([], label(attack=False)) == [0, 0, 0, 0, 0]


def test_a_label_may_name_the_rule() -> None:
    """A rule on a task or with other parameters is found by its own name."""
    mine = scan(rule="mine", detector="fan_out")
    score = judge(fired([mine]), [label(detector="mine"), label()], ("mine", "fan_out"))
    assert (len(score.found), len(score.missed), len(score.right)) == (1, 0, 1)


def test_the_delay_is_counted_in_panes_after_the_crossing() -> None:
    """It is 0 when the alert fires with the pane in which the threshold was reached."""
    for crossed_s, delay in ((3.999, 1), (4.0, 0), (5.999, 0), (0.0, 2), (6.0, -1)):
        crossed = label(crossed_ns=T0_NS + round(crossed_s * S))
        (find,) = judge(fired([scan(at_s=4)]), [crossed], ("host_scan",)).found
        assert find.delay_panes(PANE_NS) == delay


def test_scores_add_up() -> None:
    """Recall and precision are None without attacks or alerts, else shares."""
    none = judge([], [], ("host_scan",))
    assert (none.recall, none.precision, none.delays_panes(PANE_NS)) == (None, None, None)
    found = judge(fired([scan(at_s=2), scan({"src_addr": "10.9.9.9"})]), [label()], ("host_scan",))
    missed = judge([], [label()], ("host_scan",))
    score = none + found + missed
    assert (score.recall, score.precision) == (0.5, 0.5)
    assert score.delays_panes(PANE_NS) == (1.0, 1)


def test_only_what_fired_counts() -> None:
    """Pending and muted alerts, and those that came to nothing, are told to nobody."""
    pending = scan(event="pending", status=Status.pending)
    assert fired([pending, replace(pending, event="dropped", status=Status.resolved)]) == []
    assert fired([scan(event="muted", status=Status.muted)]) == []


def test_an_alert_is_followed_to_its_end() -> None:
    """It keeps the time at which it fired first, and counts what notifiers are told."""
    first = scan()
    grown = replace(first, revision=2, event="updated", value=900.0, last_seen_ns=T0_NS + 50 * S)
    over = replace(grown, revision=3, event="resolved", status=Status.resolved)
    again = replace(grown, revision=4, event="fired", last_seen_ns=T0_NS + 90 * S)
    (found,) = fired([first, grown, over, again])
    assert (found.fired_ns, found.notices) == (T0_NS + PANE_NS, 3)
    assert found.lasted_ns == 90 * S
    assert found.alert.value == 900.0


def test_a_tally_sums_up() -> None:
    """Alerts, the serious ones, groups, how long they lasted, notices a day, whom they concern."""
    low = scan({"src_addr": "10.0.0.7"}, severity=Severity.low, last_seen_ns=T0_NS + 10 * S)
    group = scan({"dst_port": "445"}, entity_text="30 sources", member_count=30)
    told = [*fired([scan()]), *fired([scan(at_s=700)]), *fired([low]), *fired([group])]
    summed = tally(told, DAY_NS // 2, top=2)
    assert (summed.alerts, summed.serious, summed.groups) == (4, 3, 1)
    assert summed.lasted_ns == (2 * S, 2 * S, 2 * S, 10 * S)
    assert summed.notices_per_day == 8.0
    assert summed.entities == (("src_addr=10.0.0.1 dst_port=445 ip_proto=6", 2), ("30 sources", 1))


def test_text_of_members_is_read_back() -> None:
    """Values with blanks in them stay whole."""
    entity = {"probe": "edge one", "fault": "loss"}
    group = Fired(scan(members=(text_of(entity),), member_count=2), 0, 0)
    assert group.entities == [entity]
