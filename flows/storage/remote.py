"""A ClickHouse server over HTTP, by clickhouse-connect: the same statements and inserts.

Not exercised against a real server by the tests, which have none: they run the real engine
behind an HTTP front of their own, so users and rights, quotas, clusters and a server's limits are
untested.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pyarrow as pa

from flows.errors import StoreError
from flows.storage import migrate
from flows.storage.address import ServerAddress
from flows.storage.embedded import WRITING, faults, quote
from flows.storage.unavailable import StoreUnavailable, in_short, is_passing

_ENGINE_ONLY: Final = ("max_threads", "memory")

SETTINGS: Final = {
    name: value for name, value in WRITING.items() if not any(part in name for part in _ENGINE_ONLY)
}
"""Settings of our sessions; a server has its own ideas of memory and threads."""

ANSWER_S: Final = 300
"""Silence of the server after which a statement fails."""

INSERT_ANSWER_S: Final = 60
"""The same for an insert, which takes a second or two, and is sent again."""


class Server:
    """A database on a server, made if it is absent. Threads borrow clients from it.

    Raises:
        StoreError: the server can't be reached, or refuses the user or the database.
    """

    def __init__(self, address: ServerAddress) -> None:
        self.address = address
        # Dictionaries read their tables as somebody who may: a server may have no user `default`.
        who = f"USER {quote(address.user)} PASSWORD {quote(address.password)} "
        self.template = {**migrate.SERVER, "{{dictionary_user}}": who}
        self._idle: dict[int, list[Any]] = {ANSWER_S: [], INSERT_ANSWER_S: []}
        self._lock = threading.Lock()
        # Each fault is told by what we raise.
        for name in ("clickhouse_connect", "urllib3"):
            logging.getLogger(name).addHandler(logging.NullHandler())
            logging.getLogger(name).propagate = False
        try:
            maker = self._connect(None, ANSWER_S)
            maker.command(f"CREATE DATABASE IF NOT EXISTS `{address.database}`")
            maker.close()
            with self.borrow() as client:
                client.command("SELECT 1")
        except faults() as e:
            msg = f"the store {address} can't be opened: {in_short(e)}"
            raise StoreError(msg) from e

    def _connect(self, database: str | None, answer_s: int) -> Any:
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
            send_receive_timeout=answer_s,
        )

    @contextmanager
    def borrow(self, answer_s: int = ANSWER_S) -> Iterator[Any]:
        """A client of one's own for the time of the block."""
        idle = self._idle[answer_s]
        with self._lock:
            client = idle.pop() if idle else None
        if client is None:
            client = self._connect(self.address.database, answer_s)
        try:
            yield client
        finally:
            with self._lock:
                idle.append(client)

    def run(self, sql: str) -> str:
        """Run a statement and give its result as tab-separated text."""
        try:
            with self.borrow() as client:
                text: bytes = client.raw_query(sql)
        except faults() as e:
            raise (StoreUnavailable if is_passing(e) else StoreError)(in_short(e)) from e
        return text.decode()

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert rows that ``tables.fit`` has passed, under a token."""
        with self.borrow(INSERT_ANSWER_S) as client:
            client.insert_arrow(table, rows, settings={"insert_deduplication_token": token})

    def close(self) -> None:
        """Close the clients."""
        with self._lock:
            for idle in self._idle.values():
                for client in idle:
                    client.close()
                idle.clear()
