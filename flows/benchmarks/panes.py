"""Part ``pane``: a closed pane's flows into the tasks' sketches and a unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from flows.benchmarks import baselines, inputs
from flows.benchmarks.measure import Baseline, Figure, Stopwatch, Timing, best
from flows.benchmarks.sizes import Sizes
from flows.kernels.layout import BYTES, PACKETS
from flows.kernels.project import project_fields
from flows.settings.tasks import DEFAULT_TASKS
from flows.sketches.count_min import DEPTH, WIDTH
from flows.sketches.frequency import LG_MAX
from flows.windows.configured import tasks_of
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
    """The tasks with sketches that run unless settings say otherwise."""
    return tasks_of(DEFAULT_TASKS)


def accumulator(tasks: Sequence[Task], config: WindowConfig = CONFIG) -> PartitionAccumulator:
    """A partition without packets."""
    made = PartitionAccumulator("bench", "0", config, tasks, Networks({}))
    made.advance(made.add_stream(STREAM), inputs.START_NS)
    return made


def absorb(into: PartitionAccumulator, source: Traffic) -> PartitionAccumulator:
    """Hand all packets of synthetic traffic over."""
    for number in range(-(-source.packets // MAX_RECORDS)):
        into.absorb(source.batch(number, MAX_RECORDS), 0, 0)
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
        partition.absorb(source.batch(offset, MAX_RECORDS), 0, 0)
        watch = Stopwatch()
        note(partition.end_message(offset), watch)
    watch = Stopwatch()
    note(partition.end(offset + 1), watch)
    return closed


def feed(entries: Words, tasks: Sequence[Task]) -> TaskFeed:
    """Feed flows (n, 16) to tasks."""
    fed = TaskFeed(
        tasks,
        Networks({}),
        seed=CONFIG.seed,
        pane_ns=CONFIG.pane_ns,
        directions_of=lambda _: None,
        tenant_of=lambda _: STREAM.tenant,
    )
    fed.feed(entries, None)
    return fed


def item_by_item(entries: Words, task: Task, _: object = None) -> Any:
    """What the task's sketches are when they are fed flow by flow.

    Returns:
        A CPC sketch; or frequent items and Count-Min, for packets and for bytes; or, of a
        spread task, a dict of sets.
    """
    keys, key_hashes = _project(entries, task.key.spec)
    _, elements = _project(entries, task.elements.spec)
    if task.kind == "distinct":
        return baselines.library_distinct(elements, task.lg_k)
    if task.kind == "spread":
        return baselines.dict_spread(key_hashes, elements)
    return [
        baselines.library_frequency(keys, key_hashes, entries[:, metric], LG_MAX, DEPTH, WIDTH)
        for metric in (PACKETS, BYTES)
    ]


def _project(entries: Words, spec: Words) -> tuple[Words, Words]:
    words = np.empty((len(entries), len(spec)), np.uint64)
    hashes = np.empty(len(entries), np.uint64)
    networks = np.zeros((len(entries), 2), np.uint16)
    if len(spec):
        project_fields(entries, networks, spec, np.uint64(CONFIG.seed), words, hashes)
    return words, hashes


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Measure the part."""
    tasks = default_tasks()
    for name, source in _sources(sizes):
        yield from _pane(name, source, tasks, sizes)
    yield _sparse(tasks, sizes)


def _sources(sizes: Sizes) -> Iterator[tuple[str, Traffic]]:
    flows, seed = sizes.pane_flows, sizes.seed
    # Even draws of as many flows find most of them, at little cost.
    yield (
        f"Zipf, {flows:,} flows",
        inputs.traffic("zipf", 3 * flows, 2e6, active_flows=flows, skew=0.5, seed=seed),
    )
    yield f"flood, {flows:,} flows", inputs.traffic("flood", flows, 2e6, seed=seed)


def _pane(name: str, source: Traffic, tasks: Sequence[Task], sizes: Sizes) -> Iterator[Figure]:
    """One pane: all of it, then what each task adds."""
    whole_s = _close_s(source, tasks)
    bare_s = _close_s(source, [])
    entries = _full(source, []).end(0).entries
    few = np.ascontiguousarray(entries[: sizes.library_flows])
    none_s = _feed_s(entries, [])
    flow_s = whole_s / len(entries)
    each = []
    for task in tasks:
        alone_s = _feed_s(entries, [task])
        # Below what can be told apart from nothing, the whole of it is an upper bound.
        added_s = (alone_s - none_s if alone_s > none_s else alone_s) / len(entries)
        slow = best(partial(item_by_item, few, task), len(few), repeats=2)
        each.append((task, added_s, slow.cpu_s / len(few)))
    slow_s = sum(slow_s for *_, slow_s in each)
    yield _figure(f"{name}: closed, all tasks", flow_s, "DataSketches and sets", slow_s)
    for task, added_s, slow_s in each:
        named = f"{name}: {task.name}, {added_s / flow_s:.0%} of it"
        plain = "dict of sets" if task.kind == "spread" else "DataSketches"
        yield _figure(named, added_s, plain, slow_s)
    share = f"{bare_s / whole_s:.0%} of it"
    rate = len(entries) / max(bare_s, 1e-9)
    yield Figure("pane", f"{name}: taking flows out, unit, {share}", rate, _UNIT)


def _close_s(source: Traffic, tasks: Sequence[Task]) -> float:
    prepare = partial(_full, source, tasks)
    return best(lambda partition: partition.end(0), 1, repeats=5, prepare=prepare).cpu_s


def _full(source: Traffic, tasks: Sequence[Task]) -> PartitionAccumulator:
    return absorb(accumulator(tasks), source)


def _feed_s(entries: Words, tasks: Sequence[Task]) -> float:
    return best(lambda _: feed(entries, tasks), 1, repeats=5).cpu_s


def _figure(name: str, flow_s: float, plain: str, plain_s: float) -> Figure:
    baseline = Baseline(f"{plain}, flow by flow", 1 / max(plain_s, 1e-12))
    return Figure("pane", name, 1 / max(flow_s, 1e-12), _UNIT, (baseline,))


def _sparse(tasks: Sequence[Task], sizes: Sizes) -> Figure:
    source = inputs.traffic("demo", sizes.demo_packets, 20_000, seed=sizes.seed)
    best_ms = []
    for _ in range(2):
        timings = [timing for _, timing in close(source, tasks)[:-1]]
        best_ms.append(1e3 * sum(timing.cpu_s for timing in timings) / max(len(timings), 1))
    return Figure("pane", "demo at 20,000 packets/s, CPU time a pane", min(best_ms), "ms")
