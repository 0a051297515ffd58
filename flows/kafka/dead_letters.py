"""The topic of dead letters: what is in it, and sending what it holds back to where it was."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from flows.kafka import topics
from flows.kafka.client import (
    ANSWER_TIMEOUT_S,
    BrokerError,
    Cluster,
    connect,
    explain,
    properties,
)
from flows.settings.model import Kafka
from schemas.batch import decode_batch
from schemas.dead_letter import DeadLetter, decode_dead_letter
from schemas.errors import DecodeError, SchemaError
from schemas.framing import Resolve
from schemas.remote_registry import RemoteRegistry

GROUP: Final = "netspectra-dead-letters"
"""librdkafka wants a group's name; as partitions are assigned by hand, nothing joins it."""

_AT_ONCE: Final = 100
_WAIT_S: Final = 0.25

Place = tuple[str, int, int]
"""Topic, partition and offset of a message."""


def place(letter: DeadLetter) -> Place:
    """Where the message was that the letter keeps."""
    return letter.topic, letter.partition, letter.offset


def kind(reason: str) -> str:
    """A reason without what is particular to one message."""
    return reason.partition(":")[0]


class Letters:
    """The dead letters that are there when it is made, each message once; read them repeatedly.

    No group is joined and nothing is committed.

    Args:
        kafka: The settings.

    Attributes:
        topic: Name of the topic.
        exists: Whether it is there.
        unreadable: Messages in it that are no dead letters, at the last reading.

    Raises:
        BrokerError: Kafka can't be reached.
        UsageError: A property can't be used.
    """

    def __init__(self, kafka: Kafka) -> None:
        self.topic = kafka.topics.dlq
        self.unreadable = 0
        self._kafka = kafka
        found = topics.describe(Cluster(kafka), [self.topic])
        self.exists = bool(found)
        logs = found[0].partitions if found else {}
        self._ends = {n: log.high for n, log in logs.items() if log.high > log.low}
        self._starts = {n: logs[n].low for n in self._ends}

    def __iter__(self) -> Iterator[DeadLetter]:
        """Read them, each place once, as they were written.

        Raises:
            BrokerError: Kafka went away or refused.
        """
        self.unreadable = 0
        seen: set[Place] = set()
        for message in self._messages():
            try:
                letter = decode_dead_letter(message.value() or b"")
            except SchemaError:
                self.unreadable += 1
                continue
            if place(letter) not in seen:
                seen.add(place(letter))
                yield letter

    def _messages(self) -> Iterator[Any]:
        if not self._ends:
            return
        config = properties(
            self._kafka,
            group_id=GROUP,
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            enable_partition_eof=True,
            auto_offset_reset="earliest",
        )
        consumer, faults = connect(Consumer, config)
        left = dict(self._ends)
        try:
            consumer.assign([TopicPartition(self.topic, n, self._starts[n]) for n in left])
            deadline = time.monotonic() + ANSWER_TIMEOUT_S
            while left:
                messages = consumer.consume(_AT_ONCE, _WAIT_S)
                if messages:
                    deadline = time.monotonic() + ANSWER_TIMEOUT_S
                elif time.monotonic() > deadline:
                    raise explain(KafkaError(KafkaError._TIMED_OUT), self._kafka.brokers, faults)
                for message in messages:
                    number, error = message.partition(), message.error()
                    if error is None:
                        if message.offset() < self._ends[number]:
                            yield message
                        if message.offset() >= self._ends[number] - 1:
                            left.pop(number, None)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        left.pop(number, None)
                    elif not error.retriable():
                        raise explain(error, self._kafka.brokers, faults)
        finally:
            consumer.close()


@dataclass
class Plan:
    """What of the letters can be sent back.

    Attributes:
        sendable: Messages that can be decoded now, by reason.
        bad: Messages that still can't, by what is wrong with them.
        elsewhere: Messages of a topic or partition that isn't there (any more).
    """

    sendable: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    elsewhere: int = 0


class Replay:
    """Sends messages back to the topic of packets, to the partition where each was.

    Args:
        kafka: The settings.
        letters: What to take them from.
        reason: Only letters whose reason contains this.
        max_skew_ns: How far times may be ahead of their batch's emit time; see the receiver.

    Raises:
        BrokerError: Kafka can't be reached, or there is no topic of packets.
    """

    def __init__(self, kafka: Kafka, letters: Letters, reason: str, max_skew_ns: int) -> None:
        self.topic = kafka.topics.packets
        self._kafka = kafka
        self._letters = letters
        self._reason = reason.casefold()
        self._max_skew_ns = max_skew_ns
        found = topics.describe(Cluster(kafka), [self.topic])
        if not found:
            msg = f"topic {self.topic} isn't there; netspectra topics create makes it"
            raise BrokerError(msg)
        self._partitions = set(found[0].partitions)
        registry = kafka.schema_registry
        self._resolve = RemoteRegistry(registry).resolve if registry else None

    def plan(self) -> Plan:
        """Look which can be sent."""
        plan = Plan()
        for _ in self._sendable(plan):
            pass
        return plan

    def send(self, report: Callable[[DeadLetter, str], None]) -> int:
        """Send them; returns how many Kafka has.

        Args:
            report: Told each message that Kafka refused, and why.

        Raises:
            BrokerError: Kafka went away; some may have been sent.
        """
        config = properties(self._kafka, enable_idempotence=True, acks="all")
        producer, faults = connect(Producer, config)
        sent = 0

        def deliver(letter: DeadLetter) -> Callable[[Any, Any], None]:
            def done(error: Any, _: Any) -> None:
                nonlocal sent
                if error is None:
                    sent += 1
                else:
                    report(letter, error.str())

            return done

        try:
            for letter in self._sendable(Plan()):
                self._produce(producer, letter, deliver(letter))
            left = producer.flush(ANSWER_TIMEOUT_S)
        finally:
            producer.purge()
        if left:
            fault = explain(KafkaError(KafkaError._TIMED_OUT), self._kafka.brokers, faults)
            msg = f"{fault}; {sent:,} messages were sent, at least {left:,} were not"
            raise BrokerError(msg)
        return sent

    def _produce(self, producer: Any, letter: DeadLetter, done: Any) -> None:
        while True:
            try:
                producer.produce(
                    self.topic, letter.message, partition=letter.partition, on_delivery=done
                )
            except BufferError:
                producer.poll(_WAIT_S)
            else:
                producer.poll(0)
                return

    def _sendable(self, plan: Plan) -> Iterator[DeadLetter]:
        for letter in self._letters:
            if self._reason not in letter.reason.casefold():
                continue
            if letter.topic != self.topic or letter.partition not in self._partitions:
                plan.elsewhere += 1
            elif fault := unusable(letter.message, self._max_skew_ns, self._resolve):
                plan.bad[kind(fault)] += 1
            else:
                plan.sendable[kind(letter.reason)] += 1
                yield letter


def unusable(message: bytes, max_skew_ns: int, resolve: Resolve | None = None) -> str:
    """Why the source would not take a message; empty when it would.

    Raises:
        RegistryAway: the schema registry doesn't answer.
    """
    try:
        header, packets = decode_batch(message, resolve)
    except DecodeError as error:
        return str(error)
    newest_ns = max(int(packets["ts_ns"].max()) if len(packets) else 0, header.watermark_ns)
    if newest_ns > header.emit_time_ns + max_skew_ns:
        return "absurd time: it is ahead of its batch's emit time"
    return ""
