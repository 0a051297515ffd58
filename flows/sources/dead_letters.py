"""Messages that can't be used: kept in a topic of their own, counted, and never in the way."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from flows import logs
from flows.errors import NetSpectraError
from flows.kafka.client import connect
from schemas.dead_letter import DeadLetter, encode_dead_letter

CHECKED: Final = 1000
"""Messages over which the share of bad ones is looked at."""

LEAST: Final = 100
BAD_SHARE: Final = 0.9

MAX_BYTES: Final = 2 * 2**20
"""Of a dead letter, as its topic is made: a whole message, and why it can't be used."""

_WAIT_S: Final = 5.0


class WrongTopic(NetSpectraError):
    """Nearly everything in the topic is unusable: it is not ours, or its writers are newer."""


class BadShare:
    """Watches how much of a partition can't be used.

    Args:
        topic: for the error.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._messages = self._bad = 0

    def note(self, bad: str = "") -> None:
        """Count a message; ``bad`` is why it can't be used.

        Raises:
            WrongTopic: nine of ten can't, of the last 100 to 1,000.
        """
        self._messages += 1
        self._bad += bool(bad)
        if self._messages >= LEAST and self._bad >= BAD_SHARE * self._messages:
            msg = (
                f"{self._bad:,} of {self._messages:,} messages in {self._topic} can't be used, the "
                f"last because of: {bad}. Is it the right topic, written by our probes?"
            )
            raise WrongTopic(msg)
        if self._messages >= CHECKED:
            self._messages = self._bad = 0


class DeadLetters:
    """Writes messages that can't be used to their topic.

    They are written at least once: after a restart some may come again, and can be told by
    topic, partition and offset. A letter that can't be written is counted as such and doesn't
    hold the packets up. Safe to use from several worker threads.

    Args:
        properties: of the producer.
        topic: of dead letters.
    """

    def __init__(self, properties: dict[str, Any], topic: str) -> None:
        self.kinds: Counter[str] = Counter()
        self.unwritten = 0
        self._properties = {**properties, "message.max.bytes": MAX_BYTES}
        self._topic = topic
        self._producer: Any = None
        self._stuck = False
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Messages that could not be used."""
        return self.kinds.total()

    def send(self, message: Any, kind: str, reason: str) -> None:
        """Keep a message of a consumer; never fails. Waits only for room in the queue.

        Args:
            message: as librdkafka gave it.
            kind: of fault, one of few: what is counted.
            reason: what is wrong with this one.
        """
        with self._lock:
            if not self.kinds[kind]:
                logs.get("kafka").warning(
                    "unusable message",
                    topic=message.topic(),
                    partition=message.partition(),
                    offset=message.offset(),
                    reason=reason,
                )
            self.kinds[kind] += 1
            if self._producer is None:
                self._producer, _ = connect(Producer, self._properties)
            place = f"{message.topic()}/{message.partition()}/{message.offset()}"
            letter = DeadLetter(
                message.topic(),
                message.partition(),
                message.offset(),
                message.timestamp()[1],
                reason,
                message.value() or b"",
            )
            value = encode_dead_letter(letter)
            try:
                try:
                    self._produce(place, value)
                except BufferError:
                    self._wait()
                    self._produce(place, value)
            except (BufferError, KafkaException) as error:
                self._lost(str(error))

    def flush(self) -> None:
        """Wait until all is written, before a position says that it was dealt with.

        A few seconds at most; and not at all while the topic takes nothing.
        """
        if self._producer is not None:
            with self._lock:
                self._wait()

    def close(self) -> None:
        """Write what waits, within a few seconds, and say how many there were."""
        with self._lock:
            if self._producer is None:
                return
            left = self._producer.flush(_WAIT_S)
            self._producer = None
            if left:
                self._lost("no answer", left)
            logs.get("kafka").warning(
                "unusable messages", count=self.count, unwritten=self.unwritten, **self.kinds
            )

    def _produce(self, place: str, value: bytes) -> None:
        self._producer.produce(self._topic, value, key=place, on_delivery=self._written)
        self._producer.poll(0)

    def _wait(self) -> None:
        if self._producer is not None and len(self._producer):
            self._stuck = self._producer.flush(0 if self._stuck else _WAIT_S) > 0

    def _written(self, error: Any, message: Any) -> None:
        if error is not None:
            self._lost(error.str())

    def _lost(self, why: str, count: int = 1) -> None:
        if not self.unwritten:
            logs.get("kafka").warning("dead letter not written", topic=self._topic, reason=why)
        self.unwritten += count
