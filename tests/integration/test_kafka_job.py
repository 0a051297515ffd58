"""Packets from Kafka into the store: each once, whatever happens to the job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows import job
from flows.settings import Settings
from flows.storage.store import Store
from schemas.record import Packets
from tests.support.jobs import SECOND, ipv4_packets, sums, tables, truth, write_pcap
from tests.support.kafka import Broker
from tests.support.kafka_job import KafkaJob, in_time, probe_messages, produce

pytestmark = [pytest.mark.requires("kafka"), pytest.mark.slow]

T0 = 1_700_000_040 * SECOND
PARTITIONS = 6
ADDITIVE = ("flows", "totals", "ledger", "commits")
ROLLUPS = ("flows_1m", "flows_1h")
RESULTS = ("distinct_counts", "heavy_hitters", "spreaders", "sketches")


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


@dataclass
class Stored:
    """What a store holds after a run."""

    rows: dict[str, list[str]]
    tables: dict[str, list[Any]]
    sums: set[tuple[int, int]]
    late: set[Any]
    """Starts of panes that late packets were added to."""

    def results(self, shortest_s: int = 2, longest_s: int = 600) -> dict[str, list[Any]]:
        """Results that don't depend on the order in which partitions are read."""
        return {
            name: [
                row
                for row in self.tables[name]
                if shortest_s <= row[1] <= longest_s and not (row[1] == 2 and row[0] in self.late)
            ]
            for name in RESULTS
        }


def look(directory: Path) -> Stored:
    """All rows of the additive tables but for the time of their insert; results as they show."""
    with Store.open(f"chdb:{directory}", serve=False) as store:
        rows = {}
        for table in ADDITIVE:
            found = store.query(f"SELECT * EXCEPT (ingested_at) FROM {table}").to_pylist()
            rows[table] = sorted(repr(list(row.values())) for row in found)
        late = store.query(
            "SELECT window_start FROM totals WHERE late_packets > 0 GROUP BY window_start"
        ).to_pylist()
        return Stored(
            rows,
            tables(store, "t", (*ROLLUPS, *RESULTS, "totals", "ledger", "flows")),
            set(sums(store, "t").values()),
            {row["window_start"] for row in late},
        )


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
    found = look(runs.store)
    assert found.sums == {truth(WHOLE)}
    assert all(found.rows.values())
    return found


def test_the_topic_gives_what_its_packets_give_from_files(wanted: Stored, tmp_path: Path) -> None:
    """Two probes, late packets, a restart: the tables are those of the same packets in files."""
    for name, packets in PROBES.items():
        write_pcap(tmp_path / f"{name}.pcap", packets)
    setting = f"chdb:{tmp_path / 'store'}"
    assert job.run(Settings(source=f"pcap:{tmp_path}/*.pcap", store=setting, tenant="t")) == 0
    files = look(tmp_path / "store")
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


KILLS = [
    "snapshot after 15",
    "insert before flows 4",
    "insert after totals 5",
    "insert before commits 4",
    "close before 25",
    "insert after flows 6",
    "insert after ledger 6",
    "insert before positions 5",
    "horizons before 20",
    "insert after commits 6",
    "insert before distinct_counts_log 4",
]
"""Places, and at which time of passing there a run is killed.

The first one is in the third snapshot: a run that leaves none begins horizons in their middle.
"""


@pytest.mark.parametrize("recover", [True, False], ids=["recovery", "positions"])
def test_kills_lose_and_double_nothing(
    kafka_broker: Broker, topic: str, wanted: Stored, tmp_path: Path, recover: bool
) -> None:
    """Killed at every kind of place, gone on with by 1 to 3 workers: the same rows."""
    runs = KafkaJob(kafka_broker, topic, tmp_path / "runs")
    hit = [
        runs.kill(where, recover=recover, workers=1 + number % 3)
        for number, where in enumerate(KILLS)
        if recover or where.split()[0] not in ("snapshot", "horizons")
    ]
    assert sum(hit) == len(hit), runs.counted()
    runs.finish(recover=recover, workers=2)
    found = look(runs.store)
    assert found.sums == wanted.sums
    assert found.rows == wanted.rows
    for name in ROLLUPS:
        assert found.tables[name] == wanted.tables[name]
    if recover:
        assert found.results() == wanted.results()
        return
    # Horizons that a run began in the middle of say so; the others are right.
    seen = {row[:3]: row for row in found.tables["distinct_counts"]}
    whole = [row for row in wanted.results()["distinct_counts"] if seen[row[:3]][-1]]
    assert [seen[row[:3]] for row in whole] == whole
    assert {row[1] for row in seen.values() if not row[-1]} == {2, 60, 600}
    assert {row[1] for row in whole} >= {2}
