"""Runs of the main job's parts on packets in memory, and what the store holds afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
from bytewax._bytewax import cli_main

from flows import pipeline
from flows.operators.detect import Detection
from flows.settings import DEFAULT_TASKS
from flows.settings.model import INTERNAL
from flows.sinks.alerts import AlertSink
from flows.sinks.result_rows import Context
from flows.sinks.store import ResultSink, RowStore, StoredCounts, UnitSink
from flows.sources.logs import LogProgress, PacketLog
from flows.sources.partitions import LogPartition, LogSource, Partition
from flows.storage.reader import open_for_reading
from flows.storage.store import Store
from flows.windows.configured import tasks_of
from flows.windows.control import RunControl
from flows.windows.horizons import WindowResult
from flows.windows.networks import Networks
from flows.windows.partition import PartitionAccumulator, WindowConfig
from flows.windows.tasks import Task
from flows.windows.unit import Stream, Unit
from schemas.record import Packets
from tests.support.horizons import OneTenant, update_of

ROOT: Final = Path(__file__).parent.parent.parent
SECOND: Final = 10**9
TASKS: Final = tasks_of(DEFAULT_TASKS)
HORIZONS_NS: Final = (2 * SECOND, 60 * SECOND, 600 * SECOND)
NETWORKS: Final = Networks({"internal": INTERNAL})

Results = dict[tuple[str, int, int], list[WindowResult]]
"""Revisions by task, horizon and start, in order of publication."""

_numbers = count()


class ArrayLog(PacketLog):
    """Packets in memory as one partition of one stream, in messages of so many packets."""

    def __init__(
        self,
        packets: Packets,
        *,
        message: int = 1000,
        batch: int = 8192,
        stream: Stream | None = None,
        first_ns: int | None = None,
    ) -> None:
        self._packets, self._message, self._batch = packets, message, batch
        self._stream = stream or Stream("t", "p")
        self._first_ns = first_ns
        self.progress = LogProgress(size=len(packets))
        self.faults: list[str] = []

    def open(self, accumulator: PartitionAccumulator) -> None:
        first_ns = self._first_ns
        if first_ns is None:
            first_ns = int(self._packets["ts_ns"][0]) if len(self._packets) else 0
        accumulator.advance(accumulator.add_stream(self._stream), first_ns)

    def read_message(self, accumulator: PartitionAccumulator) -> bool:
        first = self.progress.packets
        end = min(first + self._message, len(self._packets))
        for start in range(first, end, self._batch):
            accumulator.absorb(self._packets[start : min(start + self._batch, end)], 0, 0)
        self.progress.packets = end
        return end > first

    def close(self) -> None:
        pass


def units_of(
    packets: Packets,
    *,
    config: WindowConfig | None = None,
    tasks: Sequence[Task] = TASKS,
    topic: str = "log",
    partition: str = "0",
    **log: Any,
) -> list[Unit]:
    """All units that the packets give, by the real partition of the source, without bytewax."""
    accumulator = PartitionAccumulator(topic, partition, config or WindowConfig(), tasks, NETWORKS)
    reader = LogPartition(ArrayLog(packets, **log), accumulator, RunControl())
    units: list[Unit] = []
    while True:
        try:
            units += reader.next_batch()
        except StopIteration:
            return units


def merge(
    units: Iterable[Unit],
    *,
    tasks: Sequence[Task] = TASKS,
    horizons_ns: Sequence[int] = HORIZONS_NS,
    tenant: str = "t",
) -> Results:
    """All results of the units' tasks, the units being applied in the order given."""
    units = list(units)
    partitions = sorted({f"{unit.topic}/{unit.partition}" for unit in units})
    results: Results = {}
    for task in tasks:
        horizons = OneTenant(horizons_ns, partitions)
        for unit in units:
            for result in horizons.apply(update_of(unit, task, tenant)):
                key = (task.name, result.horizon_ns, result.start_ns)
                results.setdefault(key, []).append(result)
    return results


def figures(results: Results) -> dict[tuple[str, int, int], Any]:
    """The newest revision of each result as comparable figures: an estimate or rankings."""
    by_name = {task.name: task for task in TASKS}
    out = {}
    for key, revisions in results.items():
        sketch: Any = revisions[-1].sketch
        assert revisions[-1].revision, "a late correction is no result of its own"
        task = by_name[key[0]]
        if task.kind == "distinct":
            out[key] = (sketch.estimate(), sketch.to_bytes())
        elif task.kind == "frequency":
            out[key] = sketch.top(task.top, task.share)
        else:
            out[key] = sketch.top(task.top)
    return out


def split(packets: Packets, parts: int) -> list[Packets]:
    """Packets by unordered address pair, so that conversations stay together, in order."""
    mixed = np.bitwise_xor(packets["src_addr"], packets["dst_addr"]).sum(axis=1) % parts
    return [packets[mixed == part] for part in range(parts)]


def run_flow(
    store: RowStore,
    tenant: str,
    logs: Sequence[Packets],
    *,
    workers: int = 1,
    config: WindowConfig | None = None,
    topic: str | None = None,
    horizons_ns: Sequence[int] = HORIZONS_NS,
    control: RunControl | None = None,
    **log: Any,
) -> StoredCounts:
    """Run the real dataflow, a partition for each of ``logs``, under a topic of its own."""
    topic = topic or f"test:{tenant}:{next(_numbers)}"
    control = control or RunControl()
    counts = StoredCounts()

    def partition(name: str, packets: Packets) -> Partition:
        def make(_: str | None) -> tuple[ArrayLog, PartitionAccumulator]:
            accumulator = PartitionAccumulator(
                topic, name, config or WindowConfig(), TASKS, NETWORKS
            )
            return ArrayLog(packets, stream=Stream(tenant, "p"), **log), accumulator

        return make

    partitions = {str(n): partition(str(n), packets) for n, packets in enumerate(logs)}
    flow = pipeline.build(
        LogSource(partitions, control),
        UnitSink(store, counts, control),
        ResultSink(store, Context(NETWORKS.names), control),
        AlertSink(store, control),
        tasks=TASKS,
        horizons_ns=horizons_ns,
        partitions=[f"{topic}/{name}" for name in partitions],
        detection=Detection(),
        recovers=False,
    )
    cli_main(flow, workers_per_process=workers, epoch_interval=timedelta(seconds=10))
    return counts


_FLOW_KEY: Final = (
    "window_start, src_addr, dst_addr, src_port, dst_port, ip_proto, eth_type, vlan_id, "
    "tunnel_id, if_index, if_name, direction, capture_point, src_net, dst_net, sampling_rate"
)
_TOTALS: Final = (
    "sum(packets), sum(bytes), sum(records), sum(late_packets), sum(ipv4_packets), "
    "sum(ipv6_packets), sum(other_packets), sum(tcp_packets), sum(udp_packets), "
    "sum(icmp_packets), sum(other_proto_packets)"
)
_COMPARED: Final[Mapping[str, str]] = {
    "flows": (
        f"SELECT {_FLOW_KEY}, sum(packets), sum(bytes), min(first_seen), max(last_seen), "
        f"groupBitOr(tcp_flags), sum(folded_flows) FROM flows WHERE %s GROUP BY {_FLOW_KEY}"
    ),
    "panes": (
        "SELECT window_start, eth_type, sum(packets), sum(bytes) FROM flows WHERE %s "
        "GROUP BY window_start, eth_type"
    ),
    "flows_1m": (
        "SELECT window_start, src_addr, dst_addr, dst_port, ip_proto, eth_type, sum(packets), "
        "sum(bytes), min(first_seen), max(last_seen), groupBitOr(tcp_flags) FROM flows_1m "
        "WHERE %s GROUP BY window_start, src_addr, dst_addr, dst_port, ip_proto, eth_type"
    ),
    "flows_1h": (
        "SELECT window_start, eth_type, sum(packets), sum(bytes) FROM flows_1h WHERE %s "
        "GROUP BY window_start, eth_type"
    ),
    "totals": (
        f"SELECT window_start, if_index, direction, capture_point, {_TOTALS} FROM totals "
        "WHERE %s GROUP BY window_start, if_index, direction, capture_point"
    ),
    "ledger": (
        "SELECT window_start, hop, sum(seen), sum(delivered), sum(in_flight), sumMap(dropped) "
        "FROM ledger WHERE %s GROUP BY window_start, hop"
    ),
    "distinct_counts": (
        "SELECT window_start, horizon, task, estimate, lower, upper, confidence, late_packets, "
        "complete FROM distinct_counts WHERE %s"
    ),
    "heavy_hitters": (
        "SELECT window_start, horizon, task, ranked_by, rank, key_text, packets, packets_lower, "
        "packets_upper, bytes, bytes_lower, bytes_upper, error, total_packets, total_bytes, "
        "confidence FROM heavy_hitters WHERE %s"
    ),
    "spreaders": (
        "SELECT window_start, horizon, task, rank, key_text, estimate, lower, upper, confidence "
        "FROM spreaders WHERE %s"
    ),
    # Which light keys the others hold depends on the order of merges.
    "sketches": (
        "SELECT window_start, horizon, task, kind, version, packets, complete, "
        "if(kind = 'cpc', hex(sketch), '') FROM sketches WHERE %s"
    ),
}


def tables(store: Store, tenant: str, names: Iterable[str] = _COMPARED) -> dict[str, list[Any]]:
    """What the store holds of a tenant: additive tables as sums by key, results as they are."""
    out = {}
    for name in names:
        rows = store.query(_COMPARED[name] % f"tenant = '{tenant}'").to_pylist()
        out[name] = sorted(tuple(map(_plain, row.values())) for row in rows)
    return out


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, list | dict | bytes) else value


def sums(store: Store, tenant: str) -> dict[str, tuple[int, int]]:
    """Packets and bytes of a tenant in each additive table."""
    out = {}
    for table in ("flows", "totals", "flows_1m", "flows_1h"):
        sql = f"SELECT sum(packets) AS p, sum(bytes) AS b FROM {table} WHERE tenant = '{tenant}'"
        (row,) = store.query(sql).to_pylist()
        out[table] = (row["p"], row["b"])
    return out


def committed(store: Store, topic: str) -> tuple[int, int]:
    """Packets and bytes of a topic's commits, each unit once."""
    sql = (
        "SELECT sum(packets) AS p, sum(bytes) AS b FROM "
        f"(SELECT DISTINCT partition, offset, packets, bytes FROM commits WHERE topic = '{topic}')"
    )
    (row,) = store.query(sql).to_pylist()
    return row["p"], row["b"]


def truth(packets: Packets) -> tuple[int, int]:
    """Packets and bytes."""
    return int(packets["packets"].sum()), int(packets["wire_bytes"].sum(dtype=np.uint64))


_FRAME: Final = np.dtype(
    [
        ("seconds", "<u4"),
        ("nanoseconds", "<u4"),
        ("captured", "<u4"),
        ("length", "<u4"),
        ("macs", "u1", 12),
        ("eth_type", ">u2"),
        ("version", "u1"),
        ("tos", "u1"),
        ("ip_length", ">u2"),
        ("id_and_offset", ">u4"),
        ("ttl", "u1"),
        ("protocol", "u1"),
        ("checksum", ">u2"),
        ("src", "u1", 4),
        ("dst", "u1", 4),
        ("src_port", ">u2"),
        ("dst_port", ">u2"),
        ("sequence", ">u4"),
        ("acknowledged", ">u4"),
        ("offset", "u1"),
        ("flags", "u1"),
        ("rest", "u1", 6),
    ]
)


def write_pcap(path: Path, packets: Packets, link_type: int = 1) -> Path:
    """Write IPv4 TCP and UDP packets as a capture with times in ns, only headers captured."""
    frames = np.zeros(len(packets), _FRAME)
    frames["seconds"], frames["nanoseconds"] = np.divmod(packets["ts_ns"], SECOND)
    frames["captured"] = _FRAME.itemsize - 16
    frames["length"] = packets["wire_bytes"]
    frames["eth_type"] = 0x0800
    frames["version"], frames["ttl"] = 0x45, 64
    frames["ip_length"] = packets["wire_bytes"] - 14
    frames["protocol"] = packets["ip_proto"]
    frames["src"], frames["dst"] = packets["src_addr"][:, 12:], packets["dst_addr"][:, 12:]
    frames["src_port"], frames["dst_port"] = packets["src_port"], packets["dst_port"]
    frames["offset"], frames["flags"] = 0x50, packets["tcp_flags"]
    head = np.array([0xA1B23C4D, 0x00040002, 0, 0, 65535, link_type], "<u4")
    path.write_bytes(head.tobytes() + frames.tobytes())
    return path


def ipv4_packets(
    rng: np.random.Generator,
    count: int,
    *,
    start_ns: int = 1_700_000_000 * SECOND,
    span_ns: int = 20 * SECOND,
    hosts: int = 50,
) -> Packets:
    """IPv4 TCP and UDP packets in order of time, as they come back from ``write_pcap``."""
    from schemas.record import PACKET

    packets = np.zeros(count, PACKET)
    packets["ts_ns"] = start_ns + np.sort(rng.integers(0, span_ns, count))
    for name in ("src_addr", "dst_addr"):
        packets[name][:, 10:12] = 0xFF
        packets[name][:, 12] = 10
        packets[name][:, 14] = rng.integers(0, hosts, count) >> 8
        packets[name][:, 15] = rng.integers(0, hosts, count) & 0xFF
    packets["eth_type"] = 0x0800
    packets["ip_proto"] = rng.choice([6, 17], count)
    packets["src_port"] = rng.integers(1024, 1034, count)
    packets["dst_port"] = rng.choice([53, 80, 443], count)
    packets["wire_bytes"] = rng.integers(60, 1515, count)
    packets["packets"] = 1
    return packets


def environment(**settings: str) -> dict[str, str]:
    """A process's environment with these settings and none of the developer's."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("NETSPECTRA_")}
    return {**keep, "PYTHONPATH": str(ROOT), **{f"NETSPECTRA_{k}": v for k, v in settings.items()}}


MAIN: Final = (sys.executable, "-m", "bytewax.run", "flows.main")
CLI: Final = (sys.executable, "-m", "flows.cli")


def command(
    arguments: Sequence[str], directory: Path, timeout_s: float = 120, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a directory, with settings from the environment."""
    return subprocess.run(
        list(arguments),
        cwd=directory,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def ask(directory: Path, sql: str) -> list[dict[str, Any]]:
    """Ask an embedded store as ``netspectra sql --format jsonl`` does, in this process."""
    with open_for_reading(f"chdb:{directory}") as reader:
        answer = reader.query_text(sql, "JSONEachRow")
    return [json.loads(line) for line in answer.splitlines()]
