"""The probe's loop from a capture to librdkafka's mock cluster, in good times and bad."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import KafkaError

from probe.errors import ShipError
from probe.live import CaptureCounts
from probe.ship import agent as agent_module
from probe.ship.replay import MAX_SPEED, FileCapture
from probe.unclean import UncleanStop
from schemas.batch import BatchHeader, decode_batch
from tests.support import ship_process
from tests.support.batches import check_batches, check_ends
from tests.support.mock_kafka import PRODUCE, MockKafka, read_topic
from tests.support.ship_run import Run, even
from tests.support.synthetic_capture import SyntheticCapture, sent_state
from tests.support.traffic import ETHERNET, eth, ip4, pcap, udp

TOPIC = "netspectra.packets"
PARTITIONS = 12
ROOT = Path(__file__).parents[2]


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    with MockKafka() as cluster:
        cluster.create(TOPIC, PARTITIONS)
        yield cluster


def messages(kafka: MockKafka) -> list[bytes]:
    return [message.value() for message in read_topic(kafka.brokers, TOPIC)]


def test_everything_arrives_once_in_order(kafka: MockKafka) -> None:
    """A stream at full speed comes out of the topic as it went in, with goodbyes at its end."""
    traffic = even(300_000)
    run = Run(kafka.brokers, SyntheticCapture(traffic))
    assert run.agent.run(finished=lambda: run.capture.finished)
    headers = check_batches(messages(kafka), traffic.batch(0, 300_000), PARTITIONS)
    check_ends(headers, run.batcher.home, run.capture.counts())
    assert run.capture.detached
    assert run.agent.status.packets_delivered == run.agent.status.packets_sent == 300_000
    assert {tuple(header.interfaces.items()) for header in headers} == {(("lo", 1),)}


def test_partitions_get_batches_without_packets_too(kafka: MockKafka) -> None:
    """An idle capture sends heartbeats to every partition, with its watermark and the time."""
    capture = SyntheticCapture(even(10), rate=1e-9)
    before_ns = time.time_ns()
    with Run(kafka.brokers, capture) as run:
        run.until(lambda: run.shipper.delivered_messages >= 3 * PARTITIONS)
    assert run.result is True
    headers = check_batches(messages(kafka), run.packets(), PARTITIONS)
    for partition in range(PARTITIONS):
        mine = [header for header in headers if header.partition == partition]
        assert len(mine) >= 4
        assert {header.watermark_ns for header in mine} == {capture.watermark_ns()}
        times = [header.emit_time_ns for header in mine]
        assert before_ns < times[0] < times[1] < times[-1] < time.time_ns()


def test_an_outage_under_load_balances(kafka: MockKafka) -> None:
    """Kafka away: the loop goes on, memory is bounded, the ring drops and counts, then it heals."""
    queue_bytes = 4_000_000
    capture = SyntheticCapture(even(10**9), rate=150_000, ring_records=30_000)
    with Run(kafka.brokers, capture, queue_bytes=queue_bytes) as run:
        run.until(lambda: run.shipper.delivered_packets > 20_000)
        kafka.down()
        run.until(lambda: run.agent.status.paused and "unreachable" in run.agent.status.kafka)
        stuck_bytes, resident = run.shipper.in_flight_bytes, resident_bytes()
        lost = run.agent.status.counts.dropped["ring_full"]
        run.until(lambda: run.agent.status.counts.dropped["ring_full"] > lost + 300_000)
        assert run.shipper.in_flight_bytes == stuck_bytes
        assert resident_bytes() < resident + 4_000_000
        assert not run.shipper.room
        assert "unreachable" in run.agent.status.kafka
        assert queue_bytes <= stuck_bytes < queue_bytes + (PARTITIONS + 2) * 730_000
        kafka.up()
        run.until(lambda: run.shipper.fill < 0.4)
        done = run.shipper.delivered_packets
        run.until(lambda: run.shipper.delivered_packets > done + 20_000)
    assert run.result is True
    counts = capture.counts()
    read = run.packets()
    headers = check_batches(messages(kafka), read, PARTITIONS)
    check_ends(headers, run.batcher.home, counts)
    assert counts.seen == len(read) + counts.dropped["ring_full"]
    assert run.shipper.delivered_packets == len(read)
    told = [line for line in run.lines if "queue" in line]
    assert told[0].startswith("Kafka takes less than is captured: the queue is full")
    assert told[1] == "the queue to Kafka has room again"


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_heartbeats_dont_pile_up_while_kafka_is_away(
    kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an outage with little traffic only a few batches wait; their packets come later."""
    monkeypatch.setattr(agent_module, "CUT_EVERY_S", 0.001)
    capture = SyntheticCapture(even(10**9), rate=2_000)
    with Run(kafka.brokers, capture) as run:
        run.until(lambda: run.shipper.delivered_messages > PARTITIONS)
        kafka.down()
        run.until(lambda: min(run.shipper.waiting) == agent_module._MOST_WAITING)
        seen = run.agent.status.counts.seen
        run.until(lambda: run.agent.status.counts.seen > seen + 1000)
        assert max(run.shipper.waiting) == agent_module._MOST_WAITING
        assert not run.agent.status.paused
        kafka.up()
        run.until(lambda: max(run.shipper.waiting) < agent_module._MOST_WAITING)
    assert run.result is True
    check_batches(messages(kafka), run.packets(), PARTITIONS)
    assert capture.counts() == CaptureCounts(len(run.packets()), {"ring_full": 0})


def test_a_stop_while_kafka_is_away_is_bounded_and_counted(kafka: MockKafka) -> None:
    """What could not be handed over is a drop of its own, what was is reported as given up."""
    capture = SyntheticCapture(even(10**9), rate=200_000)
    run = Run(kafka.brokers, capture, queue_bytes=1_000_000)
    kafka.down()

    def stop_when_paused() -> None:
        run.until(lambda: run.agent.status.paused)
        run.agent.stop()

    stopper = threading.Thread(target=stop_when_paused)
    stopper.start()
    assert run.agent.run(stop_timeout_s=0.5) is False
    stopper.join()
    status = run.agent.status
    dropped = status.counts.dropped
    assert dropped["queue_full"] > 0
    assert status.counts.seen == status.packets_sent + sum(dropped.values())
    assert any("could not be handed to Kafka" in line for line in run.lines)
    assert f"{status.packets_sent:,} packets in" in run.lines[-1]
    assert status.packets_delivered == 0


def test_what_is_sent_is_written_down_first(kafka: MockKafka) -> None:
    """At the end the state names the next number and the sum of every partition."""
    capture = SyntheticCapture(even(50_000))
    capture.sent_state = state = sent_state(PARTITIONS + 4)
    state.sequences[:] = state.packets[:] = 7
    run = Run(kafka.brokers, capture)
    ship = run.shipper.ship
    ahead = []
    run.shipper.ship = lambda message: (  # type: ignore[method-assign]
        ahead.append(int(state.sequences[message.partition]) == message.sequence + 1),
        ship(message),
    )[1]
    assert run.agent.run(finished=lambda: capture.finished)
    headers = check_batches(messages(kafka), run.packets(), PARTITIONS)
    assert all(ahead)
    last = {header.partition: header for header in headers}
    assert state.boot_id.tobytes() == bytes(range(16))
    for partition, header in last.items():
        assert state.sequences[partition] == header.sequence + 1
        assert state.packets[partition] == header.packets_before + header.record_count
    assert state.sequences[PARTITIONS:].tolist() == [0] * 4


@pytest.mark.parametrize("away", [False, True])
def test_a_killed_probe_is_settled_by_its_next_start(
    kafka: MockKafka, tmp_path: Path, away: bool
) -> None:
    """After kill -9, with Kafka there or away, all it saw is received, missing or dropped."""
    path = tmp_path / "state"
    command = [
        sys.executable,
        "-m",
        "tests.support.ship_process",
        kafka.brokers,
        str(path),
        "40000",
    ]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        wait_for(lambda: path.exists() and sum(ship_process.unclean_of(path).packets) > 20_000)
        if away:
            kafka.down()
            sent = sum(ship_process.unclean_of(path).packets)
            wait_for(lambda: sum(ship_process.unclean_of(path).packets) > sent + 20_000)
    finally:
        process.kill()
        process.wait()
    kafka.up()
    capture = SyntheticCapture(even(1000))
    unclean = ship_process.unclean_of(path)
    capture.unclean = (unclean,)
    run = Run(kafka.brokers, capture)
    assert run.agent.run(finished=lambda: capture.finished)
    assert "ended without a chance to clean up" in run.lines[0]
    assert unclean.ended[0]

    boots: dict[bytes, list[tuple[BatchHeader, int]]] = defaultdict(list)
    for message in messages(kafka):
        header, packets = decode_batch(message)
        boots[header.boot_id].append((header, len(packets)))
    assert set(boots) == {unclean.boot_id, bytes(range(16))}
    received = missing = 0
    for partition in range(PARTITIONS):
        batches = [(h, n) for h, n in boots[unclean.boot_id] if h.partition == partition]
        *earlier, (goodbye, nothing) = batches
        assert [header.sequence for header, _ in earlier] == list(range(len(earlier)))
        assert goodbye.goodbye
        assert nothing == 0
        arrived = sum(count for _, count in earlier)
        lost_batches = goodbye.sequence - len(earlier)
        lost = goodbye.packets_before - arrived
        assert (lost > 0) <= (lost_batches > 0)
        received, missing = received + arrived, missing + lost
    (counters,) = (h.counters for h, _ in boots[unclean.boot_id] if h.goodbye and h.counters)
    assert counters.seen == received + missing + sum(counters.dropped.values())
    assert counters.dropped["unclean_stop"] > 0
    assert (missing > 20_000) if away else (received > 0)


def wait_for(happened: Callable[[], bool], limit_s: float = 60) -> None:
    end_s = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end_s, "it doesn't happen"
        time.sleep(0.02)


def test_too_many_partitions_to_write_down_are_told(kafka: MockKafka) -> None:
    """The probe runs all the same, and says what will not be known."""
    capture = SyntheticCapture(even(1000))
    capture.sent_state = state = sent_state(PARTITIONS - 1)
    run = Run(kafka.brokers, capture)
    assert run.agent.run(finished=lambda: capture.finished)
    assert "will not be known: 12 partitions" in run.lines[0]
    assert not state.sequences.any()
    assert state.ended[0]


def left(boot: int, lost: int) -> UncleanStop:
    sequences, packets = np.full(PARTITIONS, 3, np.uint64), np.zeros(PARTITIONS, np.uint64)
    ended = np.zeros(1, np.uint64)
    return UncleanStop(bytes([boot] * 16), CaptureCounts(lost), sequences, packets, ended)


def test_goodbyes_for_boots_before_come_first(kafka: MockKafka) -> None:
    """In each partition they stand before the new boot's first batch."""
    capture = SyntheticCapture(even(100))
    capture.unclean = (left(1, 5), left(2, 6))
    run = Run(kafka.brokers, capture)
    assert run.agent.run(finished=lambda: capture.finished)
    assert "5 packets that it had seen never went to Kafka" in run.lines[0]
    assert "6 packets that it had seen never went to Kafka" in run.lines[1]
    assert all(stop.ended[0] for stop in capture.unclean)
    boots = defaultdict(list)
    for message in messages(kafka):
        header, _ = decode_batch(message)
        boots[header.partition].append(header.boot_id[0])
    assert [boots[partition][:3] for partition in range(PARTITIONS)] == [[1, 2, 0]] * PARTITIONS


def test_a_goodbye_that_nobody_took_is_still_to_be_said(kafka: MockKafka) -> None:
    """A boot before is settled when Kafka has all of its goodbyes, not earlier."""
    capture = SyntheticCapture(even(10**9), rate=100)
    capture.unclean = (left(1, 5),)
    run = Run(kafka.brokers, capture)
    kafka.down()
    run.agent.stop()
    assert run.agent.run(stop_timeout_s=0.2) is False
    assert not capture.unclean[0].ended[0]


def test_aggregated_records_are_told(kafka: MockKafka) -> None:
    """A capture that aggregates has batches with packets that say so."""
    capture = SyntheticCapture(even(1000))
    capture.aggregated = True
    run = Run(kafka.brokers, capture)
    assert run.agent.run(finished=lambda: capture.finished)
    assert run.agent.status.aggregated
    for message in messages(kafka):
        header, packets = decode_batch(message)
        assert header.aggregated == (len(packets) > 0)


def test_a_refusal_ends_the_run(kafka: MockKafka) -> None:
    """When Kafka refuses for good the loop raises instead of losing packet after packet."""
    with Run(kafka.brokers, SyntheticCapture(even(10**9), rate=1000)) as run:
        run.until(lambda: run.shipper.delivered_messages > 0)
        kafka.fail_next(PRODUCE, *[KafkaError.TOPIC_AUTHORIZATION_FAILED] * 5)
        run.until(lambda: run.result is not None)
    assert isinstance(run.result, ShipError)
    assert not run.capture.detached


def test_a_capture_file_goes_the_same_way(kafka: MockKafka, tmp_path: Path) -> None:
    """Replayed packets arrive with capture time as emit time and watermark."""
    path = tmp_path / "a.pcap"
    path.write_bytes(
        pcap((bytes(eth() / ip4(dst=f"192.0.2.{i % 250}") / udp()) for i in range(2000)), ETHERNET)
    )
    capture = FileCapture([path], speed=MAX_SPEED)
    run = Run(kafka.brokers, capture, emit_time_ns=capture.emit_time_ns)
    assert run.agent.run(finished=lambda: capture.finished)
    packets = run.packets()
    assert len(packets) == 2000
    headers = check_batches(messages(kafka), packets, PARTITIONS)
    check_ends(headers, run.batcher.home, CaptureCounts(2000))
    assert max(header.watermark_ns for header in headers) == packets["ts_ns"].max()
    for header in headers:
        assert header.emit_time_ns == header.watermark_ns >= packets["ts_ns"].min()
