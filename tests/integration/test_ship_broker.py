"""The probe's loop and Apache Kafka itself: the topic it makes, and an outage under load."""

from __future__ import annotations

import pytest

from flows.kafka.client import Cluster
from flows.kafka.topics import describe, differences, plans
from flows.settings.model import Kafka, Topics
from probe.ship.kafka import KafkaOptions, KafkaShipper
from tests.support.batches import check_batches, check_ends
from tests.support.kafka import Broker
from tests.support.ship_run import Run, even
from tests.support.synthetic_capture import SyntheticCapture

pytestmark = pytest.mark.requires("kafka")


def test_the_topic_is_made_when_it_isnt_there(kafka_broker: Broker) -> None:
    """It is as ``topics create`` would make it; the next start finds it."""
    topic = kafka_broker.name()
    for _ in range(2):
        shipper = KafkaShipper(KafkaOptions(brokers=kafka_broker.bootstrap, topic=topic))
        assert shipper.partitions == 12
        shipper.close(5)
    (plan, *_) = plans(Topics(packets=topic))
    (found,) = describe(Cluster(Kafka(brokers=kafka_broker.bootstrap)), [topic])
    assert differences(plan, found) == []
    assert found.replicas == 1


def test_a_broker_that_is_killed_under_load_costs_only_what_the_ring_counts(
    kafka_broker: Broker,
) -> None:
    """Through kill -9 and restart every packet that was read is in the log once, in order."""
    topic = kafka_broker.topic(partitions=4)
    capture = SyntheticCapture(even(10**9), rate=100_000, ring_records=30_000)
    with Run(kafka_broker.bootstrap, capture, topic=topic, queue_bytes=4_000_000) as run:
        run.until(lambda: run.shipper.delivered_packets > 50_000)
        kafka_broker.kill()
        run.until(lambda: run.agent.status.paused and "unreachable" in run.agent.status.kafka)
        lost = run.agent.status.counts.dropped["ring_full"]
        run.until(lambda: run.agent.status.counts.dropped["ring_full"] > lost + 30_000)
        assert run.agent.status.paused
        kafka_broker.start()
        run.until(lambda: not run.agent.status.paused)
        done = run.shipper.delivered_packets
        run.until(lambda: run.shipper.delivered_packets > done + 50_000)
    assert run.result is True
    counts = capture.counts()
    packets = run.packets()
    values = [message.value() for message in kafka_broker.messages(topic)]
    headers = check_batches(values, packets, 4)
    check_ends(headers, run.batcher.home, counts)
    assert counts.seen == len(packets) + counts.dropped["ring_full"]
