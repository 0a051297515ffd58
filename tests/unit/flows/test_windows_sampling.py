"""Bounds under random sampling hold as often as they say, and are no wider than they must be."""

from __future__ import annotations

import numpy as np
import pytest

from flows.operators.horizons import TaskResults
from flows.sinks.result_rows import Context, distinct_counts, heavy_hitters, spreaders
from flows.windows.fields import FieldList
from flows.windows.networks import Networks
from flows.windows.partition import PartitionAccumulator, WindowConfig
from flows.windows.sampling import MAX_BUFFER_PACKETS, UNSAMPLED, Sampling
from flows.windows.tasks import Task
from flows.windows.unit import Stream
from schemas.record import Packets
from tests.support.horizons import OneTenant, update_of
from tests.support.naive_flows import random_packets

SEEDS = 400
TASKS = {
    "distinct": Task("hosts", "distinct", FieldList(()), FieldList(("src_addr",))),
    "frequency": Task("ports", "frequency", FieldList(("dst_port",)), FieldList(()), top=5),
    "spread": Task("fan", "spread", FieldList(("src_addr",)), FieldList(("dst_addr",))),
}


@pytest.mark.parametrize("rate", [2, 10, 1000])
@pytest.mark.parametrize("true", [5, 100, 20_000])
def test_packet_bounds_hold(true: int, rate: int) -> None:
    """A true number of packets is within the bounds in about 95 of 100 samples."""
    kept = np.random.default_rng(true + rate).binomial(true, 1 / rate, SEEDS)
    bounds = [Sampling(rate).packets(int(count) * rate) for count in kept]
    held = np.mean([lower <= true <= upper for lower, upper in bounds])
    assert held >= 0.93
    if true / rate >= 10:
        width = np.mean([upper - lower for lower, upper in bounds])
        assert width <= 1.25 * 2 * 1.96 * np.sqrt(true * (rate - 1))


def test_bounds_of_buffers_hold() -> None:
    """Also when packets are kept or not in buffers of up to 45."""
    rng = np.random.default_rng(1)
    sampling, held = Sampling(10, clustered=True), 0
    for _ in range(SEEDS):
        sizes = rng.integers(1, MAX_BUFFER_PACKETS + 1, 200)
        kept = int(sizes[rng.random(len(sizes)) < 0.1].sum()) * 10
        lower, upper = sampling.packets(kept)
        held += lower <= sizes.sum() <= upper
    assert held >= 0.95 * SEEDS


def test_byte_bounds_hold() -> None:
    """Frames of mixed lengths, up to jumbo."""
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(SEEDS):
        sizes = rng.choice([60, 1514, 9018], 300, p=[0.5, 0.4, 0.1])
        kept = int(sizes[rng.random(len(sizes)) < 0.05].sum()) * 20
        lower, upper = Sampling(20).bytes(kept)
        held += lower <= sizes.sum() <= upper
    assert held >= 0.95 * SEEDS


def test_without_sampling_nothing_changes() -> None:
    """Every packet kept: the count is its own bounds; the worse of two counts when merged."""
    assert UNSAMPLED.packets(17) == (17, 17)
    assert UNSAMPLED.merge(Sampling(10)).merge(Sampling(5, True)) == Sampling(10, True)


def window(packets: Packets, kind: str, rate: int) -> tuple[Task, TaskResults]:
    """The results of one horizon that holds everything."""
    task = TASKS[kind]
    accumulator = PartitionAccumulator("log", "0", WindowConfig(), [task], Networks({}))
    accumulator.absorb(packets, accumulator.add_stream(Stream("t", "p", sampling_rate=rate)))
    unit = accumulator.end(0)
    horizons = OneTenant([600 * 10**9], ["log/0"])
    restored = OneTenant([600 * 10**9], ["log/0"], horizons.snapshot())
    return task, TaskResults("t", task, "u", restored.apply(update_of(unit, task)))


def test_results_of_sampled_traffic_bracket_the_truth() -> None:
    """What one packet in five shows is bounds for what there was, and says 95 %."""
    held = {"distinct": 0, "frequency": 0, "spread": 0}
    rounds = 60
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        packets = random_packets(rng, 3000, hosts=300, span_ns=10**9)
        packets["ts_ns"] -= packets["ts_ns"].min() % np.uint64(600 * 10**9)
        packets["packets"] = 1
        sample = packets[rng.random(len(packets)) < 0.2]
        ip = packets[np.isin(packets["eth_type"], [0x0800, 0x86DD])]
        hosts = len(np.unique(ip["src_addr"], axis=0))
        context = Context()
        for kind, build in (
            ("distinct", distinct_counts), ("frequency", heavy_hitters), ("spread", spreaders)
        ):  # fmt: skip
            _, results = window(sample, kind, 5)
            rows = build([results], context)
            assert rows is not None
            first = rows.to_pylist()[0]
            assert first["confidence"] <= 0.95
            if kind == "distinct":
                held[kind] += first["lower"] <= hosts <= first["upper"]
            elif kind == "frequency":
                port = int(dict(first["key"])["dst_port"])
                true = int((packets["dst_port"] == port).sum())
                held[kind] += first["packets_lower"] <= true <= first["packets_upper"]
            else:
                held[kind] += first["lower"] < first["upper"]
    assert min(held.values()) >= 0.9 * rounds, held
