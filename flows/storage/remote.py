"""A ClickHouse server over HTTP, by clickhouse-connect: the same statements and inserts.

Not exercised against a real server by the tests, which have none: only that every statement
and insert takes this way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pyarrow as pa

from flows.errors import StoreError
from flows.storage import migrate
from flows.storage.address import ServerAddress
from flows.storage.embedded import WRITING, faults, one_line

_ENGINE_ONLY: Final = ("max_threads", "memory")

SETTINGS: Final = {
    name: value for name, value in WRITING.items() if not any(part in name for part in _ENGINE_ONLY)
}
"""Settings of our sessions; a server has its own ideas of memory and threads."""


class Server:
    """A database on a server, made if it is absent. Threads borrow clients from it.

    Raises:
        StoreError: the server can't be reached, or refuses the user or the database.
    """

    template = migrate.SERVER

    def __init__(self, address: ServerAddress) -> None:
        self.address = address
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        try:
            maker = self._connect(None)
            maker.command(f"CREATE DATABASE IF NOT EXISTS `{address.database}`")
            maker.close()
            with self.borrow() as client:
                client.command("SELECT 1")
        except faults() as e:
            msg = f"the store {address} can't be opened: {one_line(e)}"
            raise StoreError(msg) from e

    def _connect(self, database: str | None) -> Any:
        import clickhouse_connect

        return clickhouse_connect.get_client(
            host=self.address.host,
            port=self.address.port,
            secure=self.address.secure,
            username=self.address.user,
            password=self.address.password,
            database=database or "default",
            settings=dict(SETTINGS),
            # A session would let only one statement run at a time.
            autogenerate_session_id=False,
            client_name="netspectra",
        )

    @contextmanager
    def borrow(self) -> Iterator[Any]:
        """A client of one's own for the time of the block."""
        with self._lock:
            client = self._idle.pop() if self._idle else None
        if client is None:
            client = self._connect(self.address.database)
        try:
            yield client
        finally:
            with self._lock:
                self._idle.append(client)

    def run(self, sql: str) -> str:
        """Run a statement and give its result as tab-separated text."""
        try:
            with self.borrow() as client:
                text: bytes = client.raw_query(sql)
        except faults() as e:
            raise StoreError(one_line(e)) from e
        return text.decode()

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert rows that ``tables.fit`` has passed, under a token."""
        with self.borrow() as client:
            client.insert_arrow(table, rows, settings={"insert_deduplication_token": token})

    def close(self) -> None:
        """Close the clients."""
        with self._lock:
            for client in self._idle:
                client.close()
            self._idle.clear()
