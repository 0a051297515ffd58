"""Feeding tasks: each packet once, to the right tenant, pane and direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flows.kernels.layout import PACKETS
from flows.settings import DEFAULT_TASKS
from flows.windows.fields import FieldList
from flows.windows.partition import PartitionAccumulator, WindowConfig
from flows.windows.tasks import Task
from flows.windows.unit import Stream, Unit
from tests.support.jobs import NETWORKS, SECOND, TASKS, units_of
from tests.support.naive_flows import random_packets
from tests.support.naive_horizons import keys_of, naive_sums

PORTS = Task("ports", "frequency", FieldList(("dst_port", "ip_proto")), top=1000)
HOSTS = Task("hosts", "distinct", elements=FieldList(("src_addr",)))


def sums_of(sketch: Any, task: Task = PORTS) -> dict[tuple[str, ...], list[int]]:
    """A frequency sketch that is still exact, as a dict."""
    assert sketch.exact
    rows = sketch.top(10**6).by_packets.rows
    return {
        tuple(task.key.read(row.key, NETWORKS.names).values()): [row.packets, row.bytes]
        for row in rows
    }


def by_pane(units: list[Unit], task: Task, tenant: str = "t") -> dict[int, Any]:
    """The sketches of each pane, merged over the units."""
    out: dict[int, Any] = {}
    for unit in units:
        for each in unit.sketches.get((tenant, task.name), ()):
            if each.pane in out:
                out[each.pane].merge(each.sketch)
            else:
                out[each.pane] = each.sketch.copy()
    return out


@pytest.mark.parametrize("max_flows", [100_000, 60])
def test_every_packet_is_fed_once(max_flows: int) -> None:
    """Sums by key and pane are the packets', whether or not flows had to be folded on the way."""
    packets = random_packets(np.random.default_rng(1), 6000)
    units = units_of(packets, config=WindowConfig(max_flows=max_flows), tasks=[PORTS, HOSTS])
    panes = by_pane(units, PORTS)
    truth = naive_sums(packets, PORTS.key.names, 2 * SECOND)
    assert {p * 2 * SECOND: sums_of(s) for p, s in panes.items()} == truth
    hosts = naive_sums(packets, ("src_addr",), 2 * SECOND)
    for pane, sketch in by_pane(units, HOSTS).items():
        assert sketch.estimate() == (*(len(hosts[pane * 2 * SECOND]),) * 3, 1.0)


@pytest.mark.parametrize("directions", [frozenset({1}), frozenset({2}), frozenset({1, 2})])
def test_only_directions_that_count_are_fed(directions: frozenset[int]) -> None:
    """Other directions stay in the flows and out of the tasks."""
    packets = random_packets(np.random.default_rng(2), 3000)
    units = units_of(packets, config=WindowConfig(directions=directions), tasks=[PORTS])
    counted = packets[np.isin(packets["direction"], list(directions))]
    truth = naive_sums(counted, PORTS.key.names, 2 * SECOND)
    assert {p * 2 * SECOND: sums_of(s) for p, s in by_pane(units, PORTS).items()} == truth
    assert sum(int(u.entries[:, PACKETS].sum()) for u in units) == packets["packets"].sum()


def test_nothing_that_counts_gives_no_sketch() -> None:
    """A pane of other directions only has no result."""
    packets = random_packets(np.random.default_rng(3), 100)
    packets["direction"] = 0
    units = units_of(packets, config=WindowConfig(directions=frozenset({1})), tasks=[PORTS])
    assert all(not unit.sketches for unit in units)


def test_tenants_do_not_see_each_other() -> None:
    """Streams of one tenant share sketches, those of another have their own."""
    packets = random_packets(np.random.default_rng(4), 4000)
    parts = np.array_split(packets, 4)
    config = WindowConfig()
    accumulator = PartitionAccumulator("log", "0", config, [PORTS], NETWORKS)
    numbers = [
        accumulator.add_stream(Stream(tenant, probe))
        for tenant, probe in (("a", "p"), ("b", "p"), ("a", "q"))
    ]
    for part, number in zip(parts, (0, 1, 2, 1), strict=True):
        accumulator.absorb(part, numbers[number])
    units = [accumulator.end(0)]
    for tenant, mine in (("a", (0, 2)), ("b", (1, 3))):
        own = np.concatenate([parts[n] for n in mine])
        truth = naive_sums(own, PORTS.key.names, 2 * SECOND)
        found = by_pane(units, PORTS, tenant)
        assert {p * 2 * SECOND: sums_of(s) for p, s in found.items()} == truth
        for each in units[0].sketches[tenant, PORTS.name]:
            mine_there = own["packets"][own["ts_ns"] // (2 * SECOND) == each.pane]
            assert each.packets == mine_there.sum()


def test_panes_are_given_in_order_of_time() -> None:
    """A unit's sketches are sorted by pane, also when its packets were not."""
    packets = random_packets(np.random.default_rng(5), 2000)
    np.random.default_rng(6).shuffle(packets)
    for unit in units_of(packets):
        for panes in unit.sketches.values():
            numbers = [pane.pane for pane in panes]
            assert numbers == sorted(set(numbers))


def test_network_fields_are_the_flows_own() -> None:
    """A task on src_net counts by the same network that the flow rows show."""
    task = Task("nets", "frequency", FieldList(("src_net", "dst_net")))
    packets = random_packets(np.random.default_rng(7), 2000)
    packets["src_addr"][::3, 12] = 9
    packets = packets[packets["eth_type"] != 0x0806]
    units = units_of(packets, tasks=[task])
    found: dict[tuple[str, ...], int] = {}
    for sketch in by_pane(units, task).values():
        for key, (count, _) in sums_of(sketch, task).items():
            found[key] = found.get(key, 0) + count
    truth: dict[tuple[str, ...], int] = {}
    for unit in units:
        for entry, (src, dst) in zip(unit.entries, unit.networks.tolist(), strict=True):
            key = (unit.network_names[src], unit.network_names[dst])
            truth[key] = truth.get(key, 0) + int(entry[PACKETS])
    assert len(truth) >= 2
    assert found == truth


def test_frames_without_addresses_are_in_no_task_about_addresses() -> None:
    """ARP counts for ports and protocols, and is no source, destination or network."""
    packets = random_packets(np.random.default_rng(8), 1000)
    packets["ts_ns"] = 10**18
    addressed = packets["eth_type"] != 0x0806
    assert not addressed.all()
    nets = Task("nets", "frequency", FieldList(("dst_net",)))
    (unit,) = units_of(packets, tasks=[HOSTS, PORTS, nets])
    hosts: Any = unit.sketches["t", "hosts"][0].sketch
    assert hosts.estimate().value == len(set(keys_of(packets[addressed], ("src_addr",))))
    for task, counted in ((PORTS, packets), (nets, packets[addressed])):
        sketch: Any = unit.sketches["t", task.name][0].sketch
        assert sketch.total_packets == counted["packets"].sum()


def test_default_tasks_use_the_declared_fields() -> None:
    """The tasks of the settings become those of the windows, exact ones apart."""
    wanted = {t.name: (t.type, t.key, t.elements) for t in DEFAULT_TASKS if t.type != "exact"}
    assert {t.name: (t.kind, t.key.names, t.elements.names) for t in TASKS} == wanted


def test_streams_that_alternate_are_told_apart() -> None:
    """Hundreds of small batches of several probes and tenants: each tenant's own sums."""
    packets = random_packets(np.random.default_rng(5), 4000)
    parts = np.array_split(packets, 400)
    accumulator = PartitionAccumulator("log", "0", WindowConfig(), [PORTS], NETWORKS)
    numbers = [
        accumulator.add_stream(Stream(t, p)) for t, p in (("a", "p"), ("b", "p"), ("a", "q"))
    ]
    for count, part in enumerate(parts):
        accumulator.absorb(part, numbers[count % 3])
    units = [accumulator.end(0)]
    for tenant, mine in (("a", {0, 2}), ("b", {1})):
        own = np.concatenate([part for n, part in enumerate(parts) if n % 3 in mine])
        found = by_pane(units, PORTS, tenant)
        assert {p * 2 * SECOND: sums_of(s) for p, s in found.items()} == naive_sums(
            own, PORTS.key.names, 2 * SECOND
        )
