"""Alerts of the whole job: one scan is one alert, whatever happens to the job."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows import job
from flows.settings import Settings
from flows.storage.store import Store
from schemas.record import PACKET, Packets
from tests.support.jobs import SECOND, environment, write_pcap
from tests.support.kafka import Broker
from tests.support.kafka_job import KafkaJob, in_time, probe_messages, produce

T0 = 1_700_000_400 * SECOND
"""A multiple of 600 s."""

SCAN_S = 1800
SCANNER, TARGET = "10.9.9.9", "10.1.0.1"
PARTITIONS = 3
PANE_S = 60
"""Long panes make few units of half an hour."""

SETTINGS: dict[str, Any] = {"window": {"pane": f"{PANE_S}s"}}
WINDOW = {"WINDOW__PANE": f"{PANE_S}s"}


def records(count: int) -> Packets:
    packets = np.zeros(count, PACKET)
    for name in ("src_addr", "dst_addr"):
        packets[name][:, 10:12] = 0xFF
        packets[name][:, 12] = 10
    packets["eth_type"], packets["packets"], packets["wire_bytes"] = 0x0800, 1, 60
    return packets


def scan(seconds: int = SCAN_S) -> Packets:
    """One port a second of one host, by SYN."""
    packets = records(seconds)
    packets["ts_ns"] = T0 + np.arange(seconds) * SECOND + SECOND // 2
    packets["src_addr"][:, 13:] = 9
    packets["dst_addr"][:, 13] = 1
    packets["dst_addr"][:, 15] = 1
    packets["ip_proto"], packets["tcp_flags"], packets["src_port"] = 6, 2, 40_000
    packets["dst_port"] = 1 + np.arange(seconds)
    return packets


def others(seconds: int) -> Packets:
    """A question and an answer of DNS each second, so that time goes on."""
    packets = records(2 * seconds)
    times = T0 + np.arange(seconds) * SECOND
    packets["ts_ns"] = np.sort(np.concatenate([times, times + SECOND // 10]))
    packets["ip_proto"] = 17
    for side, name, other in ((0, "src", "dst"), (1, "dst", "src")):
        packets[f"{name}_addr"][side::2, 15] = 7
        packets[f"{other}_addr"][side::2, 15] = 53
        packets[f"{name}_port"][side::2] = 50_000
        packets[f"{other}_port"][side::2] = 53
    return packets


def joined(*parts: Packets) -> Packets:
    packets = np.concatenate(parts)
    return packets[np.argsort(packets["ts_ns"], kind="stable")]


TRAFFIC = joined(scan(), others(3700))


def alerts(store: Store) -> list[dict[str, Any]]:
    return list(
        store.query(
            "SELECT alert_id, rule, toString(status) AS status, entity_text, value, lower, upper, "
            "evidence_sql, toUnixTimestamp64Nano(first_seen) AS first_ns, "
            "toUnixTimestamp64Nano(last_seen) AS last_ns, "
            "toUnixTimestamp64Nano(resolved_at) AS resolved_ns, revision FROM alerts "
            "ORDER BY first_ns, rule"
        ).to_pylist()
    )


def history(store: Store) -> list[tuple[Any, ...]]:
    """All revisions, but for the time at which they were written."""
    rows = store.query(
        "SELECT * EXCEPT (updated_at) FROM alerts_log FINAL ORDER BY alert_id, revision"
    ).to_pylist()
    return [tuple(map(repr, row.values())) for row in rows]


def check(store: Store) -> None:
    """One alert, that began and ended when the scan did, and whose statement says so."""
    (alert,) = alerts(store)
    assert alert["rule"] == "port_scan"
    assert alert["entity_text"] == f"src_addr={SCANNER} dst_addr={TARGET}"
    assert alert["status"] == "resolved"
    # The hundredth port comes after 99.5 s; the pane that it is in starts at 60 s.
    assert (alert["first_ns"] - T0) // SECOND == 60
    assert (alert["last_ns"] - T0) // SECOND == SCAN_S
    assert (alert["resolved_ns"] - T0) // SECOND == SCAN_S + 600
    assert alert["lower"] <= 600 <= alert["upper"]
    rows = store.query(alert["evidence_sql"]).to_pylist()
    assert rows[0]["value"] == alert["value"] == 600
    events = store.query(
        "SELECT toString(event) AS event, count() AS n FROM alerts_log FINAL GROUP BY event"
    ).to_pylist()
    counts = {row["event"]: row["n"] for row in events}
    assert (counts["fired"], counts["resolved"]) == (1, 1)


def test_a_capture_raises_one_alert(tmp_path: Path) -> None:
    """A scan of half an hour in a capture: one alert, fired and resolved once."""
    write_pcap(tmp_path / "scan.pcap", TRAFFIC)
    setting = f"chdb:{tmp_path / 'store'}"
    source = f"pcap:{tmp_path / 'scan.pcap'}"
    assert job.run(Settings(source=source, store=setting, tenant="t", **SETTINGS)) == 0
    with Store.open(setting, serve=False) as store:
        check(store)


def test_an_alert_lasts_where_the_capture_ends(tmp_path: Path) -> None:
    """Nobody knows how it went on: the end of a file resolves nothing."""
    write_pcap(tmp_path / "scan.pcap", scan(300))
    setting = f"chdb:{tmp_path / 'store'}"
    source = f"pcap:{tmp_path / 'scan.pcap'}"
    assert job.run(Settings(source=source, store=setting, tenant="t", **SETTINGS)) == 0
    with Store.open(setting, serve=False) as store:
        assert [alert["status"] for alert in alerts(store)] == ["firing"]


@pytest.fixture(scope="module")
def topic(kafka_session: Broker) -> str:
    topic = kafka_session.topic(PARTITIONS)
    produce(
        kafka_session, topic, in_time(probe_messages(TRAFFIC, "a", PARTITIONS, step_ns=10 * SECOND))
    )
    return topic


KILLS = [
    "snapshot after 6",
    "insert before alerts_log 1",
    "insert after alerts_log 1",
    "insert before alerts_log 3",
    "detect before 3",
    "insert after flows 30",
    "insert after alerts_log 4",
]


@pytest.mark.requires("kafka")
@pytest.mark.slow
def test_kills_neither_repeat_nor_forget_an_alert(
    kafka_broker: Broker, topic: str, tmp_path: Path
) -> None:
    """Killed around the writing of alerts and amid snapshots: revisions as undisturbed."""
    plain = KafkaJob(kafka_broker, topic, tmp_path / "plain", WINDOW, PARTITIONS)
    plain.finish()
    with Store.open(f"chdb:{plain.store}", serve=False) as store:
        check(store)
        wanted = history(store)
    runs = KafkaJob(kafka_broker, topic, tmp_path / "killed", WINDOW, PARTITIONS)
    hit = [runs.kill(where, workers=1 + number % 2) for number, where in enumerate(KILLS)]
    assert sum(hit) >= 5, runs.counted()
    runs.finish(workers=2)
    with Store.open(f"chdb:{runs.store}", serve=False) as store:
        check(store)
        assert history(store) == wanted


@pytest.mark.requires("kafka")
@pytest.mark.slow
def test_without_recovery_files_an_open_alert_goes_on(
    kafka_broker: Broker, topic: str, tmp_path: Path
) -> None:
    """A start from the store's positions takes over what the store says is open."""
    runs = KafkaJob(kafka_broker, topic, tmp_path / "runs", WINDOW, PARTITIONS)
    assert runs.kill("insert after alerts_log 3", recover=False)
    runs.finish(recover=False)
    with Store.open(f"chdb:{runs.store}", serve=False) as store:
        (alert,) = alerts(store)
        assert (alert["rule"], alert["status"]) == ("port_scan", "resolved")


CROWD = """
import json, sys
from flows import job
from flows.benchmarks.fresh import peak_bytes
from flows.settings import Settings
from flows.sources import inputs
from flows.sources.logs import DemoLog
from probe.synthetic import Traffic

traffic = Traffic(profile="flood", packets=200_000, packets_per_second=100_000)
find = lambda settings: lambda store: inputs.Input.single(
    "flood", DemoLog(traffic, tenant="t"), ("p",))
rules = json.loads(sys.argv[1])
settings = Settings(
    source="demo", store="chdb:store", tenant="t", rules=rules, detectors={"enabled": False})
assert job.try_out(settings, find=find) == 0
print(peak_bytes())
"""


def test_a_hundred_thousand_entities_in_a_pane_are_one_alert(tmp_path: Path) -> None:
    """Each of 200,000 sources is over the threshold: one group, little memory, all stored."""
    rule = {"name": "anybody", "task": "fan_out", "metric": "distinct", "threshold": 1, "op": ">="}
    done = subprocess.run(
        [sys.executable, "-c", CROWD, json.dumps([rule])],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 1_300_000_000
    with Store.open(f"chdb:{tmp_path / 'store'}", serve=False) as store:
        (alert,) = alerts(store)
        assert alert["rule"] == "anybody"
        assert alert["entity_text"].startswith("at least ")
        (members,) = store.query("SELECT member_count AS n FROM alerts")["n"].to_pylist()
        # A sketch of fixed memory has so many candidates that are over it for certain.
        assert members > 1000
        (packets,) = store.query("SELECT sum(packets) AS n FROM flows")["n"].to_pylist()
        assert packets == 200_000
