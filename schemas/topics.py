"""How the topic of packets is made, whoever makes it first: a probe or the dataflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PACKETS_PARTITIONS: Final = 12

_HOUR_MS: Final = 3_600_000

OWN_TIME: Final[Mapping[str, str]] = {"message.timestamp.type": "LogAppendTime"}
"""The log's own time, so that a probe's wrong clock neither keeps data for ever nor loses it."""

PACKETS_CONFIG: Final[Mapping[str, str]] = {
    "retention.ms": str(6 * _HOUR_MS),
    # Segments are deleted whole, and only once nothing is added to them.
    "segment.ms": str(_HOUR_MS),
    **OWN_TIME,
}
"""Kafka's topic settings."""

_MAX_REPLICAS: Final = 3


def replicas(brokers: int) -> int:
    """Copies of each partition in a cluster of so many brokers: three, if there are as many."""
    return min(_MAX_REPLICAS, brokers)
