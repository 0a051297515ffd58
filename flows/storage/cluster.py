"""The schema for a cluster of ClickHouse servers, made out of the migrations for one.

Each table becomes a replicated one with ``_local`` behind its name on every shard, and a
distributed one under its own name, which everybody reads and writes. Materialized views go from
local table to local table; other views read the distributed ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from flows.storage import migrate
from flows.storage.embedded import quote

_TABLE: Final = re.compile(
    r"CREATE TABLE IF NOT EXISTS (?P<name>\w+)\n(?P<columns>\(.*\n\))\n"
    r"ENGINE = (?P<engine>\w*MergeTree)(?:\((?P<arguments>[^)]*)\))?\n(?P<rest>.*)",
    re.DOTALL,
)
_ORDER: Final = re.compile(r"ORDER BY (?:\((?P<many>.*?)\)|(?P<one>\w+))\n", re.DOTALL)
_FEED: Final = re.compile(
    r"CREATE MATERIALIZED VIEW IF NOT EXISTS (\w+) TO (\w+) AS\n(.*)\nFROM (\w+)( AS \w+)?",
    re.DOTALL,
)
_CHANGE: Final = re.compile(r"ALTER TABLE (\w+)\n(.*)", re.DOTALL)
_OTHER: Final = re.compile(
    r"(CREATE (?:OR REPLACE )?(?:FUNCTION|VIEW|DICTIONARY)(?: IF NOT EXISTS)? \w+)"
)
_PATH: Final = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"


def schema(cluster: str) -> Iterator[str]:
    """Statements that make the newest schema on a cluster, and note that they did.

    Args:
        cluster: its name in the servers' configuration.
    """
    on = f"ON CLUSTER {quote(cluster)}"
    yield from _table(migrate.BOOK, cluster, on)
    for migration in migrate.migrations():
        for statement in migration.statements:
            filled = migrate.fill(statement, migrate.SERVER)
            if _TABLE.fullmatch(filled):
                yield from _table(filled, cluster, on)
            elif feed := _FEED.fullmatch(filled):
                name, target, select, source, alias = feed.groups(default="")
                yield (
                    f"CREATE MATERIALIZED VIEW IF NOT EXISTS {name} {on} TO {target}_local AS\n"
                    f"{select}\nFROM {source}_local{alias}"
                )
            elif change := _CHANGE.fullmatch(filled):
                for name in (f"{change[1]}_local", change[1]):
                    yield f"ALTER TABLE {name} {on}\n{change[2]}"
            else:
                yield _OTHER.sub(lambda match: f"{match[1]} {on}", filled, count=1)
        yield migrate.record(migration)


def _table(statement: str, cluster: str, on: str) -> Iterator[str]:
    match = _TABLE.fullmatch(statement)
    assert match is not None
    name = match["name"]
    arguments = f"{_PATH}, {match['arguments']}" if match["arguments"] else _PATH
    rest = match["rest"].replace(
        "non_replicated_deduplication_window", "replicated_deduplication_window"
    )
    yield (
        f"CREATE TABLE IF NOT EXISTS {name}_local {on}\n{match['columns']}\n"
        f"ENGINE = Replicated{match['engine']}({arguments})\n{rest}"
    )
    yield (
        f"CREATE TABLE IF NOT EXISTS {name} {on} AS {name}_local\n"
        f"ENGINE = Distributed({quote(cluster)}, currentDatabase(), {name}_local, {_shard(match)})"
    )


def _shard(match: re.Match[str]) -> str:
    """By what rows are told apart: an hour of a probe stays together, and so does what replaces."""
    columns, engine = match["columns"], match["engine"]
    if not engine.startswith("Replacing") and all(
        f"\n    {name} " in columns for name in ("probe", "window_start")
    ):
        return "cityHash64(tenant, probe, toStartOfHour(window_start))"
    order = _ORDER.search(match["rest"] + "\n")
    assert order is not None
    return f"cityHash64({order['many'] or order['one']})"
