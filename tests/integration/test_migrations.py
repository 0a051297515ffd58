"""Migrations from every earlier state, with rows in it, also when a process is killed amid one.

New migrations are tested by being there. What is compared is a store that took its rows under the
earlier schema with one that took the same rows under the newest: so a migration that adds a rollup
has to fill it, too.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pytest

from flows import job
from flows.settings import Settings
from flows.sinks.store import StoredCounts, UnitWriter
from flows.storage import audit, migrate
from flows.storage.embedded import Engine
from flows.storage.migrate import migrations
from flows.storage.resolution import Span
from flows.storage.saved import saved
from flows.storage.saved_sql import Asked, statement
from flows.storage.store import Store
from flows.storage.tables import SCHEMAS
from tests.support.jobs import ROOT, ipv4_packets, units_of
from tests.support.store_rows import T0_MS, rows

NEWEST: Final = migrations()[-1].version
FIRST_PROGRAM: Final = 5
"""Migrations up to this one came together: no store ever took rows with fewer."""

DAY_MS: Final = 86_400_000
PACKETS: Final = ipv4_packets(np.random.default_rng(5), 1200)
BY_UNITS: Final = ("flows", "totals", "ledger", "commits")
"""Tables that the writer of units fills, so that they agree."""

Columns = Mapping[str, frozenset[str]]
"""Columns by table."""


def migrate_to(store: Store, version: int) -> None:
    """Bring a store to an earlier state."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrate, "migrations", lambda: migrations()[:version])
        migrate.migrate(store)


def columns_of(store: Store) -> Columns:
    found = store.query(
        "SELECT table, groupArray(name) AS columns FROM system.columns "
        "WHERE database = currentDatabase() GROUP BY table"
    ).to_pylist()
    return {row["table"]: frozenset(row["columns"]) for row in found}


@dataclass
class Inserts:
    """Rows on their way into a store as an earlier program would have sent them.

    Attributes:
        engine: of the store.
        columns: that the earlier program knew.
    """

    engine: Engine
    columns: Columns

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert what there is a place for."""
        if table in self.columns:
            known = [name for name in rows.column_names if name in self.columns[table]]
            self.engine.insert(table, rows.select(known), token)

    def committed(self, topic: str, partition: str, since: int = 0) -> list[int]:
        """Nothing, so that all units are sent."""
        return []


def fill(store: Store, columns: Columns) -> None:
    """Rows in every table, of several days and parts; those of a unit are sent twice."""
    engine = store._backend
    assert isinstance(engine, Engine)
    inserts = Inserts(engine, columns)
    for _ in range(2):
        writer = UnitWriter(inserts, StoredCounts())
        for unit in units_of(PACKETS, message=600):
            writer.write(unit)
    for table in SCHEMAS.keys() - set(BY_UNITS):
        for day in range(2):
            given: dict[str, Any] = {"window_start": T0_MS + day * DAY_MS}
            given |= {"revision": 1 + day, "alert_id": f"alert {day}", "topic": f"load {day}"}
            known = {name: value for name, value in given.items() if name in SCHEMAS[table].names}
            inserts.insert(table, rows(table, **known), f"{table}/{day}")
    if "dropped" in columns:
        # Of a probe that no other table speaks of, and of a table that isn't audited.
        store.command(
            "INSERT INTO dropped SELECT 'spreaders_log', '20231114', 1, 'max_age', 't', 'gone', "
            f"toDateTime64({T0_MS // 1000}, 3, 'UTC'), 5, 0, 0, 0, toDateTime64(0, 3, 'UTC')"
        )


def schema(store: Store) -> dict[str, str]:
    """What makes each table, view, dictionary and function."""
    found = store.query(
        "SELECT name, create_table_query AS made_by FROM system.tables "
        "WHERE database = currentDatabase() UNION ALL "
        "SELECT name, create_query FROM system.functions WHERE create_query != ''"
    ).to_pylist()
    return {row["name"]: row["made_by"] for row in found}


def contents(store: Store) -> dict[str, list[str]]:
    """Rows of every table and view, without the time at which they came in."""
    found = store.query(
        "SELECT name, engine FROM system.tables WHERE database = currentDatabase() "
        "AND engine != 'MaterializedView'"
    ).to_pylist()
    return {
        row["name"]: sorted(
            store.run(
                "SELECT * EXCEPT (ingested_at) EXCEPT (applied_at) "
                f"FROM {row['name']} {'FINAL' * row['engine'].endswith('ingMergeTree')}"
            ).splitlines()
        )
        for row in found
    }


def ask_everything(store: Store) -> int:
    """Run every saved query; how many rows they gave in all."""
    span = Span(T0_MS - T0_MS % 3_600_000, T0_MS + DAY_MS)
    count = 0
    for query in saved().values():
        values = {each.name: each.default or "10.0.0.0/8" for each in query.parameters}
        count += store.query(statement(query, values, Asked(span))).num_rows
    return count


KILLED_INSIDE: Final = """
import os, signal, sys
from flows.storage import migrate
from flows.storage.store import Store
directory, version = sys.argv[1:]
first = migrate.migrations()[int(version) - 1].statements[0]
def after(ran):
    if ran == migrate.fill(first, migrate.EMBEDDED):
        os.kill(os.getpid(), signal.SIGKILL)
migrate.migrate(Store.open("chdb:" + directory, migrated=False, serve=False), after=after)
"""
"""Migrates a store and is killed after the first statement of a migration."""


@pytest.mark.parametrize("version", range(NEWEST))
def test_every_earlier_state_becomes_the_newest(tmp_path: Path, version: int) -> None:
    """Killed amid the next migration and started again, a store is like one that began today."""
    with Store.open(f"chdb:{tmp_path}/earlier", migrated=False, serve=False) as store:
        migrate_to(store, version)
        columns = columns_of(store) if version >= FIRST_PROGRAM else {}
        fill(store, columns)
        if columns:
            empty = [table for table, lines in contents(store).items() if not lines]
            # Names are of kinds that made-up rows don't have.
            assert not [table for table in empty if not table.startswith("names_")]
    migrating = [sys.executable, "-c", KILLED_INSIDE, str(tmp_path / "earlier"), str(version + 1)]
    assert subprocess.run(migrating, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    with Store.open(f"chdb:{tmp_path}/fresh", serve=False) as store:
        fill(store, columns)
        expected = schema(store), contents(store)
    with Store.open(f"chdb:{tmp_path}/earlier", serve=False) as store:
        assert (schema(store), contents(store)) == expected
        fill(store, columns)
        assert contents(store) == expected[1]
        assert audit.audit(store.query, looks=1).balanced
        assert bool(ask_everything(store)) == bool(columns)
        if version == FIRST_PROGRAM:
            # Schemas are the same by now, so once is enough.
            a_job_goes_on(store)


def a_job_goes_on(store: Store) -> None:
    """A run of the whole job into a store that has rows already."""
    before = audit.audit(store.query, looks=1)
    settings = Settings(
        source="demo", store=store.setting, demo={"packets": 4000, "packets_per_second": 2000}
    )
    assert job.run(settings, tell=False) == 0
    after = audit.audit(store.query, looks=1)
    assert after.balanced
    assert after.packets == before.packets + 4000
