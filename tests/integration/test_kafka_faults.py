"""What goes wrong around the job that reads Kafka: told in one line, or survived."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from confluent_kafka import TopicPartition

from flows.sources.dead_letters import DeadLetters
from flows.sources.kafka import KafkaLog, consumer_properties
from flows.sources.pace import MAX_LEAD_PANES, Pace
from flows.storage.store import Store
from flows.windows.networks import Networks
from flows.windows.partition import PartitionAccumulator, WindowConfig
from flows.windows.position import VERSION
from flows.windows.receiver import ReceiverConfig
from schemas.batch import MAX_RECORDS, decode_batch, encode_batch
from schemas.dead_letter import DeadLetter, decode_dead_letter
from schemas.errors import SchemaError
from schemas.framing import frame_single_object
from schemas.record import Packets
from tests.support.jobs import SECOND, ipv4_packets, sums, truth
from tests.support.kafka import Broker, wait_until
from tests.support.kafka_job import KafkaJob, Sent, produce
from tests.support.sender import Batch, batches

pytestmark = [pytest.mark.requires("kafka"), pytest.mark.slow]

T0 = 1_700_000_040 * SECOND
PANE_NS = 2 * SECOND


def traffic(seed: int, count: int = 600, panes: int = 12) -> Packets:
    rng = np.random.default_rng(seed)
    return ipv4_packets(rng, count, start_ns=T0, span_ns=panes * PANE_NS)


def by_pane(packets: Packets) -> list[Batch]:
    """One batch for each pane, from one start of a probe, without a goodbye."""
    panes = packets["ts_ns"] // np.uint64(PANE_NS)
    (sent,) = [list(batches(packets, len(packets), goodbye=False))]
    ((header, _),) = sent
    out, before = [], 0
    for number, pane in enumerate(np.unique(panes).tolist()):
        part = packets[panes == pane]
        now_ns = (pane + 1) * PANE_NS
        times = {"emit_time_ns": now_ns, "watermark_ns": now_ns}
        counts = {"sequence": number, "packets_before": before, "record_count": len(part)}
        out.append((replace(header, counters=None, **times, **counts), part))
        before += len(part)
    return out


def goodbye(sent: list[Batch]) -> list[Batch]:
    header, packets = sent[-1]
    return [*sent[:-1], (replace(header, goodbye=True), packets)]


def encoded(sent: list[Batch], partition: int = 0) -> list[Sent]:
    return [Sent(partition, encode_batch(header, part.copy())) for header, part in sent]


def one_line(err: str) -> str:
    """The only line of a program that failed."""
    (line,) = [line for line in err.splitlines() if "topic" not in line or "created" not in line]
    return line


def ledger(job: KafkaJob) -> dict[str, tuple[int, int, dict[str, int]]]:
    with Store.open(f"chdb:{job.store}", serve=False) as store:
        rows = store.query(
            "SELECT hop, sum(seen) AS s, sum(delivered) AS d, sumMap(dropped) AS x FROM ledger "
            "GROUP BY hop"
        ).to_pylist()
    names = {1: "capture", 2: "transport", 3: "decode", 4: "window", 5: "store"}
    return {names[row["hop"]]: (row["s"], row["d"], dict(row["x"])) for row in rows}


def stored(job: KafkaJob) -> set[tuple[int, int]]:
    with Store.open(f"chdb:{job.store}", serve=False) as store:
        return set(sums(store, "t").values())


def jobs(broker: Broker, directory: Path, partitions: int = 1, **settings: str) -> KafkaJob:
    topic = broker.topic(partitions)
    return KafkaJob(broker, topic, directory, settings, partitions)


def test_a_stop_is_clean_and_lag_goes_to_nothing(kafka_broker: Broker, tmp_path: Path) -> None:
    """SIGTERM: exit code 0; gone on by three workers; the group is where the topic ends."""
    job = jobs(kafka_broker, tmp_path / "job", 2)
    packets = [traffic(1), traffic(2)]
    for half, workers in ((slice(0, 6), 1), (slice(6, None), 3)):
        messages = [
            message
            for partition, part in enumerate(packets)
            for message in encoded(goodbye(by_pane(part))[half], partition)
        ]
        ends = produce(kafka_broker, job.topic, messages)
        process = job.start(workers=workers)
        wait_until(lambda ends=ends: job.committed() == ends)  # type: ignore[misc]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert "Traceback" not in out + err
    assert stored(job) == {truth(np.concatenate(packets))}


def damaged(good: list[bytes], rng: np.random.Generator, count: int) -> Iterator[bytes]:
    """Messages that no decoder takes: random, foreign, cut, longer, and with wrong numbers."""
    while count:
        message = bytearray(good[int(rng.integers(len(good)))])
        kind = int(rng.integers(5))
        if kind == 0:
            message = bytearray(rng.bytes(int(rng.integers(0, 200))))
        elif kind == 1:
            message[2:10] = rng.bytes(8)
        elif kind == 2:
            del message[int(rng.integers(len(message))) :]
        elif kind == 3:
            message += rng.bytes(int(rng.integers(1, 100)))
        else:
            message[int(rng.integers(60))] ^= 1 << int(rng.integers(8))
        try:
            decode_batch(bytes(message))
        except SchemaError:
            count -= 1
            yield bytes(message)


def test_bad_messages_are_kept_apart(kafka_broker: Broker, tmp_path: Path) -> None:
    """All good ones are counted; each bad one is a dead letter with its place, reason, bytes."""
    job = jobs(kafka_broker, tmp_path / "job")
    rng = np.random.default_rng(7)
    packets = traffic(3, 6000)
    sent = list(batches(packets, 3))
    good = [message.value for message in encoded(sent)]
    bad = {int(place): value for place, value in enumerate(damaged(good, rng, 10_000))}
    # Batches 100 and 101: times that can't be; 200: missing.
    absurd: list[bytes] = []
    log: list[bytes] = []
    for number, (header, part) in enumerate(sent):
        if number == 100:
            part = part.copy()
            part["ts_ns"][0] = 2**63
            log.append(encode_batch(header, part))
            absurd.append(log[-1])
        elif number == 101:
            log.append(encode_batch(replace(header, watermark_ns=2**62), part.copy()))
            absurd.append(log[-1])
        elif number != 200:
            log.append(good[number])
        log += [bad[5 * number + n] for n in range(5)]
    produce(kafka_broker, job.topic, [Sent(0, value) for value in log])
    _, err = job.finish(3, workers=2)
    lost = np.concatenate([sent[number][1] for number in (100, 101)])
    gap = len(sent[200][1])
    kept = np.concatenate([part for n, (_, part) in enumerate(sent) if n not in (100, 101, 200)])
    assert stored(job) == {truth(kept)}
    n, bad_packets = truth(kept)[0], truth(lost)[0]
    hops = ledger(job)
    assert hops["capture"][1] == n + bad_packets + gap
    assert hops["transport"] == (n + bad_packets + gap, n + bad_packets, {"gap": gap})
    assert hops["decode"] == (n + bad_packets, n, {"bad_message": bad_packets})
    assert hops["store"] == (n, n, {})
    letters = [decode_dead_letter(message.value()) for message in kafka_broker.messages(job.dlq)]
    unusable = {*bad.values(), *absurd}
    wanted = {offset: value for offset, value in enumerate(log) if value in unusable}
    found = {letter.offset: letter for letter in letters}
    assert found.keys() == wanted.keys()
    for offset, letter in found.items():
        assert (letter.topic, letter.partition) == (job.topic, 0)
        assert letter.message == wanted[offset]
        assert letter.reason == reason(letter)
    assert f"count={len(wanted)}" in err


def reason(letter: DeadLetter) -> str:
    """What the decoder says; of what it takes, what the dataflow said."""
    try:
        decode_batch(letter.message)
    except SchemaError as error:
        return str(error)
    assert letter.reason.startswith("absurd time: ")
    return letter.reason


def test_a_topic_of_others_ends_the_run(kafka_broker: Broker, tmp_path: Path) -> None:
    """Nearly everything unusable: one line that says why, exit code 1."""
    job = jobs(kafka_broker, tmp_path / "job")
    foreign = frame_single_object(0x1234) + b"x" * 100
    produce(kafka_broker, job.topic, [Sent(0, foreign)] * 150)
    code, _, err = job.run()
    line = err.splitlines()[-1]
    assert code == 1, err
    assert "Traceback" not in err
    assert "100 of 100 messages" in line
    assert "is no packet batch" in line


def delete_before(broker: Broker, topic: str, offset: int) -> None:
    at = TopicPartition(topic, 0, offset)
    admin = broker.admin()
    for future in admin.delete_records([at]).values():
        future.result(30)


def test_what_kafka_no_longer_has_is_told(kafka_broker: Broker, tmp_path: Path) -> None:
    """Stopped too long: a line and exit code 1; told to go on, the ledger has the gap."""
    job = jobs(kafka_broker, tmp_path / "job")
    packets = traffic(4)
    sent = goodbye(by_pane(packets))
    produce(kafka_broker, job.topic, encoded(sent[:4]))
    job.finish()
    produce(kafka_broker, job.topic, encoded(sent[4:]))
    delete_before(kafka_broker, job.topic, 7)
    code, _, err = job.run()
    assert code == 1, err
    assert "no longer in Kafka" in one_line(err)
    assert "OUT_OF_RANGE=earliest" in err
    job.settings["KAFKA__OUT_OF_RANGE"] = "earliest"
    job.finish(3, workers=2)
    # The pane of the fourth message was open, so it went with the three that were never read.
    lost = sum(len(part) for _, part in sent[3:7])
    kept = np.concatenate([part for n, (_, part) in enumerate(sent) if not 3 <= n < 7])
    assert stored(job) == {truth(kept)}
    n = truth(kept)[0]
    assert ledger(job)["transport"] == (n + lost, n, {"gap": lost})


def test_a_topic_made_anew_is_refused(kafka_broker: Broker, tmp_path: Path) -> None:
    """Offsets that begin again would be taken for ones that are stored."""
    job = jobs(kafka_broker, tmp_path / "job")
    produce(kafka_broker, job.topic, encoded(goodbye(by_pane(traffic(5)))))
    job.finish()
    admin = kafka_broker.admin()
    admin.delete_topics([job.topic])[job.topic].result(30)
    wait_until(lambda: job.topic not in admin.list_topics(timeout=10).topics)
    produce(kafka_broker, _again(kafka_broker, job.topic), encoded(by_pane(traffic(6))[:3]))
    for policy in ("error", "earliest"):
        job.settings["KAFKA__OUT_OF_RANGE"] = policy
        code, _, err = job.run()
        assert code == 1, err
        assert "was made anew" in one_line(err)


def _again(broker: Broker, topic: str) -> str:
    from confluent_kafka.admin import NewTopic

    admin = broker.admin()
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    wait_until(lambda: broker._has_leaders(admin, topic, 1))
    return topic


def test_a_broker_that_was_away_costs_nothing(kafka_broker: Broker, tmp_path: Path) -> None:
    """Killed while the job reads, and started again: it says so, goes on, and has all packets."""
    job = jobs(kafka_broker, tmp_path / "job", 2)
    packets = [traffic(7), traffic(8)]
    sent = [goodbye(by_pane(part)) for part in packets]
    ends = produce(kafka_broker, job.topic, [*encoded(sent[0][:6]), *encoded(sent[1][:6], 1)])
    process = job.start(workers=2)
    try:
        wait_until(lambda: job.committed() == ends)
        kafka_broker.kill()
        wait_until(lambda: not kafka_broker.answers())
        kafka_broker.start()
        ends = produce(kafka_broker, job.topic, [*encoded(sent[0][6:]), *encoded(sent[1][6:], 1)])
        wait_until(lambda: process.poll() is not None or job.committed() == ends)
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "no broker answers" in err
    assert "Kafka is back" in err
    assert stored(job) == {truth(np.concatenate(packets))}


def test_no_broker_is_one_line(tmp_path: Path) -> None:
    """Absent at the start: what to do, exit code 1."""
    job = KafkaJob(SimpleNamespace(bootstrap="127.0.0.1:1"), "packets", tmp_path / "job")
    code, _, err = job.run()
    assert code == 1
    assert "no Kafka broker answers at 127.0.0.1:1" in one_line(err)


def test_a_store_that_is_behind_is_filled_again(kafka_broker: Broker, tmp_path: Path) -> None:
    """An older copy, or none at all, beside newer recovery files: told, and exact again."""
    job = jobs(kafka_broker, tmp_path / "job")
    packets = traffic(9)
    sent = goodbye(by_pane(packets))
    produce(kafka_broker, job.topic, encoded(sent[:5]))
    job.finish()
    older = tmp_path / "older"
    shutil.copytree(job.store, older, symlinks=True)
    produce(kafka_broker, job.topic, encoded(sent[5:]))
    job.finish()
    assert stored(job) == {truth(packets)}
    for copy, place in ((older, "offset"), (None, "its beginning")):
        shutil.rmtree(job.store)
        if copy is not None:
            shutil.copytree(copy, job.store, symlinks=True)
            assert stored(job) != {truth(packets)}
        _, err = job.finish(workers=2)
        assert f"less of {job.topic}/0 than the recovery files say" in err
        assert f"from {place}" in err
        assert stored(job) == {truth(packets)}
        _, err = job.finish()
        assert "less of" not in err


def test_a_horizon_that_began_before_is_not_whole(kafka_broker: Broker, tmp_path: Path) -> None:
    """Without recovery files the panes given out earlier are missing from it, and it says so."""
    job = jobs(kafka_broker, tmp_path / "job")
    packets = traffic(12, 300, panes=80)
    sent = by_pane(packets)
    # All that the first run read is closed, so the next begins behind it.
    produce(kafka_broker, job.topic, encoded(goodbye(sent[:1])))
    job.finish(recover=False)
    again = [(replace(header, boot_id=bytes(16)), part) for header, part in sent[1:]]
    produce(kafka_broker, job.topic, encoded(goodbye(again)))
    job.finish(recover=False)
    assert stored(job) == {truth(packets)}
    with Store.open(f"chdb:{job.store}", serve=False) as store:
        rows = store.query(
            "SELECT toUnixTimestamp(window_start) AS start, any(complete) AS whole "
            "FROM distinct_counts WHERE horizon = 60 GROUP BY start ORDER BY start"
        ).to_pylist()
    assert [(row["start"] - T0 // SECOND, row["whole"]) for row in rows] == [(0, False), (60, True)]


def test_other_settings_and_versions_are_refused(kafka_broker: Broker, tmp_path: Path) -> None:
    """Positions that these settings or this version can't go on from: one line, exit code 2."""
    job = jobs(kafka_broker, tmp_path / "job")
    produce(kafka_broker, job.topic, encoded(by_pane(traffic(10))))
    job.finish()
    before = stored(job)
    job.settings["WINDOW__PANE"] = "4s"
    code, _, err = job.run()
    assert code == 2, err
    assert "was read with other settings (window.pane" in one_line(err)
    del job.settings["WINDOW__PANE"]
    with Store.open(f"chdb:{job.store}", serve=False) as store:
        store.command(
            "INSERT INTO positions SELECT topic, partition, offset, "
            f"replace(position, '\"version\":{VERSION}', '\"version\":99'), settings_digest, "
            "updated_at + 1 FROM positions FINAL"
        )
    code, _, err = job.run()
    assert code == 2, err
    assert f"position has version 99, this program reads {VERSION}" in one_line(err)
    assert stored(job) == before


def test_a_backlog_holds_the_others_back(kafka_broker: Broker) -> None:
    """A partition that is asked far more often gets no further than the lead and two messages."""
    topic = kafka_broker.topic(3)
    packets = [traffic(20, 300, panes=100), traffic(21, 300, panes=100)]
    produce(
        kafka_broker,
        topic,
        [m for n, part in enumerate(packets) for m in encoded(by_pane(part), n)],
    )
    pace = Pace(MAX_LEAD_PANES * PANE_NS)
    letters = DeadLetters({"bootstrap.servers": kafka_broker.bootstrap}, "none")
    found = consumer_properties(
        {"bootstrap.servers": kafka_broker.bootstrap, "group.id": topic}, "error"
    )
    # The third one is empty: when it has said so, it holds nobody back.
    accumulators, logs = [], []
    for number in range(3):
        accumulators.append(
            PartitionAccumulator(topic, str(number), WindowConfig(), [], Networks({}))
        )
        logs.append(
            KafkaLog(
                found, topic, number, config=ReceiverConfig(), position=None, pace=pace,
                dead_letters=letters,
            )
        )  # fmt: skip
        logs[-1].open(accumulators[-1])
    leads = [0]

    def read(number: int) -> None:
        logs[number].read_message(accumulators[number])
        if not logs[number].waiting:
            accumulators[number].end_message(logs[number].offset)
            ahead_ns = accumulators[0].watermark_ns - accumulators[1].watermark_ns
            if accumulators[1].watermark_ns:
                leads.append(ahead_ns // PANE_NS)

    def all_read() -> bool:
        for number in (*[0] * 50, 1, 2) * 20:
            read(number)
        return [log.offset for log in logs[:2]] == last

    last = [len(by_pane(part)) - 1 for part in packets]
    try:
        wait_until(all_read)
    finally:
        for log in logs:
            log.close()
    assert MAX_LEAD_PANES <= max(leads) <= MAX_LEAD_PANES + 2


def test_the_largest_message_fits_the_dead_letters(kafka_broker: Broker, tmp_path: Path) -> None:
    """A whole batch that can't be used is kept whole."""
    job = jobs(kafka_broker, tmp_path / "job")
    packets = traffic(11, MAX_RECORDS)
    ((header, part),) = batches(packets, MAX_RECORDS)
    value = encode_batch(header, part.copy()) + b"\0" * 250_000
    produce(kafka_broker, job.topic, [Sent(0, value)])
    _, err = job.finish()
    (message,) = kafka_broker.messages(job.dlq)
    assert decode_dead_letter(message.value()).message == value
    assert "unwritten=0" in err
