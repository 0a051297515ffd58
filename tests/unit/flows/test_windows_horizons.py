"""Horizons: what they close, what they revise, and how near the truth their sketches are."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.sketches.distinct import Distinct
from flows.sketches.superspread import SuperSpread
from flows.sketches.superspread.pool import Pool
from flows.windows.fields import FieldList
from flows.windows.horizons import HorizonMerger, WindowResult
from flows.windows.partition import WindowConfig
from flows.windows.tasks import PaneSketch, Task
from flows.windows.tenants import TenantHorizons, UnitUpdate
from flows.windows.unit import END_OF_TIME_NS, Unit
from probe.synthetic import Traffic
from schemas.hashing import hash_words
from schemas.record import PACKET, Packets
from tests.support.horizons import OneTenant, update_of
from tests.support.jobs import (
    HORIZONS_NS,
    SECOND,
    TASKS,
    Results,
    figures,
    merge,
    split,
    units_of,
)
from tests.support.naive_flows import random_packets
from tests.support.naive_horizons import naive_sums

PANE_NS = 2 * SECOND
FOREVER_S = 10**12
COUNTED = [task for task in TASKS if task.kind != "spread"]
T0 = 1_700_000_040 * SECOND  # a multiple of 60 s


def in_order(packets: Packets) -> Packets:
    return packets[np.argsort(packets["ts_ns"], kind="stable")]


def check_hitters(
    sketch: Any, task: Task, sums: dict[tuple[str, ...], list[int]], *, sketched: bool
) -> None:
    """All bounds hold, everything above the error or the share is listed, in order."""
    assert sketch.exact != sketched
    totals = [sum(values[metric] for values in sums.values()) for metric in (0, 1)]
    assert [sketch.total_packets, sketch.total_bytes] == totals
    top = sketch.top(task.top, task.share)
    assert top.confidence == 1
    for metric, ranking in enumerate((top.by_packets, top.by_bytes)):
        listed = {}
        for row in ranking.rows:
            key = tuple(task.key.read(row.key, ["", "internal"]).values())
            packets, octets = sums[key]
            assert row.packets_lower <= packets <= row.packets_upper
            assert row.bytes_lower <= octets <= row.bytes_upper
            if not sketched:
                assert (row.packets, row.bytes) == (packets, octets)
            listed[key] = (row.packets, row.bytes)[metric]
        assert list(listed.values()) == sorted(listed.values(), reverse=True)
        heaviest_left_out = max((v[metric] for k, v in sums.items() if k not in listed), default=0)
        assert heaviest_left_out <= ranking.error
        assert sketched or heaviest_left_out <= task.share * totals[metric]
        assert len(ranking.rows) >= min(task.top, len(sums))


def check_all(results: Results, packets: Packets, *, certain: bool) -> None:
    """Every horizon of every task against sets and dicts."""
    checked = 0
    for task in COUNTED:
        for horizon_ns in HORIZONS_NS:
            truth = naive_sums(packets, task.key.names or task.elements.names, horizon_ns)
            mine = {key[2]: r for key, r in results.items() if key[:2] == (task.name, horizon_ns)}
            assert mine.keys() == truth.keys()
            for start_ns, sums in truth.items():
                sketch: Any = mine[start_ns][-1].sketch
                if task.kind == "distinct":
                    estimate = sketch.estimate()
                    assert estimate.lower <= len(sums) <= estimate.upper
                    assert not certain or estimate == (len(sums),) * 3 + (1,)
                else:
                    check_hitters(sketch, task, sums, sketched=not certain and not sketch.exact)
                checked += 1
    assert checked >= len(COUNTED) * len(HORIZONS_NS)


def test_small_traffic_is_exact() -> None:
    """With few elements each horizon's figures are the truth, at confidence 1."""
    packets = in_order(random_packets(np.random.default_rng(1), 2000, hosts=3))
    packets["src_port"] = 1024
    packets["ts_ns"] += ((packets["ts_ns"] - packets["ts_ns"][0]) * np.uint64(30)).astype(np.uint64)
    results = merge(units_of(packets))
    assert len({key[2] for key in results if key[1] == 60 * SECOND}) > 5
    check_all(results, packets, certain=True)


def test_large_traffic_is_bracketed() -> None:
    """Beyond the exact limits the bounds hold for every task and horizon of demo traffic."""
    traffic = Traffic(packets=24_000, packets_per_second=300, start_ns=T0, seed=3)
    packets = traffic.batch(0, traffic.packets)
    results = merge(units_of(packets))
    sketch: Any = results["distinct_five_tuple", 60 * SECOND, T0][-1].sketch
    assert sketch.estimate().confidence == 0.95
    check_all(results, packets, certain=False)


@pytest.mark.parametrize("skew", [0.0, 0.6, 1.2])
@pytest.mark.parametrize("parts", [1, 3])
def test_spilled_lists_keep_their_bounds(parts: int, skew: float) -> None:
    """Thousands of keys, from several partitions: bounds hold, heavy keys are listed."""
    traffic = Traffic(
        profile="zipf",
        packets=18_000,
        packets_per_second=600,
        active_flows=8000,
        start_ns=T0,
        skew=skew,
        seed=parts,
    )
    packets = traffic.batch(0, traffic.packets)
    logs = split(packets, parts)
    units = [u for n, log in enumerate(logs) for u in units_of(log, partition=str(n))]
    (task,) = [t for t in TASKS if t.name == "top_dst_addr"]
    results = merge(units, tasks=[task])
    sketch: Any = results["top_dst_addr", 60 * SECOND, T0][-1].sketch
    check_hitters(sketch, task, naive_sums(packets, ("dst_addr",), 60 * SECOND)[T0], sketched=True)


def test_a_key_in_no_panes_top_is_in_the_horizons() -> None:
    """Steady small traffic beats bursts that are each larger within one pane."""
    task = Task("top", "frequency", FieldList(("dst_port",)), top=3, share=1.0)
    packets = np.zeros(30 * (20 * 50 + 30), PACKET)
    packets["packets"], packets["wire_bytes"], packets["eth_type"] = 1, 100, 0x0800
    row = 0
    for pane in range(30):
        for burst in range(20):
            packets["dst_port"][row : row + 50] = 1000 + 20 * pane + burst
            packets["ts_ns"][row : row + 50] = T0 + pane * PANE_NS
            row += 50
        packets["dst_port"][row : row + 30] = 53
        packets["ts_ns"][row : row + 30] = T0 + pane * PANE_NS
        row += 30
    results = merge(units_of(packets, tasks=[task]), tasks=[task])
    for (_, horizon_ns, _), (result,) in results.items():
        sketch: Any = result.sketch
        listed = [r.key[0] for r in sketch.top(task.top, task.share).by_packets.rows]
        assert (53 in listed) == (horizon_ns > PANE_NS)
    sketch = results["top", 60 * SECOND, T0][0].sketch
    first = sketch.top(task.top, task.share).by_packets.rows[0]
    assert (first.key, first.packets) == ((53,), 900)


@st.composite
def small_traffic(draw: st.DrawFn) -> Packets:
    count = draw(st.integers(1, 150))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    packets = random_packets(rng, count, hosts=draw(st.integers(1, 200)))
    packets["wire_bytes"] = np.minimum(60 * rng.zipf(1.5, count), 2**31)
    return in_order(packets)


@settings(max_examples=30, deadline=None)
@given(small_traffic(), st.integers(1, 60), st.sampled_from([2, 30]), st.integers(1, 3))
def test_lists_of_any_traffic_keep_their_promises(
    packets: Packets, message: int, max_flows: int, parts: int
) -> None:
    """Any small traffic, folded or not, in any partitions: exact figures for every horizon."""
    config = WindowConfig(max_flows=max_flows)
    logs = split(packets, parts)
    units = [
        unit
        for number, log in enumerate(logs)
        for unit in units_of(log, config=config, message=message, partition=str(number))
    ]
    check_all(merge(units), packets, certain=True)


def interleave(rng: np.random.Generator, logs: list[list[Unit]]) -> list[Unit]:
    """A random order that keeps each partition's own."""
    logs = [log.copy() for log in logs]
    out = []
    while any(logs):
        log = logs[rng.integers(len(logs))]
        if log:
            out.append(log.pop(0))
    return out


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_partitions_changes_no_result(seed: int) -> None:
    """Units of three partitions in any interleaving give the same final figures."""
    packets = in_order(random_packets(np.random.default_rng(9), 5000, span_ns=200 * SECOND))
    logs = [units_of(p, partition=str(n), message=200) for n, p in enumerate(split(packets, 3))]
    one_by_one = merge([unit for log in logs for unit in log])
    mixed = merge(interleave(np.random.default_rng(seed), logs))
    assert figures(mixed) == figures(one_by_one)
    assert all(revisions[-1].revision for revisions in mixed.values())


_offsets = count()


def update(partition: str, watermark_s: float, panes: list[tuple[int, list[int]]]) -> UnitUpdate:
    """An update of panes (second of start, elements), with times relative to T0."""
    sketches = []
    for second, elements in panes:
        sketch = Distinct(12)
        sketch.update(np.array(elements, np.uint64))
        sketches.append(PaneSketch((T0 + second * SECOND) // PANE_NS, len(elements), sketch))
    watermark_ns = T0 + int(watermark_s * SECOND) if watermark_s < FOREVER_S else END_OF_TIME_NS
    return UnitUpdate(partition, next(_offsets), watermark_ns, PANE_NS, {"t": sketches})


def plain(results: list[WindowResult]) -> list[tuple[int, int, int, int, int]]:
    """Start and length in s, revision, distinct elements, late packets."""
    return [
        (
            (r.start_ns - T0) // SECOND,
            r.horizon_ns // SECOND,
            r.revision,
            int(r.sketch.estimate().value),  # type: ignore[union-attr]
            r.late_packets,
        )
        for r in results
    ]


def merger(*partitions: str, state: Any = None) -> OneTenant:
    return OneTenant((PANE_NS, 60 * SECOND), partitions or ("a",), state)


def test_a_horizon_is_published_when_all_have_passed_its_end() -> None:
    """Not a nanosecond before, and once."""
    m = merger()
    assert plain(m.apply(update("a", 59.999999999, [(0, [1, 2]), (58, [2, 3])]))) == [
        (0, 2, 1, 2, 0)
    ]
    assert plain(m.apply(update("a", 60, []))) == [(0, 60, 1, 3, 0), (58, 2, 1, 2, 0)]
    assert m.apply(update("a", 61, [])) == []


def test_a_silent_partition_holds_back_until_it_ends() -> None:
    """Nothing closes before the slowest partition has reported, then all at once."""
    m = merger("a", "b")
    assert m.apply(update("a", 500, [(0, [1]), (60, [2])])) == []
    assert m.apply(update("a", FOREVER_S, [])) == []
    closed = plain(m.apply(update("b", FOREVER_S, [(0, [9])])))
    assert closed == [(0, 2, 1, 2, 0), (0, 60, 1, 2, 0), (60, 2, 1, 1, 0), (60, 60, 1, 1, 0)]


def test_a_late_pane_revises_what_is_kept_and_is_told_after_that() -> None:
    """The last closed horizon of each length is revised; older ones get revision 0."""
    m = merger()
    m.apply(update("a", 60, [(0, [1]), (58, [2])]))
    # The horizon of 60 s is kept and the pane at 58 s too, the pane at 0 s is gone.
    assert plain(m.apply(update("a", 61, [(0, [3, 4])]))) == [(0, 2, 0, 2, 2), (0, 60, 2, 4, 0)]
    assert plain(m.apply(update("a", 61, [(58, [5])]))) == [(0, 60, 3, 5, 0), (58, 2, 2, 2, 0)]
    assert plain(m.apply(update("a", 121, [(60, [6])]))) == [(60, 2, 1, 1, 0), (60, 60, 1, 1, 0)]
    # Now the minute from 60 s is the one that is kept.
    assert plain(m.apply(update("a", 122, [(58, [7, 8, 9])]))) == [
        (0, 60, 0, 3, 3),
        (58, 2, 0, 3, 3),
    ]


def test_late_panes_of_one_update_are_one_correction() -> None:
    """Strays of one horizon are merged, their packets added."""
    m = merger()
    m.apply(update("a", 240, [(0, [1]), (60, [2]), (120, [3])]))
    late = plain(m.apply(update("a", 241, [(0, [7, 8]), (2, [8, 9, 10])])))
    assert late == [(0, 2, 0, 2, 2), (0, 60, 0, 4, 5), (2, 2, 0, 3, 3)]


def test_an_unchanged_horizon_is_not_published_again() -> None:
    """Later panes of other horizons don't repeat what is out."""
    m = merger()
    m.apply(update("a", 60, [(0, [1])]))
    assert plain(m.apply(update("a", 62, [(60, [2])]))) == [(60, 2, 1, 1, 0)]


def test_published_results_do_not_change_later() -> None:
    """A result that is still on its way to the store isn't touched by a revision."""
    m = merger()
    first = m.apply(update("a", 60, [(0, [1])]))
    before = plain(first)
    m.apply(update("a", 61, [(0, [2]), (2, [3])]))
    m.apply(update("a", 61, [(4, [4])]))
    assert plain(first) == before


def test_the_sketches_of_a_unit_are_not_changed() -> None:
    """Merging leaves the unit's own sketches alone: another horizon needs them."""
    m = merger()
    given_update = update("a", 1, [(0, [1]), (2, [2])])
    m.apply(given_update)
    m.apply(update("a", 60, [(0, [5, 6])]))
    values = [p.sketch.estimate().value for p in given_update.panes["t"]]  # type: ignore[union-attr]
    assert values == [1, 1]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_snapshot_in_the_middle_changes_nothing(task: Task) -> None:
    """After every unit: snapshot, pickle, restore; the results stay the same."""
    packets = random_packets(np.random.default_rng(11), 4000, hosts=200, span_ns=150 * SECOND)
    packets["ts_ns"][2000::50] -= np.uint64(70 * SECOND)
    logs = [units_of(p, partition=str(n), message=300) for n, p in enumerate(split(packets, 2))]
    units = interleave(np.random.default_rng(1), logs)
    plain_one = OneTenant(HORIZONS_NS, ["log/0", "log/1"])
    restored = OneTenant(HORIZONS_NS, ["log/0", "log/1"])
    published = late = 0
    for unit in units:
        wanted = plain_one.apply(update_of(unit, task))
        found = restored.apply(update_of(unit, task))
        assert len(found) == len(wanted)
        for a, b in zip(wanted, found, strict=True):
            assert (a.start_ns, a.horizon_ns, a.revision, a.late_packets) == (
                b.start_ns,
                b.horizon_ns,
                b.revision,
                b.late_packets,
            )
            x: Any = a.sketch
            y: Any = b.sketch
            if task.kind == "distinct":
                assert x.to_bytes() == y.to_bytes()
            else:
                assert x.top(task.top) == y.top(task.top)
            published += a.revision > 0
            late += a.revision == 0
        state = pickle.loads(pickle.dumps(restored.snapshot()))
        restored = OneTenant(HORIZONS_NS, ["log/0", "log/1"], state)
    assert published > 10
    assert late


def test_a_snapshot_does_not_change_afterwards() -> None:
    """What bytewax holds until it writes is a picture of its moment."""
    m = merger()
    m.apply(update("a", 1, [(0, [1])]))
    state = m.snapshot()
    image = pickle.dumps(state)
    m.apply(update("a", 60, [(2, [2]), (4, [3])]))
    assert pickle.dumps(state) == image
    assert plain(merger(state=state).apply(update("a", 60, []))) == [
        (0, 2, 1, 1, 0),
        (0, 60, 1, 1, 0),
    ]


def test_another_version_of_the_state_is_refused() -> None:
    """Recovery files of another format are not guessed at."""
    with pytest.raises(ValueError, match="version 99"):
        HorizonMerger((PANE_NS,), (99, ()))


def test_gaps_between_packets_leave_nothing_behind() -> None:
    """Panes years apart: a result each, and only the last of each length is kept."""
    m = merger()
    year_s = 366 * 24 * 3600
    for n in range(40):
        closed = plain(m.apply(update("a", n * year_s, [(n * year_s, [n])])))
        assert len(closed) == (2 if n else 0)
        ((_, (_, windows)),) = m.snapshot()[-1]
        assert len(windows) <= 4


def share(partition: str, watermark_s: float, **tenants: list[tuple[int, list[int]]]) -> UnitUpdate:
    """A unit's part for one task: panes by tenant."""
    given = {name: update(partition, watermark_s, panes) for name, panes in tenants.items()}
    panes = {name: each.panes["t"] for name, each in given.items()}
    return replace(update(partition, watermark_s, []), panes=panes)


def told(published: list[tuple[str, list[WindowResult]]]) -> dict[str, list[tuple[int, ...]]]:
    return {tenant: plain(results) for tenant, results in published}


def test_partitions_without_a_tenant_still_close_its_horizons() -> None:
    """A tenant whose packets are in one partition waits for the others' watermarks only."""
    horizons = TenantHorizons((PANE_NS, 60 * SECOND), ["a", "b"])
    assert horizons.apply(share("a", 61, red=[(0, [1, 2])])) == []
    first = told(horizons.apply(share("b", 3, blue=[(0, [7])])))
    assert first == {"red": [(0, 2, 1, 2, 0)], "blue": [(0, 2, 1, 1, 0)]}
    closed = told(horizons.apply(share("b", 60)))
    assert closed["red"] == [(0, 60, 1, 2, 0)]
    assert closed["blue"] == [(0, 60, 1, 1, 0)]


def test_a_tenant_that_joins_late_is_late() -> None:
    """Packets of a tenant's first unit that lie behind everybody's watermark are corrections."""
    horizons = TenantHorizons((PANE_NS, 60 * SECOND), ["a"])
    horizons.apply(share("a", 200, red=[(0, [1])]))
    assert told(horizons.apply(share("a", 201, blue=[(0, [3, 4])]))) == {
        "blue": [(0, 2, 0, 2, 2), (0, 60, 0, 2, 2)]
    }


def test_a_unit_that_comes_again_is_merged_once() -> None:
    """Neither at once nor after a snapshot does a repeated unit change anything."""
    horizons = TenantHorizons((PANE_NS,), ["a"])
    first, end = share("a", 1, red=[(0, [1, 2])]), share("a", 4)
    horizons.apply(first)
    restored = TenantHorizons((PANE_NS,), ["a"], horizons.snapshot())
    assert restored.apply(first) == []
    assert told(restored.apply(end)) == {"red": [(0, 2, 1, 2, 0)]}
    assert restored.apply(end) == []


def test_horizons_from_before_the_run_are_not_whole() -> None:
    """Begun in the middle of a log without state, only what starts later is complete."""
    horizons = TenantHorizons((PANE_NS, 60 * SECOND), ["a"])
    unit = replace(share("a", 30, red=[(20, [1])]), since_ns=T0 + 20 * SECOND)
    published = dict(horizons.apply(unit))["red"] + dict(horizons.apply(share("a", 60)))["red"]
    assert [(r.horizon_ns // SECOND, r.whole) for r in published] == [(2, True), (60, False)]


def test_tenants_survive_a_snapshot() -> None:
    """Restored, every tenant goes on where it was, and a new one joins at the same time."""
    horizons = TenantHorizons((PANE_NS, 60 * SECOND), ["a"])
    horizons.apply(share("a", 10, red=[(0, [1])], blue=[(4, [2, 3])]))
    state = pickle.loads(pickle.dumps(horizons.snapshot()))
    restored = TenantHorizons((PANE_NS, 60 * SECOND), ["a"], state)
    following = share("a", 60, blue=[(12, [9])], green=[(2, [5])])
    assert told(restored.apply(following)) == told(horizons.apply(following))
    with pytest.raises(ValueError, match="version 99"):
        TenantHorizons((PANE_NS,), ["a"], (99, *state[1:]))


def test_a_pane_is_pickled_once_for_all_who_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the engine pickles a pane's sketch, its arrays are written out once."""
    written = []
    real = Pool.__reduce__
    monkeypatch.setattr(Pool, "__reduce__", lambda pool: written.append(pool) or real(pool))
    keys = np.arange(5000, dtype=np.uint64).reshape(-1, 1)
    spread = SuperSpread(1)
    spread.update(keys, hash_words(keys), hash_words(keys, 7))
    pane = PaneSketch(3, 5000, spread)
    images = [pickle.dumps([pane]), pickle.dumps({"another": pane})]
    assert len(written) == 1
    (first,), second = pickle.loads(images[0]), pickle.loads(images[1])["another"]
    assert (first.pane, first.packets, first.sampling) == (3, 5000, pane.sampling)
    assert first.sketch.to_bytes() == second.sketch.to_bytes() == spread.to_bytes()
