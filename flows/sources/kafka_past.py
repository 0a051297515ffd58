"""What a topic of packets holds now, read once: nothing is committed, made or written there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition
from typing_extensions import override

from flows.errors import NetSpectraError
from flows.kafka.client import ANSWER_TIMEOUT_S, Cluster, connect, properties
from flows.settings import Settings
from flows.sources.dead_letters import DeadLetters
from flows.sources.kafka import KafkaLog, consumer_properties
from flows.sources.kafka_input import receiver_config
from flows.sources.logs import PacketLog
from flows.sources.pace import MAX_LEAD_PANES, Pace
from flows.windows.partition import PartitionAccumulator
from schemas.remote_registry import RemoteRegistry

_ANYWHERE: Final = "earliest"
"""Where to read on when what was asked for has just been removed by retention."""


class PastLog(KafkaLog):
    """A Kafka partition up to an offset; ended, it is like a capture that was read.

    Args:
        first: offset to begin with.
        end: offset behind the last message.
        pace: shared by the partitions of the process.
        more: what ``KafkaLog`` takes.
    """

    kept = False

    def __init__(self, *, first: int, end: int, pace: Pace, **more: Any) -> None:
        super().__init__(position=None, pace=pace, **more)
        self._first = first
        self._end = end
        self.progress.size = max(end - first, 1)

    @override
    def open(self, accumulator: PartitionAccumulator) -> None:
        super().open(accumulator)
        self._consumer.assign([TopicPartition(self._topic, self._partition, self._first)])

    @override
    def read_message(self, accumulator: PartitionAccumulator) -> bool:
        if self._first >= self._end or self.offset + 1 >= self._end or self.caught_up:
            # Who has ended holds nobody back.
            self._pace.note(self._name, accumulator.watermark_ns, caught_up=True)
            return False
        super().read_message(accumulator)
        self.progress.position = max(self.offset + 1 - self._first, 0)
        return True

    @override
    def position(self, last_unit: int) -> str:
        return ""

    @override
    def commit(self) -> None:
        return


class _Uncollected(DeadLetters):
    """Counts messages that can't be used, and leaves them where they are."""

    @override
    def send(self, message: Any, kind: str, reason: str) -> None:
        self.kinds[kind] += 1


def find(
    settings: Settings, since_ns: int | None
) -> Mapping[str, Callable[[str | None], PacketLog]]:
    """Look what the topic holds now, and make a log for each of its partitions.

    Args:
        settings: where the topic is.
        since_ns: only messages that Kafka got at or after this Unix time; None for all.

    Raises:
        BrokerError: Kafka can't be reached.
        NetSpectraError: there is no such topic.
    """
    kafka = settings.kafka
    topic = kafka.topics.packets
    cluster = Cluster(kafka)
    known = cluster.metadata().topics.get(topic)
    if known is None or not known.partitions:
        msg = f"there is no topic {topic} at {kafka.brokers}: see netspectra topics list"
        raise NetSpectraError(msg)
    found = consumer_properties(properties(kafka, group_id=f"{kafka.group}.backtest"), _ANYWHERE)
    consumer, _ = connect(Consumer, found)
    try:
        with cluster.explained():
            spans = {n: _span(consumer, topic, n, since_ns) for n in sorted(known.partitions)}
    finally:
        consumer.close()
    pace = Pace(MAX_LEAD_PANES * settings.window.pane_ns)
    dead_letters = _Uncollected(properties(kafka), kafka.topics.dlq)
    url = kafka.schema_registry
    resolve = RemoteRegistry(url).resolve if url else None

    def log_of(number: int) -> Callable[[str | None], PacketLog]:
        first, end = spans[number]
        return lambda _: PastLog(
            first=first,
            end=end,
            pace=pace,
            properties=found,
            topic=topic,
            partition=number,
            config=receiver_config(settings),
            dead_letters=dead_letters,
            resolve=resolve,
        )

    return {str(number): log_of(number) for number in spans}


def _span(consumer: Any, topic: str, partition: int, since_ns: int | None) -> tuple[int, int]:
    """The first offset to read, and that behind the last."""
    at = TopicPartition(topic, partition)
    first, end = consumer.get_watermark_offsets(at, timeout=ANSWER_TIMEOUT_S)
    if since_ns is not None:
        at.offset = since_ns // 10**6
        (found,) = consumer.offsets_for_times([at], timeout=ANSWER_TIMEOUT_S)
        first = found.offset if found.offset >= 0 else end  # negative: nothing so new
    return first, end
