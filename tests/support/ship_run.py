"""An agent that runs in a thread, and what must come of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from probe.errors import ShipError
from probe.ship.agent import Agent
from probe.ship.batcher import Batcher
from probe.ship.kafka import KafkaOptions, KafkaShipper
from probe.synthetic import Traffic
from schemas.record import PACKET, Packets

QUICK = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 10}


def even(packets: int) -> Traffic:
    """Traffic spread over partitions, since mock clusters keep 5 MB of each."""
    return Traffic(profile="zipf", skew=0.0, packets=packets, active_flows=5_000)


class Run:
    """An agent, with what it read and said; as a context in a thread of its own."""

    def __init__(self, brokers: str, capture: Any, **options: Any) -> None:
        self.lines: list[str] = []
        self.read: list[Packets] = [np.empty(0, PACKET)]
        self.capture = capture
        emit = {k: options.pop(k) for k in ("emit_time_ns",) if k in options}
        self.shipper = KafkaShipper(
            KafkaOptions(brokers=brokers, properties=QUICK, **options), self.lines.append
        )
        self.batcher = Batcher(
            partitions=self.shipper.partitions,
            tenant="t",
            probe="p",
            boot_id=bytes(range(16)),
        )
        self.agent = Agent(
            capture,
            self.shipper,
            self.batcher,
            taps=[lambda packets: self.read.append(packets.copy())],
            report=self.lines.append,
            **emit,
        )
        self.result: bool | BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.result = self.agent.run()
        except ShipError as error:
            self.result = error

    def __enter__(self) -> Run:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.agent.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def until(self, happened: Callable[[], bool], limit_s: float = 60) -> None:
        end_s = time.monotonic() + limit_s
        while not happened():
            assert time.monotonic() < end_s, (self.agent.status, self.lines)
            time.sleep(0.02)

    def packets(self) -> Packets:
        return np.concatenate(self.read)
