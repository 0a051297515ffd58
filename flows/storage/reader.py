"""Reads the store, whoever owns it."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa

from flows.errors import StoreError, StoreOwned
from flows.storage import client, migrate, statements
from flows.storage.address import ChdbAddress, parse
from flows.storage.embedded import Engine, Limits, faults, one_line
from flows.storage.remote import Server
from flows.storage.server import socket_path

_OWNER_START_S: Final = 20.0
"""How long an owner may take from its lock to its socket."""


class Reader(ABC):
    """A way to run statements that only read. Close it, or use it in a ``with`` block."""

    @abstractmethod
    def stream_text(self, sql: str, fmt: str) -> Iterator[bytes]:
        """Run a statement and give its result in pieces of text.

        Args:
            sql: a statement that only reads; a ``FORMAT`` of its own wins.
            fmt: a ClickHouse output format.

        Raises:
            StoreError: the statement was refused or failed; the engine's message. It may come
                with any piece.
        """

    @abstractmethod
    def close(self) -> None:
        """End the reading."""

    def query_text(self, sql: str, fmt: str) -> bytes:
        """Run a statement and give its whole result; see ``stream_text``."""
        return b"".join(self.stream_text(sql, fmt))

    def query(self, sql: str) -> pa.Table:
        """Run a statement without ``FORMAT``. Enumerations come as their numbers.

        Raises:
            StoreError: the statement was refused or failed; the engine's message.
        """
        try:
            return pa.ipc.open_file(self.query_text(sql, "Arrow")).read_all()
        except pa.ArrowInvalid as e:
            msg = "the statement gave no table; leave FORMAT out"
            raise StoreError(msg) from e

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class EngineReader(Reader):
    """Reads by the engine of this process."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine = engine
        self._limits = limits

    def stream_text(self, sql: str, fmt: str) -> Iterator[bytes]:
        """See ``Reader``."""
        return self._engine.read(sql, fmt, self._limits)[1]

    def close(self) -> None:
        """See ``Reader``."""
        self._engine.close()


class SocketReader(Reader):
    """Reads by asking the process that owns the store."""

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        self._path = path
        self._settings = limits.as_settings() if limits else None

    def stream_text(self, sql: str, fmt: str) -> Iterator[bytes]:
        """See ``Reader``."""
        try:
            yield from client.ask(self._path, sql, fmt, settings=self._settings)
        except OSError as e:
            msg = "the job that owned the store has ended; run the command again"
            raise StoreError(msg) from e

    def close(self) -> None:
        """See ``Reader``."""


class ServerReader(Reader):
    """Reads from a ClickHouse server, which guards itself by the rights of its user."""

    def __init__(self, server: Server, limits: Limits | None = None) -> None:
        self._server = server
        self._settings = limits.as_settings() if limits else {}

    def stream_text(self, sql: str, fmt: str) -> Iterator[bytes]:
        """See ``Reader``."""
        named = statements.check(sql, ())
        statement = sql.rstrip().rstrip(";")
        try:
            with self._server.borrow() as connection:
                fmt_asked = None if named else fmt
                yield connection.raw_query(statement, fmt=fmt_asked, settings=self._settings)
        except faults() as e:
            raise StoreError(one_line(e)) from e

    def close(self) -> None:
        """See ``Reader``."""
        self._server.close()


def open_for_reading(setting: str, limits: Limits | None = None) -> Reader:
    """Open a store to read it: by its owner's socket, else the directory itself, or a server.

    Args:
        setting: see ``address.parse``.
        limits: what one query may use, by default what whoever runs the engine allows.

    Raises:
        UsageError: the setting can't be read.
        StoreOwned: another process that only reads has the store, and doesn't end.
        StoreError: there is no store, its schema is missing, or it can't be opened.
    """
    address = parse(setting)
    if not isinstance(address, ChdbAddress):
        return ServerReader(Server(address), limits)
    reached = reach(address)
    if isinstance(reached, Path):
        return SocketReader(reached, limits)
    return EngineReader(reached, limits or Limits())


def reach(address: ChdbAddress) -> Engine | Path:
    """An embedded store's engine, opened in this process, or the socket of the job that owns it.

    Raises:
        StoreOwned: another process that doesn't serve has the store, and doesn't end.
        StoreError: there is no store, its schema is missing, or it can't be opened.
    """
    directory = address.directory
    if not Engine.present(directory) and not (directory / "metadata").is_dir():
        msg = f"there is no store in {directory} yet; run `netspectra run` first, or name another"
        raise StoreError(msg)
    deadline = time.monotonic() + _OWNER_START_S
    while True:
        try:
            engine = Engine.share(directory, "reading")
            break
        except StoreOwned:
            path = socket_path(directory)
            if client.alive(path):
                return path
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    with contextlib.ExitStack() as undo:
        undo.callback(engine.close)
        lacking = migrate.missing(engine)
        if lacking:
            msg = (
                f"the store {address} lacks the migration(s) {', '.join(lacking)}; "
                "run `netspectra migrate` first"
            )
            raise StoreError(msg)
        undo.pop_all()
    return engine
