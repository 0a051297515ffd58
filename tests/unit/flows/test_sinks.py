"""Units and results into a real store: exactly once, whatever happens in between."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flows.errors import StoreError
from flows.kernels.layout import PACKETS, T_PACKETS
from flows.operators.horizons import TaskResults
from flows.sinks import result_rows, sketch_rows, unit_rows
from flows.sinks.result_rows import Context
from flows.sinks.store import ResultSink, ResultWriter, StoredCounts, UnitSink, UnitWriter
from flows.sketches.at_rest import seed_id
from flows.sketches.distinct import Distinct
from flows.sketches.frequency import Frequency
from flows.sketches.superspread import SuperSpread
from flows.storage.store import Store
from flows.windows.control import RunControl
from flows.windows.fields import FieldList
from flows.windows.horizons import WindowResult
from flows.windows.partition import PartitionAccumulator, WindowConfig
from flows.windows.tasks import Task
from flows.windows.unit import Stream, Unit
from schemas.hashing import DEFAULT_SEED, hash_words
from schemas.record import Packets
from tests.support.jobs import (
    NETWORKS,
    SECOND,
    TASKS,
    committed,
    sums,
    tables,
    truth,
    units_of,
)
from tests.support.naive_flows import flow_key, naive_flows, random_packets

DAY_NS = 86_400 * SECOND
MINUTE_NS = 60 * SECOND
T0_NS = 1_700_000_040 * SECOND
HOSTS = Task("hosts", "distinct", elements=FieldList(("src_addr",)))
PORTS = Task("ports", "frequency", FieldList(("dst_port",)), top=3)
FAN = Task("fan", "spread", FieldList(("src_addr",)), FieldList(("dst_addr",)))
ADDITIVE = ("flows", "panes", "flows_1m", "flows_1h", "totals", "ledger")

names = (f"tenant{number}" for number in count())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(f"chdb:{tmp_path_factory.mktemp('sinks')}", serve=False) as opened:
        yield opened


def make_units(tenant: str, packets: Packets, message: int = 400, **log: Any) -> list[Unit]:
    """Units under a topic of the tenant's own name."""
    stream = log.pop("stream", None) or Stream(tenant, "p", interfaces={0: "lo", 1: "eth0"})
    return units_of(packets, topic=tenant, message=message, stream=stream, **log)


class Killed(Exception):
    """Stands for the end of the process."""


class Dying:
    """A store whose process is killed at the n-th insert: before it, or after."""

    def __init__(self, store: Store, at: int, *, after: bool) -> None:
        self._store, self._left, self._after = store, at, after

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        if self._left == 0 and not self._after:
            raise Killed
        self._store.insert(table, rows, token)
        if self._left == 0:
            raise Killed
        self._left -= 1

    def committed(self, topic: str, partition: str, since: int = 0) -> Any:
        return self._store.committed(topic, partition, since)


def write_all(store: Any, units: list[Unit]) -> StoredCounts:
    counts = StoredCounts()
    writer = UnitWriter(store, counts)
    for unit in units:
        writer.write(unit)
    return counts


def test_units_are_stored_as_they_are(store: Store) -> None:
    """Flow by flow the table holds what the plain-Python twin counts."""
    tenant = next(names)
    packets = random_packets(np.random.default_rng(1), 2000)
    counts = write_all(store, make_units(tenant, packets))
    assert (counts.packets, counts.bytes) == truth(packets)
    sql = (
        "SELECT toUnixTimestamp64Milli(window_start) AS ms, src_addr, dst_addr, src_port, "
        "dst_port, vlan_id, eth_type, ip_proto, direction, capture_point, if_index, tunnel_id, "
        "sum(packets) AS p, sum(bytes) AS b, min(toUnixTimestamp64Nano(first_seen)) AS f, "
        "max(toUnixTimestamp64Nano(last_seen)) AS l, groupBitOr(tcp_flags) AS t FROM flows "
        f"WHERE tenant = '{tenant}' GROUP BY ms, src_addr, dst_addr, src_port, dst_port, vlan_id, "
        "eth_type, ip_proto, direction, capture_point, if_index, tunnel_id"
    )
    found = {}
    for row in store.query(sql).to_pylist():
        ms, src, dst, *rest = row.values()
        key = (ms // 2000, _octets(src), _octets(dst), *rest[:9])
        found[key] = rest[9:]
    assert found == naive_flows(packets, 2 * SECOND)
    assert flow_key(packets[0], 2 * SECOND) in found


def _octets(value: Any) -> bytes:
    return value if isinstance(value, bytes) else ipaddress.ip_address(value).packed


def test_every_additive_table_has_the_same_sums(store: Store) -> None:
    """Flows, totals, both rollups and commits agree with the packets."""
    tenant = next(names)
    packets = random_packets(np.random.default_rng(2), 3000)
    write_all(store, make_units(tenant, packets))
    assert set(sums(store, tenant).values()) == {truth(packets)}
    assert committed(store, tenant) == truth(packets)


def test_units_are_stored_once(store: Store) -> None:
    """Writing all units again, by the same writer and by a new one, changes nothing."""
    tenant = next(names)
    packets = random_packets(np.random.default_rng(3), 3000)
    units = make_units(tenant, packets)
    counts = StoredCounts()
    writer = UnitWriter(store, counts)
    for unit in units:
        writer.write(unit)
    before = tables(store, tenant, ADDITIVE)
    again = write_all(store, units)
    assert (again.units, again.packets) == (0, 0)
    assert (again.skipped_units, again.skipped_packets) == (len(units), counts.packets)
    assert tables(store, tenant, ADDITIVE) == before
    assert committed(store, tenant) == truth(packets)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_insert_loses_and_doubles_nothing(store: Store, after: bool) -> None:
    """Killed at each insert in turn, the next run completes to the exact tables."""
    packets = random_packets(np.random.default_rng(4), 600, span_ns=10 * SECOND)
    packets["ts_ns"][300:] += np.uint64(DAY_NS)  # a unit with rows of two days
    whole = next(names)
    write_all(store, make_units(whole, packets, 10_000))
    wanted = tables(store, whole, ADDITIVE)
    for at in count():
        tenant = next(names)
        units = make_units(tenant, packets, 10_000)
        try:
            write_all(Dying(store, at, after=after), units)
        except Killed:
            write_all(store, units)
            assert tables(store, tenant, ADDITIVE) == wanted, f"killed at insert {at}"
            assert committed(store, tenant) == truth(packets)
        else:
            break
    assert at == 7 + 4  # the first unit has two days, each unit one commit


def test_kills_in_every_run_end_in_exact_sums(store: Store) -> None:
    """A job that dies one insert later each time gets through in the end, with exact sums."""
    tenant = next(names)
    packets = random_packets(np.random.default_rng(5), 600, span_ns=10 * SECOND)
    units = make_units(tenant, packets)
    kills = 0
    for at in count():
        try:
            write_all(Dying(store, at, after=bool(at % 2)), units)
            break
        except Killed:
            kills += 1
    assert kills > 4
    assert set(sums(store, tenant).values()) == {truth(packets)}
    assert committed(store, tenant) == truth(packets)


def test_interfaces_are_named_by_their_stream(store: Store) -> None:
    """The same interface number has another name at another probe."""
    tenant = next(names)
    packets = random_packets(np.random.default_rng(6), 200)
    accumulator = PartitionAccumulator(tenant, "0", WindowConfig(), TASKS, NETWORKS)
    for probe, named in (("a", {0: "lo", 1: "eth0"}), ("b", {1: "wan"})):
        number = accumulator.add_stream(Stream(tenant, probe, 1, named))
        accumulator.absorb(packets, number)
    write_all(store, [accumulator.end(0)])
    sql = f"SELECT DISTINCT probe, if_index, if_name FROM flows WHERE tenant = '{tenant}'"
    rows = {tuple(row.values()) for row in store.query(sql).to_pylist()}
    assert rows == {("a", 0, "lo"), ("a", 1, "eth0"), ("b", 0, ""), ("b", 1, "wan")}


def test_sampling_is_stored_with_the_flows(store: Store) -> None:
    """Each flow says by how much its counts were multiplied."""
    tenant = next(names)
    packets = random_packets(np.random.default_rng(7), 200)
    write_all(store, make_units(tenant, packets, stream=Stream(tenant, "p", sampling_rate=50)))
    sql = (
        "SELECT sampling_rate AS r, sum(packets) AS p FROM flows "
        f"WHERE tenant = '{tenant}' GROUP BY r"
    )
    assert store.query(sql).to_pylist() == [{"r": 50, "p": 50 * truth(packets)[0]}]


def test_the_ledger_balances(store: Store) -> None:
    """What each hop saw is what it gave on, or was dropped by reason."""
    tenant = next(names)
    packets = random_packets(np.random.default_rng(8), 500)
    accumulator = PartitionAccumulator(tenant, "0", WindowConfig(), TASKS, NETWORKS)
    number = accumulator.add_stream(Stream(tenant, "p"))
    accumulator.absorb(packets, number)
    pane_ns = int(packets["ts_ns"][0])
    accumulator.drop(number, pane_ns, "truncated", 1)
    accumulator.drop(number, pane_ns, "truncated", 2)
    accumulator.drop(number, pane_ns - 100 * SECOND, "ring_full", 7)
    write_all(store, [accumulator.end(0)])
    sql = (
        "SELECT toString(hop) AS hop, sum(seen) AS seen, sum(delivered) AS delivered, "
        f"sumMap(dropped) AS dropped FROM ledger WHERE tenant = '{tenant}' GROUP BY hop"
    )
    read = truth(packets)[0]
    rows = {
        r["hop"]: (r["seen"], r["delivered"], dict(r["dropped"]))
        for r in store.query(sql).to_pylist()
    }
    assert rows == {
        "capture": (read + 10, read, {"truncated": 3, "ring_full": 7}),
        "window": (read, read, {}),
        "store": (read, read, {}),
    }


def test_a_difference_between_packets_and_flows_shows(store: Store) -> None:
    """If flows and totals disagreed, the ledger would say so instead of hiding it."""
    (unit,) = units_of(random_packets(np.random.default_rng(9), 50), config=WindowConfig(10**15))
    entries = unit.entries.copy()
    entries[0, PACKETS] -= np.uint64(1)
    (rows,) = unit_rows.ledger(replace(unit, entries=entries))
    window = next(row for row in rows.to_pylist() if row["hop"] == 4)
    assert dict(window["dropped"]) == {"unaccounted": 1}
    assert window["seen"] == window["delivered"] + 1 == int(unit.totals[:, T_PACKETS].sum())


def test_an_insert_is_of_one_day_and_not_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are cut at midnight UTC and at the largest insert, every row in exactly one."""
    monkeypatch.setattr(unit_rows, "MAX_INSERT_ROWS", 7)
    rng = np.random.default_rng(10)
    panes = rng.integers(0, 3 * DAY_NS // (2 * SECOND), 100).astype(np.uint64)
    cuts = unit_rows.chunks(panes, 2 * SECOND)
    assert sorted(np.concatenate(cuts).tolist()) == list(range(100))
    for rows in cuts:
        assert 0 < len(rows) <= 7
        assert len(set((panes[rows] * np.uint64(2 * SECOND) // np.uint64(DAY_NS)).tolist())) == 1
    assert unit_rows.chunks(panes[:0], 2 * SECOND) == []


def test_results_are_cut_by_months_and_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """No insert spans more of the store's partitions than the engine takes."""
    months = pa.array([30 * 86_400_000 * n for n in reversed(range(130))], pa.int64())
    rows = pa.table({"window_start": months.cast(pa.timestamp("ms", "UTC"))})
    parts = list(result_rows.inserts(rows))
    assert len(parts) >= 2
    found = [value for part in parts for value in part["window_start"].to_pylist()]
    assert found == sorted(rows["window_start"].to_pylist())
    for part in parts:
        assert len({(v.year, v.month) for v in part["window_start"].to_pylist()}) <= 50
    monkeypatch.setattr(result_rows, "MAX_INSERT_ROWS", 9)
    assert max(part.num_rows for part in result_rows.inserts(rows)) == 9


def counted(*elements: int) -> Distinct:
    sketch = Distinct(12)
    sketch.update(np.array(elements, np.uint64))
    return sketch


def ports(**packets: int) -> Frequency:
    """A list of ports (p80=3), 100 bytes a packet."""
    sketch = Frequency(1)
    keys = np.array([[int(name[1:])] for name in packets], np.uint64)
    weights = np.array(list(packets.values()), np.uint64)
    sketch.update(keys, hash_words(keys, DEFAULT_SEED), weights, weights * np.uint64(100))
    return sketch


def results(tenant: str, *revisions: tuple[int, Any, int], unit: str = "log/0/1") -> TaskResults:
    """Revisions of one horizon of 60 s: (revision, sketch, late packets)."""
    task = HOSTS if isinstance(revisions[0][1], Distinct) else PORTS
    listed = [WindowResult(T0_NS, MINUTE_NS, number, s, late) for number, s, late in revisions]
    return TaskResults(tenant, task, unit, listed)


def distinct_row(store: Store, tenant: str) -> tuple[Any, ...]:
    sql = (
        "SELECT estimate, lower, upper, late_packets, revision FROM distinct_counts "
        f"WHERE tenant = '{tenant}'"
    )
    (row,) = store.query(sql).to_pylist()
    return tuple(row.values())


def port_rows(store: Store, tenant: str) -> list[tuple[Any, ...]]:
    sql = (
        "SELECT rank, key_text, packets, packets_lower, packets_upper, error, total_packets "
        f"FROM heavy_hitters WHERE tenant = '{tenant}' AND ranked_by = 'packets' ORDER BY rank"
    )
    return [tuple(row.values()) for row in store.query(sql).to_pylist()]


def test_the_newest_revision_is_shown(store: Store) -> None:
    """Revisions replace each other; writing one again, late or early, changes nothing."""
    tenant = next(names)
    first, second = (1, counted(1, 2), 0), (2, counted(1, 2, 3), 0)
    ResultWriter(store, Context([""])).write([results(tenant, first)])
    assert distinct_row(store, tenant) == (2, 2, 2, 0, 1)
    ResultWriter(store, Context([""])).write([results(tenant, second)])
    assert distinct_row(store, tenant) == (3, 3, 3, 0, 2)
    again = ResultWriter(store, Context([""]))
    again.write([results(tenant, first)])
    again.write([results(tenant, second)])
    assert distinct_row(store, tenant) == (3, 3, 3, 0, 2)


def test_a_new_list_replaces_the_whole_old_one(store: Store) -> None:
    """A port that left the list isn't shown any more."""
    tenant = next(names)
    writer = ResultWriter(store, Context([""]))
    writer.write([results(tenant, (1, ports(p80=5, p53=4, p22=3, p21=2), 0))])
    assert port_rows(store, tenant) == [
        (1, "dst_port=80", 5, 5, 5, 0, 14),
        (2, "dst_port=53", 4, 4, 4, 0, 14),
        (3, "dst_port=22", 3, 3, 3, 0, 14),
        (4, "dst_port=21", 2, 2, 2, 0, 14),
    ]
    writer.write([results(tenant, (2, ports(p80=5, p443=9), 0))])
    assert [row[:3] for row in port_rows(store, tenant)] == [
        (1, "dst_port=443", 9),
        (2, "dst_port=80", 5),
    ]


def test_late_corrections_widen_the_bounds_once(store: Store) -> None:
    """Late packets are added to the upper bound, also when a rerun writes them again."""
    tenant = next(names)
    for _ in range(2):  # the second time as after a crash
        writer = ResultWriter(store, Context([""]))
        writer.write([results(tenant, (1, counted(1, 2), 0))])
        writer.write([results(tenant, (0, counted(7), 4), unit="log/0/5")])
        writer.write([results(tenant, (0, counted(8, 9), 6), unit="log/0/6")])
        assert distinct_row(store, tenant) == (2, 2, 2 + 4 + 6, 4 + 6, 1)


def test_late_lists_raise_the_error(store: Store) -> None:
    """Any key may have got all of the late packets, so all upper bounds and the error grow."""
    tenant = next(names)
    for _ in range(2):
        writer = ResultWriter(store, Context([""]))
        writer.write([results(tenant, (1, ports(p80=5, p53=4), 0))])
        writer.write([results(tenant, (0, ports(p22=3), 3), unit="log/0/9")])
    assert port_rows(store, tenant) == [
        (1, "dst_port=80", 5, 5, 8, 3, 9),
        (2, "dst_port=53", 4, 4, 7, 3, 9),
    ]


def sketch_rows_of(store: Store, tenant: str) -> list[dict[str, Any]]:
    sql = (
        "SELECT * EXCEPT (sketch, tenant, updated_at, window_start), hex(sketch) AS image "
        f"FROM sketches WHERE tenant = '{tenant}' ORDER BY horizon, kind, revision"
    )
    found: list[dict[str, Any]] = store.query(sql).to_pylist()
    return found


def test_sketches_are_kept_for_minutes_and_readable(store: Store) -> None:
    """A stored image gives the same count; panes have none, late corrections rows of their own."""
    tenant = next(names)
    sketch, late = counted(*range(1000, 4000)), counted(7)
    pane = TaskResults(tenant, HOSTS, "u", [WindowResult(T0_NS, 2 * SECOND, 1, sketch, 0)])
    for _ in range(2):  # the second time as after a crash
        writer = ResultWriter(store, Context([""], seed=5))
        writer.write([pane, results(tenant, (1, sketch, 0)), results(tenant, (0, late, 1))])
    first, row = sketch_rows_of(store, tenant)
    assert (first["revision"], bytes.fromhex(first["image"])) == (0, late.to_bytes())
    assert Distinct.from_bytes(bytes.fromhex(row.pop("image"))).estimate() == sketch.estimate()
    assert row == {
        "horizon": 60, "task": "hosts", "kind": "cpc", "version": 1, "fields": ["src_addr"],
        "seed_id": seed_id(5), "packets": 0, "sampling_rate": 1, "sampling_clustered": False,
        "complete": True, "revision": 1,
    }  # fmt: skip


def test_large_sketches_are_kept_of_the_longest_horizon(store: Store) -> None:
    """Frequencies and spreads are stored of the longest horizon only, and read back."""
    tenant = next(names)
    spread = SuperSpread(2)
    keys = np.array([[1, 2], [1, 2]], np.uint64)
    spread.update(keys, hash_words(keys, DEFAULT_SEED), np.array([3, 4], np.uint64))
    for task, sketch in ((PORTS, ports(p80=3)), (FAN, spread)):
        found = [WindowResult(T0_NS, n * MINUTE_NS, 1, sketch, packets=3) for n in (1, 10)]
        context = Context([""], longest_ns=10 * MINUTE_NS)
        ResultWriter(store, context).write([TaskResults(tenant, task, "u", found)])
    rows = sketch_rows_of(store, tenant)
    assert [(r["horizon"], r["kind"], r["fields"], r["packets"]) for r in rows] == [
        (600, "frequency", ["dst_port"], 3),
        (600, "superspread", ["src_addr"], 3),
    ]
    assert bytes.fromhex(rows[0]["image"]) == ports(p80=3).to_bytes()
    assert bytes.fromhex(rows[1]["image"]) == spread.to_bytes()


def test_inserts_of_sketches_are_not_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many sketches at once are cut into inserts, every one in exactly one of them."""
    monkeypatch.setattr(sketch_rows, "MAX_INSERT_BYTES", 5000)
    sketch = counted(*range(3000))
    found = [WindowResult(T0_NS + n * MINUTE_NS, MINUTE_NS, 1, sketch) for n in range(20)]
    parts = list(sketch_rows.inserts([TaskResults("t", HOSTS, "u", found)], Context([""])))
    assert len(parts) > 3
    starts = [start for part in parts for start in part["window_start"].to_pylist()]
    assert len(set(starts)) == len(starts) == 20


class Refusing:
    """A store that refuses every row, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        self.asked += 1
        msg = "the disk is full"
        raise StoreError(msg)

    def committed(self, topic: str, partition: str, since: int = 0) -> list[int]:
        return []


def test_a_refusing_store_ends_the_run_and_is_not_asked_again() -> None:
    """The failure goes to the run's control, and nothing is written after it."""
    units = make_units("t", random_packets(np.random.default_rng(11), 500))
    refusing, control, counts = Refusing(), RunControl(), StoredCounts()
    sink = UnitSink(refusing, counts, control).build("store", 0, 1)
    sink.write_batch(units)
    assert str(control.failure) == "the disk is full"
    assert control.stopping
    assert refusing.asked == 1
    sink.write_batch(units)
    ResultSink(refusing, Context([""]), control).build("store", 0, 1).write_batch(
        [results("t", (1, counted(1), 0))]
    )
    assert refusing.asked == 1
    assert (counts.units, counts.packets) == (0, 0)


def test_the_first_failure_is_the_one_that_is_told() -> None:
    """Results that can't be stored end the run too; later failures don't hide the first."""
    control = RunControl()
    sink = ResultSink(Refusing(), Context([""]), control).build("store", 0, 1)
    sink.write_batch([results("t", (1, counted(1), 0))])
    first = control.failure
    assert first is not None
    control.fail(StoreError("another"))
    assert control.failure is first


def test_windows_that_others_share_are_not_complete() -> None:
    """A window is complete unless it touches a minute in which another load has packets."""
    context = Context(others=np.array([10, 700], np.int64))
    minute = 60 * 10**9
    assert context.complete(9 * minute, minute)
    assert not context.complete(10 * minute, minute)
    assert not context.complete(10 * minute + 58 * 10**9, 2 * 10**9)
    assert context.complete(11 * minute, 2 * 10**9)
    assert not context.complete(10 * minute, 10 * minute)
    assert not context.complete(0, 11 * minute)
    assert Context().complete(0, 600 * minute)
