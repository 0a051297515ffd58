"""The sinks of the dataflow: units exactly once, results by revision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from threading import Lock
from typing import Any
from uuid import uuid4

import pyarrow as pa
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from typing_extensions import override

from flows.errors import NetSpectraError
from flows.operators.horizons import TaskResults
from flows.sinks import result_rows, sketch_rows, unit_rows
from flows.sinks.patience import PatientStore
from flows.sinks.result_rows import Context
from flows.sinks.row_store import RowStore as RowStore
from flows.windows.control import RunControl
from flows.windows.unit import Unit


@dataclass
class StoredCounts:
    """What this run has stored, and what it found stored."""

    packets: int = 0
    bytes: int = 0
    units: int = 0
    skipped_units: int = 0
    skipped_packets: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    lock: Lock = field(default_factory=Lock, repr=False)

    def add(self, packets: int, octets: int, *, skipped: bool) -> None:
        """Count one unit."""
        with self.lock:
            if skipped:
                self.skipped_units += 1
                self.skipped_packets += packets
            else:
                self.units += 1
                self.packets += packets
                self.bytes += octets

    def miss(self, unit: Unit) -> None:
        """Count what a unit says is missing, but for what was left out on purpose."""
        with self.lock:
            for drop in unit.drops:
                if drop.reason != "sampled_out":
                    self.missing[drop.reason] += drop.packets


class UnitWriter:
    """Writes units to the additive tables, each exactly once.

    The rows of a unit go in under tokens that name the unit, then its row of ``commits``. A
    unit that ``commits`` holds is skipped. Killed in between, the next run writes the same
    rows under the same tokens, and the store drops those it has. Positions are written later
    than the commits that they take account of, so any of them is a good place to go on from.

    Args:
        store: where to.
        counts: kept up to date.
        digest: of the settings that shape the units.
    """

    def __init__(self, store: RowStore, counts: StoredCounts, digest: str = "") -> None:
        self._store = store
        self._counts = counts
        self._digest = digest
        self._committed: dict[tuple[str, str], set[int]] = {}

    def write(self, unit: Unit) -> None:
        """Store a unit: what is in it, if anything is, then its position, if it has one."""
        if not unit.empty:
            self._write(unit)
        if unit.position:
            rows = unit_rows.positions(unit, self._digest)
            self._store.insert("positions", rows, f"positions/{uuid4().hex}")

    def _write(self, unit: Unit) -> None:
        commit = unit_rows.commits(unit)
        packets, octets = commit["packets"][0].as_py(), commit["bytes"][0].as_py()
        log = (unit.topic, unit.partition)
        if log not in self._committed:
            self._committed[log] = set(self._store.committed(*log, since=unit.offset))
        if unit.offset in self._committed[log]:
            self._counts.add(packets, octets, skipped=True)
            return
        for number, rows in enumerate(unit_rows.flows(unit)):
            self._insert(unit, "flows", rows, number)
        for number, rows in enumerate(unit_rows.totals(unit)):
            self._insert(unit, "totals", rows, number)
        for number, rows in enumerate(unit_rows.ledger(unit)):
            self._insert(unit, "ledger", rows, number)
        self._insert(unit, "commits", commit, 0)
        self._counts.miss(unit)
        self._counts.add(packets, octets, skipped=False)

    def _insert(self, unit: Unit, table: str, rows: pa.Table, chunk: int) -> None:
        if rows.num_rows:
            token = f"{table}/{unit.topic}/{unit.partition}/{unit.offset}/{chunk}"
            self._store.insert(table, rows, token)


class ResultWriter:
    """Writes results of horizons.

    Writing a revision again changes nothing that is read. Late corrections (revision 0) are
    added up, so they go in under a token, like a unit's rows.
    """

    def __init__(self, store: RowStore, context: Context) -> None:
        self._store = store
        self._context = context
        self._run = uuid4().hex
        self._inserts = count()

    def write(self, groups: Sequence[TaskResults]) -> None:
        """Store the results of some horizons."""
        token = f"{self._run}/{next(self._inserts)}"
        self._insert([_pick(group, late=False) for group in groups], token)
        for group in groups:
            late = _pick(group, late=True)
            if late.results:
                self._insert([late], f"late/{group.tenant}/{group.task.name}/{group.unit}")

    def _insert(self, groups: Sequence[TaskResults], token: str) -> None:
        for table, rows in (
            ("distinct_counts_log", result_rows.distinct_counts(groups, self._context)),
            ("heavy_hitters_log", result_rows.heavy_hitters(groups, self._context)),
            ("spreaders_log", result_rows.spreaders(groups, self._context)),
        ):
            self._put(table, result_rows.inserts(rows) if rows else (), token)
        self._put("sketches_log", sketch_rows.inserts(groups, self._context), token)

    def _put(self, table: str, parts: Iterable[pa.Table], token: str) -> None:
        for chunk, part in enumerate(parts):
            self._store.insert(table, part, f"{table}/{token}/{chunk}")


def _pick(group: TaskResults, *, late: bool) -> TaskResults:
    return replace(group, results=[r for r in group.results if (r.revision == 0) == late])


class SinkPartition(StatelessSinkPartition[Any]):
    """Hands items over until the run fails; after that nothing is stored."""

    def __init__(self, write: Callable[[list[Any]], None], control: RunControl) -> None:
        self._write = write
        self._control = control

    @override
    def write_batch(self, items: list[Any]) -> None:
        if self._control.failure is not None:
            return
        try:
            self._write(items)
        except NetSpectraError as error:
            self._control.fail(error)


class UnitSink(DynamicSink[Unit]):
    """Each worker stores the units that its partitions emit.

    Args:
        store: where to.
        counts: kept up to date.
        control: told of failures.
        digest: of the settings that shape the units.
    """

    def __init__(
        self,
        store: RowStore,
        counts: StoredCounts,
        control: RunControl | None = None,
        digest: str = "",
    ) -> None:
        self._counts = counts
        self._control = control or RunControl()
        self._store = PatientStore(store, self._control)
        self._digest = digest

    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> SinkPartition:
        writer = UnitWriter(self._store, self._counts, self._digest)

        def write(units: list[Unit]) -> None:
            for unit in units:
                writer.write(unit)

        return SinkPartition(write, self._control)


class ResultSink(DynamicSink[TaskResults]):
    """Each worker stores the results that its keys give.

    Args:
        store: where to.
        context: of the rows.
        control: told of failures.
    """

    def __init__(
        self, store: RowStore, context: Context, control: RunControl | None = None
    ) -> None:
        self._control = control or RunControl()
        self._writer = ResultWriter(PatientStore(store, self._control), context)

    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> SinkPartition:
        return SinkPartition(self._writer.write, self._control)
