"""The store over HTTP: the real engine behind our own front, which is no ClickHouse server.

See ``tests/support/clickhouse_http.py`` for what that shows and what it doesn't.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from flows.errors import StoreError
from flows.storage import migrate, remote
from flows.storage.embedded import Limits
from flows.storage.reader import open_for_reading
from flows.storage.store import Store
from flows.storage.tables import SCHEMAS
from flows.storage.unavailable import PASSING, StoreUnavailable
from tests.support.clickhouse_http import PASSWORD, ClickHouse
from tests.support.store_rows import T0_MS, address, rows, written_columns

_databases = itertools.count()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """The front, for all tests of this file."""
    with ClickHouse(tmp_path_factory.mktemp("clickhouse") / "engine") as running:
        yield running


@pytest.fixture
def server(front: ClickHouse) -> Iterator[ClickHouse]:
    """The front, up before and after each test, with a database that nobody else has."""
    front.use(f"test_{next(_databases)}")
    yield front
    front.switch("up")


@pytest.fixture
def store(server: ClickHouse) -> Iterator[Store]:
    """An open, empty store."""
    with Store.open(server.setting) as opened:
        yield opened


def some_flows(seed: int, n: int = 50) -> pa.Table:
    rng = np.random.default_rng(seed)
    return rows(
        "flows",
        src_addr=[address(f"10.0.0.{x}") for x in rng.integers(0, 9, n)],
        dst_port=rng.integers(0, 3, n).tolist(),
        window_start=[T0_MS + 2000 * int(x) for x in rng.integers(0, 4000, n)],
        packets=rng.integers(1, 100, n).tolist(),
        bytes=rng.integers(60, 10**6, n).tolist(),
    )


def sums(store: Store) -> list[str]:
    sql = "SELECT sum(packets), sum(bytes) FROM "
    return [store.run(sql + table).strip() for table in ("flows", "flows_1m", "flows_1h")]


def of(*tables: pa.Table) -> list[str]:
    """What all three tables hold when they hold these rows once."""
    packets, octets = (sum(sum(t[name].to_pylist()) for t in tables) for name in _SUMMED)
    return [f"{packets}\t{octets}"] * 3


_SUMMED = ("packets", "bytes")


def test_migrations_make_every_table(store: Store) -> None:
    """All tables are there with the columns that are written, and nothing is left to migrate."""
    names = set(store.run("SHOW TABLES").split())
    assert {*SCHEMAS, "flows_1m", "flows_1h", "completeness"} <= names
    for table, schema in SCHEMAS.items():
        assert written_columns(store, table) == schema.names
    assert migrate.migrate(store) == []


def test_a_server_partitions_by_six_hours(store: Store) -> None:
    """The server's form of the templates is used, not that of the embedded engine."""
    kind = store.run(
        "SELECT partition_key FROM system.tables "
        "WHERE database = currentDatabase() AND name = 'flows'"
    )
    assert kind == "toStartOfInterval(window_start, toIntervalHour(6))\n"


def test_a_token_counts_once(server: ClickHouse, store: Store) -> None:
    """A repeated token changes neither table nor rollups, whatever the rows; the next one does."""
    first, second = some_flows(1), some_flows(2)
    for part in (first, first, second):
        store.insert("flows", part, "flows/t/0/1/0")
    assert sums(store) == of(first)
    with Store.open(server.setting) as again:
        again.insert("flows", first, "flows/t/0/1/0")
        again.insert("flows", second, "flows/t/0/2/0")
    assert sums(store) == of(first, second)


def test_rows_whose_answer_was_lost_count_once(server: ClickHouse, store: Store) -> None:
    """The server took the rows and the connection broke: sent again, they are there once."""
    part, other = some_flows(3), some_flows(4)
    before = server.switch("cut 1")
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:\d+/test_\d+: Remote end closed"):
        store.insert_once("flows", part, "flows/t/0/1/0")
    assert sums(store) == of(part), "the rows were not taken: the cut came too early"
    store.insert("flows", part, "flows/t/0/1/0")
    store.insert("flows", other, "flows/t/0/2/0")
    after = server.counts
    assert after["cut"] == before.get("cut", 0) + 1
    assert after["inserts"] == before.get("inserts", 0) + 3
    assert sums(store) == of(part, other)


@pytest.mark.parametrize("mode", ["refuse", "503", "stall"])
def test_a_server_that_is_away_can_be_waited_for(
    server: ClickHouse, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No connection, no answer and a proxy's 503 are told from errors; then it goes on."""
    monkeypatch.setattr(remote, "INSERT_ANSWER_S", 1)
    with Store.open(server.setting) as store:
        store.insert("flows", some_flows(5), "a")
        server.switch(mode)
        with pytest.raises(StoreUnavailable) as caught:
            store.insert_once("flows", some_flows(6), "b")
        assert "\n" not in str(caught.value)
        assert PASSWORD not in str(caught.value)
        server.switch("up")
        store.insert("flows", some_flows(6), "b")
        assert sums(store) == of(some_flows(5), some_flows(6))


def test_an_insert_has_some_patience(
    server: ClickHouse, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes rows the second time is no error; one that never does is."""
    server.switch("half")
    for number in range(3):
        store.insert("flows", some_flows(number), f"{number}")
    assert sums(store) == of(*map(some_flows, range(3)))
    monkeypatch.setattr("flows.storage.store._PAUSES_S", (0.01, 0.01))
    server.switch("503")
    with pytest.raises(StoreError, match=r"refused rows for flows: .*503") as caught:
        store.insert("flows", some_flows(4), "4")
    assert not isinstance(caught.value, StoreUnavailable)


def test_no_server_is_unavailable_for_questions_too(server: ClickHouse, store: Store) -> None:
    """Queries, commands and statements tell it the same way."""
    server.switch("refuse")
    for ask in (store.query, store.command, store.run):
        with pytest.raises(StoreUnavailable, match="Connection refused"):
            ask("SELECT 1")


@pytest.mark.parametrize("code", [202, 241, 242, 252])
def test_an_overloaded_server_can_be_waited_for(
    server: ClickHouse, store: Store, code: int
) -> None:
    """Too many parts or queries, no memory, read-only for now: it may take the rows later."""
    server.switch(f"error {code} {PASSING[code]}")
    with pytest.raises(StoreUnavailable, match=PASSING[code]):
        store.insert_once("flows", some_flows(7), "a")


@pytest.mark.parametrize(
    "error",
    ["516 AUTHENTICATION_FAILED", "60 UNKNOWN_TABLE", "62 SYNTAX_ERROR", "497 ACCESS_DENIED",
     "164 READONLY"],
)  # fmt: skip
def test_errors_that_stay_are_errors(server: ClickHouse, store: Store, error: str) -> None:
    """A wrong password, a missing table, no rights: waiting doesn't help."""
    server.switch(f"error {error}")
    with pytest.raises(StoreError, match=error.split()[1]) as caught:
        store.insert("flows", some_flows(8), "a")
    assert not isinstance(caught.value, StoreUnavailable)


def test_errors_of_the_engine_are_one_line(store: Store) -> None:
    """A refused statement gives the engine's message, whichever way it was run."""
    for ask in (store.query, store.command, store.run):
        with pytest.raises(StoreError, match=r"^Code: 60\. DB::Exception: ") as caught:
            ask("SELECT\n nothing FROM nowhere")
        assert "\n" not in str(caught.value)
        assert not isinstance(caught.value, StoreUnavailable)


def test_a_wrong_password_is_told_without_it(server: ClickHouse) -> None:
    """Opening says who was refused where, not with what."""
    with pytest.raises(StoreError, match=r"http://default@127.*AUTHENTICATION_FAILED") as caught:
        Store.open(server.at("default", "hunter2"))
    assert "hunter2" not in str(caught.value)


def test_commits_and_positions_come_back(store: Store) -> None:
    """Offsets of stored units are given in order and once; a position is its newest row."""
    assert store.newest_commit("t", "0") == -1
    assert store.position("t", "0") is None
    for offset in (7, 3, 2**64 - 1, 3):
        store.insert(
            "commits", rows("commits", topic="t", partition="0", offset=offset), f"{offset}"
        )
    assert store.committed("t", "0").tolist() == [3, 7, 2**64 - 1]
    assert store.committed("t", "0", since=4).tolist() == [7, 2**64 - 1]
    assert store.committed("t'", "\\").tolist() == []
    for minute, place in enumerate(('{"offset": 1}', '{"offset": "é\'"}')):
        row = rows("positions", topic="t", partition="0", position=place, updated_at=T0_MS + minute,
                   settings_digest="d")  # fmt: skip
        store.insert("positions", row, f"p{minute}")
    assert store.position("t", "0") == ('{"offset": "é\'"}', "d")


def test_edge_values_come_back(store: Store) -> None:
    """Smallest and largest numbers, addresses, text with quotes and maps are stored exactly."""
    flows = rows("flows", packets=[0, 2**64 - 1], src_addr=[bytes(16), b"\xff" * 16],
                 src_mac=[bytes(6), b"\xff" * 6], src_net=["", "a'b\\c\té\n"])  # fmt: skip
    store.insert("flows", flows, "a")
    found = store.query("SELECT packets, src_addr, src_mac, src_net FROM flows ORDER BY packets")
    for name in found.column_names:
        assert found[name].to_pylist() == flows[name].to_pylist(), name
    store.insert("ledger", rows("ledger", dropped={"ring_full": 3, "gap": 2**64 - 1}), "b")
    assert store.run("SELECT dropped['ring_full'], dropped['gap'] FROM ledger") == (
        f"3\t{2**64 - 1}\n"
    )


def test_values_are_bound(store: Store) -> None:
    """Parameters of a query and of a command are values, not text of the statement."""
    found = store.query("SELECT {a:String} AS a, {b:UInt8} AS b", {"a": "x' OR 1", "b": 3})
    assert found.to_pylist() == [{"a": "x' OR 1", "b": 3}]
    assert store.command("SELECT {n:UInt64} + 1", {"n": 1}) == 2


def test_a_large_insert_is_one(store: Store) -> None:
    """A hundred thousand rows go in at once, with their rollups."""
    one = some_flows(9, 1000)
    large = pa.concat_tables([one] * 100)
    store.insert("flows", large, "large")
    assert sums(store) == of(*[one] * 100)


def test_threads_insert_at_once(store: Store) -> None:
    """Threads share a store, each row once."""
    failures: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(4):
                for _ in range(2):
                    store.insert("flows", some_flows(number), f"{thread}/{number}")
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sums(store) == of(*[some_flows(number) for number in range(4)] * 3)


def test_readers_read_only(server: ClickHouse, store: Store) -> None:
    """What reads over HTTP gets text and tables, and is refused what would write."""
    store.insert("flows", some_flows(1), "a")
    with open_for_reading(server.setting) as reader:
        assert reader.query_text("SELECT count() FROM flows", "TSVWithNames") == b"count()\n50\n"
        assert reader.query("SELECT count() AS n FROM flows").to_pylist() == [{"n": 50}]
        with pytest.raises(StoreError, match="READONLY"):
            reader.query_text("TRUNCATE TABLE flows", "TSV")


def test_a_reader_limits_its_queries(server: ClickHouse, store: Store) -> None:
    """What one query may use is sent along with it."""
    store.insert("flows", some_flows(1), "a")
    with open_for_reading(server.setting, Limits(rows=10)) as reader:
        with pytest.raises(StoreError, match="TOO_MANY_ROWS"):
            reader.query("SELECT src_addr, window_start FROM flows")
        assert reader.query("SELECT count() AS n FROM flows").to_pylist() == [{"n": 50}]
