"""The topic for packets: found, or created."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from probe.errors import KafkaUnreachable, ShipError
from schemas.topics import PACKETS_CONFIG, PACKETS_PARTITIONS, replicas

NOT_ALLOWED: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.POLICY_VIOLATION,
    }
)
_SETTLE_S: Final = 10.0


def topic_partitions(properties: Mapping[str, Any], topic: str, timeout_s: float) -> int:
    """Count the partitions of a topic, which is created if it isn't there.

    Args:
        properties: of librdkafka, ``bootstrap.servers`` among them.
        topic: its name.
        timeout_s: for each answer.

    Raises:
        KafkaUnreachable: no broker answers.
        ShipError: the topic can't be had; the text says what to do.
    """
    last: list[str] = []
    options = {**properties, "error_cb": lambda error: last.append(error.str())}
    admin = AdminClient(options)
    found, brokers = _count(admin, properties, topic, timeout_s, last)
    if found == 0:
        _create(admin, topic, replicas(brokers), timeout_s)
        deadline = time.monotonic() + _SETTLE_S
        while found == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
            found, _ = _count(admin, properties, topic, timeout_s, last)
    if found == 0:
        msg = f"topic {topic} was created, but the brokers don't list it: try again"
        raise ShipError(msg)
    return found


def _count(
    admin: Any, properties: Mapping[str, Any], topic: str, timeout_s: float, last: list[str]
) -> tuple[int, int]:
    """Partitions of the topic, 0 when it isn't there, and how many brokers there are.

    Asks for all topics, which creates none.
    """
    try:
        there = admin.list_topics(timeout=timeout_s)
    except KafkaException as error:
        admin.poll(0)
        reason = last[0] if last else error.args[0].str()
        msg = (
            f"Kafka at {properties.get('bootstrap.servers')} doesn't answer ({reason}): check the "
            "address, that the broker runs, and its security settings"
        )
        raise KafkaUnreachable(msg) from None
    found = len(there.topics[topic].partitions) if topic in there.topics else 0
    return found, len(there.brokers)


def _create(admin: Any, topic: str, copies: int, timeout_s: float) -> None:
    wanted = NewTopic(topic, PACKETS_PARTITIONS, copies, config=dict(PACKETS_CONFIG))
    try:
        admin.create_topics([wanted], request_timeout=timeout_s)[topic].result(timeout_s + 5)
    except KafkaException as failure:
        error = failure.args[0]
        if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return  # another probe was faster
        allowed = error.code() not in NOT_ALLOWED
        reason = (
            f"could not be created ({error.str()})" if allowed else "this user may not create it"
        )
        config = " ".join(f"--config {name}={value}" for name, value in PACKETS_CONFIG.items())
        msg = (
            f"topic {topic} doesn't exist and {reason}: have it created with kafka-topics.sh "
            f"--create --topic {topic} --partitions {PACKETS_PARTITIONS} {config}"
        )
        raise ShipError(msg) from None
