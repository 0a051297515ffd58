"""The real dataflow into a real store: the same input gives the same tables, however it runs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flows import job
from flows.errors import StoreError
from flows.settings import Settings
from flows.storage.store import Store
from flows.windows.control import RunControl
from flows.windows.partition import WindowConfig
from probe.synthetic import Traffic
from schemas.record import Packets
from tests.support.jobs import (
    SECOND,
    committed,
    ipv4_packets,
    run_flow,
    split,
    sums,
    tables,
    truth,
    write_pcap,
)
from tests.support.naive_flows import naive_late, random_packets

T0 = 1_700_000_040 * SECOND
RESULTS = ("distinct_counts", "heavy_hitters", "sketches")
ADDITIVE = ("flows", "panes", "flows_1m", "flows_1h", "totals", "ledger")
SAME = (*ADDITIVE, *RESULTS)

names = (f"tenant{number}" for number in count())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(f"chdb:{tmp_path_factory.mktemp('job')}", serve=False) as opened:
        yield opened


@pytest.fixture
def tenant() -> str:
    return next(names)


def traffic() -> Packets:
    """Mixed packets over a minute and a bit, in order, from 20 s into a minute."""
    packets = random_packets(np.random.default_rng(1), 3000, hosts=60, span_ns=66 * SECOND)
    return packets[np.argsort(packets["ts_ns"], kind="stable")]


PACKETS = traffic()


@pytest.fixture(scope="module")
def wanted(store: Store) -> dict[str, list[Any]]:
    """Tables after the plainest run."""
    run_flow(store, "plain", [PACKETS])
    found = tables(store, "plain", SAME)
    assert all(found.values())
    assert set(sums(store, "plain").values()) == {truth(PACKETS)}
    assert {row[1] for row in found["distinct_counts"]} == {2, 60, 600}
    return found


@pytest.mark.parametrize(
    ("message", "batch"), [(500, 1000), (500, 7), (150, 8192), (1000, 8192), (10_000, 65_536)]
)
def test_batches_and_messages_change_no_table(
    store: Store, tenant: str, wanted: dict[str, list[Any]], message: int, batch: int
) -> None:
    """Whatever the sizes in which packets are read: every table is the same."""
    run_flow(store, tenant, [PACKETS], message=message, batch=batch)
    assert tables(store, tenant, SAME) == wanted


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("parts", [1, 3])
def test_workers_and_partitions_change_no_table(
    store: Store, tenant: str, wanted: dict[str, list[Any]], workers: int, parts: int
) -> None:
    """Traffic split over partitions and workers: every table is the same."""
    topic = f"log-{tenant}"
    logs = split(PACKETS, parts)
    assert all(map(len, logs))
    run_flow(store, tenant, logs, workers=workers, topic=topic)
    assert tables(store, tenant, SAME) == wanted
    assert committed(store, topic) == truth(PACKETS)


@pytest.mark.parametrize("workers", [1, 2])
def test_folding_changes_no_sum_and_no_result(
    store: Store, tenant: str, wanted: dict[str, list[Any]], workers: int
) -> None:
    """With room for few flows: the same sums by pane and IP version, the same results."""
    run_flow(store, tenant, [PACKETS], workers=workers, config=WindowConfig(max_flows=15))
    (folded,) = store.query(
        f"SELECT sum(folded_flows) AS n FROM flows WHERE tenant = '{tenant}'"
    ).to_pylist()
    assert folded["n"] > 200
    same = ("panes", "totals", "ledger", *RESULTS)
    assert tables(store, tenant, same) == {name: wanted[name] for name in same}
    assert set(sums(store, tenant).values()) == {truth(PACKETS)}


@pytest.mark.parametrize("shift_ns", [1, 999_999_999, 1_500_000_000])
def test_panes_need_not_begin_with_the_capture(
    store: Store, tenant: str, wanted: dict[str, list[Any]], shift_ns: int
) -> None:
    """Shifted within a pane: all sums stay, and each pane has its own packets'."""
    packets = PACKETS.copy()
    packets["ts_ns"] += np.uint64(shift_ns)
    run_flow(store, tenant, [packets])
    assert set(sums(store, tenant).values()) == {truth(packets)}
    sql = (
        "SELECT toUnixTimestamp64Milli(window_start) AS ms, sum(packets) AS p FROM totals "
        f"WHERE tenant = '{tenant}' GROUP BY ms"
    )
    found = {row["ms"]: row["p"] for row in store.query(sql).to_pylist()}
    panes = packets["ts_ns"] // np.uint64(2 * SECOND)
    for pane in np.unique(panes).tolist():
        assert found.pop(pane * 2000) == packets["packets"][panes == pane].sum()
    assert not found


def test_results_bracket_the_exact_flows(store: Store, tenant: str) -> None:
    """On demo traffic, whose sketches are full, the bounds contain what the flows say."""
    demo = Traffic(packets=60_000, packets_per_second=600, start_ns=T0, seed=5)
    packets = demo.batch(0, demo.packets)
    run_flow(store, tenant, split(packets, 2), workers=2, message=10_000)
    ip = "eth_type IN (2048, 34525)"
    start = "toUnixTimestamp(toStartOfMinute(window_start))"
    checked = misses = 0
    for task, expression, condition in (
        ("distinct_src_addr", "src_addr", ip),
        ("distinct_dst_addr", "dst_addr", ip),
        ("distinct_addr_pair", "(src_addr, dst_addr)", ip),
        ("distinct_five_tuple", "(src_addr, dst_addr, src_port, dst_port, ip_proto)", ip),
    ):
        exact = {
            row["start"]: row["n"]
            for row in store.query(
                f"SELECT {start} AS start, uniqExact({expression}) AS n FROM flows "
                f"WHERE tenant = '{tenant}' AND {condition} GROUP BY start"
            ).to_pylist()
        }
        rows = store.query(
            "SELECT toUnixTimestamp(window_start) AS start, lower, upper, confidence "
            f"FROM distinct_counts WHERE tenant = '{tenant}' AND task = '{task}' AND horizon = 60"
        ).to_pylist()
        assert {row["start"] for row in rows} == exact.keys()
        for row in rows:
            lower, upper, real = row["lower"], row["upper"], exact[row["start"]]
            assert upper <= 1.05 * lower or row["confidence"] == 1
            misses += not lower <= real <= upper
            assert lower - (upper - lower) / 2 <= real <= upper + (upper - lower) / 2
            checked += 1
    assert misses <= 0.2 * checked  # 95 % bounds, few cases
    for task, text, condition in (
        ("top_src_addr", "concat('src_addr=', ip_text(src_addr))", ip),
        ("top_dst_addr", "concat('dst_addr=', ip_text(dst_addr))", ip),
        ("top_dst_port", "concat('dst_port=', toString(dst_port))", "1"),
        ("top_ip_proto", "concat('ip_proto=', toString(ip_proto))", "1"),
    ):
        exact_sums = store.query(
            f"SELECT {start} AS start, {text} AS key, sum(packets) AS packets, "
            f"sum(bytes) AS bytes FROM flows WHERE tenant = '{tenant}' AND {condition} "
            "GROUP BY start, key"
        ).to_pylist()
        rows = store.query(
            "SELECT toUnixTimestamp(window_start) AS start, toString(ranked_by) AS metric, "
            "key_text, packets_lower, packets_upper, bytes_lower, bytes_upper, error "
            f"FROM heavy_hitters WHERE tenant = '{tenant}' AND task = '{task}' AND horizon = 60"
        ).to_pylist()
        by_key = {(row["start"], row["key"]): row for row in exact_sums}
        listed: dict[tuple[Any, str], set[str]] = {}
        errors = {}
        for row in rows:
            real = by_key[row["start"], row["key_text"]]
            for metric in ("packets", "bytes"):
                assert row[f"{metric}_lower"] <= real[metric] <= row[f"{metric}_upper"]
            listed.setdefault((row["start"], row["metric"]), set()).add(row["key_text"])
            errors[row["start"], row["metric"]] = row["error"]
            checked += 1
        for row in exact_sums:
            for metric in ("packets", "bytes"):
                where = (row["start"], metric)
                assert row["key"] in listed[where] or row[metric] <= errors[where]
    assert checked > 100


class Refusing:
    """A store that refuses the n-th insert, before or after it happened, and all that follow."""

    def __init__(self, store: Store, at: int, *, after: bool) -> None:
        self._store, self._left, self._after = store, at, after

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        self._left -= 1
        if self._left >= 0 or (self._left == -1 and self._after):
            self._store.insert(table, rows, token)
        if self._left < 0:
            msg = "the disk is full"
            raise StoreError(msg)

    def committed(self, topic: str, partition: str, since: int = 0) -> Any:
        return self._store.committed(topic, partition, since)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [0, 1, 3, 4, 6, 9, 14])
def test_a_failing_store_costs_nothing_but_time(
    store: Store, tenant: str, wanted: dict[str, list[Any]], at: int, after: bool
) -> None:
    """The run ends with the failure; run again, every table is as if nothing had happened."""
    topic, control = f"log-{tenant}", RunControl()
    run_flow(Refusing(store, at, after=after), tenant, [PACKETS], topic=topic, control=control)
    assert str(control.failure) == "the disk is full"
    assert sums(store, tenant)["flows"] < truth(PACKETS)
    run_flow(store, tenant, [PACKETS], topic=topic)
    assert tables(store, tenant, SAME) == wanted
    assert committed(store, topic) == truth(PACKETS)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stopped_run_goes_on(
    store: Store, tenant: str, wanted: dict[str, list[Any]], workers: int
) -> None:
    """Stopped after some units: what is stored agrees; the next run completes it exactly."""
    topic, control = f"log-{tenant}", RunControl()
    logs = split(PACKETS, 2)

    class Stopping(Refusing):
        def insert(self, table: str, rows: pa.Table, token: str) -> None:
            self._store.insert(table, rows, token)
            self._left -= 1
            if not self._left:
                control.stop()

    counts = run_flow(
        Stopping(store, 12, after=False),
        tenant,
        logs,
        topic=topic,
        control=control,
        workers=workers,
        message=300,
    )
    assert control.failure is None
    stored = sums(store, tenant)
    assert stored["flows"] < truth(PACKETS)
    assert set(stored.values()) == {committed(store, topic)} == {(counts.packets, counts.bytes)}
    again = run_flow(store, tenant, logs, topic=topic, workers=workers, message=300)
    assert again.skipped_units == counts.units > 0
    assert again.packets + counts.packets == truth(PACKETS)[0]
    assert tables(store, tenant, SAME) == wanted


def run_capture(store: Store, tenant: str, path: Path, **settings: Any) -> int:
    return job.run(Settings(source=f"pcap:{path}", store=store.setting, tenant=tenant, **settings))


def scattered(rng: np.random.Generator, count: int, kind: str) -> Packets:
    packets = ipv4_packets(rng, count)
    if kind == "years":
        packets["ts_ns"] = np.sort(rng.integers(0, 4 * 10**18 // 10**6, count) * 1000)
    elif kind == "zero":
        packets["ts_ns"] = 0
    elif kind == "shuffled":
        rng.shuffle(packets)
    elif kind == "shuffled years":
        packets["ts_ns"] = rng.integers(0, 4 * 10**15, count) * 1000
    elif kind == "backwards":
        packets = packets[::-1].copy()
    return packets


@pytest.mark.parametrize("kind", ["years", "zero", "shuffled", "shuffled years", "backwards"])
def test_strange_times_give_right_sums_and_few_rows(
    store: Store, tenant: str, tmp_path: Path, kind: str
) -> None:
    """Years between packets, no order, time 0: sums and late packets right, rows bounded."""
    packets = scattered(np.random.default_rng(3), 150, kind)
    assert run_capture(store, tenant, write_pcap(tmp_path / "odd.pcap", packets)) == 0
    assert set(sums(store, tenant).values()) == {truth(packets)}
    (row,) = store.query(
        f"SELECT sum(late_packets) AS n FROM totals WHERE tenant = '{tenant}'"
    ).to_pylist()
    assert row["n"] == sum(naive_late(packets, 2 * SECOND, SECOND).values())
    for table, most in (("flows", 1), ("totals", 1), ("ledger", 3), ("distinct_counts_log", 12)):
        (row,) = store.query(
            f"SELECT count() AS n FROM {table} WHERE tenant = '{tenant}'"
        ).to_pylist()
        assert 0 < row["n"] <= most * len(packets)


def block(kind: int, body: bytes) -> bytes:
    """A block of a pcapng file."""
    body += b"\0" * (-len(body) % 4)
    size = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + size + body + size


def test_interfaces_have_their_names_in_every_unit(
    store: Store, tenant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in units that are stored long before the capture's end."""
    monkeypatch.setattr("flows.sources.logs.MESSAGE_PACKETS", 10)
    packets = ipv4_packets(np.random.default_rng(6), 100, span_ns=60 * SECOND)
    frames = write_pcap(tmp_path / "x.pcap", packets).read_bytes()[24:]
    data = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    for name in (b"eth0", b"wan1"):
        data += block(1, struct.pack("<HHIHH4sHH", 1, 0, 0, 2, 4, name, 0, 0))
    for n, packet in enumerate(packets):
        micros = int(packet["ts_ns"]) // 1000
        frame = frames[70 * n + 16 : 70 * (n + 1)]
        head = (n % 2, micros >> 32, micros & 0xFFFFFFFF, 54, int(packet["wire_bytes"]))
        data += block(6, struct.pack("<5I", *head) + frame)
    (tmp_path / "named.pcapng").write_bytes(data)
    assert run_capture(store, tenant, tmp_path / "named.pcapng") == 0
    rows = store.query(
        "SELECT if_index, if_name, sum(packets) AS n FROM flows "
        f"WHERE tenant = '{tenant}' GROUP BY if_index, if_name ORDER BY if_index"
    ).to_pylist()
    assert [tuple(row.values()) for row in rows] == [(0, "eth0", 50), (1, "wan1", 50)]


def test_overlapping_captures_are_merged_by_time(store: Store, tenant: str, tmp_path: Path) -> None:
    """Three captures of the same minutes in one run: the results of their packets together."""
    packets = ipv4_packets(np.random.default_rng(4), 3000, start_ns=T0, span_ns=90 * SECOND)
    for number in range(3):
        write_pcap(tmp_path / f"{number}.pcap", packets[number::3])
    whole = write_pcap(tmp_path / "whole.cap", packets)
    assert run_capture(store, tenant, tmp_path / "*.pcap") == 0
    assert run_capture(store, f"{tenant}-whole", whole) == 0
    same = ("flows", "panes", "flows_1m", "flows_1h", *RESULTS)
    assert tables(store, tenant, same) == tables(store, f"{tenant}-whole", same)
    (row,) = store.query(
        f"SELECT uniqExact(probe) AS n FROM flows WHERE tenant = '{tenant}'"
    ).to_pylist()
    assert row["n"] == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_the_whole_job_counts_a_capture(
    store: Store, tenant: str, tmp_path: Path, workers: int
) -> None:
    """From the file to the tables, with each number of workers."""
    packets = ipv4_packets(np.random.default_rng(5), 5000)
    path = write_pcap(tmp_path / "one.pcap", packets)
    settings = Settings(source=f"pcap:{path}", store=store.setting, tenant=tenant)
    assert job.run(settings, workers=workers) == 0
    assert set(sums(store, tenant).values()) == {truth(packets)}
    ledger = store.query(
        "SELECT sum(seen) AS s, sum(delivered) AS d, sum(in_flight) AS f, "
        f"sumMap(dropped) AS x FROM ledger WHERE tenant = '{tenant}' GROUP BY hop"
    ).to_pylist()
    assert [(row["s"], row["d"], row["f"], list(row["x"])) for row in ledger] == [
        (5000, 5000, 0, [])
    ] * 3
