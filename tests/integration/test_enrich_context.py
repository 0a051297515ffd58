"""What the model is given beside an alert comes out of the store: flows, peers, before, earlier."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.enrich import stage
from flows.enrich.context import BEFORE_S, is_settled, surroundings
from flows.enrich.enricher import Enricher
from flows.enrich.pack import MAX_LISTED, MAX_ROWS, pack
from flows.enrich.pseudonyms import Pseudonyms
from flows.enrich.situation import Situation
from flows.settings import Settings
from flows.settings.llm import Llm
from flows.sinks import alert_rows
from flows.storage import alert_writes
from flows.storage.alert_writes import Close
from flows.storage.store import Store
from tests.integration.test_enrich_model import wait_for
from tests.support.alerts import SECOND_NS, T0_NS, alert
from tests.support.llm import service
from tests.support.store_rows import T0_MS, address, rows

HOST = "10.0.2.15"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(f"chdb:{tmp_path_factory.mktemp('store')}", serve=False) as opened:
        fill(opened)
        yield opened


def put(store: Store, name: str, tenant: str = "default", **columns: Any) -> None:
    table = rows("flows", tenant=tenant, src_port=40_000, ip_proto=6, tcp_flags=2, **columns)
    store.insert("flows", table, name)


def fill(store: Store) -> None:
    """Now a scan of 30 hosts and a talk with one, before little, and another tenant's noise."""
    targets = [address(f"192.0.2.{n}") for n in range(30)]
    scan: dict[str, Any] = {"src_addr": address(HOST), "dst_addr": targets, "dst_port": 23}
    put(store, "scan", window_start=T0_MS, packets=2, bytes=120, **scan)
    talk = {"dst_port": 443, "packets": 100, "window_start": T0_MS}
    peer = address("198.51.100.7")
    put(store, "out", src_addr=address(HOST), dst_addr=peer, bytes=9000, **talk)
    put(store, "in", src_addr=peer, dst_addr=address(HOST), bytes=1000, **talk)
    early = T0_MS - (BEFORE_S - 60) * 1000
    put(
        store,
        "before",
        src_addr=address(HOST),
        dst_addr=peer,
        dst_port=443,
        packets=7,
        bytes=700,
        window_start=early,
    )
    put(store, "other", tenant="other", window_start=T0_MS, packets=10**6, bytes=10**9, **scan)


def of_kind(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [row for row in found if row["kind"] == kind]


def test_the_host_now_and_before(store: Store) -> None:
    """Totals of the host in the alert's window and in the hour before, each way, by tenant."""
    found = surroundings(store, Situation((alert(),)))
    (now,), (before,) = of_kind(found, "host, now"), of_kind(found, "host, hour before")
    assert (now["packets_sent"], now["bytes_sent"]) == (160, 12_600)
    assert (now["packets_received"], now["bytes_received"]) == (100, 1000)
    assert (now["peers"], now["seconds"]) == (31, 10)
    assert (before["packets_sent"], before["peers"], before["seconds"]) == (7, 1, BEFORE_S)


def test_the_largest_peers_and_flows(store: Store) -> None:
    """Peers by bytes, and the largest flows of the entity alone."""
    found = surroundings(store, Situation((alert(),)))
    peers = of_kind(found, "peer")
    assert peers[0] == {
        "kind": "peer",
        "alert": "A1",
        "peer": "198.51.100.7",
        "bytes_to_peer": 9000,
        "bytes_from_peer": 1000,
        "packets": 200,
    }
    flows = of_kind(found, "flow")
    assert len(flows) == 5
    assert {flow["dst_port"] for flow in flows} == {"23"}
    assert {flow["src_addr"] for flow in flows} == {HOST}


def test_earlier_alerts_and_what_they_were(store: Store) -> None:
    """Alerts of the host within a month before, by rule, with verdicts, and nobody else's."""
    day_ns = 86_400 * SECOND_NS
    past = [alert(first_seen_ns=T0_NS - n * day_ns) for n in (1, 2, 40)]
    others = [
        alert(first_seen_ns=T0_NS - day_ns, tenant="other"),
        alert(first_seen_ns=T0_NS - day_ns, entity={"src_addr": "10.0.0.99"}),
        alert(first_seen_ns=T0_NS - day_ns, entity={"dst_addr": HOST}, rule="syn_flood"),
    ]
    store.insert("alerts_log", alert_rows.alerts_log([*past, *others]), "past")
    alert_writes.write(store, Close(by="a", alert_id=past[0].alert_id, verdict="benign"))
    found = of_kind(surroundings(store, Situation((alert(),))), "earlier alerts")
    by_rule = {row["rule"]: row for row in found}
    assert set(by_rule) == {"host_scan", "syn_flood"}
    assert by_rule["host_scan"]["alerts"] == 2
    assert by_rule["host_scan"]["harmless"] == 1
    assert by_rule["host_scan"]["true_positives"] == 0


@pytest.mark.parametrize(
    "entity",
    [
        {"src_addr": "' OR 1=1 --", "dst_port": "23"},
        {"src_addr": "not an address"},
        {"dst_port": "23; DROP TABLE flows"},
        {"probe": "'; DROP TABLE flows; --"},
        {"src_net": "') OR ('1'='1"},
        {},
    ],
)
def test_odd_entities_are_left_out(store: Store, entity: dict[str, str]) -> None:
    """What can't be asked about is left out; nothing breaks or is changed."""
    flows = store.run("SELECT count() FROM flows")
    odd = replace(alert(), entity=entity, src_addr=entity.get("src_addr", ""), dst_port=0)
    found = surroundings(store, Situation((odd,)))
    assert not of_kind(found, "host, now")
    assert store.run("SELECT count() FROM flows") == flows


def test_an_alert_of_a_net_has_its_flows(store: Store) -> None:
    """An entity without an address has no host to tell of."""
    found = surroundings(store, Situation((alert(entity={"dst_port": "23"}),)))
    assert not of_kind(found, "peer")
    assert len(of_kind(found, "flow")) == 5


def test_a_pack_is_bounded(store: Store) -> None:
    """However many alerts and rows there are, so many rows at most, named in order."""
    many = tuple(
        alert(entity={"src_addr": f"10.5.0.{n}"}, members=("a", "b") * 10) for n in range(100)
    )
    context = [{"kind": "flow", "n": n} for n in range(500)]
    found = pack(Situation(many), context, Pseudonyms({}))
    assert len(found.rows) == MAX_ROWS
    assert len(found.listed) == MAX_LISTED
    assert [row.name for row in found.rows] == [f"R{n}" for n in range(1, MAX_ROWS + 1)]
    assert any(row.fields["kind"] == "all alerts" for row in found.rows)


def test_flows_are_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model isn't asked before the flows behind the alert are stored, or patience ends."""
    sql = "SELECT count() AS value FROM flows WHERE src_addr = toIPv6('10.0.9.9')"
    raised = alert(entity={"src_addr": "10.0.9.9"}, value=1.0, lower=1.0, evidence_sql=sql)
    assert not is_settled(store, raised)
    looked = threading.Event()

    def look(*args: Any) -> bool:
        looked.set()
        return is_settled(*args)

    monkeypatch.setattr(stage, "is_settled", look)
    monkeypatch.setattr(stage, "SETTLE_S", 60.0)
    with service() as running:
        enricher = Enricher(Settings(llm=Llm(model="m", base_url=running.url)), store)
        enricher.offer(raised)
        assert looked.wait(60)
        assert not running.asked
        put(
            store,
            "late",
            src_addr=address("10.0.9.9"),
            dst_addr=address("192.0.2.1"),
            dst_port=5,
            window_start=T0_MS,
            packets=4,
            bytes=400,
        )
        wait_for(lambda: enricher.counts["done"])
        enricher.close(10)
    kinds = {row["kind"]: row for row in running.asked[0].rows.values()}
    assert kinds["host, now"]["packets_sent"] == "4"


def test_statements_that_fail_settle_nothing(store: Store, tmp_path: Path) -> None:
    """A statement that the store refuses isn't waited for."""
    assert is_settled(store, alert(evidence_sql="SELECT nonsense FROM nowhere"))
    assert is_settled(store, alert(evidence_sql=""))
