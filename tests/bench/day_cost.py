"""What the saved queries cost on a store, and what its columns take on disk."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import NamedTuple

from flows.storage import embedded
from flows.storage.reader import Reader, open_for_reading
from flows.storage.resolution import Span
from flows.storage.saved import saved
from flows.storage.saved_sql import Asked, statement
from tests.bench.day import DAY_MS

DAY = Span(DAY_MS, DAY_MS + 86_400_000)
LAST_HOUR = Span(DAY.end_ms - 3_600_000 - 2000, DAY.end_ms - 2000)
"""An hour that isn't a whole one, so that only the raw table can answer."""

VALUES = {
    "peers": {"host": "10.0.1.7"},
    "between": {"a": "10.0.8.0/24", "b": "10.0.1.0/24"},
}


def report(setting: str) -> None:
    """Print both tables, as Markdown."""
    # Else a second run reads only what the first has found to match.
    embedded.SESSION = {**embedded.SESSION, "use_query_condition_cache": 0}  # type: ignore[misc]
    with open_for_reading(setting, embedded.ALONE) as reader:
        print("| query | table | rows | day, ms | CPU, ms | rows read | hour, ms | rows read |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for line in costs(reader):
            print(line, flush=True)
        print("\n| table | rows | bytes a row | largest columns, bytes a row |")
        print("| --- | --- | --- | --- |")
        for line in columns(reader):
            print(line)


def costs(reader: Reader) -> Iterator[str]:
    """A line for each query: the better of two runs, for the day and for an hour of it."""
    for name, query in saved().items():
        cells = [f"`{name}`"]
        for span in (DAY, LAST_HOUR):
            sql = statement(query, VALUES.get(name, {}), Asked(span, rows=30))
            runs = [_once(reader, sql) for _ in range(2)]
            best = min(runs)
            if span is DAY:
                table = next(
                    (t for t in ("flows_1h", "flows_1m", "flows") if f"FROM {t}\n" in sql), ""
                )
                cells += [table, str(best.answered)]
            cells.append(f"{best.seconds * 1000:,.0f}")
            if span is DAY:
                cells.append(f"{best.cpu_seconds * 1000:,.0f}")
            cells.append(f"{best.rows_read:,}")
        yield f"| {' | '.join(cells)} |"


def columns(reader: Reader) -> Iterator[str]:
    """A line for each table of flows: bytes on disk for a row, all together and by column."""
    for row in reader.query(
        "SELECT table, sum(rows) AS n, sum(bytes_on_disk) / n AS each FROM system.parts "
        "WHERE active AND table LIKE 'flows%' GROUP BY table ORDER BY table"
    ).to_pylist():
        parts = reader.query(
            "SELECT column, sum(column_data_compressed_bytes) AS size FROM system.parts_columns "
            f"WHERE active AND table = '{row['table']}' GROUP BY column ORDER BY size DESC"
        ).to_pylist()
        listed = ", ".join(f"{p['column']} {p['size'] / row['n']:.2f}" for p in parts)
        yield f"| `{row['table']}` | {row['n']:,} | {row['each']:.1f} | {listed} |"


class Cost(NamedTuple):
    """What one run of a query took; the CPU is that of all threads of this process."""

    seconds: float
    cpu_seconds: float
    rows_read: int
    answered: int


def _once(reader: Reader, sql: str) -> Cost:
    start, busy = time.perf_counter(), time.process_time()
    answer = json.loads(reader.query_text(sql, "JSON"))
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    return Cost(seconds, busy, answer["statistics"]["rows_read"], answer["rows"])
