"""The store as the rest of the program sees it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flows.errors import StoreError
from flows.storage import migrate, tables
from flows.storage.address import ChdbAddress, parse
from flows.storage.embedded import Engine, faults, one_line
from flows.storage.remote import Server
from flows.storage.server import ReadServer
from flows.storage.unavailable import StoreUnavailable, in_short, is_passing

_PASSING: Final = (
    "MEMORY_LIMIT_EXCEEDED",
    "TOO_MANY_PARTS",
    "TOO_MANY_SIMULTANEOUS_QUERIES",
    "TIMEOUT_EXCEEDED",
)
"""Faults of the embedded engine that pass: a merge or a reader has what an insert needs."""

_PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 15.0)


class Store:
    """An open store: inserts, statements, and which units are stored already.

    Safe to use from several threads. In an embedded store the process owns the directory, and
    each ``open`` of it in the same process shares one engine; while it is open, other
    processes read it through a socket in the directory.
    """

    def __init__(self, setting: str, backend: Engine | Server) -> None:
        self.setting = setting
        self._backend: Engine | Server | None = backend
        self._reads: ReadServer | None = None
        self.template = backend.template

    @classmethod
    def open(cls, setting: str, *, migrated: bool = True, serve: bool = True) -> Store:
        """Open the store that a setting names, and bring its schema up to date.

        Args:
            setting: see ``address.parse``.
            migrated: apply missing migrations.
            serve: answer other processes' queries while the store is open (embedded only).

        Raises:
            UsageError: the setting can't be read.
            StoreOwned: another process owns the directory.
            StoreError: the store can't be opened or migrated.
        """
        address = parse(setting)
        if isinstance(address, ChdbAddress):
            store = cls(setting, Engine.share(address.directory, "running a job"))
        else:
            store = cls(setting, Server(address))
        try:
            if migrated:
                migrate.migrate(store)
            if serve and isinstance(store._backend, Engine):
                store._reads = ReadServer.share(store._backend)
        except BaseException:
            store.close()
            raise
        return store

    @property
    def _open(self) -> Engine | Server:
        if self._backend is None:
            msg = f"the store {self.setting} is closed"
            raise StoreError(msg)
        return self._backend

    @property
    def remote(self) -> bool:
        """Whether a server keeps it, which may be away for a while."""
        return isinstance(self._backend, Server)

    @property
    def reads(self) -> ReadServer | None:
        """What answers other programs' queries, if anything does."""
        return self._reads

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert rows by one Arrow insert, once for each token.

        An insert with a known token changes nothing, in the table and its rollups, even when
        the rows differ: never use a token again for other contents.

        Args:
            table: a name in ``tables.SCHEMAS``.
            rows: columns as that schema says, at most ``tables.MAX_INSERT_ROWS`` rows of one
                day. No rows, no insert.
            token: ``table/topic/partition/offset/chunk``.

        Raises:
            StoreError: the rows don't fit, or the engine refused them; what goes away by waiting
                was waited for, half a minute.
        """
        for pause_s in (*_PAUSES_S, None):
            try:
                self.insert_once(table, rows, token)
            except StoreUnavailable as e:
                if pause_s is None:
                    msg = f"the store refused rows for {table}: {e}"
                    raise StoreError(msg) from e
                time.sleep(pause_s)
            else:
                return

    def insert_once(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert rows, without patience; see ``insert``.

        Raises:
            StoreError: the rows don't fit, or the engine refused them.
            StoreUnavailable: the store is away or overloaded; whether it has the rows is not
                known, and under the same token they may be sent again.
        """
        if not token:
            msg = f"an insert into {table} needs a token"
            raise StoreError(msg)
        fitted = tables.fit(table, rows)
        if not fitted.num_rows:
            return
        try:
            self._open.insert(table, fitted, token)
        except faults() as e:
            raise self._fault(e, f"the store refused rows for {table}: ") from e

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run a statement that gives rows. Enumerations come as their numbers.

        Args:
            sql: a statement without ``FORMAT``.
            parameters: values for ``{name:Type}`` in it.

        Raises:
            StoreError: the engine refused it; its message.
        """
        try:
            with self._open.borrow() as client:
                data = client.raw_query(sql, parameters=dict(parameters or {}), fmt="Arrow")
        except faults() as e:
            raise self._fault(e) from e
        return pa.ipc.open_file(data).read_all()

    def command(
        self, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> str | int | Sequence[str] | Any:
        """Run any statement; give its single value, or a summary.

        Raises:
            StoreError: the engine refused it; its message.
        """
        try:
            with self._open.borrow() as client:
                return client.command(sql, parameters=dict(parameters or {}))
        except faults() as e:
            raise self._fault(e) from e

    def run(self, sql: str) -> str:
        """Run any statement and give its result as tab-separated text.

        Raises:
            StoreError: the engine refused it; its message.
        """
        return self._open.run(sql)

    def committed(self, topic: str, partition: str, since: int = 0) -> npt.NDArray[np.uint64]:
        """Offsets whose units are stored, in order and each once.

        Args:
            topic: topic of the units.
            partition: partition of the topic.
            since: leave smaller offsets out.

        Raises:
            StoreError: the engine refused the query.
        """
        rows = self.query(
            "SELECT DISTINCT offset FROM commits WHERE topic = {topic:String} "
            "AND partition = {partition:String} AND offset >= {since:UInt64} ORDER BY offset",
            {"topic": topic, "partition": partition, "since": since},
        )
        offsets: npt.NDArray[np.uint64] = rows["offset"].to_numpy()
        return offsets

    def newest_commit(self, topic: str, partition: str) -> int:
        """Offset of the newest unit that is stored; -1 for none.

        Raises:
            StoreError: the engine refused the query.
        """
        (row,) = self.query(
            "SELECT max(toInt64(offset)) AS newest, count() AS n FROM commits "
            "WHERE topic = {topic:String} AND partition = {partition:String}",
            {"topic": topic, "partition": partition},
        ).to_pylist()
        return int(row["newest"]) if row["n"] else -1

    def position(self, topic: str, partition: str) -> tuple[str, str] | None:
        """Where to read a log on, and the digest of the settings with which it was read.

        Raises:
            StoreError: the engine refused the query.
        """
        rows = self.query(
            "SELECT position, settings_digest FROM positions FINAL "
            "WHERE topic = {topic:String} AND partition = {partition:String}",
            {"topic": topic, "partition": partition},
        ).to_pylist()
        return (rows[0]["position"], rows[0]["settings_digest"]) if rows else None

    def _fault(self, error: Exception, refused: str = "") -> StoreError:
        if isinstance(self._backend, Server):
            if is_passing(error):
                return StoreUnavailable(f"{self._backend.address}: {in_short(error)}")
        elif any(name in str(error) for name in _PASSING):
            return StoreUnavailable(one_line(error))
        return StoreError(refused + one_line(error))

    def close(self) -> None:
        """Stop serving and close; the last store of a process frees the directory."""
        backend, self._backend = self._backend, None
        if backend is None:
            return
        with contextlib.ExitStack() as stack:
            stack.callback(backend.close)
            if self._reads is not None:
                stack.callback(self._reads.close)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
