"""Notices when a topic gets more partitions than a run reads."""

from __future__ import annotations

import threading
from typing import Final

from flows import logs
from flows.kafka.client import BrokerError, Cluster

LOOK_EVERY_S: Final = 60.0


class PartitionWatch:
    """Looks at a topic now and then, beside the dataflow.

    The engine fixes its partitions at the start, so new ones are read from the next start on.
    Until then their messages wait in Kafka, and a warning says so.

    Args:
        cluster: where the topic is.
        topic: its name.
        known: partitions that the run reads.
        every_s: seconds between looks.
    """

    def __init__(
        self, cluster: Cluster, topic: str, known: int, every_s: float = LOOK_EVERY_S
    ) -> None:
        self.found = known
        self._cluster = cluster
        self._topic = topic
        self._known = known
        self._every_s = every_s
        self._stop = threading.Event()
        threading.Thread(target=self._look, daemon=True, name="partitions").start()

    def close(self) -> None:
        """Look no more."""
        self._stop.set()

    def _look(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                topic = self._cluster.metadata().topics.get(self._topic)
            except BrokerError:
                continue  # the consumers say so
            count = 0 if topic is None else len(topic.partitions)
            if count > self.found:
                self.found = count
                logs.get("kafka").warning(
                    "new partitions wait for a restart",
                    topic=self._topic,
                    partitions=count,
                    read=self._known,
                )
