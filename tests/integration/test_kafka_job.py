"""Packets from Kafka into the store: each once, whatever happens to the job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows import job
from flows.settings import Settings
from schemas.record import Packets
from tests.support.jobs import SECOND, ipv4_packets, truth, write_pcap
from tests.support.kafka import Broker
from tests.support.kafka_job import KafkaJob, in_time, probe_messages, produce
from tests.support.stored import ROLLUPS, Stored, look, same_as

pytestmark = [pytest.mark.requires("kafka"), pytest.mark.slow]

T0 = 1_700_000_040 * SECOND
PARTITIONS = 6


def traffic(seed: int, count: int) -> Packets:
    """24 s, nothing for 11 minutes, 10 s; one in 30 comes 2 to 4 s after its time."""
    rng = np.random.default_rng(seed)
    first = ipv4_packets(rng, 2 * count // 3, start_ns=T0 + 10 * SECOND, span_ns=24 * SECOND)
    second = ipv4_packets(rng, count // 3, start_ns=T0 + 700 * SECOND, span_ns=10 * SECOND)
    packets = np.concatenate([first, second])
    due_ns = packets["ts_ns"].astype(np.int64)
    late = rng.random(len(packets)) < 1 / 30
    due_ns[late] += rng.integers(2 * SECOND, 4 * SECOND, int(late.sum()))
    return packets[np.argsort(due_ns, kind="stable")]


PROBES = {"a": traffic(1, 1500), "b": traffic(2, 900)}
WHOLE = np.concatenate(list(PROBES.values()))


def fill(broker: Broker) -> str:
    """A topic with all traffic; probe a says goodbye and starts again after a third."""
    topic = broker.topic(PARTITIONS)
    a = probe_messages(PROBES["a"], "a", PARTITIONS, starts=(0, 500))
    produce(broker, topic, in_time(a, probe_messages(PROBES["b"], "b", PARTITIONS)))
    return topic


@pytest.fixture(scope="module")
def topic(kafka_session: Broker) -> str:
    return fill(kafka_session)


@pytest.fixture(scope="module")
def wanted(kafka_session: Broker, topic: str, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """What an undisturbed run stores."""
    runs = KafkaJob(kafka_session, topic, tmp_path_factory.mktemp("plain"))
    runs.finish()
    found = look(f"chdb:{runs.store}")
    assert found.sums == {truth(WHOLE)}
    assert all(found.rows.values())
    return found


def test_the_topic_gives_what_its_packets_give_from_files(wanted: Stored, tmp_path: Path) -> None:
    """Two probes, late packets, a restart: the tables are those of the same packets in files."""
    for name, packets in PROBES.items():
        write_pcap(tmp_path / f"{name}.pcap", packets)
    setting = f"chdb:{tmp_path / 'store'}"
    assert job.run(Settings(source=f"pcap:{tmp_path}/*.pcap", store=setting, tenant="t")) == 0
    files = look(setting)
    assert files.sums == wanted.sums
    for name in ("flows", *ROLLUPS):
        assert wanted.tables[name] == files.tables[name]
    without_late = [[*row[:7], *row[8:]] for row in wanted.tables["totals"]]
    assert without_late == [[*row[:7], *row[8:]] for row in files.tables["totals"]]
    # What is kept of a file's end closes with it, a topic's is left open: the longest horizons.
    for name, rows in wanted.results().items():
        assert rows
        assert set(map(repr, rows)) <= set(map(repr, files.tables[name])), name
    assert {row[1] for row in wanted.results()["distinct_counts"]} == {2, 60, 600}
    hops = {row[1]: 0 for row in wanted.tables["ledger"]}
    for row in wanted.tables["ledger"]:
        assert row[2] == row[3]
        hops[row[1]] += row[3]
    assert list(hops.values()) == [truth(WHOLE)[0]] * 5


KILLS = {
    "recovery": [
        "snapshot after 15",
        "insert before flows 4",
        "close before 25",
        "insert after ledger 6",
        "horizons before 20",
        "insert before positions 5",
    ],
    "positions": [
        "insert after totals 5",
        "insert before commits 4",
        "insert after flows 6",
        "insert after commits 6",
        "insert before distinct_counts_log 4",
    ],
}
"""Places, and at which time of passing there a run is killed; ``make soak`` has more of them.

The first one is in the third snapshot: a run that leaves none begins horizons in their middle.
"""


@pytest.mark.parametrize("way", KILLS)
def test_kills_lose_and_double_nothing(
    kafka_broker: Broker, topic: str, wanted: Stored, tmp_path: Path, way: str
) -> None:
    """Killed at every kind of place, gone on with by 1 to 3 workers: the same rows."""
    runs = KafkaJob(kafka_broker, topic, tmp_path / "runs")
    recover = way == "recovery"
    hit = [
        runs.kill(where, recover=recover, workers=1 + number % 3)
        for number, where in enumerate(KILLS[way])
    ]
    assert sum(hit) == len(hit), runs.counted()
    runs.finish(recover=recover, workers=2)
    found = look(f"chdb:{runs.store}")
    same_as(found, wanted, whole=recover)
    if not recover:
        # Horizons that a run began in the middle of say so.
        rows = found.tables["distinct_counts"]
        assert {row[1] for row in rows if not row[-1]} == {2, 60, 600}
        assert {row[1] for row in rows if row[-1]} >= {2}
