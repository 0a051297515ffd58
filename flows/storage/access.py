"""Rights of people who only read a ClickHouse server, as SQL for its administrator.

A user who may see some tenants only gets row policies on every table that says of which tenant
its rows are; on what belongs to alerts, by the alert. Tables that say neither are not theirs. The
policies restrict, so that what another statement allows takes nothing away from them, and they
come before the grants. Names are the same for all tenants: they may be looked up, as views do, but
not listed.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator, Sequence
from typing import Final

from flows.storage import migrate
from flows.storage.embedded import quote

_CREATED: Final = re.compile(
    r"CREATE (?:OR REPLACE )?(TABLE|VIEW)(?: IF NOT EXISTS)? (\w+)\n\((.*?)\n\)\n", re.DOTALL
)
_PROFILE: Final = "netspectra_reader"
_LIMITS: Final = (
    "readonly = 2, max_execution_time = 60 MAX 60, max_result_rows = 1000000 MAX 1000000, "
    "max_memory_usage = 4000000000 MAX 4000000000"
)
"""Read-only, though a client may choose formats and the like; within these limits."""


def grants(
    user: str,
    password: str,
    tenants: Sequence[str] = (),
    database: str = "default",
    cluster: str = "",
    salt: str = "",
) -> Iterator[str]:
    """Statements that make a user who only reads.

    Args:
        user: name.
        password: only its salted SHA-256 is in the statements.
        tenants: whose rows may be read; none means everybody's.
        database: where the tables are.
        cluster: name of the cluster; empty for one server.
        salt: of the password; a random one by default.
    """
    on = f" ON CLUSTER {quote(cluster)}" if cluster else ""
    salt = salt or secrets.token_hex(16)
    digest = hashlib.sha256((password + salt).encode()).hexdigest()
    who, place = _name(user), _name(database)
    yield f"CREATE SETTINGS PROFILE IF NOT EXISTS {_PROFILE}{on} SETTINGS {_LIMITS}"
    yield (
        f"CREATE USER OR REPLACE {who}{on} IDENTIFIED WITH sha256_hash BY '{digest}' "
        f"SALT '{salt}' SETTINGS PROFILE '{_PROFILE}'"
    )
    if not tenants:
        yield f"GRANT{on} SELECT, dictGet ON {place}.* TO {who}"
        return
    listed = f"tenant IN ({', '.join(map(quote, tenants))})"
    policy = _name(f"{user} tenants")
    for kind, table, columns in _relations():
        if "tenant" in columns:
            condition = listed
        elif "alert_id" in columns:
            condition = f"alert_id IN (SELECT alert_id FROM {place}.alerts_log WHERE {listed})"  # noqa: S608
        else:
            continue
        stored = [table, f"{table}_local"] if cluster and kind == "TABLE" else [table]
        for each in (f"{place}.{name}" for name in stored):
            # A view is read with the rights of who reads it, so its tables' policies hold.
            if kind == "TABLE":
                yield (
                    f"CREATE ROW POLICY OR REPLACE {policy}{on} ON {each} AS RESTRICTIVE "
                    f"FOR SELECT USING {condition} TO {who}"
                )
                yield (
                    f"CREATE ROW POLICY IF NOT EXISTS netspectra_rows{on} ON {each} "
                    "FOR SELECT USING 1 TO ALL"
                )
            yield f"GRANT{on} SELECT ON {each} TO {who}"
    for name in _dictionaries():
        yield f"GRANT{on} dictGet ON {place}.{name} TO {who}"


def _relations() -> Iterator[tuple[str, str, frozenset[str]]]:
    """Kind, name and columns of every table and view, each once, as it is in the end."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for migration in migrate.migrations():
        for statement in migration.statements:
            if match := _CREATED.match(statement + "\n"):
                names = re.findall(r"^    (\w+) ", match[3], re.MULTILINE)
                found[match[2]] = match[1], frozenset(names)
    for name, (kind, columns) in found.items():
        yield kind, name, columns


def _dictionaries() -> list[str]:
    """Names of the dictionaries, which say the same to all tenants."""
    statements = (s for migration in migrate.migrations() for s in migration.statements)
    return re.findall(
        r"^CREATE DICTIONARY IF NOT EXISTS (\w+)", "\n".join(statements), re.MULTILINE
    )


def _name(text: str) -> str:
    """A name as SQL."""
    escaped = text.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
