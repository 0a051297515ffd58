"""A probe in a process of its own, to be killed: ``python -m tests.support.ship_process``.

What it sees and sends is written to a file of 64-bit numbers that outlives it: boot id (2),
packets seen, packets dropped, then sequences and packets by partition.
"""

from __future__ import annotations

import mmap
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from probe.live import CaptureCounts
from probe.ship.agent import Agent
from probe.ship.batcher import Batcher
from probe.ship.kafka import KafkaOptions, KafkaShipper
from probe.synthetic import Traffic
from schemas.record import Packets
from tests.support.synthetic_capture import SyntheticCapture

MOST_PARTITIONS = 16


class PinnedCapture(SyntheticCapture):
    """Keeps its counters in memory that outlives the process."""

    def __init__(self, traffic: Traffic, rate: float, words: Packets) -> None:
        super().__init__(traffic, rate)
        self._totals = words[2:4]
        self.sent_state = state_of(words)

    def _pass(self) -> None:
        super()._pass()
        self._totals[:] = self._offered, self._ring_full


def state_of(words: Packets) -> SimpleNamespace:
    return SimpleNamespace(
        boot_id=words[:2].view(np.uint8),
        sequences=words[4 : 4 + MOST_PARTITIONS],
        packets=words[4 + MOST_PARTITIONS :],
        ended=np.zeros(1, np.uint64),
    )


def unclean_of(path: Path) -> SimpleNamespace:
    """What a killed process left."""
    words = np.frombuffer(path.read_bytes(), np.uint64)
    state = state_of(words)
    return SimpleNamespace(
        boot_id=state.boot_id.tobytes(),
        sequences=state.sequences.tolist(),
        packets=state.packets.tolist(),
        counts=CaptureCounts(int(words[2]), {"ring_full": int(words[3])}),
        ended=state.ended,
    )


def main(brokers: str, path: Path, rate: float) -> None:
    whole = path.with_suffix(".whole")
    whole.write_bytes(bytes(8 * (4 + 2 * MOST_PARTITIONS)))
    with whole.open("r+b") as file:
        words = np.frombuffer(mmap.mmap(file.fileno(), 0), np.uint64)
    whole.rename(path)
    shipper = KafkaShipper(KafkaOptions(brokers=brokers))
    traffic = Traffic(profile="zipf", skew=0.0, packets=10**9, active_flows=5_000)
    batcher = Batcher(
        partitions=shipper.partitions, tenant="t", probe="p", boot_id=uuid.uuid4().bytes
    )
    Agent(PinnedCapture(traffic, rate, words), shipper, batcher).run()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
