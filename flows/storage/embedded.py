"""The embedded engine: chDB on one directory, at most one in a process.

chDB allows one engine in a process and any number of handles on it; a handle serves one call at
a time. So threads share an ``Engine``, borrow clients from it for writing, and open a fresh
read-only handle for each query of a reader (0.5 ms).

Never create a table with ``ENGINE = Kafka`` in it: the statement fails, yet leaves metadata
with which the directory can't be opened again.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from flows.errors import StoreError
from flows.storage import functions, migrate, statements
from flows.storage.ownership import Ownership
from flows.storage.repair import forget_tokens_without_rows

ENGINE_OPTIONS: Final[Mapping[str, int]] = {
    "max_server_memory_usage": 600_000_000,
    # Count what the engine allocates, not what the container does: numpy arrays aren't its.
    "memory_worker_use_cgroup": 0,
    "mark_cache_size": 32 << 20,
    "primary_index_cache_size": 32 << 20,
    "index_mark_cache_size": 8 << 20,
    "query_condition_cache_size": 8 << 20,
    "compiled_expression_cache_size": 8 << 20,
    # With fewer than four a deletion waits seconds for a free one; a merge takes up to 150 MB.
    "background_pool_size": 4,
    "background_merges_mutations_concurrency_ratio": 1,
    "max_thread_pool_size": 200,
    "max_io_thread_pool_size": 8,
    "max_parts_cleaning_thread_pool_size": 2,
    "max_outdated_parts_loading_thread_pool_size": 2,
    "max_active_parts_loading_thread_pool_size": 4,
}
"""Settings of the engine; memory in bytes."""

SESSION: Final[Mapping[str, int]] = {
    "prefer_column_name_to_alias": 1,
    "output_format_arrow_string_as_string": 1,
}
"""Settings of every session, writing or reading."""

WRITING: Final[Mapping[str, int]] = {
    **SESSION,
    # A repeated insert goes on to the rollups, where the token is looked up again: what a
    # process was killed between is made good.
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    # Rows of a rollup are added up when parts merge, not in each insert: half the cost.
    "optimize_on_insert": 0,
    "max_insert_threads": 1,
    "max_threads": 2,
    "max_memory_usage": 500_000_000,
    # When memory runs out, it is a reader that has to go.
    "memory_overcommit_ratio_denominator": 0,
    "memory_overcommit_ratio_denominator_for_user": 0,
}
"""Settings of sessions that write."""


LARGE_INSERT_ROWS: Final = 100_000
"""Inserts of more rows go one after the other: two at once could pass the engine's memory."""


@dataclass(frozen=True)
class Limits:
    """What one query of a reader may use."""

    rows: int = 1_000_000
    """Rows of the result."""
    seconds: float = 60
    memory_bytes: int = 120_000_000
    threads: int = 1

    def within(self, asked: Mapping[str, str]) -> Limits:
        """The same, or less where ClickHouse's settings of these names ask for less.

        Raises:
            ValueError: a value is no number above 0.
        """
        found = {}
        for field, (name, number) in LIMIT_SETTINGS.items():
            most = getattr(self, field)
            value = number(asked[name]) if name in asked else most
            if not value > 0:
                msg = f"{name} must be above 0"
                raise ValueError(msg)
            found[field] = min(value, most)
        return replace(self, **found)

    def as_settings(self) -> dict[str, str]:
        """ClickHouse's settings that say the same."""
        return {name: str(getattr(self, field)) for field, (name, _) in LIMIT_SETTINGS.items()}


ALONE: Final = Limits(memory_bytes=300_000_000, threads=min(len(os.sched_getaffinity(0)), 4))
"""What a query may use where no job runs beside it."""

LIMIT_SETTINGS: Final[Mapping[str, tuple[str, Callable[[str], float]]]] = {
    "rows": ("max_result_rows", int),
    "seconds": ("max_execution_time", float),
    "memory_bytes": ("max_memory_usage", int),
}
"""Settings of ClickHouse by our names, and how to read them."""


STREAMED_FORMATS: Final = frozenset(
    ["TabSeparated", "TSV", "CSV", "JSONEachRow", "Native", "RowBinary"]
)
"""Formats whose blocks can be joined, so that a result needn't be held whole."""


def faults() -> tuple[type[Exception], ...]:
    """What the engine and its client raise when a statement or a connection fails."""
    from clickhouse_connect.driver.exceptions import Error

    return (Error, RuntimeError, OSError)


def one_line(error: BaseException) -> str:
    """The engine's message without its stack of contexts: ``Code: 60. DB::Exception: …``."""
    text = " ".join(str(error).split())
    text = text[max(text.find("Code: "), 0) :]
    return re.sub(r"^(Code: \d+\. DB::Exception: )(?:Code: \d+\. DB::Exception: )+", r"\1", text)


class Engine:
    """The engine of this process, open on a directory that the process owns.

    Use ``share``; it counts its users, and ``close`` by the last one ends the engine.
    """

    template = migrate.EMBEDDED
    _current: Engine | None = None
    _current_lock = threading.RLock()

    def __init__(self, directory: Path, purpose: str) -> None:
        self.directory = directory
        self.users = 0
        self._ownership = Ownership.take(directory, purpose)
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self._large_insert = threading.Lock()
        try:
            for leftover in directory.glob("insert-*.arrow"):
                leftover.unlink()
            forget_tokens_without_rows(directory)
            self._functions = functions.write(directory)
            with self.borrow() as client:
                listed = client.raw_query("SELECT lower(name) FROM system.table_functions")
        except faults() as e:
            self._shut()
            msg = f"the store chdb:{directory} can't be opened: {one_line(e)}"
            raise StoreError(msg) from e
        self.table_functions = frozenset(listed.decode().split())

    @classmethod
    def share(cls, directory: Path, purpose: str) -> Engine:
        """The engine on a directory, opened by the first caller in this process.

        Raises:
            StoreOwned: another process owns the directory.
            StoreError: it can't be opened, or this process has another one open.
        """
        with cls._current_lock:
            engine = cls._current
            if engine is None:
                engine = cls._current = cls(directory, purpose)
            elif engine.directory != directory:
                msg = (
                    f"the store chdb:{directory} can't be opened while this process has "
                    f"chdb:{engine.directory} open; close that one first"
                )
                raise StoreError(msg)
            engine.users += 1
            return engine

    @classmethod
    def present(cls, directory: Path) -> bool:
        """Whether this process has the directory open."""
        engine = cls._current
        return engine is not None and engine.directory == directory

    def close(self) -> None:
        """Give the engine up; the last user shuts it down."""
        with Engine._current_lock:
            self.users -= 1
            if self.users == 0:
                Engine._current = None
                self._shut()

    def _shut(self) -> None:
        for client in self._idle:
            client.close()
        self._idle.clear()
        self._ownership.release()

    @contextmanager
    def borrow(self) -> Iterator[Any]:
        """A client of one's own for writing, for the time of the block."""
        with self._lock:
            client = self._idle.pop() if self._idle else None
        if client is None:
            client = self._connect()
        try:
            yield client
        finally:
            with self._lock:
                self._idle.append(client)

    def _connect(self) -> Any:
        import clickhouse_connect

        return clickhouse_connect.get_client(
            interface="chdb",
            path=str(self.directory),
            chdb_options={**ENGINE_OPTIONS, "udf_path": str(self._functions)},
            settings=dict(WRITING),
        )

    def run(self, sql: str) -> str:
        """Run a statement and give its result as tab-separated text."""
        try:
            with self.borrow() as client:
                text: bytes = client.raw_query(sql)
        except faults() as e:
            raise StoreError(one_line(e)) from e
        return text.decode()

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert rows that ``tables.fit`` has passed; the token is known to this insert only.

        The rows go through a file, which the engine maps: the page cache holds it for the
        moment that it lives.
        """
        file = self.directory / f"insert-{threading.get_ident()}.arrow"
        try:
            with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
                writer.write_table(rows)
            columns = ", ".join(f"`{name}`" for name in rows.column_names)
            large = rows.num_rows > LARGE_INSERT_ROWS
            with self._large_insert if large else nullcontext(), self.borrow() as client:
                client.command(
                    f"INSERT INTO `{table}` ({columns}) FROM INFILE {quote(str(file))} "
                    f"SETTINGS insert_deduplication_token = {quote(token)} FORMAT Arrow"
                )
        finally:
            file.unlink(missing_ok=True)

    def read(
        self, sql: str, fmt: str, limits: Limits, parameters: Mapping[str, str] | None = None
    ) -> tuple[str, Iterator[bytes]]:
        """Run a statement that only reads, on a handle of its own.

        Args:
            sql: the statement; a ``FORMAT`` of its own wins.
            fmt: output format otherwise.
            limits: what it may use.
            parameters: values for ``{name:Type}`` in the statement.

        Returns:
            The format, and the result's bytes in pieces; an error of the engine may come
            with any piece.

        Raises:
            StoreError: the statement is refused or fails; the engine's message.
        """
        named = statements.check(sql, self.table_functions)
        fmt = named or fmt
        return fmt, self._pieces(sql.rstrip().rstrip(";"), fmt, limits, dict(parameters or {}))

    def _pieces(
        self, sql: str, fmt: str, limits: Limits, parameters: dict[str, str]
    ) -> Iterator[bytes]:
        import chdb

        session = {
            **SESSION,
            "max_threads": limits.threads,
            # Else the engine takes one for each GB that it may use.
            "max_threads_min_free_memory_per_thread": 0,
            **limits.as_settings(),
            # A large GROUP BY or ORDER BY goes through files instead of failing.
            "max_bytes_before_external_group_by": limits.memory_bytes // 4,
            "max_bytes_before_external_sort": limits.memory_bytes // 4,
            "readonly": 1,
        }
        options = "&".join(f"{name}={value}" for name, value in session.items())
        try:
            handle: Any = chdb.connect(f"{self.directory}?{options}")
            with closing(handle):
                if fmt in STREAMED_FORMATS:
                    with handle.send_query(sql, fmt, params=parameters) as stream:
                        for piece in stream:
                            yield piece.bytes()
                else:
                    yield handle.query(sql, fmt, params=parameters).bytes()
        except faults() as e:
            raise StoreError(one_line(e)) from e


def quote(text: str) -> str:
    """Text as an SQL literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
