"""Puts names into the store: all of a kind's files, or nothing of them.

A load is a partition of its own. It counts when ``names_loads`` speaks of it, which is written
last, so whoever is killed on the way leaves the names as they were.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from flows.errors import StoreError, UsageError
from flows.names.kinds import KINDS, Prefix
from flows.names.read import Rows, read
from flows.settings.model import NameFiles
from flows.storage.embedded import quote
from flows.storage.rows import build
from flows.storage.store import Store

VERSION: Final = "1"
"""Raised when files are read in another way, so that they are loaded again."""

_CHUNK_ROWS: Final = 100_000


@dataclass(frozen=True)
class Loaded:
    """What became of a kind of names.

    Attributes:
        kind: which.
        row_count: rows in the store now.
        changed: whether they were loaded now, or are there already.
        notes: what of the files isn't used.
    """

    kind: str
    row_count: int
    changed: bool
    notes: tuple[str, ...] = ()


def chosen(files: NameFiles) -> Iterator[tuple[str, list[Path]]]:
    """Kinds for which the settings name files."""
    for kind in KINDS:
        paths = [Path(text).expanduser() for text in getattr(files, kind)]
        if paths:
            yield kind, paths


def load(
    store: Store, files: NameFiles, after: Callable[[str], None] = lambda _: None
) -> Iterator[Loaded]:
    """Load what has changed, kind by kind; kinds without files stay as they are.

    Args:
        store: where to.
        files: as the settings name them.
        after: called with each table that was written to (tests stop a process there).

    Raises:
        UsageError: at the end: lines of files can't be used; such kinds stay as they are.
        StoreError: the store refused something.
    """
    problems = []
    for kind, paths in chosen(files):
        try:
            yield _load(store, kind, paths, after)
        except UsageError as error:
            problems.append(f"names.{kind}: " + str(error).replace("\n", f"\nnames.{kind}: "))
    if problems:
        raise UsageError("\n".join(problems))


def _load(store: Store, kind: str, paths: list[Path], after: Callable[[str], None]) -> Loaded:
    digest = _digest(paths)
    known = store.query(
        "SELECT digest, row_count, toUnixTimestamp(loaded_at) AS loaded_s FROM names_loads "
        "WHERE kind = {kind:String} ORDER BY load_id DESC LIMIT 1",
        {"kind": kind},
    ).to_pylist()
    if known and known[0]["digest"] == digest:
        _show(store, kind, known[0]["loaded_s"])
        return Loaded(kind, known[0]["row_count"], changed=False)
    rows = read(KINDS[kind], paths)
    load_id = time.time_ns()
    log = f"names_{kind}_log"
    table = _table(log, rows, load_id)
    for start in range(0, table.num_rows, _CHUNK_ROWS):
        store.insert(log, table.slice(start, _CHUNK_ROWS), f"{log}/{load_id}/{start}")
        after(log)
    note = {
        "kind": [kind],
        "load_id": [load_id],
        "digest": [digest],
        "files": [list(map(str, paths))],
        "row_count": [table.num_rows],
        "loaded_at": [time.time_ns() // 10**6],
    }
    store.insert("names_loads", build("names_loads", note), f"names_loads/{kind}/{load_id}")
    after("names_loads")
    _show(store, kind, int(time.time()))
    _forget(store, kind)
    return Loaded(kind, table.num_rows, changed=True, notes=tuple(rows.notes))


def _digest(paths: list[Path]) -> str:
    total = hashlib.sha256(VERSION.encode())
    for path in paths:
        try:
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            msg = f"{path.name}: can't be read: {error.strerror or error}"
            raise UsageError(msg) from error
        total.update(path.suffix.lower().encode())
    return total.hexdigest()


def _table(log: str, rows: Rows, load_id: int) -> pa.Table:
    columns: dict[str, list[object]] = {
        name: [row[at] for row in rows.found.values()] for at, name in enumerate(rows.kind.columns)
    }
    if "prefix" in columns:
        prefixes = [each for each in columns["prefix"] if isinstance(each, Prefix)]
        columns["address"] = [each.address for each in prefixes]
        columns["prefix"] = [each.text for each in prefixes]
    columns["load_id"] = [load_id] * len(rows.found)
    return build(log, columns)


def _show(store: Store, kind: str, loaded_s: int) -> None:
    """Have a dictionary read anew that was read before the load; others are when they are needed.

    A server reads it anew by itself, if we may not tell it to.
    """
    with contextlib.suppress(StoreError) if store.remote else contextlib.nullcontext():
        behind = store.run(
            "SELECT count() FROM system.dictionaries WHERE database = currentDatabase() "  # noqa: S608
            f"AND name = {quote(f'names_{kind}')} AND status != 'NOT_LOADED' "
            f"AND toUnixTimestamp(last_successful_update_time) <= {loaded_s}"
        )
        if int(behind):
            store.command(f"SYSTEM RELOAD DICTIONARY names_{kind}")


def _forget(store: Store, kind: str) -> None:
    """Drop loads before the last one: the last is kept, for a reader may be at it."""
    log = f"names_{kind}_log"
    old = store.run(
        "SELECT DISTINCT partition_id FROM system.parts WHERE active "  # noqa: S608
        f"AND database = currentDatabase() AND table = {quote(log)} AND toUInt64(partition) < "
        f"(SELECT min(load_id) FROM (SELECT load_id FROM names_loads WHERE kind = {quote(kind)} "
        "ORDER BY load_id DESC LIMIT 2))"
    )
    for partition_id in old.split():
        store.command(f"ALTER TABLE {log} DROP PARTITION ID {quote(partition_id)}")
