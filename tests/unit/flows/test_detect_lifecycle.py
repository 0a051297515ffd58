"""From readings to alerts: what fires, lasts, is grouped, muted, resolved, and what never is."""

from __future__ import annotations

from dataclasses import replace
from datetime import time

import pytest

from flows.detect.alert import Alert, Severity, Status
from flows.detect.matching import Matcher
from flows.detect.policy import Quiet, day_numbers
from tests.support.readings import NETWORKS, SECOND, Run, reading, spec

A, B = "10.0.0.1", "10.0.0.2"


def test_an_entity_over_its_threshold_fires_at_once() -> None:
    """The first pane over the threshold gives revision 1, with what was measured."""
    run = Run()
    assert run.pane(0, reading(A, 99)) == []
    (alert,) = run.pane(2, reading(A, 120, facts={"ports": "1 to 120"}))
    assert (alert.event, alert.status, alert.revision) == ("fired", Status.firing, 1)
    assert (alert.value, alert.threshold, alert.severity) == (120, 100, Severity.medium)
    assert (alert.first_seen_ns, alert.last_seen_ns) == (2 * SECOND, 4 * SECOND)
    assert alert.entity_text == f"src_addr={A}"
    assert alert.title == f"{A} does it"
    assert alert.evidence[0]["ports"] == "1 to 120"
    assert alert.evidence_sql == f"SELECT 0, {4 * SECOND}"
    assert len(alert.alert_id) == 32


def test_the_lower_bound_decides() -> None:
    """An estimate over the threshold whose lower bound is under it fires nothing."""
    run = Run()
    assert run.pane(0, replace(reading(A, 120), lower=99.0)) == []
    assert len(run.pane(2, replace(reading(A, 120), lower=100.0))) == 1


def test_too_little_is_judged_by_the_upper_bound() -> None:
    """A rule that wants more fires when even the upper bound is under its threshold."""
    run = Run()
    assert run.pane(0, replace(reading(A, 50), upper=120.0, below=True)) == []
    assert run.pane(2, replace(reading(A, 50), upper=80.0, below=True))[0].event == "fired"


def test_a_scan_of_half_an_hour_is_one_alert_that_is_resolved_once() -> None:
    """Counts begin anew with each horizon: no end of a horizon resolves or fires again."""
    run = Run()
    for at_s in range(600, 2400, 2):
        run.pane(at_s, reading(A, (at_s % 600) / 2))
        if at_s % 226 == 0:
            run.restart()
    run.panes(2400, 4800)
    assert {alert.alert_id for alert in run.told} == {run.told[0].alert_id}
    assert run.events.count("fired") == run.events.count("resolved") == 1
    assert run.events[-1] == "resolved"
    assert [alert.revision for alert in run.told] == list(range(1, len(run.told) + 1))
    # Over at 2400, so the first whole quiet horizon ends at 3000.
    assert run.told[-1].resolved_at_ns == 3000 * SECOND
    assert run.told[-1].value == 299


def test_time_alone_resolves() -> None:
    """Without any packet the passing of the watermark ends an alert, at the same time."""
    run = Run()
    run.pane(2, reading(A, 120))
    assert run.pass_to(1199) == []
    (alert,) = run.pass_to(10_000_000)
    assert (alert.event, alert.resolved_at_ns) == ("resolved", 1200 * SECOND)


def test_a_short_window_waits_for_the_least_quiet_time() -> None:
    """With a window of one pane an alert lasts over the pauses of its entity."""
    run = Run(spec(horizon_s=2), resolve_after_ns=60 * SECOND)
    run.pane(0, reading(A, 120))
    run.pane(50, reading(A, 120))
    assert "resolved" not in run.events
    assert run.pass_to(112)[0].resolved_at_ns == 112 * SECOND


def test_hysteresis_keeps_what_is_slightly_under() -> None:
    """At 85 % of the threshold an alert goes on; a new one doesn't begin there."""
    run = Run(spec(horizon_s=2))
    run.pane(0, reading(A, 120))
    run.panes(2, 600, reading(A, 85), reading(B, 85))
    assert run.events.count("resolved") == 0
    assert {alert.entity_text for alert in run.told} == {f"src_addr={A}"}


def test_for_holds_an_alert_back() -> None:
    """With `for` an alert is pending first, and dropped when a pane is under the threshold."""
    run = Run(spec(hold_s=6, horizon_s=2))
    assert run.pane(0, reading(A, 120))[0].status is Status.pending
    assert run.pane(2, reading(A, 120)) == []
    (dropped,) = run.pane(4)
    assert dropped.event == "dropped"
    run.pane(10, reading(A, 120))
    run.pane(12, reading(A, 120))
    (fired,) = run.pane(14, reading(A, 120))
    assert (fired.event, fired.revision, fired.first_seen_ns) == ("fired", 2, 10 * SECOND)
    assert fired.alert_id != dropped.alert_id


def test_a_pending_alert_ends_with_time() -> None:
    """What was pending when the traffic ended comes to nothing."""
    run = Run(spec(hold_s=6, horizon_s=2))
    run.pane(0, reading(A, 120))
    assert run.pass_to(100)[0].event == "dropped"


def test_the_end_of_a_capture_tells_what_has_grown() -> None:
    """What grew since it was told is told once more when there is nothing left to read."""
    run = Run()
    run.pane(0, reading(A, 120), reading(B, 130))
    run.pane(2, reading(A, 150), reading(B, 130))
    (last,) = run.lives.last_words()
    assert (last.event, last.value, last.revision) == ("updated", 150, 2)
    assert list(run.lives.last_words()) == []


def test_updates_are_rare() -> None:
    """An alert that lasts is told again each minute, and when its value has doubled."""
    run = Run()
    run.panes(0, 120, reading(A, 120))
    assert run.events == ["fired", "updated"]
    assert run.pane(120, reading(A, 250))[0].value == 250
    assert run.events == ["fired", "updated", "updated"]


def test_the_largest_measurement_is_shown() -> None:
    """A smaller value in the next horizon doesn't replace the largest, nor its statement."""
    run = Run()
    run.pane(598, reading(A, 500))
    run.panes(600, 680, reading(A, 120))
    assert run.told[-1].event == "updated"
    assert (run.told[-1].value, run.told[-1].window_start_ns) == (500, 0)
    assert run.told[-1].evidence[0]["value"] == "120"
    assert len(run.told[-1].evidence) <= 5


def test_the_same_again_within_its_cooldown_is_the_same_alert() -> None:
    """Taken up again soon it keeps its id; later it is a new one."""
    run = Run(spec(horizon_s=2, cooldown_s=100))
    run.pane(0, reading(A, 120))
    run.pass_to(62)
    assert run.pane(100, reading(A, 120))[0].event == "fired"
    run.pass_to(200)
    run.pane(400, reading(A, 120))
    ids = [alert.alert_id for alert in run.told]
    assert run.events == ["fired", "resolved", "fired", "resolved", "fired"]
    assert len(set(ids[:4])) == 1
    assert ids[4] != ids[0]


def test_a_replay_gives_the_same_revisions() -> None:
    """The same readings give the same alerts, ids and revisions."""

    def run() -> list[Alert]:
        once = Run(spec(horizon_s=2))
        for at_s in range(0, 400, 2):
            once.pane(at_s, reading(A, 120), *([reading(B, 130)] if at_s % 100 < 50 else []))
        return once.told

    assert run() == run()


def test_many_at_once_are_one_alert() -> None:
    """214 sources in one pane are a group that names the largest and what all share."""
    run = Run()
    rows = [
        replace(
            reading(f"10.0.{n // 250}.{n % 250}", 100 + n),
            entity={"src_addr": f"10.0.{n // 250}.{n % 250}", "dst_port": "445"},
        )
        for n in range(214)
    ]
    (alert,) = run.pane(0, *rows)
    assert alert.member_count == 214
    assert alert.entity_text == "214 sources, dst_port=445"
    assert alert.entity == {"dst_port": "445"}
    assert alert.members[0] == "src_addr=10.0.0.213 dst_port=445"
    assert len(alert.members) == 20
    assert alert.value == 313
    run.panes(2, 58, *rows)
    assert run.events == ["fired"]
    run.pass_to(5000)
    assert run.events == ["fired", "resolved"]


def test_a_newcomer_beside_a_group_has_its_own_alert() -> None:
    """A group takes in its own members again, and crowds, not one more entity."""
    run = Run()
    crowd = [reading(f"10.0.1.{n}", 150) for n in range(30)]
    run.pane(0, *crowd)
    (own,) = run.pane(2, *crowd, reading(A, 120))
    assert (own.entity_text, own.member_count) == (f"src_addr={A}", 0)
    more = [reading(f"10.0.2.{n}", 150) for n in range(40)]
    (grown,) = run.pane(4, *crowd, *more)
    assert (grown.event, grown.member_count, grown.revision) == ("updated", 70, 2)


def test_a_hundred_thousand_are_one_bounded_alert() -> None:
    """Those that aren't listed are counted; state and alerts stay small."""
    run = Run()
    rows = [reading(f"10.1.{n // 250}.{n % 250}", 150 + n) for n in range(1000)]
    (alert,) = run.pane(0, *rows, over=100_000)
    assert alert.entity_text == "at least 100,000 sources"
    for at_s in range(2, 200, 2):
        rows = [reading(f"10.{at_s}.{n // 250}.{n % 250}", 150 + n) for n in range(1000)]
        run.pane(at_s, *rows, over=100_000)
    assert {alert.alert_id for alert in run.told} == {alert.alert_id}
    assert len(run.told) < 10
    assert len(repr(run.lives.snapshot())) < 1_000_000


def test_no_more_alerts_than_allowed_are_open() -> None:
    """One by one under the limit of a group, entities over `max_open` join one."""
    run = Run(max_open=10)
    for n in range(30):
        run.pane(2 * n, reading(f"10.0.3.{n}", 120))
    single = {alert.alert_id for alert in run.told if not alert.member_count}
    assert len(single) == 10
    assert max(alert.member_count for alert in run.told) == 16
    run.pass_to(9000)
    assert max(alert.member_count for alert in run.told) == 20


def test_unless_leaves_entities_out() -> None:
    """A resolver in the network named dns fires nothing."""
    run = Run(spec(unless={"src_net": ("dns",)}))
    assert run.pane(0, reading("10.0.0.53", 5000)) == []
    assert len(run.pane(2, reading("10.0.0.54", 5000))) == 1


def test_a_mute_keeps_an_alert_quiet_from_the_beginning() -> None:
    """A muted alert is kept with the mute's name, fires when that is over, resolves in silence."""
    run = Run()
    run.wishes.quiet = (
        Quiet("known", Matcher({"src_addr": (A,)}, NETWORKS), until_ns=10 * SECOND),
    )
    (muted,) = run.pane(0, reading(A, 120))
    assert (muted.event, muted.status, muted.muted_by) == ("muted", Status.muted, "known")
    assert run.pane(2, reading(A, 120)) == []
    (fired,) = run.pane(10, reading(A, 120))
    assert (fired.event, fired.muted_by, fired.alert_id) == ("fired", "", muted.alert_id)
    other = Run()
    other.wishes.quiet = (Quiet("all", Matcher({}, NETWORKS)),)
    other.pane(0, reading(A, 120))
    assert other.pass_to(9000)[0].muted_by == "all"


def test_who_heard_of_it_hears_of_its_end() -> None:
    """An alert that fired before it was muted is resolved aloud."""
    run = Run()
    run.pane(0, reading(A, 120))
    run.wishes.quiet = (Quiet("late", Matcher({}, NETWORKS)),)
    assert run.pane(2, reading(A, 120))[0].event == "muted"
    assert run.pass_to(9000)[0].muted_by == ""


@pytest.mark.parametrize(
    ("at", "quiet"),
    [("2026-11-28 23:30", True), ("2026-11-29 01:30", True), ("2026-11-29 02:30", False),
     ("2026-11-29 23:30", False), ("2026-11-30 01:30", False)],
)  # fmt: skip
def test_maintenance_over_midnight_belongs_to_the_day_it_begins(at: str, quiet: bool) -> None:
    """Saturday 23:00 to 02:00 covers the early hours of Sunday and no other ones."""
    from datetime import datetime

    hours = Quiet(
        "night", Matcher({}, NETWORKS), hours=(time(23), time(2)), days=day_numbers(["sat"])
    )
    now_ns = int(datetime.fromisoformat(at + "+00:00").timestamp()) * SECOND
    assert hours.covers("rule", "t", {}, now_ns) is quiet


def test_a_mute_of_another_rule_tenant_or_entity_mutes_nothing() -> None:
    """Rule, tenant and conditions must all fit."""
    entity = {"src_addr": A}
    assert not Quiet("q", Matcher({}, NETWORKS), rule="other").covers("rule", "t", entity, 0)
    assert not Quiet("q", Matcher({}, NETWORKS), tenant="x").covers("rule", "t", entity, 0)
    assert not Quiet("q", Matcher({"addr": (B,)}, NETWORKS)).covers("rule", "t", entity, 0)
    assert Quiet("q", Matcher({"addr": ("10.0.0.0/30",)}, NETWORKS)).covers("rule", "t", entity, 0)


def test_closed_by_hand_it_stays_closed() -> None:
    """A closed alert is resolved and not taken up again before its cooldown is over."""
    run = Run(spec(cooldown_s=100))
    (alert,) = run.pane(0, reading(A, 120))
    run.wishes.closed = frozenset({alert.alert_id})
    (resolved,) = run.pane(2, reading(A, 130))
    assert (resolved.event, resolved.status) == ("resolved", Status.resolved)
    run.panes(4, 100, reading(A, 140))
    assert run.events == ["fired", "resolved"]
    (again,) = run.pane(200, reading(A, 150))
    assert again.alert_id != alert.alert_id


def test_open_alerts_of_the_store_are_taken_over() -> None:
    """A start without recovery goes on with the alert that the store says is open."""
    before = Run()
    before.panes(0, 100, reading(A, 120))
    after = Run()
    after.lives.seed([before.told[-1]])
    assert after.pane(600, reading(A, 130))[0].event == "updated"
    assert after.told[0].alert_id == before.told[0].alert_id
    assert after.told[0].revision == before.told[-1].revision + 1
    silent = Run()
    silent.lives.seed([before.told[-1]])
    assert silent.pass_to(9000)[0].event == "resolved"


def test_state_of_another_version_is_refused() -> None:
    """Foreign recovery state is named, not misread."""
    with pytest.raises(ValueError, match="recovery state has version 99"):
        Run().lives.restore((99, ()))
