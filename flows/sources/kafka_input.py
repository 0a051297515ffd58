"""The topic of packets as logs: which partitions there are, and where each is read on."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol

from flows.errors import UsageError
from flows.kafka import topics
from flows.kafka.client import Cluster, properties
from flows.settings import Settings
from flows.sources.dead_letters import DeadLetters
from flows.sources.kafka import KafkaLog, consumer_properties
from flows.sources.logs import PacketLog
from flows.sources.pace import MAX_LEAD_PANES, Pace
from flows.sources.partition_watch import PartitionWatch
from flows.windows.position import Position, PositionError
from flows.windows.receiver import ReceiverConfig
from schemas.remote_registry import RemoteRegistry

_SHAPING: Final[dict[str, Any]] = {
    "window": {"pane", "lateness", "idle", "max_skew", "max_flows"},
    "tenants": True,
    "max_tenants": True,
    "seed": True,
}
"""Settings that decide which packets a unit holds."""


class PositionStore(Protocol):
    """What of the store is needed here."""

    def newest_commit(self, topic: str, partition: str) -> int:
        """Offset of the newest unit that is stored; -1 for none."""

    def position(self, topic: str, partition: str) -> tuple[str, str] | None:
        """Where to read on, and the digest of the settings with which it was read."""


def find(
    settings: Settings, store: PositionStore
) -> Mapping[str, Callable[[str | None], PacketLog]]:
    """Look for the topic, and make a log for each of its partitions.

    Raises:
        BrokerError: Kafka can't be reached, or the topic can't be made.
        UsageError: a property of a client can't be used.
    """
    kafka = settings.kafka
    cluster = Cluster(kafka)
    wanted = {kafka.topics.packets, kafka.topics.dlq, kafka.topics.alerts}
    plans = [plan for plan in topics.plans(kafka.topics) if plan.name in wanted]
    for name, what in topics.create(cluster, plans).items():
        if what == "created":
            print(f"netspectra: topic {name} created", file=sys.stderr)
    count = len(cluster.metadata().topics[kafka.topics.packets].partitions)
    PartitionWatch(cluster, kafka.topics.packets, count)
    config = receiver_config(settings)
    found = consumer_properties(properties(kafka, group_id=kafka.group), kafka.out_of_range)
    pace = Pace(MAX_LEAD_PANES * settings.window.pane_ns)
    dead_letters = DeadLetters(properties(kafka), kafka.topics.dlq)
    shape = shaping_digest(settings)
    url = kafka.schema_registry
    resolve = RemoteRegistry(url).resolve if url else None

    def tell(position: Position | None) -> None:
        where = "the beginning" if position is None else "where the last run stopped"
        print(
            f"netspectra: reading topic {kafka.topics.packets} at {found['bootstrap.servers']}, "
            f"{count} partition{'' if count == 1 else 's'}, from {where}",
            file=sys.stderr,
        )

    def log_of(number: int) -> Callable[[str | None], PacketLog]:
        def make(recovered: str | None) -> PacketLog:
            position = choose(store, kafka.topics.packets, str(number), recovered, shape)
            return KafkaLog(
                found,
                kafka.topics.packets,
                number,
                config=config,
                position=position,
                pace=pace,
                dead_letters=dead_letters,
                resolve=resolve,
                # One of all workers and processes has partition 0, and tells for all.
                on_answer=partial(tell, position) if number == 0 else None,
            )

        return make

    return {str(number): log_of(number) for number in range(count)}


def receiver_config(settings: Settings) -> ReceiverConfig:
    """What is accepted from the wire."""
    return ReceiverConfig(
        tenants=frozenset(settings.tenants),
        max_tenants=settings.max_tenants,
        idle_ns=settings.window.idle_ns,
        max_skew_ns=settings.window.max_skew_ns,
        ingress_of_several=settings.window.count == "auto",
    )


def shaping_digest(settings: Settings) -> str:
    """16 hexadecimal digits over the settings that decide which packets a unit holds."""
    text = json.dumps(settings.model_dump(mode="json", include=_SHAPING), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def choose(
    store: PositionStore, topic: str, partition: str, recovered: str | None, shape: str
) -> Position | None:
    """Where to read a partition on: the earlier of what recovery and the store say.

    Recovery's place is the right one for the horizons, and the sink leaves out units that the
    store has. Only a store that has less than recovery believes is asked itself; horizons leave
    out what they have.

    Raises:
        UsageError: it can't be read on with these settings or this version.
    """
    place = f"{topic}/{partition}"
    stored = store.position(topic, partition)
    if stored is not None and stored[1] != shape:
        msg = (
            f"{place} was read with other settings (window.pane, lateness, idle, max_skew, "
            "max_flows, tenants, max_tenants or seed), so its open panes can't be gone on with: "
            "set them back, or name another store"
        )
        raise UsageError(msg)
    try:
        known = Position.from_text(stored[0]) if stored is not None else None
        resumed = Position.from_text(recovered) if recovered else None
    except PositionError as error:
        msg = f"{place}: {error}; start with the version that wrote it, or with another store"
        raise UsageError(msg) from error
    if resumed is None:
        return known
    if store.newest_commit(topic, partition) >= resumed.last_unit:
        return resumed
    where = "its beginning" if known is None else f"offset {known.offset}"
    print(
        f"netspectra: the store has less of {place} than the recovery files say: reading it again "
        f"from {where}",
        file=sys.stderr,
    )
    return known
