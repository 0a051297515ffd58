"""Kill loops of ``make soak``: 30 kills of each variant, each hit proved by a counter.

Whatever happens to the job, the additive tables are row for row those of a run that nothing
happened to. ``tests/integration/test_kafka_job.py`` has the short form that runs every time.
"""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from flows.errors import StoreError
from flows.storage.store import Store
from schemas.record import Packets
from tests.support.clickhouse_http import ClickHouse
from tests.support.jobs import SECOND, committed, ipv4_packets, truth
from tests.support.kafka import Broker, free_port, wait_until
from tests.support.kafka_job import SCRIPT, KafkaJob, Sent, probe_messages, produce
from tests.support.stored import Stored, look, same_as

pytestmark = [
    pytest.mark.requires("kafka"),
    pytest.mark.soak,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
]

KILLS = 30
PARTITIONS = 4
ROUND_NS = 8 * SECOND
T0 = 1_700_000_040 * SECOND
MOST = {
    **{f"insert {when} {table}": 4 for when in ("before", "after") for table in
       ("flows", "totals", "ledger", "commits")},
    **{f"insert {when} positions": 3 for when in ("before", "after")},
    "insert before distinct_counts_log": 2,
    "insert after spreaders_log": 2,
    "close before": 8,
    "close after": 8,
    "snapshot before": 6,
    "snapshot after": 6,
    "horizons before": 10,
}  # fmt: skip
"""Places to kill at, and at which time of passing there at most."""


def kills(seed: int, *, without: Sequence[str] = ()) -> list[str]:
    """Every place in a random order, again and again; at a random time of passing there.

    The first one is in the third snapshot: a run that leaves none begins horizons in their middle.
    """
    rng = random.Random(seed)
    places = [place for place in MOST if not any(word in place for word in without)]
    found = [] if "snapshot" in without else [f"snapshot after {2 * PARTITIONS + 1}"]
    while len(found) < KILLS:
        found += [
            f"{place} {rng.randint(1, MOST[place])}" for place in rng.sample(places, len(places))
        ]
    return found[:KILLS]


def traffic(seed: int, count: int) -> Packets:
    """30 rounds of 8 s with 11 minutes of nothing in the middle; one in 30 comes late."""
    rng = np.random.default_rng(seed)
    span_ns = KILLS // 2 * ROUND_NS
    packets = np.concatenate(
        [
            ipv4_packets(rng, count // 2, start_ns=start_ns, span_ns=span_ns)
            for start_ns in (T0, T0 + span_ns + 660 * SECOND)
        ]
    )
    due_ns = packets["ts_ns"].astype(np.int64)
    late = rng.random(len(packets)) < 1 / 30
    due_ns[late] += rng.integers(2 * SECOND, 4 * SECOND, int(late.sum()))
    return packets[np.argsort(due_ns, kind="stable")]


PROBES = {"a": traffic(1, 4000), "b": traffic(2, 2400)}
WHOLE = np.concatenate(list(PROBES.values()))


def rounds() -> list[list[Sent]]:
    """All messages as they are sent, cut into as many parts as there are kills."""
    sent = [
        step for name, packets in PROBES.items() for step in probe_messages(packets, name, 4)
    ]  # fmt: skip
    sent.sort(key=lambda step: step[0])
    cuts = [len(sent) * number // KILLS for number in range(KILLS + 1)]
    return [
        [message for _, messages in sent[start:end] for message in messages]
        for start, end in pairwise(cuts)
    ]


@pytest.fixture(scope="module")
def topic(kafka_session: Broker) -> str:
    topic = kafka_session.topic(PARTITIONS)
    produce(kafka_session, topic, [message for part in rounds() for message in part])
    return topic


@pytest.fixture(scope="module")
def wanted(kafka_session: Broker, topic: str, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """What an undisturbed run stores."""
    runs = KafkaJob(kafka_session, topic, tmp_path_factory.mktemp("plain"), {}, PARTITIONS)
    runs.finish(seconds=600)
    found = look(f"chdb:{runs.store}", topic)
    assert found.sums == {truth(WHOLE)}
    assert all(found.rows.values())
    return found


@pytest.mark.parametrize("recover", [True, False], ids=["recovery", "positions"])
def test_killed_again_and_again(
    kafka_broker: Broker, topic: str, wanted: Stored, tmp_path: Path, recover: bool
) -> None:
    """With recovery files all results are the same too; without them those that are complete."""
    runs = KafkaJob(kafka_broker, topic, tmp_path / "runs", {}, PARTITIONS)
    for number, where in enumerate(kills(1, without=() if recover else ("snapshot", "horizons"))):
        assert runs.kill(where, recover=recover, workers=1 + number % 3, seconds=300), where
    assert sum(runs.counted().values()) == KILLS
    runs.finish(recover=recover, workers=2, seconds=600)
    same_as(look(f"chdb:{runs.store}", topic), wanted, whole=recover)


def test_while_the_store_refuses_half(
    kafka_broker: Broker, topic: str, wanted: Stored, tmp_path: Path
) -> None:
    """Every second insert is refused, and of those carried out some lose their answer."""
    with ClickHouse(tmp_path / "engine") as server:
        server.switch("half")
        server.switch("cut 60")
        settings = {"STORE": server.setting}
        runs = KafkaJob(kafka_broker, topic, tmp_path / "runs", settings, PARTITIONS)
        for number, where in enumerate(kills(2)):
            assert runs.kill(where, workers=1 + number % 3, seconds=300), where
        assert sum(runs.counted().values()) == KILLS
        assert server.counts["refused"] >= KILLS
        assert server.counts["cut"] >= KILLS
        runs.finish(workers=2, seconds=1800)
        same_as(look(server.setting, topic), wanted)


def packets_stored(setting: str, topic: str) -> int:
    try:
        with Store.open(setting, migrated=False, serve=False) as store:
            return committed(store, topic)[0]
    except StoreError:
        return 0  # no table yet


def test_two_processes_with_one_store(
    kafka_broker: Broker, topic: str, wanted: Stored, tmp_path: Path
) -> None:
    """One or the other is killed; what both together have stored is what one process stores."""
    with ClickHouse(tmp_path / "engine") as server:
        settings = {"STORE": server.setting}
        runs = KafkaJob(kafka_broker, topic, tmp_path / "runs", settings, PARTITIONS)
        port = free_port(1)
        addresses = f"127.0.0.1:{port};127.0.0.1:{port + 1}"

        def start(number: int, where: str) -> subprocess.Popen[str]:
            program = (*SCRIPT, "-i", str(number), "-a", addresses)
            return runs.start(program=program, JOB_KILL=where)

        for turn, where in enumerate(kills(3)):
            running = [start(number, where if number == turn % 2 else "") for number in (0, 1)]
            victim = running[turn % 2]
            try:
                assert victim.wait(300) == -signal.SIGKILL, where
            finally:
                end(running)
        assert sum(runs.counted().values()) == KILLS
        running = [start(number, "") for number in (0, 1)]
        try:
            total = truth(WHOLE)[0]
            wait_until(lambda: packets_stored(server.setting, topic) == total, 1800)
            wait_until(lambda: look(server.setting, topic).results() == wanted.results(), 120)
        finally:
            end(running)
        same_as(look(server.setting, topic), wanted)


def end(running: Sequence[subprocess.Popen[str]]) -> None:
    for process in running:
        process.kill()
        process.communicate()


def test_with_the_broker_killed_as_well(
    kafka_broker: Broker, wanted: Stored, tmp_path: Path
) -> None:
    """While the job waits for more the broker is killed and comes back; then the job is killed."""
    topic = kafka_broker.topic(PARTITIONS)
    # Probes are silent for as long as a restart takes, which must not change their units.
    settings = {"WINDOW__IDLE": "1h"}
    runs = KafkaJob(kafka_broker, topic, tmp_path / "runs", settings, PARTITIONS)
    armed = tmp_path / "armed"
    # Positions are written when a run begins to store, which is before it is armed.
    places = kills(4, without=("positions",))
    for number, (where, messages) in enumerate(zip(places, rounds(), strict=True)):
        armed.unlink(missing_ok=True)
        process = runs.start(
            program=SCRIPT, workers=1 + number % 3, JOB_KILL=where, JOB_ARMED=str(armed)
        )
        try:
            says(process, "reading topic")
            kafka_broker.kill()
            says(process, "no broker answers")
            kafka_broker.start()
            armed.touch()
            produce(kafka_broker, topic, messages)
            assert process.wait(300) == -signal.SIGKILL, where
        finally:
            end([process])
    assert sum(runs.counted().values()) == KILLS
    runs.finish(workers=2, seconds=600)
    same_as(look(f"chdb:{runs.store}", topic), wanted)


def says(process: subprocess.Popen[str], what: str) -> None:
    """Wait until the process says so."""
    assert process.stderr
    said = []
    for line in process.stderr:
        if what in line:
            return
        said.append(line)
    raise AssertionError(f"it ended without {what!r}: {''.join(said)}")
