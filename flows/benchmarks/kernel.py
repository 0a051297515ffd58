"""Part ``kernel``: packet records into the flow table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from flows.benchmarks import baselines, inputs
from flows.benchmarks.measure import Baseline, Figure, Timing, best
from flows.benchmarks.sizes import Sizes
from flows.windows.flow_table import FlowTable, Words
from flows.windows.partition import WindowConfig
from schemas.batch import MAX_RECORDS
from schemas.record import as_words

_CONFIG: Final = WindowConfig()
_UNIT: Final = "packets/CPU s"


def flow_table(max_flows: int = _CONFIG.max_flows) -> FlowTable:
    """An empty flow table with the default window, feeding no task when it folds."""
    return FlowTable(
        pane_ns=_CONFIG.pane_ns,
        lateness_ns=_CONFIG.lateness_ns,
        max_flows=max_flows,
        seed=_CONFIG.seed,
        before_fold=lambda entries, fed: None,
    )


def absorb(table: FlowTable, words: Words) -> FlowTable:
    """Hand packets (n, 11) over in batches of a message's size."""
    for start in range(0, len(words), MAX_RECORDS):
        table.absorb(words[start : start + MAX_RECORDS], stream=0, rate=1, follow=True)
    return table


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Measure the part; all packets lie in one pane."""
    yield _zipf(sizes)
    yield from _flood(sizes)


def _zipf(sizes: Sizes) -> Figure:
    words = _words("zipf", sizes, active_flows=sizes.active_flows)
    table = absorb(flow_table(), words)
    slots = baselines.touch_table(table.open_flows)
    return _figure(
        f"Zipf 1.0 of {sizes.active_flows:,} flows, in the table already",
        best(lambda _: absorb(table, words), len(words)),
        best(lambda _: baselines.touch(words, slots), len(words)),
        words[: sizes.dict_packets],
    )


def _flood(sizes: Sizes) -> Iterator[Figure]:
    words = _words("flood", sizes)
    most = len(words) // 2
    yield _flood_figure(f"flood of {most:,} new flows", words[:most], most, sizes)
    name = f"flood of {len(words):,} new flows, folded beyond {most:,}"
    yield _flood_figure(name, words, most, sizes)


def _flood_figure(name: str, words: Words, most: int, sizes: Sizes) -> Figure:
    return _figure(
        name,
        best(lambda table: absorb(table, words), len(words), prepare=lambda: flow_table(most)),
        best(lambda _: baselines.touch(words, baselines.touch_table(most)), len(words)),
        words[: sizes.dict_packets],
    )


def _words(profile: str, sizes: Sizes, **parameters: int) -> Words:
    rate = 1.01e9 * sizes.kernel_packets / _CONFIG.pane_ns
    source = inputs.traffic(profile, sizes.kernel_packets, rate, seed=sizes.seed, **parameters)
    return as_words(inputs.records(source))


def _figure(name: str, ours: Timing, touching: Timing, few: Words) -> Figure:
    by_dict = best(lambda _: baselines.dict_flows(few, _CONFIG.pane_ns), len(few), repeats=1)
    return Figure(
        "kernel",
        name,
        ours.per_cpu_s,
        _UNIT,
        (
            Baseline("loop that only touches record and slot", touching.per_cpu_s),
            Baseline("Python dict, packet by packet", by_dict.per_cpu_s),
        ),
    )
