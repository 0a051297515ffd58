"""Keeps a store within its limits: whole partitions are dropped, the oldest first, and told.

Age counts from the last insert into a partition, never from event time: an old capture that was
loaded today is new. What is dropped is written to the table ``dropped`` first, by hour, so that
``flows`` and ``dropped`` together still add up to ``totals``; a start that finds a partition of
which the table speaks drops it, for a process was killed between the two.

A TTL of the engine would drop without a word, and only when it happens to merge.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from flows import logs
from flows.errors import StoreError
from flows.settings.model import Storage
from flows.storage.embedded import quote
from flows.storage.store import Store

KEPT_LONGER: Final = {
    "flows": 1,
    "flows_1m": 4,
    "sketches_log": 4,
    "flows_1h": 16,
    "heavy_hitters_log": 16,
    "spreaders_log": 16,
    "distinct_counts_log": 16,
}
"""Tables that are dropped from, and how many times longer they are kept than ``flows``. The
accounts (``totals``, ``ledger``, ``commits``) and alerts stay: some MB a day."""

FULL: Final = 0.95
"""Share of the budget at which dropping begins, for more arrives until the next look."""

LOOK_S: Final = 30.0

_SUMS: Final = {
    "flows": "sum(packets), sum(bytes), sum(intDiv(packets, greatest(sampling_rate, 1)))",
    "flows_1m": "sum(packets), sum(bytes), 0",
    "flows_1h": "sum(packets), sum(bytes), 0",
}


def _log() -> Any:
    return logs.get("space")


@dataclass(frozen=True)
class Limits:
    """What a store may hold; None is no limit.

    Attributes:
        max_bytes: on disk, all tables together.
        max_age_s: since the newest row of a partition of ``flows`` came in, s.
    """

    max_bytes: int | None = None
    max_age_s: float | None = None


@dataclass(frozen=True)
class Partition:
    """A partition of a table that may be dropped.

    Attributes:
        table: its table.
        partition_id: the engine's id.
        first_block: its first block; another one of the same id begins with a later block.
        row_count: rows in it.
        disk_bytes: bytes on disk.
        ingested_s: when its newest row came in, Unix s.
    """

    table: str
    partition_id: str
    first_block: int
    row_count: int
    disk_bytes: int
    ingested_s: int

    def age_s(self, now_s: float) -> float:
        """Age as far as ``flows`` is concerned: others are kept longer by a factor, s."""
        return (now_s - self.ingested_s) / KEPT_LONGER[self.table]


@dataclass
class SpaceManager:
    """Looks how large and how old a store is, and drops what is too much.

    Attributes:
        store: which.
        limits: what it may hold.
        used_bytes: what it took on disk at the last look, all tables together.
        oldest_s: start of the oldest pane of ``flows`` at the last look, Unix s; 0 for none.
        dropped_partitions: how many were dropped.
        dropped_rows: rows in them.
        dropped_bytes: what they took on disk.
    """

    store: Store
    limits: Limits
    used_bytes: int = 0
    oldest_s: int = 0
    dropped_partitions: int = 0
    dropped_rows: int = 0
    dropped_bytes: int = 0
    _newest: dict[tuple[str, str, int, int], int] = field(default_factory=dict)
    _warned: bool = False

    def look(self, now_s: float | None = None) -> None:
        """Drop what is too old, then the oldest until the rest is small enough.

        The newest partition of each table stays, whatever its size.

        Args:
            now_s: Unix time, s; by default the clock's.

        Raises:
            StoreError: a statement failed.
        """
        self._finish()
        self._drop_too_much(time.time() if now_s is None else now_s)
        self.used_bytes = self._used()
        self.oldest_s = int(self.store.run("SELECT toUnixTimestamp(min(window_start)) FROM flows"))

    def _drop_too_much(self, now_s: float) -> None:
        found = sorted(self._droppable(), key=lambda p: (-p.age_s(now_s), p.partition_id, p.table))
        max_age_s, max_bytes = self.limits.max_age_s, self.limits.max_bytes
        used = self._used() if max_bytes is not None else 0
        for partition in found:
            if max_age_s is not None and partition.age_s(now_s) > max_age_s:
                self._drop(partition, "max_age")
            elif max_bytes is not None and used > FULL * max_bytes:
                self._drop(partition, "max_bytes")
            else:
                return
            used -= partition.disk_bytes
        if max_bytes is not None and used > max_bytes and not self._warned:
            self._warned = True
            _log().warning(
                "store larger than storage.max_bytes, and nothing older is left to drop",
                used_bytes=used,
                max_bytes=max_bytes,
            )

    def _used(self) -> int:
        return int(self.store.run("SELECT sum(bytes_on_disk) FROM system.parts WHERE active"))

    def _droppable(self) -> Iterator[Partition]:
        """All partitions but the newest of each table."""
        names = ", ".join(map(quote, KEPT_LONGER))
        rows = self.store.query(
            "SELECT table, partition_id, toUInt64(min(min_block_number)) AS first_block, "  # noqa: S608
            "sum(rows) AS row_count, sum(bytes_on_disk) AS disk_bytes FROM system.parts "
            f"WHERE active AND database = currentDatabase() AND table IN ({names}) "
            "GROUP BY table, partition_id"
        ).to_pylist()
        found = [Partition(**row, ingested_s=self._ingested_s(row)) for row in rows]
        newest: dict[str, Partition] = {}
        for each in found:
            last = newest.setdefault(each.table, each)
            if (each.ingested_s, each.partition_id) > (last.ingested_s, last.partition_id):
                newest[each.table] = each
        return (each for each in found if each is not newest[each.table])

    def _ingested_s(self, row: dict[str, str | int]) -> int:
        """When the newest row of a partition came in; asked again when rows were added."""
        table, partition_id = str(row["table"]), str(row["partition_id"])
        key = (table, partition_id, int(row["first_block"]), int(row["row_count"]))
        if key not in self._newest:
            column = "updated_at" if table.endswith("_log") else "ingested_at"
            newest = self.store.run(
                f"SELECT toUnixTimestamp(max({column})) FROM {table} "  # noqa: S608
                f"WHERE _partition_id = {quote(partition_id)}"
            )
            self._newest[key] = int(newest)
        return self._newest[key]

    def _finish(self) -> None:
        """Drop what the table says is dropped."""
        rows = self.store.query(
            "SELECT DISTINCT table_name, partition_id FROM dropped WHERE "
            "(toString(table_name), partition_id, first_block) IN (SELECT table, partition_id, "
            "toUInt64(min(min_block_number)) FROM system.parts "
            "WHERE active AND database = currentDatabase() GROUP BY table, partition_id)"
        ).to_pylist()
        for row in rows:
            self._forget(row["table_name"], row["partition_id"])

    def _drop(self, partition: Partition, reason: str) -> None:
        table, partition_id = partition.table, quote(partition.partition_id)
        probe = "probe" if table in _SUMS else "''"
        self.store.command(
            "INSERT INTO dropped SELECT "  # noqa: S608
            f"{quote(table)}, {partition_id}, {partition.first_block}, {quote(reason)}, tenant, "
            f"{probe} AS of_probe, toDateTime64(toStartOfHour(window_start), 3, 'UTC') AS hour, "
            f"count(), {_SUMS.get(table, '0, 0, 0')}, now64(3) FROM {table} "
            f"WHERE _partition_id = {partition_id} GROUP BY tenant, of_probe, hour"
        )
        first, last = self.store.run(
            "SELECT toString(min(window_start)), toString(max(window_start)) FROM dropped FINAL "  # noqa: S608
            f"WHERE table_name = {quote(table)} AND partition_id = {partition_id} "
            f"AND first_block = {partition.first_block}"
        ).split("\t")
        self._forget(table, partition.partition_id)
        self.dropped_partitions += 1
        self.dropped_rows += partition.row_count
        self.dropped_bytes += partition.disk_bytes
        _log().warning(
            "dropped a partition to save space",
            table=table,
            reason=f"storage.{reason}",
            first_hour=first[:16],
            last_hour=last.strip()[:16],
            rows=partition.row_count,
            disk_bytes=partition.disk_bytes,
            newest_row=datetime.fromtimestamp(partition.ingested_s, UTC).isoformat(),
        )

    def _forget(self, table: str, partition_id: str) -> None:
        self.store.command(f"ALTER TABLE {table} DROP PARTITION ID {quote(partition_id)}")


class SpaceWatch:
    """Lets a manager look now, again and again, and once more at the end, in a thread.

    Args:
        manager: who looks.
        every_s: how often, s.
        idle: nobody has to look.
    """

    def __init__(
        self, manager: SpaceManager, every_s: float = LOOK_S, *, idle: bool = False
    ) -> None:
        self.manager = manager
        self._every_s = every_s
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        if not idle:
            self._thread = threading.Thread(target=self._run, daemon=True, name="space")
            self._thread.start()

    def _run(self) -> None:
        while True:
            self._look()
            if self._done.wait(self._every_s):
                self._look()
                return

    def _look(self) -> None:
        try:
            self.manager.look()
        except StoreError as error:
            _log().warning("the store's size isn't looked after", why=str(error))

    def close(self) -> None:
        """Look once more and end."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()


def watch(store: Store, settings: Storage, *, measured: bool = False) -> SpaceWatch:
    """Watch a store as the settings say.

    Args:
        store: open.
        settings: its limits.
        measured: look also where there are none, for somebody asks how large it is.
    """
    max_age = settings.max_age
    limits = Limits(settings.max_bytes, max_age.total_seconds() if max_age else None)
    idle = limits == Limits() and not measured
    return SpaceWatch(SpaceManager(store, limits), idle=idle)
