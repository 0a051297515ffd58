"""Part ``whole``: messages decoded, panes closed, default tasks, rows stored, by the real dataflow.

Each traffic runs in a fresh process with a store of its own. Packets are generated and encoded
in bursts between the measured stretches; what that costs is taken off both clocks.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from flows.benchmarks import fresh, inputs
from flows.benchmarks.measure import Figure, Goal, Stopwatch
from flows.benchmarks.panes import CONFIG, accumulator, default_tasks
from flows.benchmarks.sizes import Sizes
from flows.errors import NetSpectraError
from flows.sources.logs import LogProgress, PacketLog
from flows.windows.partition import PartitionAccumulator, WindowConfig
from probe.synthetic import Traffic
from schemas.batch import MAX_RECORDS, decode_batch

_BURST_MESSAGES: Final = 32
_WARM_PACKETS: Final = 20_000
_WARM_FLOWS: Final = 2_000
_MOST_MB: Final = 1500


class MessageLog(PacketLog):
    """Traffic as PacketBatch messages: a partition's log, with each message decoded in its turn.

    Args:
        traffic: what the messages hold.

    Attributes:
        cpu_s: spent on generating and encoding.
        wall_s: likewise.
    """

    def __init__(self, traffic: Traffic) -> None:
        self.progress = LogProgress(size=traffic.packets)
        self.cpu_s = 0.0
        self.wall_s = 0.0
        self.faults: list[str] = []
        self._traffic = traffic
        self._messages: deque[bytes] = deque()
        self._next = 0

    def open(self, accumulator: PartitionAccumulator) -> None:
        """The accumulator has its stream already."""

    def read_message(self, accumulator: PartitionAccumulator) -> bool:
        """Decode and aggregate one message; False when there is none."""
        if not self._messages:
            self._encode_burst()
        if not self._messages:
            return False
        _, packets = decode_batch(self._messages.popleft())
        accumulator.absorb(packets, 0, 0)
        self.progress.packets += len(packets)
        return True

    def close(self) -> None:
        """Nothing is held."""

    def _encode_burst(self) -> None:
        cpu_s, wall_s = time.thread_time(), time.perf_counter()
        for number in range(self._next, self._next + _BURST_MESSAGES):
            packets = self._traffic.batch(number, MAX_RECORDS)
            if len(packets):
                self._messages.append(inputs.encode(packets, number))
        self._next += _BURST_MESSAGES
        self.cpu_s += time.thread_time() - cpu_s
        self.wall_s += time.perf_counter() - wall_s


def run(profile: str, packets: int, packets_per_second: float, **parameters: Any) -> dict[str, Any]:
    """Run the dataflow over synthetic traffic, in this process.

    Returns:
        ``packets`` offered and ``stored`` (as ``totals`` has them), ``flow_packets`` (as
        ``flows`` has them), ``flow_rows``, ``cpu_s``, ``wall_s``, ``event_s``, ``peak_bytes``.
    """
    from flows.storage.store import Store

    traffic = inputs.traffic(profile, packets, packets_per_second, **parameters)
    log = MessageLog(traffic)
    with tempfile.TemporaryDirectory(prefix="netspectra-bench-") as directory:
        # Once at a small scale, folding too: what is loaded or compiled isn't counted.
        with Store.open(f"chdb:{directory}/warm", serve=False) as store:
            tiny = inputs.traffic(profile, _WARM_PACKETS, packets_per_second)
            _run(MessageLog(tiny), store, replace(CONFIG, max_flows=_WARM_FLOWS))
        with Store.open(f"chdb:{directory}/store", serve=False) as store:
            watch = Stopwatch()
            _run(log, store, CONFIG)
            took = watch.read(packets)
            peak_bytes = fresh.peak_bytes()
            flows = store.query("SELECT count() AS n, sum(packets) AS packets FROM flows")
            totals = store.query("SELECT sum(packets) AS packets FROM totals")
    return {
        "packets": packets,
        "stored": totals["packets"][0].as_py(),
        "flow_packets": flows["packets"][0].as_py(),
        "flow_rows": flows["n"][0].as_py(),
        "cpu_s": took.cpu_s - log.cpu_s,
        "wall_s": took.wall_s - log.wall_s,
        "event_s": traffic.span_ns / 1e9,
        "peak_bytes": peak_bytes,
    }


def _run(log: MessageLog, store: Any, config: WindowConfig) -> None:
    from bytewax._bytewax import cli_main

    from flows import detection, pipeline
    from flows.detect import registry
    from flows.job import EPOCH
    from flows.operators.detect import Detection
    from flows.settings.model import Settings, Window
    from flows.sinks.alerts import AlertSink
    from flows.sinks.result_rows import Context
    from flows.sinks.store import ResultSink, StoredCounts, UnitSink
    from flows.sources.partitions import LogSource

    tasks = default_tasks()
    rules = registry.rules(Settings())
    fed = detection.merged(tasks, rules)
    dataflow = pipeline.build(
        LogSource({"0": lambda _: (log, accumulator(fed, config))}),
        UnitSink(store, StoredCounts()),
        ResultSink(store, Context([""])),
        AlertSink(store),
        tasks=tasks,
        horizons_ns=Window().horizons_ns,
        partitions=["bench/0"],
        detection=Detection(rules),
        recovers=False,
    )
    cli_main(dataflow, workers_per_process=1, epoch_interval=EPOCH)


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Measure the part."""
    zipf = {"active_flows": sizes.active_flows, "seed": sizes.seed}
    yield from _figures("zipf", sizes.zipf_packets, 5e6, Goal(5e6), **zipf)
    yield from _figures("flood", sizes.flood_packets, 1.5e6, Goal(1.5e6), seed=sizes.seed)
    yield from _figures("demo", sizes.demo_packets, 2e4, None, seed=sizes.seed)


def _figures(
    profile: str, packets: int, rate: float, goal: Goal | None, **parameters: int
) -> Iterator[Figure]:
    done = fresh.call(
        f"{__name__}:run",
        profile=profile,
        packets=packets,
        packets_per_second=rate,
        **parameters,
    )
    name = f"{profile} at {rate:,.0f} packets/s"
    if not packets == done["stored"] == done["flow_packets"]:
        lost = f"{done['stored']:,} in totals, {done['flow_packets']:,} in flows"
        msg = f"{name}: {packets:,} packets were offered, but stored are {lost}"
        raise NetSpectraError(msg)
    yield Figure("whole", name, packets / done["cpu_s"], "packets/CPU s", goal=goal)
    yield Figure("whole", f"{name}, by the clock", packets / done["wall_s"], "packets/s")
    busy = 100 * done["cpu_s"] / done["event_s"]
    yield Figure("whole", f"{name}, load at that rate", busy, "% of a core")
    memory = Goal(_MOST_MB, at_least=False) if profile == "flood" else None
    yield Figure("whole", f"{name}, peak memory", done["peak_bytes"] / 1e6, "MB", goal=memory)
