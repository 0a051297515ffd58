"""Delivery to Kafka: in order, once, and never more in memory than agreed."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from probe.errors import ShipError
from probe.ship.batcher import Message
from probe.ship.topic import NOT_ALLOWED, topic_partitions

DEFAULT_TOPIC: Final = "netspectra.packets"
DEFAULT_QUEUE_BYTES: Final = 64 * 2**20

_CONNECTION: Final[Mapping[str, Any]] = {
    "client.id": "netspectra-probe",
    "log_level": 2,  # faults come by callback; each failed attempt is too much to tell
}
_DEFAULTS: Final[Mapping[str, Any]] = {
    "enable.idempotence": True,
    "acks": "all",
    # One request at a time: in a new topic a broker takes the second message of a producer that
    # it doesn't know, and the retry of a first one that was refused then counts as a repetition.
    "max.in.flight.requests.per.connection": 1,
    "compression.type": "lz4",
    "linger.ms": 5,
    "message.timeout.ms": 0,  # never given up
    "reconnect.backoff.max.ms": 2000,
    # Ours is the bound that is kept; librdkafka's own only must not be met first.
    "queue.buffering.max.messages": 0,
    "queue.buffering.max.kbytes": 2**31 - 1,
}
_PURGED: Final = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})
_REPORT_EVERY_S: Final = 5.0
_REMIND_EVERY_S: Final = 60.0
_SILENT_AFTER_S: Final = 3.0

_log = logging.getLogger("netspectra.probe.kafka")
_log.addHandler(logging.NullHandler())


@dataclass(frozen=True, kw_only=True)
class KafkaOptions:
    """Where packets go.

    Attributes:
        brokers: ``host:port``, several with commas.
        topic: its name.
        queue_bytes: most bytes in flight; what the last read and cut bring may come on top.
        queue_messages: most messages in flight, likewise.
        connect_timeout_s: how long to wait for a broker's first answer.
        properties: of librdkafka; they go before ours.
    """

    brokers: str
    topic: str = DEFAULT_TOPIC
    queue_bytes: int = DEFAULT_QUEUE_BYTES
    queue_messages: int = 20_000
    connect_timeout_s: float = 10.0
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Undelivered:
    """What was still in the queue when a shipper was closed; all 0 when nothing."""

    messages: int
    packets: int


class KafkaShipper:
    """A producer of batches: idempotent, acknowledged by all replicas, compressed with lz4.

    Messages are never given up: while Kafka is away they wait. The queue is bounded by
    ``room``, which whoever ships asks before taking in more packets.

    Args:
        options: where to.
        report: told a line when something happens to the connection, at most every 5 seconds, in
            an outage every minute.

    Attributes:
        partitions: of the topic.
        in_flight_bytes, in_flight_messages, in_flight_packets: shipped and not acknowledged.
        delivered_messages, delivered_packets: acknowledged.
        waiting: messages in flight to each partition.

    Raises:
        KafkaUnreachable: no broker answers.
        ShipError: the topic can't be had, or a property is wrong.
    """

    def __init__(self, options: KafkaOptions, report: Callable[[str], None] = _log.warning) -> None:
        self.in_flight_bytes = 0
        self.in_flight_messages = 0
        self.in_flight_packets = 0
        self.delivered_messages = 0
        self.delivered_packets = 0
        self._options = options
        self._report = report
        self._line: str | None = None
        self._reported_at = -_REMIND_EVERY_S
        self._told_since_answer = False
        self._unreachable_since: float | None = None
        self._answered_at = 0.0
        self._fault: str | None = None
        connection: dict[str, Any] = {
            **_CONNECTION,
            "bootstrap.servers": options.brokers,
            **options.properties,
            "logger": _log,
        }
        try:
            self._producer = Producer({**_DEFAULTS, **connection, "error_cb": self._on_error})
            self.partitions = topic_partitions(connection, options.topic, options.connect_timeout_s)
        except KafkaException as error:
            msg = f"librdkafka refuses its settings: {error.args[0].str()}"
            raise ShipError(msg) from None
        self.waiting = [0] * self.partitions

    @property
    def fill(self) -> float:
        """How full the queue is: 0 empty, 1 or more full."""
        return max(
            self.in_flight_bytes / self._options.queue_bytes,
            self.in_flight_messages / self._options.queue_messages,
        )

    @property
    def room(self) -> bool:
        """Whether more packets may be taken in."""
        return self.fill < 1

    @property
    def state(self) -> str:
        """How it stands with Kafka, in a word or two."""
        now_s = time.monotonic()
        if self._unreachable_since is not None:
            return f"unreachable for {now_s - self._unreachable_since:.0f} s"
        silent_s = now_s - self._answered_at
        if self.in_flight_messages and silent_s > _SILENT_AFTER_S:
            return f"silent for {silent_s:.0f} s"
        return "connected"

    def ship(self, message: Message, then: Callable[[], None] | None = None) -> None:
        """Hand a message over; returns at once.

        Args:
            message: for the partition that it names.
            then: called by ``poll`` or ``close`` when Kafka has acknowledged it.

        Raises:
            ShipError: librdkafka has been given a smaller queue than ours.
        """
        size_bytes = len(message.value)
        try:
            self._producer.produce(
                self._options.topic,
                message.value,
                partition=message.partition,
                on_delivery=functools.partial(
                    self._on_delivery, message.partition, size_bytes, message.packets, then
                ),
            )
        except BufferError:
            msg = (
                "librdkafka's queue is full before ours: raise queue.buffering.max.kbytes and "
                "queue.buffering.max.messages, or leave them out"
            )
            raise ShipError(msg) from None
        except KafkaException as error:
            self._fail(error.args[0])
            raise ShipError(self._fault) from None
        if self.in_flight_messages == 0:
            self._answered_at = time.monotonic()  # until now there was nothing to answer
        self.in_flight_bytes += size_bytes
        self.in_flight_messages += 1
        self.in_flight_packets += message.packets
        self.waiting[message.partition] += 1

    def poll(self, timeout_s: float = 0.0) -> None:
        """Take in what Kafka answered; waits for something to happen, at most ``timeout_s``.

        Raises:
            ShipError: delivery failed for good; the text says what to do.
        """
        self._producer.poll(timeout_s)
        now = time.monotonic()
        every_s = _REMIND_EVERY_S if self._told_since_answer else _REPORT_EVERY_S
        if self._line is not None and now - self._reported_at >= every_s:
            self._report(self._line)
            self._line, self._reported_at = None, now
            self._told_since_answer = True
        if self._fault is not None:
            raise ShipError(self._fault)

    def close(self, timeout_s: float) -> Undelivered:
        """Wait for what is in flight, at most ``timeout_s``, then let go of it."""
        self._producer.flush(timeout_s)
        left = Undelivered(self.in_flight_messages, self.in_flight_packets)
        if left.messages:
            self._producer.purge()
            self._producer.flush(1.0)
            self._report(
                f"{left.packets:,} packets in {left.messages:,} batches were not acknowledged by "
                f"Kafka ({self.state}) within {timeout_s:.0f} s and are given up"
            )
        elif self._line is not None:
            self._report(self._line)
        self._line = None
        return left

    def _on_delivery(
        self,
        partition: int,
        size_bytes: int,
        packets: int,
        then: Callable[[], None] | None,
        error: Any,
        message: Any,
    ) -> None:
        self.in_flight_bytes -= size_bytes
        self.in_flight_messages -= 1
        self.in_flight_packets -= packets
        self.waiting[partition] -= 1
        if error is not None:
            if error.code() not in _PURGED:
                self._fail(error)
            return
        self._answered_at = time.monotonic()
        self._told_since_answer = False
        self.delivered_messages += 1
        self.delivered_packets += packets
        if then is not None:
            then()
        if self._unreachable_since is not None:
            away_s = time.monotonic() - self._unreachable_since
            self._unreachable_since = None
            self._line = f"Kafka takes batches again, after {away_s:.0f} s"

    def _on_error(self, error: Any) -> None:
        if error.fatal():
            self._fail(error)
            return
        if error.code() == KafkaError._ALL_BROKERS_DOWN and self._unreachable_since is None:
            self._unreachable_since = time.monotonic()
        self._line = f"Kafka: {error.str()}; trying on"

    def _fail(self, error: Any) -> None:
        """Keep the first failure that trying again doesn't mend."""
        if self._fault is not None:
            return
        topic = self._options.topic
        if error.code() in NOT_ALLOWED:
            advice = f"let this user write to topic {topic}"
        elif error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE):
            advice = f"set max.message.bytes of topic {topic} to 1048588, Kafka's default, or more"
        elif error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            advice = f"topic {topic} was deleted: start the probe again to create it"
        else:
            advice = "start the probe again"
        self._fault = f"Kafka refuses batches for good ({error.str()}): {advice}"
