"""Detection over made-up traffic without the engine and a store: what they drive, called in turn.

The same classes as in the job see the same units in the same order, so the alerts are the same;
a scenario takes a second instead of ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from flows.detect.alert import Alert
from flows.detect.policy import RuleSpec, Wishes
from flows.detect.rule import RuleAtWork
from flows.detect.updates import update_for
from flows.detection import merged, policy_of
from flows.job import window_of
from flows.settings import Settings
from flows.sources.logs import LogProgress, PacketLog
from flows.windows.networks import Networks
from flows.windows.partition import PartitionAccumulator
from flows.windows.tasks import Task
from flows.windows.unit import Stream, Unit
from schemas.record import Packets

TENANT = "bench"
TOPIC = "bench"


class PacketsLog(PacketLog):
    """Arrays of packets as one partition, each a message.

    Args:
        arrays: in order of time.
        start_ns: Unix time before which nothing comes.
    """

    def __init__(self, arrays: Iterable[Packets], start_ns: int) -> None:
        self._arrays = iter(arrays)
        self._start_ns = start_ns
        self.progress = LogProgress()
        self.faults: list[str] = []

    def open(self, accumulator: PartitionAccumulator) -> None:
        """Register the one stream."""
        accumulator.advance(accumulator.add_stream(Stream(TENANT, TENANT)), self._start_ns)

    def read_message(self, accumulator: PartitionAccumulator) -> bool:
        """Hand over the next array."""
        packets = next(self._arrays, None)
        if packets is None:
            return False
        accumulator.absorb(packets, 0, 0)
        self.progress.packets += len(packets)
        return True

    def close(self) -> None:
        """Nothing is held."""


def units(log: PacketLog, accumulator: PartitionAccumulator) -> Iterator[Unit]:
    """What the messages of a log close, one after the other."""
    log.open(accumulator)
    number = 0
    while log.read_message(accumulator):
        unit = accumulator.end_message(number)
        number += 1
        if unit is not None:
            yield unit
    yield accumulator.end(number)


def accumulator(settings: Settings, tasks: Sequence[Task]) -> PartitionAccumulator:
    """The one partition's."""
    networks = Networks(settings.networks)
    return PartitionAccumulator(TOPIC, "0", window_of(settings), tasks, networks)


def watch(log: PacketLog, settings: Settings, rules: Sequence[RuleSpec]) -> list[Alert]:
    """All revisions of the alerts that rules raise over a log, in order.

    Args:
        log: what happens.
        settings: how time is cut and alerts are treated.
        rules: that look at it.
    """
    policy, places = policy_of(settings), [f"{TOPIC}/0"]
    working = [(rule, RuleAtWork(rule, policy, Wishes(), partitions=places)) for rule in rules]
    found: list[Alert] = []
    for unit in units(log, accumulator(settings, merged([], rules))):
        for rule, work in working:
            found += work.apply(update_for(rule, unit))
    return found
