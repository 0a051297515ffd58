"""Alerts as rows: what is written is what is read, and what the view makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.detect.alert import Severity, Status
from flows.errors import UsageError
from flows.notify.outbox import Delivery, record
from flows.sinks import alert_rows
from flows.storage import alerts
from flows.storage.store import Store
from tests.support.alerts import SECOND_NS, T0_NS, alert
from tests.support.store_rows import T0_MS, rows


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"chdb:{tmp_path}", serve=False) as opened:
        yield opened


def test_an_open_alert_comes_back_as_it_was(store: Store) -> None:
    """What a job seeds itself with is the newest revision, in every field."""
    first = alert(members=("src_addr=10.0.0.1",), member_count=1, notify=("ops",), muted_by="m")
    newest = replace(first, revision=2, event="updated", value=300.5, evidence=({"a": "b"}, {}))
    store.insert("alerts_log", alert_rows.alerts_log([first, newest]), "t")
    assert alerts.open_alerts(store.query) == [newest]


def test_what_is_over_is_not_open(store: Store) -> None:
    """Resolved, dropped and closed alerts are not open; one that goes on after it was closed is."""
    over = alert(rule="a", event="resolved", status=Status.resolved, resolved_at_ns=T0_NS)
    dropped = alert(rule="b", event="dropped", status=Status.pending)
    closed, goes_on = alert(rule="c"), alert(rule="d")
    table = alert_rows.alerts_log([over, dropped, closed, goes_on])
    store.insert("alerts_log", table, "t")
    for each in (closed, goes_on):
        close = rows("alert_actions", alert_id=each.alert_id, action=2, done_at=4_000_000_000_000)
        store.insert("alert_actions", close, each.alert_id)
    later = alert_rows.alerts_log([replace(goes_on, revision=2)])
    at = later.schema.get_field_index("updated_at")
    after = rows("alerts_log", updated_at=4_000_000_000_001)["updated_at"]
    later = later.set_column(at, later.schema.field(at), after)
    store.insert("alerts_log", later, "t2")
    assert [each.rule for each in alerts.open_alerts(store.query)] == ["d"]
    wanted = alerts.Wanted(statuses=("resolved",))
    assert {row["rule"] for row in alerts.listed(store.query, wanted, 9)[0]} == {"a", "c"}


def test_list_is_ordered_filtered_and_counted(store: Store) -> None:
    """Open alerts come the worst first, then the newest; a limit tells how many there are."""
    table = alert_rows.alerts_log(
        [
            alert(rule="old", severity=Severity.high, first_seen_ns=T0_NS),
            alert(rule="new", severity=Severity.high, first_seen_ns=T0_NS + SECOND_NS),
            alert(rule="info", severity=Severity.info, tenant="b"),
            alert(rule="over", status=Status.resolved, first_seen_ns=T0_NS + 60 * SECOND_NS),
        ]
    )
    store.insert("alerts_log", table, "t")

    def rules(limit: int = 9, **wanted: object) -> tuple[list[str], int]:
        found, total = alerts.listed(store.query, alerts.Wanted(**wanted), limit)  # type: ignore[arg-type]
        return [row["rule"] for row in found], total

    everything = ("pending", "firing", "resolved", "muted")
    assert rules() == (["new", "old", "info"], 3)
    assert rules(limit=1) == (["new"], 3)
    assert rules(statuses=everything) == (["over", "new", "old", "info"], 4)
    assert rules(severity="medium")[0] == ["new", "old"]
    assert rules(tenant="b")[0] == ["info"]
    assert rules(rule="old")[0] == ["old"]
    assert rules(since_ns=T0_NS + 11 * SECOND_NS)[0] == ["new"]
    assert rules(until_ns=T0_NS + 1)[0] == ["old", "info"]


def test_one_alert_by_the_beginning_of_its_id(store: Store) -> None:
    """A beginning that is nobody's, or several alerts', is refused; so is what is no id."""
    known = [
        alert(alert_id="ab" + "0" * 30, entity={"src_addr": "10.0.0.1"}),
        alert(alert_id="ac" + "0" * 30),
    ]
    store.insert("alerts_log", alert_rows.alerts_log(known), "t")
    found = [{"src": "10.0.0.1", "packets": "7"}]
    store.insert("alert_evidence", alert_rows.evidence(known[0].alert_id, 1, found), "e")
    row = alerts.one(store.query, "AB")
    assert row["alert_id"] == known[0].alert_id
    assert row["entity"] == {"src_addr": "10.0.0.1"}
    assert row["evidence_rows"] == found
    assert row["first_seen_ns"] == T0_NS
    for prefix, why in (("a", "several"), ("b", "no alert id"), ("x' OR 1", "is no alert id")):
        with pytest.raises(UsageError, match=why):
            alerts.one(store.query, prefix)


def test_life_and_deliveries(store: Store) -> None:
    """An alert's revisions and deliveries come in order."""
    first = alert(event="pending", status=Status.pending)
    fired = replace(first, revision=2, event="fired", status=Status.firing)
    store.insert("alerts_log", alert_rows.alerts_log([fired, first]), "t")
    assert [row["event"] for row in alerts.life(store.query, first.alert_id)] == [
        "pending",
        "fired",
    ]
    record(store, [Delivery(first.alert_id, 2, "ops", "delivered", 3, "200 OK", T0_MS)])
    (row,) = alerts.deliveries(store.query, first.alert_id)
    assert (row["notifier"], row["state"], row["tries"]) == ("ops", "delivered", 3)
