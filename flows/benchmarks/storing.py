"""Part ``store``: units into Arrow rows, those into the embedded store, and their size on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from flows.benchmarks import fresh, inputs
from flows.benchmarks.measure import Baseline, Figure, Goal, Stopwatch, Timing
from flows.benchmarks.panes import close
from flows.benchmarks.sizes import Sizes
from flows.errors import NetSpectraError
from flows.storage.tables import fit
from flows.windows.unit import Unit

Inserts = list[tuple[Unit, list[pa.Table]]]

_NOTHING: Final = Timing(0, 0.0, 0.0)
_TABLES: Final = ("flows", "flows_1m", "flows_1h")
_BASELINES: Final = {
    "the same into a table that keeps nothing": "Null",
    "the same into a table without order, codecs, roll-ups": "MergeTree ORDER BY ()",
}


def run(profile: str, packets: int, packets_per_second: float, **parameters: Any) -> dict[str, Any]:
    """Store the flow rows of synthetic traffic, in this process.

    Returns:
        ``rows``; by step (``arrow``, ``insert`` and each baseline's name) its CPU and wall
        seconds; ``stored`` rows, and the bytes on disk after merges, ``flows_bytes`` of the
        table and ``all_bytes`` with its roll-ups.
    """
    from flows.sinks import unit_rows
    from flows.storage.store import Store

    traffic = inputs.traffic(profile, packets, packets_per_second, **parameters)
    units = [unit for unit, _ in close(traffic, [])]
    for _ in unit_rows.flows(units[0]):
        """Load what Arrow loads at its first use."""
    with (
        tempfile.TemporaryDirectory(prefix="netspectra-bench-") as directory,
        Store.open(f"chdb:{directory}/store", serve=False) as store,
    ):
        watch = Stopwatch()
        inserts = [(unit, list(unit_rows.flows(unit))) for unit in units]
        rows = sum(len(unit.entries) for unit in units)
        steps = {"arrow": watch.read(rows), "insert": _insert(store, inserts)}
        for name, engine in _BASELINES.items():
            steps[name] = _insert_plainly(store, inserts, engine, Path(directory) / "rows.arrow")
        return {
            "rows": rows,
            "steps": {name: (took.cpu_s, took.wall_s) for name, took in steps.items()},
            **_on_disk(store),
        }


def _insert(store: Any, inserts: Inserts) -> Timing:
    took = _NOTHING
    for unit, tables in inserts:
        for chunk, rows in enumerate(tables):
            token = f"flows/{unit.topic}/{unit.partition}/{unit.offset}/{chunk}"
            watch = Stopwatch()
            store.insert("flows", rows, token)
            took += watch.read(rows.num_rows)
    return took


def _insert_plainly(store: Any, inserts: Inserts, engine: str, file: Path) -> Timing:
    """The same rows, through the same kind of file, into a bare table of the same columns."""
    create = f"CREATE TABLE plain ENGINE = {engine} EMPTY AS SELECT * FROM flows"  # noqa: S608
    store.command(create)
    took = _NOTHING
    for _, tables in inserts:
        for rows in tables:
            watch = Stopwatch()
            fitted = fit("flows", rows)
            with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, fitted.schema) as writer:
                writer.write_table(fitted)
            columns = ", ".join(fitted.column_names)
            store.command(f"INSERT INTO plain ({columns}) FROM INFILE '{file}' FORMAT Arrow")
            took += watch.read(rows.num_rows)
    store.command("DROP TABLE plain")
    return took


def _on_disk(store: Any) -> dict[str, int]:
    for table in _TABLES:
        store.command(f"OPTIMIZE TABLE {table} FINAL")
    parts = store.query(
        "SELECT table, sum(rows) AS n, sum(bytes_on_disk) AS bytes FROM system.parts "
        "WHERE active AND database = currentDatabase() GROUP BY table"
    ).to_pylist()
    found = {part["table"]: part for part in parts if part["table"] in _TABLES}
    return {
        "stored": found["flows"]["n"],
        "flows_bytes": found["flows"]["bytes"],
        "all_bytes": sum(part["bytes"] for part in found.values()),
    }


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Measure the part."""
    sources: tuple[tuple[str, int, float, dict[str, int]], ...] = (
        ("demo", sizes.demo_packets, 2e4, {}),
        ("zipf", sizes.store_packets, 1e6, {"active_flows": sizes.active_flows}),
    )
    for profile, packets, rate, parameters in sources:
        done = fresh.call(
            f"{__name__}:run",
            profile=profile,
            packets=packets,
            packets_per_second=rate,
            seed=sizes.seed,
            **parameters,
        )
        yield from _figures(f"{profile}, {rate:,.0f} packets/s", done, profile == "demo")


def _figures(name: str, done: dict[str, Any], realistic: bool) -> Iterator[Figure]:
    rows, steps = done["rows"], done["steps"]
    if done["stored"] != rows:
        msg = f"store, {name}: {done['stored']:,} of {rows:,} rows are stored"
        raise NetSpectraError(msg)
    baselines = tuple(Baseline(base, rows / steps[base][0]) for base in _BASELINES)
    wall = tuple(Baseline(base, rows / steps[base][1]) for base in _BASELINES)
    yield Figure("store", f"{name}: unit to Arrow", rows / steps["arrow"][0], "rows/CPU s")
    insert_cpu_s, insert_wall_s = steps["insert"]
    yield Figure("store", f"{name}: insert", rows / insert_cpu_s, "rows/CPU s", baselines)
    yield Figure("store", f"{name}: insert, by the clock", rows / insert_wall_s, "rows/s", wall)
    goal = Goal(20, at_least=False) if realistic else None
    yield Figure("store", f"{name}: on disk", done["flows_bytes"] / rows, "bytes/row", goal=goal)
    with_rollups = done["all_bytes"] / rows
    yield Figure("store", f"{name}: on disk with roll-ups", with_rollups, "bytes/row")
