"""A Kafka partition as a log: batches of probes, from an offset on, for ever."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from flows import logs
from flows.errors import NetSpectraError
from flows.kafka.client import ANSWER_TIMEOUT_S, Faults, connect
from flows.sources.dead_letters import BadShare, DeadLetters
from flows.sources.logs import LogProgress, PacketLog
from flows.sources.pace import Pace
from flows.windows.partition import PartitionAccumulator
from flows.windows.position import Position
from flows.windows.receiver import BadMessage, ReceiverConfig
from flows.windows.resumable import ResumableReceiver
from schemas.batch import decode_batch
from schemas.errors import SchemaError, UnknownSchema
from schemas.framing import Resolve
from schemas.remote_registry import RegistryAway

AT_ONCE: Final = 32
"""Messages taken from librdkafka's queue at a time: at most 32 MB."""

_MS: Final = 10**6
_TELL_EVERY_S: Final = 60.0
_CLOSE_S: Final = 2.0
_PASSING: Final = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._MSG_TIMED_OUT,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
    }
)
"""Faults that librdkafka tries again by itself."""


class KafkaFault(NetSpectraError):
    """Kafka can't give what was asked for, and won't by waiting."""


class KafkaLog(PacketLog):
    """One partition of the topic of packets.

    A consumer of its own, assigned by hand: offsets come from the position, and are committed to
    the group only for those who watch its lag.

    Args:
        properties: of the consumer.
        topic: of packets.
        partition: number.
        config: what is accepted from the wire.
        position: where to go on; None for the oldest message that there is.
        pace: shared by the partitions of the process.
        dead_letters: where messages go that can't be used.
        resolve: fingerprints of schemas by their id in a registry, if there is one.
        on_answer: called once, when the broker has given what was asked for.
    """

    kept = True

    def __init__(
        self,
        properties: dict[str, Any],
        topic: str,
        partition: int,
        *,
        config: ReceiverConfig,
        position: Position | None,
        pace: Pace,
        dead_letters: DeadLetters,
        resolve: Resolve | None = None,
        on_answer: Callable[[], None] | None = None,
    ) -> None:
        self._properties = properties
        self._topic = topic
        self._partition = partition
        self._config = config
        self._start = position
        self._pace = pace
        self._dead_letters = dead_letters
        self._resolve = resolve
        self._on_answer = on_answer
        self._told_s = -_TELL_EVERY_S
        self._away = False
        self._bad = BadShare(topic)
        self._messages: deque[Any] = deque()
        self._consumer: Any = None
        self._connection = Faults()
        self._receiver: ResumableReceiver | None = None
        self._name = str(partition)
        self.last_unit = -1 if position is None else position.last_unit
        self.offset: int = -1 if position is None else position.offset - 1
        self.progress = LogProgress()
        self.faults: list[str] = []
        self.waiting = False
        self.caught_up = False

    def open(self, accumulator: PartitionAccumulator) -> None:
        """Begin to fetch."""
        self._receiver = ResumableReceiver(accumulator, self._config, self._start)
        self._consumer, self._connection = connect(Consumer, self._properties)
        first = OFFSET_BEGINNING if self._start is None else self._start.offset
        self._consumer.assign([TopicPartition(self._topic, self._partition, first)])
        self._pace.join(self._name)

    def read_message(self, accumulator: PartitionAccumulator) -> bool:
        """Take the next message if there is one; True, for the log has no end."""
        self.waiting = True
        if self._pace.must_wait(self._name) or not self._fetched():
            return True
        message = self._messages.popleft()
        error = message.error()
        if error is None:
            self.waiting = not self._taken(message)
            self.progress.event_time_ns = accumulator.watermark_ns
            self.caught_up = False
        elif error.code() == KafkaError._PARTITION_EOF:
            self.caught_up = True
        elif error.code() not in _PASSING:
            raise self._explain(error)
        else:
            return True
        self._pace.note(self._name, accumulator.watermark_ns, caught_up=self.caught_up)
        if self._on_answer is not None:
            self._on_answer()
            self._on_answer = None
        return True

    def position(self, last_unit: int) -> str:
        """Where to go on when units up to ``last_unit`` are given out."""
        assert self._receiver is not None
        self._dead_letters.flush()
        return self._receiver.position(last_unit).to_text()

    def commit(self) -> None:
        """Tell the group how far we are; only lag tools look at it, so a fault is no fault."""
        if self._consumer is not None and self.offset >= 0:
            at = TopicPartition(self._topic, self._partition, self.offset + 1)
            try:
                self._consumer.commit(offsets=[at], asynchronous=True)
            except KafkaException:
                return

    def close(self) -> None:
        """Leave; nothing is committed here."""
        if self._consumer is not None:
            # With Kafka away it waits for answers to commits, which nobody needs.
            closing = threading.Thread(target=self._consumer.close, daemon=True)
            closing.start()
            closing.join(_CLOSE_S)
            self._consumer = None
        self._dead_letters.close()

    def _fetched(self) -> bool:
        if not self._messages:
            self._messages.extend(self._consumer.consume(AT_ONCE, timeout=0))
        if self._messages:
            self._connection.down = False
        if self._connection.down != self._away:
            self._away = self._connection.down
            why = f"no broker answers ({self._connection.text}); waiting for it"
            logs.get("kafka").warning(
                why if self._away else "Kafka is back", partition=self._partition
            )
        return bool(self._messages)

    def _taken(self, message: Any) -> bool:
        """Use a message; False when it must be tried again later."""
        assert self._receiver is not None
        if message.offset() <= self.offset:
            raise self._made_anew()
        before, self.offset = self.offset, message.offset()
        log_time_ns = message.timestamp()[1] * _MS
        try:
            header, packets = decode_batch(message.value() or b"", self._resolve)
            self._receiver.receive(self.offset, header, packets, log_time_ns)
        except RegistryAway as error:
            self.offset = before
            self._messages.appendleft(message)
            self._note_wait(str(error))
            return False
        except (SchemaError, BadMessage) as error:
            self._receiver.skip(self.offset)
            self._dead_letters.send(message, _kind(error), str(error))
            self._bad.note(bad=str(error))
            return True
        self._bad.note()
        self.progress.packets = self._receiver.receiver.counts.packets
        return True

    def _note_wait(self, why: str) -> None:
        if time.monotonic() - self._told_s >= _TELL_EVERY_S:
            self._told_s = time.monotonic()
            logs.get("kafka").warning("waiting", partition=self._partition, reason=why)

    def _explain(self, error: KafkaError) -> KafkaFault:
        place = f"{self._topic}/{self._partition}"
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            if self._is_past_the_end():
                return self._made_anew()
            return KafkaFault(
                f"{place}: the messages from offset {self.offset + 1} on, where the last run "
                "stopped, are no longer in Kafka. NETSPECTRA_KAFKA__OUT_OF_RANGE=earliest goes on "
                "with the oldest there is; what was in between is lost and shows as a gap"
            )
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return KafkaFault(f"{place} isn't there (any more): see netspectra topics list")
        return KafkaFault(f"{place}: {error.str()}")

    def _is_past_the_end(self) -> bool:
        at = TopicPartition(self._topic, self._partition)
        try:
            _, end = self._consumer.get_watermark_offsets(at, timeout=ANSWER_TIMEOUT_S)
        except KafkaException:
            return False
        return bool(self.offset >= end)

    def _made_anew(self) -> KafkaFault:
        return KafkaFault(
            f"{self._topic}/{self._partition} ends before offset {self.offset + 1}, where the last "
            "run stopped: it was made anew. Its offsets can't be told from the old ones: name "
            "another topic, or another store and other recovery files"
        )


def _kind(error: Exception) -> str:
    if isinstance(error, BadMessage):
        return "absurd_time"
    return "unknown_schema" if isinstance(error, UnknownSchema) else "damaged"


def consumer_properties(properties: dict[str, Any], out_of_range: str) -> dict[str, Any]:
    """Add what the source can't do without, and bounds on what is fetched ahead."""
    bounded = {
        "queued.max.messages.kbytes": 16 * 1024,
        "fetch.message.max.bytes": 4 * 2**20,
        "fetch.wait.max.ms": 100,
    }
    return {
        **bounded,
        **properties,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": out_of_range,
    }
