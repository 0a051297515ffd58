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

_CLOSE_S: Final = 5.0


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

    They are reported at least once: after a restart some may come again, and can be told by
    topic, partition and offset. A letter that can't be written is counted as such. Safe to use
    from several worker threads.

    Args:
        properties: of the producer.
        topic: of dead letters.
    """

    def __init__(self, properties: dict[str, Any], topic: str) -> None:
        self.reasons: Counter[str] = Counter()
        self.unwritten = 0
        self._properties = properties
        self._topic = topic
        self._producer: Any = None
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Messages that could not be used."""
        return self.reasons.total()

    def send(self, message: Any, reason: str) -> None:
        """Keep a message of a consumer; never blocks, never fails."""
        with self._lock:
            kind = reason.partition(":")[0]
            if not self.reasons[kind]:
                logs.get("kafka").warning(
                    "unusable message",
                    topic=message.topic(),
                    partition=message.partition(),
                    offset=message.offset(),
                    reason=reason,
                )
            self.reasons[kind] += 1
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
            try:
                self._producer.produce(
                    self._topic,
                    encode_dead_letter(letter),
                    key=place,
                    on_delivery=self._written,
                )
                self._producer.poll(0)
            except (BufferError, KafkaException):
                self.unwritten += 1

    def close(self) -> None:
        """Write what waits, within a few seconds."""
        with self._lock:
            if self._producer is not None:
                self.unwritten += self._producer.flush(_CLOSE_S)
                self._producer = None

    def _written(self, error: Any, message: Any) -> None:
        if error is not None:
            self.unwritten += 1
