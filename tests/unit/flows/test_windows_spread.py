"""Spread tasks from flows to spreaders, on traffic whose truth is counted."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

import numpy as np
import pytest

from flows.settings import DEFAULT_TASKS
from flows.sketches.superspread import SuperSpread
from flows.windows.fields import FieldList
from flows.windows.networks import Networks
from flows.windows.partition import PartitionAccumulator, WindowConfig
from flows.windows.tasks import PaneSketch, Task
from flows.windows.tenants import UnitUpdate
from flows.windows.unit import Stream
from probe.capture import CaptureFile
from schemas.record import PACKET, Packets
from tests.support.horizons import OneTenant, update_of

SECOND_NS = 10**9
FAN_OUT = Task("fan_out", "spread", FieldList(("src_addr",)), FieldList(("dst_addr",)))
FAN_IN = Task("fan_in", "spread", FieldList(("dst_addr",)), FieldList(("src_addr",)))
LISTS = ((FAN_OUT, "top_src_by_distinct_dst"), (FAN_IN, "top_dst_by_distinct_src"))
NETWORKS = Networks({})
WHOLE = WindowConfig(pane_ns=10**18)


def sketch_of(packets: Packets, task: Task, config: WindowConfig = WHOLE) -> SuperSpread:
    accumulator = PartitionAccumulator("t", "0", config, [task], NETWORKS)
    accumulator.advance(accumulator.add_stream(Stream("a", "p")), 0)
    accumulator.absorb(packets, 0, 0)
    panes = accumulator.end(0).sketches["a", task.name]
    merged = panes[0].sketch.copy()
    for pane in panes[1:]:
        merged.merge(pane.sketch)  # type: ignore[arg-type]
    assert isinstance(merged, SuperSpread)
    return merged


def listed(sketch: SuperSpread, task: Task, n: int = 10) -> dict[str, tuple[float, float, float]]:
    rows = sketch.top(n).rows
    keys = [next(iter(task.key.read(row.key, NETWORKS.names).values())) for row in rows]
    return {key: tuple(row[1:]) for key, row in zip(keys, rows, strict=True)}


def conversation(src: str, dst: str, ts_ns: int = SECOND_NS) -> Packets:
    packet = np.zeros(1, PACKET)
    for name, text in (("src_addr", src), ("dst_addr", dst)):
        packet[name][0] = np.frombuffer(ip_address("::ffff:" + text).packed, np.uint8)
    packet["eth_type"], packet["ip_proto"], packet["packets"] = 0x0800, 17, 1
    packet["ts_ns"] = ts_ns
    return packet


def horizons_of(
    packets: Packets, config: WindowConfig
) -> list[list[dict[str, tuple[float, float, float]]]]:
    """Spreaders of each window of 2 s, 60 s and 600 s."""
    accumulator = PartitionAccumulator("t", "0", config, [FAN_OUT], NETWORKS)
    accumulator.advance(accumulator.add_stream(Stream("a", "p")), 0)
    accumulator.absorb(packets, 0, 0)
    unit = accumulator.end(0)
    lengths = [length * SECOND_NS for length in (2, 60, 600)]
    results = OneTenant(lengths, ["t/0"]).apply(update_of(unit, FAN_OUT, "a"))
    windows: list[list[dict[str, tuple[float, float, float]]]] = [[], [], []]
    for result in results:
        assert isinstance(result.sketch, SuperSpread)
        windows[lengths.index(result.horizon_ns)].append(listed(result.sketch, FAN_OUT, 20))
    return windows


def test_both_directions_of_a_conversation_are_two_pairs() -> None:
    """A host that talks with 60 others and is answered has 60 peers, out and in."""
    peers = [f"10.0.1.{n}" for n in range(60)]
    packets = np.concatenate(
        [conversation("10.0.0.1", peer) for peer in peers]
        + [conversation(peer, "10.0.0.1") for peer in peers]
    )
    for task in (FAN_OUT, FAN_IN):
        assert listed(sketch_of(packets, task), task)["10.0.0.1"] == (60, 60, 60)


def test_slow_scans_add_up_over_the_long_horizon() -> None:
    """One new peer every half second is 4 a pane and 1,200 in ten minutes, for 20 scanners.

    Their intervals at ten minutes are those of a sketch: nearly all hold, as 95 % says.
    """
    scanners = [f"10.0.0.{n}" for n in range(20)]
    packets = np.concatenate(
        [
            conversation(scanner, f"10.{n >> 8}.{n & 255}.1", (1200 + n) * SECOND_NS // 2)
            for n in range(1200)
            for scanner in scanners
        ]
    )
    held = 0
    for seed in range(5):
        short, middle, long = horizons_of(packets, WindowConfig(seed=seed))
        assert [len(windows) for windows in (short, middle, long)] == [300, 10, 1]
        assert all(row == (4, 4, 4) for rows in short for row in rows.values())
        assert set(long[0]) == set(scanners)
        assert all(abs(estimate - 1200) < 0.1 * 1200 for estimate, _, _ in long[0].values())
        held += sum(lower <= 1200 <= upper for _, lower, upper in long[0].values())
    assert held >= 0.9 * 5 * len(scanners)


def test_a_snapshot_of_spreads_resumes() -> None:
    """A horizon restored from its snapshot publishes what the original publishes."""
    packets = np.concatenate(
        [conversation("10.0.0.1", f"10.9.{n >> 8}.{n & 255}") for n in range(2000)]
    )
    sketch = sketch_of(packets, FAN_OUT)

    update = UnitUpdate("t/0", 0, SECOND_NS, SECOND_NS, {"t": [PaneSketch(1, 2000, sketch)]})
    end = UnitUpdate("t/0", 1, 2**62, SECOND_NS, {})
    plain = OneTenant([60 * SECOND_NS], ["t/0"])
    plain.apply(update)
    resumed = OneTenant([60 * SECOND_NS], ["t/0"], plain.snapshot())
    (one,), (two,) = plain.apply(end), resumed.apply(end)
    assert isinstance(one.sketch, SuperSpread)
    assert isinstance(two.sketch, SuperSpread)
    assert one.sketch.top(5) == two.sketch.top(5)


def test_the_default_tasks_are_the_four_spreads() -> None:
    """Fan-out, fan-in, services and ports run unless told otherwise."""
    spreads = {t.name: (t.key, t.elements) for t in DEFAULT_TASKS if t.type == "spread"}
    assert spreads == {
        "fan_out": (("src_addr",), ("dst_addr",)),
        "fan_in": (("dst_addr",), ("src_addr",)),
        "fan_out_service": (("src_addr",), ("dst_addr", "dst_port")),
        "pair_ports": (("src_addr", "dst_addr"), ("dst_port",)),
    }


@pytest.mark.requires("captures")
def test_the_true_spreaders_of_real_captures_are_listed(captures: Path) -> None:
    """Each host with more than 20 peers is in the list, its interval holding tshark's count."""
    found = 0
    for line in (captures / "expected.jsonl").read_text().splitlines():
        truth = json.loads(line)
        with CaptureFile(captures / truth["file"]) as file:
            packets = file.read(200_000)
        for task, name in (
            (FAN_OUT, "top_src_by_distinct_dst"),
            (FAN_IN, "top_dst_by_distinct_src"),
        ):
            rows = listed(sketch_of(packets, task), task)
            for host, peers in truth[name]:
                if peers > 20:
                    _, lower, upper = rows[host]
                    assert lower <= peers <= upper, (truth["file"], task.name, host)
                    found += 1
    assert found >= 8
