"""Alerts in a Kafka topic."""

from __future__ import annotations

from typing import Any

import pytest

from flows.errors import UsageError
from flows.notify.make import recipients
from flows.notify.notifier import NotTold
from flows.notify.selection import NOTHING
from flows.notify.topic import TopicNotifier, fields_of
from flows.settings import Settings
from flows.settings.model import Kafka
from flows.settings.notifiers import KafkaTopic
from schemas.alert import WRITTEN, decode_alert
from tests.support.alerts import alert
from tests.support.kafka import Broker
from tests.support.mock_kafka import MockKafka, read_topic
from tests.support.schema_registry import serving

TOPIC = KafkaTopic(name="topic", type="kafka")


def notifier(brokers: str, **more: Any) -> TopicNotifier:
    return TopicNotifier(TOPIC, Kafka(brokers=brokers, **more))


def test_an_alert_is_a_message_with_its_id_as_key() -> None:
    """What is decoded is what was told; the topic is that of the settings."""
    with MockKafka() as cluster:
        cluster.create("netspectra.alerts", 1)
        told = notifier(cluster.brokers)
        assert told.send(alert()) == "netspectra.alerts/0/0"
        assert told.send(alert(revision=2)) == "netspectra.alerts/0/1"
        told.close()
        found = list(read_topic(cluster.brokers, "netspectra.alerts"))
    assert [message.key().decode() for message in found] == [alert().alert_id] * 2
    decoded = decode_alert(found[0].value())
    assert decoded == fields_of(alert())
    assert (decoded["severity"], decoded["entity"]["dst_port"]) == ("medium", "23")


def test_a_registry_gives_the_schema_its_id() -> None:
    """With a registry the messages are in its framing; without an answer of it they wait."""
    with MockKafka() as cluster, serving() as registry:
        cluster.create("netspectra.alerts", 1)
        told = notifier(cluster.brokers, schema_registry=registry.url)
        registry.refuse = 503
        with pytest.raises(NotTold, match="answers 503"):
            told.send(alert())
        registry.refuse = 0
        told.send(alert())
        told.send(alert(revision=2))
        told.close()
        found = list(read_topic(cluster.brokers, "netspectra.alerts"))
        assert len([r for r in registry.requests if "POST" in r]) == 2
    assert [m.value()[:5] for m in found] == [b"\0\0\0\0\1"] * 2
    decode_alert(found[0].value(), lambda _: WRITTEN.fingerprint)


def test_brokers_that_are_away_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """The alert isn't sent later by the client on its own: that is for the dispatcher to do."""
    monkeypatch.setattr("flows.notify.topic.ANSWER_TIMEOUT_S", 1.0)
    with MockKafka() as cluster:
        cluster.create("netspectra.alerts", 1)
        told = notifier(cluster.brokers)
        told.send(alert())
        cluster.down()
        with pytest.raises(NotTold, match="no Kafka broker answers"):
            told.send(alert(revision=2))
        cluster.up()
        assert told.send(alert(revision=3)) == "netspectra.alerts/0/1"
        told.close()


def test_a_property_that_there_is_not_is_refused() -> None:
    """Before the first alert."""
    with pytest.raises(UsageError, match=r"no\.such"):
        notifier("127.0.0.1:1", properties={"no.such": "x"})


@pytest.mark.requires("kafka")
def test_a_real_broker_takes_it(kafka_broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a topic that isn't there is named, with what makes it."""
    topic = kafka_broker.topic(1, cleanup_policy="compact")
    settings = KafkaTopic(name="topic", type="kafka", topic=topic)
    told = TopicNotifier(settings, Kafka(brokers=kafka_broker.bootstrap))
    told.send(alert())
    told.close()
    (message,) = kafka_broker.messages(topic)
    assert decode_alert(message.value()) == fields_of(alert())
    monkeypatch.setattr("flows.notify.topic.ANSWER_TIMEOUT_S", 3.0)
    nowhere = TopicNotifier(
        KafkaTopic(name="topic", type="kafka", topic=kafka_broker.name()),
        Kafka(brokers=kafka_broker.bootstrap),
    )
    with pytest.raises(NotTold, match="isn't there; netspectra topics create makes it"):
        nowhere.send(alert())
    nowhere.close()


def test_a_job_on_kafka_writes_the_topic_unasked() -> None:
    """All that fires and ends, whomever rules name, unless the settings have a Kafka notifier."""
    assert recipients(Settings(source="demo")) == []
    (found,) = recipients(Settings(source="kafka"))
    assert isinstance(found.notifier, TopicNotifier)
    assert found.selection.wants(alert(notify=("pager",)), NOTHING)
    own = {"name": "mine", "type": "kafka", "min_severity": "high"}
    (found,) = recipients(Settings(source="kafka", notifiers=[own]))
    assert found.selection.name == "mine"
