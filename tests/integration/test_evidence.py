"""The flows behind alerts are kept, when they are there, without holding up anybody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flows.detect.alert import Alert
from flows.sinks import alert_rows, evidence
from flows.sinks.evidence import EvidenceCollector
from flows.storage import alerts, flow_rows
from flows.storage.store import Store
from tests.support.alerts import alert
from tests.support.store_rows import T0_MS, address, rows

TARGETS = 30
SQL = (
    "SELECT uniqExact(dst_addr) AS value FROM flows WHERE src_addr = toIPv6('10.0.2.15') "
    "AND dst_port = 23"
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"chdb:{tmp_path}", serve=False) as opened:
        yield opened


def put_scan(store: Store, source: str = "10.0.2.15", window_ms: int = T0_MS) -> None:
    """A source sends ``n`` packets to its target ``n``, and much else to one on another port."""
    table = rows(
        "flows",
        tenant="default",
        window_start=window_ms,
        src_addr=address(source),
        dst_addr=[address(f"192.0.2.{n}") for n in (*range(TARGETS), 99)],
        src_port=40_000,
        dst_port=[23] * TARGETS + [443],
        ip_proto=6,
        tcp_flags=2,
        packets=[*range(1, TARGETS + 1), 1000],
        bytes=[60 * n for n in (*range(1, TARGETS + 1), 1000)],
    )
    store.insert("flows", table, f"{source}/{window_ms}")


def put_alert(store: Store, raised: Alert) -> None:
    store.insert("alerts_log", alert_rows.alerts_log([raised]), f"{raised.delivery_id}")


def wait_for(holds: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def kept(store: Store, raised: Alert) -> list[dict[str, str]]:
    found: list[dict[str, str]] = alerts.one(store.query, raised.alert_id)["evidence_rows"]
    return found


def test_flows_that_come_after_their_alert_are_kept(store: Store) -> None:
    """The largest flows of the entity, and of nothing else, are kept once they are stored."""
    raised = alert(value=30.0, lower=30.0, evidence_sql=SQL)
    put_alert(store, raised)
    collector = EvidenceCollector(store, patience_s=60)
    collector.offer(raised)
    put_scan(store, window_ms=T0_MS + 3_600_000)  # not of this window
    put_scan(store, "10.0.0.1")
    put_scan(store)
    wait_for(lambda: collector.counts["kept"])
    collector.close(10)
    found = kept(store, raised)
    assert [row["packets"] for row in found] == [f"{n}" for n in range(30, 10, -1)]
    assert {(row["src_addr"], row["dst_port"]) for row in found} == {("10.0.2.15", "23")}
    assert found[0] == {
        "src_addr": "10.0.2.15",
        "src_port": "40000",
        "dst_addr": "192.0.2.29",
        "dst_port": "23",
        "ip_proto": "TCP",
        "tcp_flags": "SYN",
        "packets": "30",
        "bytes": "1800",
        "first_seen": "1970-01-01 00:00:00.000",
        "last_seen": "1970-01-01 00:00:00.000",
    }


def test_patience_ends(store: Store) -> None:
    """Flows that are there are kept though the alert claims more, when patience ends."""
    raised = alert(value=99.0, lower=99.0, evidence_sql=SQL)
    put_alert(store, raised)
    put_scan(store)
    collector = EvidenceCollector(store, patience_s=0)
    collector.offer(raised)
    wait_for(lambda: collector.counts["early"])
    collector.close(10)
    assert len(kept(store, raised)) == flow_rows.MOST_ROWS


def test_nobody_waits_at_the_end(store: Store) -> None:
    """Closing looks into what is waiting at once: no more flows will come."""
    put_scan(store)
    collector = EvidenceCollector(store, patience_s=10**6)
    for n in range(3):
        collector.offer(alert(rule=f"r{n}", value=99.0, lower=99.0, evidence_sql=SQL))
    collector.close(30)
    assert collector.counts == {"early": 3, "skipped": 0}


def test_members_of_a_group_share_the_room(store: Store) -> None:
    """Each of the listed members of a group has flows among the rows, also when the group grows."""
    sources = [f"10.0.0.{n}" for n in range(1, 5)]
    for source in sources:
        put_scan(store, source)
    members = tuple(f"src_addr={source} dst_port=23" for source in sources)
    group = alert(entity={"dst_port": "23"}, members=members, member_count=30, evidence_sql="")
    put_alert(store, group)
    collector = EvidenceCollector(store)
    collector.offer(group)
    collector.offer(alert(event="updated", members=members, member_count=31))
    collector.offer(alert(event="updated", members=members, member_count=60, evidence_sql=""))
    collector.close(30)
    assert collector.counts["kept"] == 2
    found = kept(store, group)
    assert [sum(row["src_addr"] == source for row in found) for source in sources] == [5] * 4
    assert {row["packets"] for row in found} == {"30", "29", "28", "27", "26"}


def test_what_is_large_is_measured_like_the_alert(store: Store) -> None:
    """Flows behind an alert about bits are ordered by bytes."""
    table = rows("flows", tenant="default", dst_addr=address("10.0.0.9"), src_port=[1, 2],
                 packets=[9, 1], bytes=[540, 1500])  # fmt: skip
    store.insert("flows", table, "t")
    raised = alert(entity={"dst_addr": "10.0.0.9"}, unit="bit/s", evidence_sql="")
    put_alert(store, raised)
    collector = EvidenceCollector(store)
    collector.offer(raised)
    collector.close(30)
    assert [row["bytes"] for row in kept(store, raised)] == ["1500", "540"]


def test_an_alert_about_a_probe_keeps_its_ledger(store: Store) -> None:
    """What the ledger says of the probe is behind an alert about lost data."""
    table = rows("ledger", tenant="default", probe="p", hop=[1, 2], seen=[10, 8],
                 delivered=[8, 8], dropped={"ring_full": 2}, in_flight=0)  # fmt: skip
    store.insert("ledger", table, "t")
    raised = alert(entity={"probe": "p"}, probe="p", unit="share", evidence_sql="")
    put_alert(store, raised)
    collector = EvidenceCollector(store)
    collector.offer(raised)
    collector.offer(alert(entity={}, evidence_sql=""))
    collector.close(30)
    assert collector.counts == {"kept": 1, "without": 1, "skipped": 0}
    assert kept(store, raised)[0] == {
        "at_hop": "capture",
        "packets_seen": "10",
        "packets_delivered": "8",
        "packets_in_flight": "0",
        "packets_dropped": "{'ring_full':2}",
    }


def test_events_without_news_are_passed_over(store: Store) -> None:
    """Pending, muted, updated and dropped alerts are not looked into."""
    collector = EvidenceCollector(store)
    for event in ("pending", "muted", "updated", "dropped"):
        collector.offer(alert(event=event))
    collector.close(1)
    assert collector.counts == {"skipped": 0}


def test_too_many_are_skipped_and_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the store doesn't answer, offering returns, and what finds no room is counted."""
    monkeypatch.setattr(evidence, "MAX_WAITING", 2)
    asked, go_on = threading.Event(), threading.Event()

    class Slow:
        insert = store.insert

        def query(self, sql: str, parameters: Any = None) -> pa.Table:
            asked.set()
            assert go_on.wait(30)
            return store.query(sql)

    put_scan(store)
    collector = EvidenceCollector(Slow())
    collector.offer(alert(rule="first"))
    assert asked.wait(30)
    for n in range(5):
        collector.offer(alert(rule=f"r{n}"))
    assert collector.counts["skipped"] == 3
    collector.close(0)
    assert collector.counts["skipped"] == 5
    collector.offer(alert(rule="late"))
    go_on.set()
    assert "alerts without the flows behind them" in capsys.readouterr().out


@pytest.mark.parametrize(
    "raised",
    [
        alert(evidence_sql="SELECT 1 AS value FROM nothing"),
        alert(evidence_sql="", entity={"src_addr": "10.0.0"}),
        alert(evidence_sql="", entity={"vlan_id": "blue"}),
    ],
)
def test_a_refusal_is_counted(store: Store, raised: Alert) -> None:
    """A statement that fails costs its alert the evidence, and nothing else."""
    put_scan(store)
    collector = EvidenceCollector(store)
    collector.offer(raised)
    collector.offer(alert(rule="next", evidence_sql=SQL, lower=0.0))
    collector.close(30)
    assert collector.counts["failed"] == 1
    assert collector.counts["kept"] == 1


def test_entities_are_read_back() -> None:
    """The text of an entity is read as what it was made of, blanks in values included."""
    for entity in ({"src_addr": "::1", "dst_port": "443"}, {"src_net": "a b", "probe": "x y"}, {}):
        assert flow_rows.entity_of(" ".join(f"{k}={v}" for k, v in entity.items())) == entity


def test_hostile_names_are_quoted() -> None:
    """A name off the wire can't leave its quotes."""
    assert flow_rows.of_entity({"src_net": "a' OR 1=1 --"}) == "src_net = 'a\\' OR 1=1 --'"
