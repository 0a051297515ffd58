"""What arrives in the topic of packets, read without joining any group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from confluent_kafka import Consumer, TopicPartition

from flows.errors import UsageError
from flows.kafka import topics
from flows.kafka.client import BrokerError, Cluster, connect, explain, properties
from flows.kafka.continuity import Continuity, Finding
from flows.settings.model import Kafka
from schemas.batch import BatchHeader, decode_batch
from schemas.errors import SchemaError
from schemas.record import Packets
from schemas.remote_registry import RemoteRegistry

GROUP: Final = "netspectra-tail"
"""librdkafka wants a group's name; as partitions are assigned by hand, nothing joins it."""

_WAIT_S: Final = 0.25
_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class Batch:
    """A message that could be read.

    Attributes:
        partition: Where it was.
        offset: Its place there.
        time_ms: Unix time at which Kafka took it, ms.
        value: The message.
        header: What the batch says about itself.
        packets: Its records.
        finding: What it shows beside them.
    """

    partition: int
    offset: int
    time_ms: int
    value: bytes
    header: BatchHeader
    packets: Packets
    finding: Finding


@dataclass(frozen=True, slots=True)
class BadMessage:
    """A message that is no batch of ours.

    Attributes:
        partition: Where it was.
        offset: Its place there.
        time_ms: Unix time at which Kafka took it, ms.
        reason: What is wrong with it.
    """

    partition: int
    offset: int
    time_ms: int
    reason: str


class Tail:
    """Reads partitions by assignment: no group, no commits, nobody else's reading disturbed.

    Where reading begins is settled here, so that what is sent afterwards is surely seen.

    Args:
        kafka: The settings.
        partitions: Which; all when empty.
        from_beginning: Begin with the oldest message instead of what comes next.
        report: Told a line when Kafka goes away and when it is back.

    Attributes:
        topic: Its name.
        partitions: Which are read.

    Raises:
        BrokerError: Kafka can't be reached, or has no such topic.
        UsageError: There is no such partition, or a property can't be used.
    """

    def __init__(
        self,
        kafka: Kafka,
        partitions: Sequence[int] = (),
        *,
        from_beginning: bool = False,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.topic = kafka.topics.packets
        found = topics.describe(Cluster(kafka), [self.topic])
        if not found:
            msg = f"topic {self.topic} isn't there; netspectra topics create makes it"
            raise BrokerError(msg)
        logs = found[0].partitions
        self.partitions = sorted(set(partitions)) or list(logs)
        if absent := [number for number in self.partitions if number not in logs]:
            msg = f"--partition {absent[0]}: {self.topic} has {len(logs)}, 0 to {len(logs) - 1}"
            raise UsageError(msg)
        config = properties(
            kafka,
            group_id=GROUP,
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            enable_partition_eof=False,
            auto_offset_reset="earliest",
        )
        self._brokers = config["bootstrap.servers"]
        self._consumer, self._faults = connect(Consumer, config)
        self._report = report
        self._continuity = Continuity()
        url = kafka.schema_registry
        self._resolve = RemoteRegistry(url).resolve if url else None
        self._consumer.assign(
            [
                TopicPartition(self.topic, number, at.low if from_beginning else at.high)
                for number, at in logs.items()
                if number in self.partitions
            ]
        )

    def __iter__(self) -> Iterator[list[Batch | BadMessage]]:
        """What arrives, several messages at once; an empty list when nothing came for a while.

        Raises:
            BrokerError: Kafka refuses to be read; while it is away it is waited for.
        """
        away = False
        while True:
            messages = self._consumer.consume(_AT_ONCE, _WAIT_S)
            if messages:
                self._faults.down = False
            if self._faults.down != away:
                away = self._faults.down
                why = f"no broker answers at {self._brokers} ({self._faults.text}); waiting"
                self._report(why if away else "Kafka is back")
            yield [self._decode(message) for message in messages if self._is_message(message)]

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._consumer.close()

    def _is_message(self, message: Any) -> bool:
        error = message.error()
        if error is not None and not error.retriable():
            raise explain(error, self._brokers)
        return error is None

    def _decode(self, message: Any) -> Batch | BadMessage:
        place = message.partition(), message.offset(), message.timestamp()[1]
        value = message.value() or b""
        try:
            header, packets = decode_batch(value, self._resolve)
        except SchemaError as error:
            return BadMessage(*place, str(error))
        return Batch(*place, value, header, packets, self._continuity.note(header, packets))
