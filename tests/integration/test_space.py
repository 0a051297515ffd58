"""Retention: a store within its limits, the oldest dropped first, and nothing without a word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from flows import job
from flows.settings import Settings
from flows.settings.model import Storage
from flows.storage import space
from flows.storage.audit import audit
from flows.storage.space import KEPT_LONGER, Limits, SpaceManager
from flows.storage.store import Store
from tests.support.store_rows import address, rows

DAY_MS = 86_400_000
T0_MS = 20_000 * DAY_MS
ROWS = 4000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"chdb:{tmp_path}/store", serve=False) as opened:
        yield opened


def put_day(store: Store, day: int, *, ingested_s: int | None = None, n: int = ROWS) -> None:
    """A day of flows and totals, incompressible, that came in at a time of our choice."""
    rng = np.random.default_rng(day)
    start_ms = T0_MS + day * DAY_MS
    packets, panes = rng.integers(1, 100, n), rng.integers(0, DAY_MS // 2000, n)
    stage = rows(
        "flows",
        src_addr=[address(f"10.0.{a}.{b}") for a, b in rng.integers(0, 255, (n, 2))],
        dst_addr=[address(f"10.1.{a}.{b}") for a, b in rng.integers(0, 255, (n, 2))],
        window_start=(start_ms + panes * 2000).tolist(),
        first_seen=rng.integers(0, 2**60, n).tolist(),
        packets=packets.tolist(),
        bytes=(packets * 100).tolist(),
        sampling_rate=1,
    )
    token = f"{day}/{ingested_s}"
    store.insert("flows", stage, f"flows/{token}")
    totals = rows(
        "totals",
        window_start=(start_ms + panes * 2000).tolist(),
        packets=packets.tolist(),
        bytes=(packets * 100).tolist(),
    )
    store.insert("totals", totals, f"totals/{token}")


def days(store: Store, table: str = "flows") -> list[int]:
    found = store.run(
        f"SELECT DISTINCT intDiv(toUnixTimestamp(window_start), 86400) - 20000 AS d FROM {table} "
        "ORDER BY d"
    )
    return [int(day) for day in found.split()]


def used(store: Store) -> int:
    return int(store.run("SELECT sum(bytes_on_disk) FROM system.parts WHERE active"))


def sums(store: Store, table: str = "flows") -> tuple[int, int]:
    """Packets that a table holds, and packets that were dropped from it."""
    held = store.run(f"SELECT sum(packets) FROM {table}")
    gone = store.run(f"SELECT sum(packets) FROM dropped FINAL WHERE table_name = '{table}'")
    return int(held), int(gone)


def manager(store: Store, **limits: Any) -> SpaceManager:
    return SpaceManager(store, Limits(**limits))


def test_stays_under_the_budget(store: Store) -> None:
    """Day after day comes in: the store stays under its budget, and the oldest days go first."""
    put_day(store, 0)
    budget = 4 * used(store)
    watched = manager(store, max_bytes=budget)
    for day in range(1, 12):
        put_day(store, day)
        watched.look()
        assert used(store) <= budget
        left = days(store)
        assert left == list(range(left[0], day + 1))
        assert 0 < watched.used_bytes <= budget
        assert watched.oldest_s // 86_400 - 20_000 == left[0]
    assert 0 < days(store)[0] <= 11
    assert days(store, "flows_1m")[0] <= days(store)[0]
    assert watched.dropped_partitions >= 3
    assert watched.dropped_rows >= 3 * ROWS
    assert watched.dropped_bytes > 0


@pytest.mark.parametrize("measured", [True, False])
def test_a_store_without_limits_is_measured_if_somebody_asks(store: Store, measured: bool) -> None:
    """Metrics want to know how large it is; otherwise nobody looks, and nothing is dropped."""
    for day in range(2):
        put_day(store, day)
    watch = space.watch(store, Storage(), measured=measured)
    watch.close()
    assert bool(watch.manager.used_bytes) == bool(watch.manager.oldest_s) == measured
    assert days(store) == [0, 1]


def test_nothing_goes_without_a_word(store: Store) -> None:
    """What was dropped is in the log, in the counters, in the table, and still adds up."""
    for day in range(4):
        put_day(store, day)
    total = sums(store)[0]
    with structlog.testing.capture_logs() as lines:
        watched = manager(store, max_bytes=1)
        watched.look()
    told = [line for line in lines if line.get("table") == "flows"]
    assert [line["first_hour"][:10] for line in told] == ["2024-10-04", "2024-10-05", "2024-10-06"]
    assert {(line["reason"], line["rows"]) for line in told} == {("storage.max_bytes", ROWS)}
    assert watched.dropped_partitions == 9  # three of each table of flows
    assert days(store) == days(store, "flows_1h") == [3]
    held, gone = sums(store)
    assert held < total == held + gone
    assert store.run("SELECT DISTINCT reason, probe FROM dropped FINAL") == "max_bytes\tx\n"
    hours = store.run(
        "SELECT uniqExact(window_start) FROM dropped FINAL WHERE table_name = 'flows'"
    )
    assert int(hours) == 3 * 24
    differing = {(d.left, d.right) for d in audit(store.query, looks=1).differences}
    assert not differing & {("flows", "totals"), ("flows", "flows_1m"), ("flows_1m", "flows_1h")}


def test_too_large_and_nothing_to_drop(store: Store) -> None:
    """The newest partition stays; that the budget can't be kept is told once."""
    put_day(store, 0)
    watched = manager(store, max_bytes=1)
    with structlog.testing.capture_logs() as lines:
        watched.look()
        watched.look()
    assert [line["event"] for line in lines] == [
        "store larger than storage.max_bytes, and nothing older is left to drop"
    ]
    assert days(store) == [0]


def test_age_counts_from_the_insert(store: Store) -> None:
    """Partitions go when their newest row is too old, whenever the packets were; rollups later."""
    now_s = int(store.run("SELECT toUnixTimestamp(now())"))
    for day in (5, 3, 8):
        put_day(store, day)
    watched = manager(store, max_age_s=1000)
    watched.look(now_s + 900)
    assert days(store) == [3, 5, 8]
    watched.look(now_s + 1100)
    assert days(store) == [8]
    assert days(store, "flows_1m") == days(store, "flows_1h") == [3, 5, 8]
    watched.look(now_s + 1100 * KEPT_LONGER["flows_1m"])
    assert days(store, "flows_1m") == [8]
    assert days(store, "flows_1h") == [3, 5, 8]
    assert store.run("SELECT DISTINCT reason FROM dropped") == "max_age\n"


def test_killed_between_the_word_and_the_deed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the table says is dropped is dropped by the next start, and counted once."""
    for day in range(3):
        put_day(store, day)
    total = sums(store)[0]

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SpaceManager, "_forget", die)
        with pytest.raises(KeyboardInterrupt):
            manager(store, max_bytes=1).look()
    assert sum(sums(store)) > total
    manager(store, max_bytes=10**9).look()
    assert sum(sums(store)) == total
    assert days(store) == [1, 2]


def test_a_day_can_come_again(store: Store) -> None:
    """Late packets of a day that was dropped are dropped by themselves, and add up."""
    for day in range(2):
        put_day(store, day)
    manager(store, max_bytes=1).look()
    put_day(store, 0, ingested_s=1, n=100)
    put_day(store, 2)
    total = sums(store)[0] + sums(store)[1]
    manager(store, max_bytes=1).look()
    assert days(store) == [2]
    assert sum(sums(store)) == total
    assert store.run(
        "SELECT uniqExact(first_block) FROM dropped WHERE partition_id = '20241004'"
    ) == ("2\n")


def test_results_are_dropped_too(store: Store) -> None:
    """Days of sketches and of results go like those of flows, by their own time of coming in."""
    for day in range(3):
        for table in ("sketches_log", "distinct_counts_log", "heavy_hitters_log", "spreaders_log"):
            when = {"window_start": T0_MS + day * DAY_MS, "updated_at": T0_MS + day * DAY_MS}
            store.insert(table, rows(table, **when), f"{table}/{day}")
    manager(store, max_bytes=1).look()
    for table in ("sketches_log", "distinct_counts_log", "heavy_hitters_log", "spreaders_log"):
        assert days(store, table) == [2]
    assert store.run("SELECT sum(row_count), sum(packets) FROM dropped FINAL") == "8\t0\n"


def test_the_job_looks_after_its_store(tmp_path: Path) -> None:
    """A job with storage.max_age drops what an earlier one left, and stores its own."""
    setting = f"chdb:{tmp_path}/store"
    with Store.open(setting, serve=False) as store:
        for day in (0, 1):
            put_day(store, day)
        for table in ("flows", "flows_1m", "flows_1h"):
            store.command(
                f"ALTER TABLE {table} UPDATE ingested_at = now() - 7200 WHERE 1 "
                "SETTINGS mutations_sync = 2"
            )
    settings = Settings(
        source="demo", store=setting, demo={"packets": 1000}, storage={"max_age": "1h"}
    )
    assert job.run(settings, tell=False) == 0
    with Store.open(setting, serve=False) as store:
        assert len(days(store)) == 1
        assert days(store)[0] > 1
        assert days(store, "flows_1m")[:2] == [0, 1]
