"""Part ``pane``: a closed pane's flows into the tasks' sketches and a unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from flows.benchmarks import baselines, inputs
from flows.benchmarks.measure import Baseline, Figure, Stopwatch, Timing, best
from flows.benchmarks.sizes import Sizes
from flows.job import tasks_of
from flows.kernels.layout import BYTES, PACKETS
from flows.kernels.project import project_fields
from flows.settings.tasks import DEFAULT_TASKS
from flows.sketches.count_min import DEPTH, WIDTH
from flows.sketches.frequency import LG_MAX
from flows.windows.feed import TaskFeed, Words
from flows.windows.networks import Networks
from flows.windows.partition import PartitionAccumulator, WindowConfig
from flows.windows.tasks import Task
from flows.windows.unit import Stream, Unit
from probe.synthetic import Traffic
from schemas.batch import MAX_RECORDS

CONFIG: Final = WindowConfig()
STREAM: Final = Stream("bench", "bench")
_UNIT: Final = "flows/CPU s"


def default_tasks() -> list[Task]:
    """The sketch tasks that run unless settings say otherwise."""
    return tasks_of(DEFAULT_TASKS)


def accumulator(tasks: Sequence[Task], config: WindowConfig = CONFIG) -> PartitionAccumulator:
    """A partition without packets."""
    made = PartitionAccumulator("bench", "0", config, tasks, Networks({}))
    made.add_stream(STREAM, inputs.START_NS)
    return made


def absorb(into: PartitionAccumulator, source: Traffic) -> PartitionAccumulator:
    """Hand all packets of synthetic traffic over."""
    for number in range(-(-source.packets // MAX_RECORDS)):
        into.absorb(source.batch(number, MAX_RECORDS), 0)
    return into


def close(source: Traffic, tasks: Sequence[Task]) -> list[tuple[Unit, Timing]]:
    """Close the traffic's panes, each when its last message is read; how long each took."""
    partition = accumulator(tasks)
    closed: list[tuple[Unit, Timing]] = []
    offset = 0

    def note(unit: Unit | None, watch: Stopwatch) -> None:
        if unit is not None:
            closed.append((unit, watch.read(len(unit.entries))))

    for offset in range(-(-source.packets // MAX_RECORDS)):
        partition.absorb(source.batch(offset, MAX_RECORDS), 0)
        watch = Stopwatch()
        note(partition.end_message(offset), watch)
    watch = Stopwatch()
    note(partition.end(offset + 1), watch)
    return closed


def feed(entries: Words, tasks: Sequence[Task]) -> TaskFeed:
    """Feed flows (n, 16) to tasks."""
    fed = TaskFeed(
        tasks, Networks({}), seed=CONFIG.seed, directions=None, tenant_of=lambda _: STREAM.tenant
    )
    fed.feed(entries, None)
    return fed


def by_library(entries: Words, task: Task, _: object = None) -> Any:
    """What the task's sketches are when the library is fed flow by flow."""
    spec = task.fields.spec
    words = np.empty((len(entries), len(spec)), np.uint64)
    hashes = np.empty(len(entries), np.uint64)
    networks = np.zeros((len(entries), 2), np.uint16)
    project_fields(entries, networks, spec, np.uint64(CONFIG.seed), words, hashes)
    if task.kind == "distinct":
        return baselines.library_distinct(hashes, task.lg_k)
    return [
        baselines.library_frequency(words, hashes, entries[:, metric], LG_MAX, DEPTH, WIDTH)
        for metric in (PACKETS, BYTES)
    ]


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Measure the part."""
    tasks = default_tasks()
    for name, source in _sources(sizes):
        yield from _pane(name, source, tasks, sizes)
    yield _sparse(tasks, sizes)


def _sources(sizes: Sizes) -> Iterator[tuple[str, Traffic]]:
    flows = sizes.pane_flows
    # Even draws of as many flows find most of them, at little cost.
    yield (
        f"Zipf, {flows:,} flows",
        inputs.traffic("zipf", 3 * flows, 2e6, active_flows=flows, skew=0.5),
    )
    yield f"flood, {flows:,} flows", inputs.traffic("flood", flows, 2e6)


def _pane(name: str, source: Traffic, tasks: Sequence[Task], sizes: Sizes) -> Iterator[Figure]:
    """One pane: all of it, then what each task adds."""
    units: list[Unit] = []
    whole = best(
        lambda partition: units.append(partition.end(0)),
        1,
        repeats=5,
        prepare=lambda: absorb(accumulator(tasks), source),
    )
    entries = units[0].entries
    units.clear()
    few = np.ascontiguousarray(entries[: sizes.library_flows])
    none_s = _feed_s(entries, [])
    flow_s = whole.cpu_s / len(entries)
    each = []
    for task in tasks:
        added_s = max(_feed_s(entries, [task]) - none_s, 0.0) / len(entries)
        slow = best(partial(by_library, few, task), len(few), repeats=1)
        each.append((task.name, added_s, slow.cpu_s / len(few)))
    library_s = sum(slow_s for *_, slow_s in each)
    yield _figure(f"{name}: closed, all tasks", flow_s, library_s)
    for task_name, added_s, slow_s in each:
        share = f"{added_s / flow_s:.0%} of it"
        yield _figure(f"{name}: {task_name}, {share}", added_s, slow_s)
    rest_s = max(flow_s - sum(added_s for _, added_s, _ in each), 1e-10)
    rest = f"{name}: taking flows out, unit, {rest_s / flow_s:.0%} of it"
    yield Figure("pane", rest, 1 / rest_s, _UNIT)


def _feed_s(entries: Words, tasks: Sequence[Task]) -> float:
    return best(lambda _: feed(entries, tasks), 1, repeats=5).cpu_s


def _figure(name: str, flow_s: float, library_s: float) -> Figure:
    baseline = Baseline("DataSketches, flow by flow", 1 / library_s)
    return Figure("pane", name, 1 / max(flow_s, 1e-10), _UNIT, (baseline,))


def _sparse(tasks: Sequence[Task], sizes: Sizes) -> Figure:
    source = inputs.traffic("demo", sizes.demo_packets, 20_000)
    best_ms = []
    for _ in range(2):
        timings = [timing for _, timing in close(source, tasks)[:-1]]
        best_ms.append(1e3 * sum(timing.cpu_s for timing in timings) / max(len(timings), 1))
    return Figure("pane", "demo at 20,000 packets/s, CPU time a pane", min(best_ms), "ms")
