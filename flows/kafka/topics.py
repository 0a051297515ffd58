"""Our topics: how they should be, what is there, and how far the job has read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import ConfigResource, NewTopic, OffsetSpec

from flows.kafka.client import ANSWER_TIMEOUT_S, Cluster, connect, properties
from flows.settings.model import Topics
from schemas.topics import OWN_TIME, PACKETS_CONFIG, PACKETS_PARTITIONS
from schemas.topics import replicas as usual_replicas

_NO_LEADER: Final = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)
_LOADING: Final = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
    }
)
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS


@dataclass(frozen=True, slots=True)
class Plan:
    """A topic as it should be.

    Attributes:
        name: Its name.
        partitions: How many.
        config: Kafka's topic settings.
    """

    name: str
    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition's log.

    Attributes:
        low: Offset of the oldest message that is still there.
        high: Offset of the next message.
        committed: Where our group goes on reading; None if it has never said.
    """

    low: int
    high: int
    committed: int | None

    @property
    def lag(self) -> int | None:
        """Messages that the group has still to read."""
        return None if self.committed is None else self.high - max(self.committed, self.low)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is.

    Attributes:
        name: Its name.
        replicas: Copies of each partition.
        config: Kafka's topic settings, defaults included.
        partitions: By number.
    """

    name: str
    replicas: int
    config: dict[str, str]
    partitions: dict[int, Partition]

    @property
    def messages(self) -> int:
        """Offsets in the log; in a compacted topic some are gone."""
        return sum(partition.high - partition.low for partition in self.partitions.values())

    @property
    def lag(self) -> int | None:
        """Messages that the group has still to read, of the partitions that it reads."""
        known = [p.lag for p in self.partitions.values() if p.lag is not None]
        return sum(known) if known else None

    @property
    def retention(self) -> str:
        """How long messages stay, for people."""
        if self.config.get("cleanup.policy") == "compact":
            return "newest per key"
        milliseconds = int(self.config.get("retention.ms", -1))
        if milliseconds < 0:
            return "for ever"
        for size, unit in ((_DAY_MS, "d"), (_HOUR_MS, "h"), (60_000, "m"), (1000, "s")):
            if milliseconds % size == 0:
                return f"{milliseconds // size}{unit}"
        return f"{milliseconds}ms"


def plans(topics: Topics) -> list[Plan]:
    """Our four topics as they should be."""
    return [
        Plan(topics.packets, PACKETS_PARTITIONS, PACKETS_CONFIG),
        Plan(topics.alerts, 1, {"cleanup.policy": "compact"}),
        Plan(topics.windows, 1, {"retention.ms": str(7 * _DAY_MS)}),
        Plan(
            topics.dlq,
            1,
            # A dead letter is a whole message and why it couldn't be read.
            {"retention.ms": str(7 * _DAY_MS), "max.message.bytes": str(2 * 2**20), **OWN_TIME},
        ),
    ]


def create(cluster: Cluster, wanted: Sequence[Plan], replicas: int | None = None) -> dict[str, str]:
    """Create the topics that aren't there; the others stay as they are.

    Args:
        cluster: Where.
        wanted: The topics.
        replicas: Copies of each partition; by default three, or as many as there are brokers.

    Returns:
        What became of each topic, by its name: ``created``, ``is there``, or how it differs.

    Raises:
        BrokerError: Kafka can't be reached or refused.
    """
    there = cluster.metadata()
    replicas = replicas or usual_replicas(len(there.brokers))
    missing = [plan for plan in wanted if plan.name not in there.topics]
    new = [
        NewTopic(plan.name, plan.partitions, replicas, config=dict(plan.config)) for plan in missing
    ]
    done: dict[str, str] = {}
    if new:
        futures = cluster.admin.create_topics(new, request_timeout=ANSWER_TIMEOUT_S)
        for plan in missing:
            with cluster.explained():
                try:
                    futures[plan.name].result()
                    done[plan.name] = "created"
                except KafkaException as failure:
                    if failure.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise
    old = [plan for plan in wanted if plan.name not in done]
    found = {topic.name: topic for topic in describe(cluster, [plan.name for plan in old])}
    for plan in old:
        unlike = differences(plan, found[plan.name]) if plan.name in found else []
        done[plan.name] = "; ".join(["is there", *unlike])
    return {plan.name: done[plan.name] for plan in wanted}


def differences(plan: Plan, topic: Topic) -> list[str]:
    """How a topic differs from what it should be, a text for each difference."""
    pairs = [("partitions", str(len(topic.partitions)), str(plan.partitions))]
    pairs += [(name, topic.config.get(name, ""), value) for name, value in plan.config.items()]
    return [f"{name} is {has}, not {wants}" for name, has, wants in pairs if has != wants]


def describe(cluster: Cluster, names: Sequence[str], group: str | None = None) -> list[Topic]:
    """Topics as they are; those that aren't there are left out.

    Args:
        cluster: Where.
        names: Which.
        group: Whose committed offsets to look up; that doesn't join it.

    Raises:
        BrokerError: Kafka can't be reached or refused.
    """
    all_topics = cluster.metadata().topics
    there = {name: all_topics[name].partitions for name in names if name in all_topics}
    if not there:
        return []
    keys = [TopicPartition(name, number) for name in there for number in there[name]]
    with cluster.explained():
        configs = _configs(cluster.admin, list(there))
        low = _offsets(cluster.admin, keys, OffsetSpec.earliest())
        high = _offsets(cluster.admin, keys, OffsetSpec.latest())
        committed = _committed(cluster, group, keys) if group else {}
    return [
        Topic(
            name,
            max((len(partition.replicas) for partition in numbers.values()), default=0),
            configs[name],
            {
                number: Partition(low[at], high[at], committed.get(at))
                for number in sorted(numbers)
                for at in [(name, number)]
            },
        )
        for name, numbers in there.items()
    ]


_Offsets = dict[tuple[str, int], int]


def _configs(admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    answers = admin.describe_configs(asked, request_timeout=ANSWER_TIMEOUT_S)
    return {
        resource.name: {name: str(entry.value) for name, entry in answer.result().items()}
        for resource, answer in answers.items()
    }


def _offsets(admin: Any, keys: Sequence[TopicPartition], which: OffsetSpec) -> _Offsets:
    found: _Offsets = {}
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while keys:
        asked = dict.fromkeys(keys, which)
        answers = admin.list_offsets(asked, request_timeout=ANSWER_TIMEOUT_S)
        keys = []
        for key, answer in answers.items():
            try:
                found[key.topic, key.partition] = answer.result().offset
            except KafkaException as failure:
                # A new topic, or one whose broker has just gone, is without a leader for a while.
                if failure.args[0].code() not in _NO_LEADER or time.monotonic() > deadline:
                    raise
                keys.append(key)
        if keys:
            time.sleep(0.1)
    return found


def _committed(cluster: Cluster, group: str, keys: Sequence[TopicPartition]) -> _Offsets:
    # The admin client's way to ask crashes while a new broker loads its groups (librdkafka
    # 2.16). A consumer that never subscribes doesn't join either.
    wanted = properties(cluster.kafka, group_id=group, enable_auto_commit=False)
    consumer, _ = connect(Consumer, wanted)
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    try:
        while True:
            try:
                found = consumer.committed(list(keys), timeout=ANSWER_TIMEOUT_S)
            except KafkaException as failure:
                if failure.args[0].code() not in _LOADING or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return {(at.topic, at.partition): at.offset for at in found if at.offset >= 0}
    finally:
        consumer.close()
