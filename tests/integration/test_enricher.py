"""Every alert is explained, beside the dataflow and without a language model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flows.detect.alert import Alert, Status
from flows.enrich.enricher import Enricher
from flows.errors import StoreError
from flows.settings import Settings
from flows.sinks import alert_rows
from flows.storage import alerts
from flows.storage.store import Store
from tests.support.alerts import alert


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"chdb:{tmp_path}", serve=False) as opened:
        yield opened


def put(store: Store, *raised: Alert) -> None:
    store.insert("alerts_log", alert_rows.alerts_log(raised), f"alerts/{time.time_ns()}")


def wait_for(holds: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def shown(store: Store, raised: Alert) -> dict[str, Any]:
    return alerts.one(store.query, raised.alert_id)


class Unwilling:
    """A store that refuses, or doesn't answer, until it is told otherwise."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.refuses = True
        self.answers = threading.Event()
        self.answers.set()

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        return self._store.query(sql, parameters)

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        self.answers.wait(60)
        if self.refuses:
            raise StoreError("no")
        self._store.insert(table, rows, token)


def test_alerts_are_explained_without_a_model(store: Store) -> None:
    """What fires gets the words of a template; the status says that no model was asked."""
    raised = alert()
    put(store, raised)
    enricher = Enricher(Settings(), store)
    enricher.offer(raised)
    wait_for(lambda: enricher.counts["templates"])
    enricher.close(10)
    row = shown(store, raised)
    assert row["model"] == "template"
    assert row["prompt_version"] == "host_scan-2"
    assert row["enrichment_status"] == "none"
    assert "10.0.2.15 (inside) tries port 23" in row["assessment"]
    assert "Undo:" in row["mitigation"]
    assert row["severity"] == "medium"


def test_an_update_is_explained_anew(store: Store) -> None:
    """The newest revision is what the words are about."""
    raised = alert()
    later = replace(raised, revision=2, event="resolved", status=Status.resolved, value=400.0)
    put(store, raised, later)
    enricher = Enricher(Settings(), store)
    enricher.offer(raised)
    wait_for(lambda: enricher.idle)
    enricher.offer(later)
    wait_for(lambda: enricher.idle)
    enricher.close(10)
    assert "400 hosts" in shown(store, raised)["assessment"]
    assert "is over" in shown(store, raised)["assessment"]


def test_what_is_pending_or_dropped_is_not_explained(store: Store) -> None:
    """Nobody is told of such revisions, so there is nothing to explain."""
    enricher = Enricher(Settings(), store)
    for event in ("pending", "dropped"):
        enricher.offer(alert(event=event))
    enricher.close(10)
    assert not enricher.counts


def test_what_a_kill_left_is_explained_by_the_next_run(store: Store) -> None:
    """Alerts that are stored and not explained are found by resume, those that are aren't."""
    raised = [alert(entity={"src_addr": f"10.0.1.{n}", "dst_port": "23"}) for n in range(5)]
    put(store, *raised)
    first = Enricher(Settings(), store)
    first.offer(raised[0])
    first.close(10)
    second = Enricher(Settings(), store)
    second.resume()
    wait_for(lambda: second.idle)
    second.close(10)
    assert first.counts["templates"] == 1
    assert second.counts["templates"] == 4
    assert all(shown(store, each)["model"] == "template" for each in raised)


def test_a_store_that_refuses_is_tried_again(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost while the store refuses, and each refusal is counted."""
    raised = alert()
    put(store, raised)
    unwilling = Unwilling(store)
    enricher = Enricher(Settings(), unwilling)
    enricher.offer(raised)
    wait_for(lambda: enricher.counts["store"])
    assert shown(store, raised)["model"] == ""
    unwilling.refuses = False
    wait_for(lambda: enricher.counts["templates"])
    enricher.close(10)
    assert shown(store, raised)["model"] == "template"


def test_offer_waits_for_nothing(store: Store) -> None:
    """While the store doesn't answer, alerts are taken; beyond ten thousand they are spilled."""
    unwilling = Unwilling(store)
    unwilling.refuses = False
    unwilling.answers.clear()
    raised = alert()
    put(store, raised)
    enricher = Enricher(Settings(), unwilling)
    enricher.offer(raised)
    wait_for(lambda: not enricher._offered)
    for _ in range(10_001):
        enricher.offer(raised)
    assert enricher.counts["spilled"] == 1
    unwilling.answers.set()
    wait_for(lambda: enricher.idle)
    enricher.close(10)


def test_a_thousand_alerts_take_one_insert(store: Store) -> None:
    """Alerts of one pane are explained together."""
    raised = [
        alert(entity={"src_addr": f"10.1.{n // 250}.{n % 250}", "dst_port": "23"})
        for n in range(1000)
    ]
    put(store, *raised)
    enricher = Enricher(Settings(), store)
    for each in raised:
        enricher.offer(each)
    wait_for(lambda: enricher.counts["templates"] == 1000)
    enricher.close(10)
    found = store.run(
        "SELECT count(), uniqExact(updated_at) FROM alert_enrichments FINAL "
        "WHERE author = 'template'"
    )
    assert found.split() == ["1000", "1"]
