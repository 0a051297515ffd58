"""Numbered SQL migrations: each is applied once, in order, and survives being cut short.

Every statement can be repeated (``IF NOT EXISTS``, ``OR REPLACE``), and a migration is recorded
only after its last statement. So a start that was killed between two statements is repaired
by the next start, which runs the whole migration again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, Protocol

from flows.errors import StoreError

EMBEDDED: Final[Mapping[str, str]] = {
    "{{flows_partition}}": "toYYYYMMDD(window_start)",
    "{{dictionary_user}}": "",
    "{{dictionary_lifetime}}": "0",
}
"""What the templates stand for in an embedded store, which may hold years of captures."""

SERVER: Final[Mapping[str, str]] = {
    "{{flows_partition}}": "toStartOfInterval(window_start, INTERVAL 6 HOUR)",
    "{{dictionary_user}}": "",
    # Who loads names may be elsewhere: each server looks for new ones by itself.
    "{{dictionary_lifetime}}": "MIN 300 MAX 600",
}
"""What they stand for on a server, where retention drops partitions."""

BOOK: Final = """CREATE TABLE IF NOT EXISTS schema_migrations
(
    version UInt32 COMMENT 'Number of the migration',
    name String COMMENT 'Name of the migration',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'Time it was applied, UTC, ms'
)
ENGINE = MergeTree
ORDER BY version
COMMENT 'Migrations that were applied to this store'"""
"""Makes the table in which migrations are noted."""


class Statements(Protocol):
    """What a migration needs of a store."""

    template: Mapping[str, str]

    def run(self, sql: str) -> str:
        """Run a statement and give its result as tab-separated text."""
        ...


@dataclass(frozen=True)
class Migration:
    """One numbered file, with its statements still as templates."""

    version: int
    name: str
    statements: tuple[str, ...]


def migrations() -> list[Migration]:
    """All migrations that this version of the program knows, in order."""
    folder = files("flows.storage").joinpath("migrations")
    named = ((re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name), file) for file in folder.iterdir())
    return sorted(
        (
            Migration(int(match[1]), match[2], split(file.read_text(encoding="utf-8")))
            for match, file in named
            if match
        ),
        key=lambda migration: migration.version,
    )


def split(sql: str) -> tuple[str, ...]:
    """Cut a file into statements; they end with ``;`` at the end of a line."""
    lines = [line for line in sql.splitlines() if not line.lstrip().startswith("--")]
    parts = re.split(r";[ \t]*(?:\n|$)", "\n".join(lines))
    return tuple(part.strip() for part in parts if part.strip())


def migrate(
    store: Statements, dry_run: bool = False, after: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Bring the store's schema up to date.

    Args:
        store: an open store.
        dry_run: only say what would be done.
        after: called with each statement that was run (tests stop a process there).

    Returns:
        The statements that were run, or would be; empty when nothing was to do.

    Raises:
        StoreError: a newer program wrote the store, or a statement failed.
    """
    known = migrations()
    applied = _applied(store)
    newer = applied - {m.version for m in known}
    if newer:
        msg = f"the store was made by a newer NetSpectra (migration {max(newer)}); upgrade this one"
        raise StoreError(msg)
    done = []
    for migration in known:
        if migration.version in applied:
            continue
        statements = [fill(s, store.template) for s in migration.statements]
        for statement in (BOOK, *statements, record(migration)):
            if not dry_run:
                store.run(statement)
                after(statement)
            done.append(statement)
    return done


def missing(store: Statements) -> list[str]:
    """Names of the migrations that the store lacks."""
    applied = _applied(store)
    return [m.name for m in migrations() if m.version not in applied]


def _applied(store: Statements) -> set[int]:
    if store.run("EXISTS TABLE schema_migrations").strip() != "1":
        return set()
    return {int(v) for v in store.run("SELECT version FROM schema_migrations").split()}


def record(migration: Migration) -> str:
    """The statement that notes a migration."""
    row = f"({migration.version}, '{migration.name}')"
    return f"INSERT INTO schema_migrations (version, name) VALUES {row}"  # noqa: S608


def fill(statement: str, template: Mapping[str, str]) -> str:
    """A statement with what the templates stand for."""
    for placeholder, text in template.items():
        statement = statement.replace(placeholder, text)
    return statement
