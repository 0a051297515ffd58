"""The shipper against librdkafka's mock cluster: delivery, bounds, faults, words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import KafkaError

from probe.errors import KafkaUnreachable, ShipError
from probe.ship.batcher import Message
from probe.ship.kafka import KafkaOptions, KafkaShipper
from tests.support.mock_kafka import PRODUCE, MockKafka, read_topic

TOPIC = "netspectra.packets"
PARTITIONS = 3
QUICK = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 10}


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    with MockKafka() as cluster:
        cluster.create(TOPIC, PARTITIONS)
        yield cluster


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def shipper(kafka: MockKafka, lines: list[str]) -> Iterator[KafkaShipper]:
    made = KafkaShipper(KafkaOptions(brokers=kafka.brokers, properties=QUICK), lines.append)
    yield made
    made.close(0.0)


def message(number: int, size: int = 10) -> Message:
    partition, sequence = number % PARTITIONS, number // PARTITIONS
    return Message(partition, bytes([number % 256]) * size, sequence, 0, 5)


def until(shipper: KafkaShipper, happened: Callable[[], bool], limit_s: float = 30) -> None:
    """Poll until something is so."""
    end_s = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < end_s, "it doesn't happen"
        shipper.poll(0.05)


def test_messages_arrive_once_in_order(kafka: MockKafka, shipper: KafkaShipper) -> None:
    """Each partition holds what was shipped to it, in that order, and all is acknowledged."""
    assert shipper.partitions == PARTITIONS
    for number in range(300):
        shipper.ship(message(number))
    assert shipper.in_flight_messages == 300
    assert shipper.in_flight_packets == 1500
    assert shipper.in_flight_bytes == 3000
    assert shipper.waiting == [100] * PARTITIONS
    left = shipper.close(10)
    assert (left.messages, left.packets) == (0, 0)
    assert (shipper.delivered_messages, shipper.delivered_packets) == (300, 1500)
    assert (shipper.in_flight_bytes, shipper.waiting) == (0, [0] * PARTITIONS)
    found = [(m.partition(), m.value()[0]) for m in read_topic(kafka.brokers, TOPIC)]
    assert found == [(p, n % 256) for p in range(PARTITIONS) for n in range(p, 300, PARTITIONS)]


def test_errors_that_pass_are_tried_again(kafka: MockKafka, shipper: KafkaShipper) -> None:
    """A leader that is not there for a moment costs nothing and repeats nothing."""
    kafka.fail_next(
        PRODUCE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND
    )
    for number in range(30):
        shipper.ship(message(number))
    until(shipper, lambda: shipper.delivered_messages == 30)
    assert len(list(read_topic(kafka.brokers, TOPIC))) == 30


def test_a_queue_over_its_bytes_has_no_room(kafka: MockKafka) -> None:
    """Room ends with the byte limit and comes back with Kafka's acknowledgement."""
    options = KafkaOptions(brokers=kafka.brokers, queue_bytes=10_000, properties=QUICK)
    shipper = KafkaShipper(options)
    kafka.down()
    for number in range(9):
        shipper.ship(message(number, 1_111))
        assert shipper.room
    shipper.ship(message(9, 1))
    assert not shipper.room
    kafka.up()
    until(shipper, lambda: shipper.room)
    assert shipper.close(10).messages == 0


def test_a_queue_over_its_messages_has_no_room(kafka: MockKafka) -> None:
    """So does the limit of messages."""
    options = KafkaOptions(brokers=kafka.brokers, queue_messages=2, properties=QUICK)
    shipper = KafkaShipper(options)
    kafka.down()
    shipper.ship(message(0))
    assert shipper.room
    shipper.ship(message(1))
    assert not shipper.room
    kafka.up()
    assert shipper.close(10).messages == 0


def test_an_outage_is_told_and_so_is_its_end(
    kafka: MockKafka, shipper: KafkaShipper, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state says for how long, lines come when it begins and ends, what waits is delivered."""
    monkeypatch.setattr("probe.ship.kafka._REPORT_EVERY_S", 0.0)
    monkeypatch.setattr("probe.ship.kafka._REMIND_EVERY_S", 0.0)
    assert shipper.state == "connected"
    shipper.ship(message(0))
    until(shipper, lambda: shipper.in_flight_messages == 0)
    kafka.down()
    shipper.ship(message(1))
    until(shipper, lambda: "unreachable" in shipper.state)
    until(shipper, lambda: any("trying on" in line for line in lines))
    kafka.up()
    until(shipper, lambda: shipper.delivered_messages == 2)
    assert shipper.state == "connected"
    shipper.poll()
    assert "Kafka takes batches again" in lines[-1]


def test_a_broker_that_is_silent_is_told(
    kafka: MockKafka, shipper: KafkaShipper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connected and without an answer is a state of its own, until the answer comes."""
    monkeypatch.setattr("probe.ship.kafka._SILENT_AFTER_S", 0.2)
    shipper.ship(message(0))
    until(shipper, lambda: shipper.in_flight_messages == 0)
    assert shipper.state == "connected"
    kafka.delay(1500)
    shipper.ship(message(1))
    assert shipper.state == "connected"
    until(shipper, lambda: shipper.state.startswith("silent for"))
    until(shipper, lambda: shipper.in_flight_messages == 0)
    assert shipper.state == "connected"


def test_lines_dont_come_in_floods(
    kafka: MockKafka,
    shipper: KafkaShipper,
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An outage with many failed connections is one line for a long time."""
    monkeypatch.setattr("probe.ship.kafka._REPORT_EVERY_S", 0.1)
    kafka.down()
    shipper.ship(message(0))
    until(shipper, lambda: bool(lines))
    end_s = time.monotonic() + 1.0
    while time.monotonic() < end_s:
        shipper.poll(0.05)
    assert len(lines) == 1


def test_what_a_refusal_asks_for_is_said(kafka: MockKafka, shipper: KafkaShipper) -> None:
    """A topic that this user may not write to ends it with what to do."""
    kafka.fail_next(PRODUCE, KafkaError.TOPIC_AUTHORIZATION_FAILED)
    shipper.ship(message(0))
    with pytest.raises(ShipError, match=f"let this user write to topic {TOPIC}"):
        until(shipper, lambda: False)


def test_too_small_a_topic_is_said(kafka: MockKafka, shipper: KafkaShipper) -> None:
    """A message over the topic's limit names the setting to raise."""
    kafka.fail_next(PRODUCE, KafkaError.MSG_SIZE_TOO_LARGE)
    shipper.ship(message(0))
    with pytest.raises(ShipError, match=r"set max\.message\.bytes"):
        until(shipper, lambda: False)


def test_closing_is_bounded_and_says_what_is_left(
    kafka: MockKafka, shipper: KafkaShipper, lines: list[str]
) -> None:
    """With Kafka away, close gives up when its time is over and counts what it gives up."""
    kafka.down()
    for number in range(4):
        shipper.ship(message(number))
    left = shipper.close(0.3)
    assert (left.messages, left.packets) == (4, 20)
    assert "20 packets in 4 batches were not acknowledged" in lines[-1]
    assert shipper.delivered_packets == 0


def test_properties_go_before_ours(kafka: MockKafka) -> None:
    """A property of librdkafka gets through: here a message limit below the message."""
    options = KafkaOptions(brokers=kafka.brokers, properties={"message.max.bytes": 1000})
    shipper = KafkaShipper(options)
    with pytest.raises(ShipError, match="Message size too large"):
        shipper.ship(message(0, 2000))


def test_a_smaller_queue_of_librdkafkas_is_refused_when_it_is_full(kafka: MockKafka) -> None:
    """A property that undercuts our queue is named."""
    options = KafkaOptions(
        brokers=kafka.brokers, properties={"queue.buffering.max.messages": 1, **QUICK}
    )
    shipper = KafkaShipper(options)
    kafka.down()
    shipper.ship(message(0))
    with pytest.raises(ShipError, match=r"raise queue\.buffering\.max"):
        shipper.ship(message(1))
    shipper.close(0.0)


def test_no_broker_is_an_error_of_its_own() -> None:
    """It says what was tried and why it failed, and may be told from errors that stay."""
    options = KafkaOptions(brokers="127.0.0.1:1", connect_timeout_s=1)
    wanted = r"127\.0\.0\.1:1 doesn't answer .*refused.*check the address"
    with pytest.raises(KafkaUnreachable, match=wanted):
        KafkaShipper(options)


def test_a_wrong_property_is_named() -> None:
    """Librdkafka's own words come through."""
    options = KafkaOptions(brokers="127.0.0.1:1", properties={"colour": "red"})
    with pytest.raises(ShipError, match=r'refuses its settings: .*"colour"'):
        KafkaShipper(options)


def test_a_topic_that_cant_be_created_is_asked_for(kafka: MockKafka) -> None:
    """The mock creates no topics; the text says what to type."""
    options = KafkaOptions(brokers=kafka.brokers, topic="other", connect_timeout_s=0.5)
    wanted = r"topic other doesn't exist .*--create --topic other --partitions 12 .*21600000"
    with pytest.raises(ShipError, match=wanted):
        KafkaShipper(options)
