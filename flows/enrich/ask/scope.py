"""What a question is about: whose traffic, of which time, and what it is called here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from flows.errors import UsageError
from flows.storage import selects
from flows.storage.embedded import quote

DAY_MS: Final = 86_400_000

Ask = Callable[[str, str], bytes]
"""Runs a statement and gives its result in a format: ``Reader.query_text``."""

_MAPPED: Final = re.compile(r"^::ffff:(\d{1,3}(?:\.\d{1,3}){3})$")
_MAX_NAMES: Final = 1000


def rows_of(ask: Ask, sql: str) -> list[dict[str, Any]]:
    """Rows of a statement; enumerations come as their names, IPv4 addresses as IPv4.

    Raises:
        StoreError: the store refused it or is away.
    """
    lines = ask(sql, "JSONEachRow").decode(errors="replace").splitlines()
    return [{k: _plain(v) for k, v in json.loads(line).items()} for line in lines]


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, str):
        return _MAPPED.sub(r"\1", value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(str(_plain(each)) for each in value)
    return value


def time_text(time_ms: int) -> str:
    """A Unix time, ms, in UTC: ``2026-01-02 03:04:05``."""
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


@dataclass(frozen=True)
class Scope:
    """Where queries look.

    Attributes:
        tenant: whose traffic.
        first_ms: beginning of what the store has of it, Unix ms.
        last_ms: end of it.
        now_ms: the time.
        names: texts of ours by kind, which must not leave: probes, the tenant.
        columns: of the tables that free statements may name; empty where none are admitted.
    """

    tenant: str
    first_ms: int
    last_ms: int
    now_ms: int
    names: Mapping[str, frozenset[str]] = field(default_factory=dict)
    columns: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, str]:
        """A row that tells the model where in time it is."""
        return {
            "kind": "store",
            "first": time_text(self.first_ms),
            "last": time_text(self.last_ms),
            "now": time_text(self.now_ms),
        }


def look(ask: Ask, tenant: str, wanted: str, now_ms: int) -> Scope:
    """Find out what there is.

    Args:
        ask: of the store.
        tenant: of the settings, taken if it has rows.
        wanted: tenant that the user names; empty for none.
        now_ms: the time, Unix ms.

    Raises:
        UsageError: there is nothing, or nobody knows whose traffic is meant.
        StoreError: the store refused it or is away.
    """
    found = {
        row["tenant"]: row
        for row in rows_of(
            ask,
            "SELECT tenant, toUnixTimestamp64Milli(min(window_start)) AS first_ms, "
            "toUnixTimestamp64Milli(max(window_start)) + max(pane_ms) AS last_ms "
            "FROM totals GROUP BY tenant ORDER BY tenant LIMIT 100",
        )
    }
    if not found:
        msg = "the store has no traffic yet; run `netspectra run` first"
        raise UsageError(msg)
    chosen = wanted or (tenant if tenant in found else next(iter(found)) * (len(found) == 1))
    if chosen not in found:
        msg = f"--tenant: the store has {', '.join(found)}; choose one"
        raise UsageError(msg)
    probes = rows_of(
        ask,
        "SELECT probe FROM (SELECT DISTINCT probe FROM totals UNION DISTINCT "
        f"SELECT DISTINCT probe FROM ledger) LIMIT {_MAX_NAMES}",
    )
    names = {"probe": frozenset(row["probe"] for row in probes)}
    columns: dict[str, frozenset[str]] = {}
    if len(found) == 1:
        # Free statements see all tenants, so they are admitted where there is only one.
        tables = ", ".join(quote(name) for name in sorted(selects.TABLES))
        columns = {
            row["table"]: frozenset(row["names"].split(", "))
            for row in rows_of(
                ask,
                "SELECT table, groupArray(name) AS names FROM system.columns "
                f"WHERE database = currentDatabase() AND table IN ({tables}) GROUP BY table",
            )
        }
    row = found[chosen]
    return Scope(chosen, int(row["first_ms"]), int(row["last_ms"]), now_ms, names, columns)
