"""The embedded store: opening, migrating, inserting once, and living with failures."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.errors import StoreError, StoreOwned
from flows.storage import migrate
from flows.storage.embedded import Engine
from flows.storage.ownership import LOCK_NAME
from flows.storage.store import Store
from flows.storage.tables import SCHEMAS
from tests.support.store_rows import T0_MS, address, rows, written_columns

SUMS = "SELECT sum(packets), sum(bytes), min(first_seen), max(last_seen), groupBitOr(tcp_flags)"
FLOW_TABLES = ("flows", "flows_1m", "flows_1h")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An open, empty store."""
    with Store.open(f"chdb:{tmp_path}/store") as opened:
        yield opened


def some_flows(seed: int, n: int = 50) -> pa.Table:
    rng = np.random.default_rng(seed)
    first_ns = [T0_MS * 10**6 + int(x) for x in rng.integers(0, 10**9, n)]
    return rows(
        "flows",
        src_addr=[address(f"10.0.0.{x}") for x in rng.integers(0, 9, n)],
        dst_addr=[address(f"2001:db8::{x}") for x in rng.integers(0, 9, n)],
        src_port=rng.integers(0, 2**16, n).tolist(),
        dst_port=rng.integers(0, 3, n).tolist(),
        window_start=[T0_MS + 2000 * int(x) for x in rng.integers(0, 4000, n)],
        packets=rng.integers(1, 100, n).tolist(),
        bytes=rng.integers(60, 10**6, n).tolist(),
        first_seen=first_ns,
        last_seen=[x + 5 for x in first_ns],
        tcp_flags=rng.integers(0, 256, n).tolist(),
    )


def sums(store: Store) -> list[str]:
    return [store.run(f"{SUMS} FROM {table}") for table in FLOW_TABLES]


def python(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent.parent,
    )


def test_directory_is_made_private(tmp_path: Path) -> None:
    """A new store's directory, with its parents, is made for its user only."""
    with Store.open(f"chdb://{tmp_path}/a/b c/store"):
        mode = (tmp_path / "a" / "b c" / "store").stat().st_mode
        assert stat.S_IMODE(mode) == 0o700


def test_every_column_has_a_comment(store: Store) -> None:
    """Each table and view, and each column of them, says what it holds."""
    tables = store.run(
        "SELECT name, comment FROM system.tables WHERE database = currentDatabase() "
        "AND engine NOT IN ('View', 'MaterializedView', 'Dictionary') ORDER BY name"
    ).splitlines()
    assert {line.split("\t")[0] for line in tables} == {
        *SCHEMAS,
        "flows_1m",
        "flows_1h",
        "dropped",
        "schema_migrations",
    }
    assert all(line.split("\t")[1] for line in tables)
    silent = store.run(
        "SELECT table, name FROM system.columns WHERE database = currentDatabase() "
        "AND comment = '' AND NOT endsWith(table, '_feed') AND table NOT IN ("
        "SELECT name FROM system.tables WHERE engine = 'Dictionary' AND comment != '')"
    )
    assert silent == ""


def test_insert_schemas_are_the_tables(store: Store) -> None:
    """Arrow schemas name the columns of their tables; only those with a default may be missing."""
    for table, schema in SCHEMAS.items():
        assert written_columns(store, table) == schema.names


def test_migrating_again_does_nothing(store: Store) -> None:
    """An up-to-date store has nothing to migrate, in earnest or dry."""
    assert migrate.migrate(store) == []
    assert migrate.migrate(store, dry_run=True) == []


def test_dry_run_changes_nothing(tmp_path: Path) -> None:
    """A dry run tells all statements, filled in, and runs none."""
    with Store.open(f"chdb:{tmp_path}/s", migrated=False) as store:
        told = migrate.migrate(store, dry_run=True)
        assert store.run("SHOW TABLES") == ""
        assert any("PARTITION BY toYYYYMMDD(window_start)" in statement for statement in told)
        assert migrate.migrate(store) == told


def test_replay_of_all_statements_changes_nothing(store: Store) -> None:
    """Running every migration a second time over data leaves schema and data as they were."""
    store.insert("flows", some_flows(1), "t")
    schema = "SELECT name, create_table_query FROM system.tables WHERE database = 'default'"
    before = store.run(f"{schema} ORDER BY name"), sums(store)
    store.command("TRUNCATE TABLE schema_migrations")
    assert migrate.migrate(store)
    assert (store.run(f"{schema} ORDER BY name"), sums(store)) == before


def test_newer_store_is_refused(tmp_path: Path) -> None:
    """A store that a newer program migrated isn't opened."""
    with Store.open(f"chdb:{tmp_path}") as store:
        store.command("INSERT INTO schema_migrations (version, name) VALUES (9999, 'x')")
    with pytest.raises(StoreError, match="newer"):
        Store.open(f"chdb:{tmp_path}")


@pytest.mark.parametrize("part", range(5))
def test_migration_cut_short_is_made_good(tmp_path: Path, part: int) -> None:
    """A start that stops after any statement is repaired by the next one."""

    class Stop(Exception):
        pass

    with Store.open(f"chdb:{tmp_path}/whole") as store:
        expected = store.run("SHOW TABLES"), store.run("SHOW FUNCTIONS LIKE '%_text'")
        store.run("DROP TABLE IF EXISTS nothing")
    with Store.open(f"chdb:{tmp_path}/cut", migrated=False) as store:
        total = len(migrate.migrate(store, dry_run=True))
        # Growing prefixes in one store: each start gets a few statements further.
        for stop in range(part, total, 5):
            ran: list[str] = []

            def after(statement: str, stop: int = stop, ran: list[str] = ran) -> None:
                ran.append(statement)
                if len(ran) > stop:
                    raise Stop

            try:
                migrate.migrate(store, after=after)
            except Stop:
                continue
            break
        migrate.migrate(store)
        assert (store.run("SHOW TABLES"), store.run("SHOW FUNCTIONS LIKE '%_text'")) == expected
        versions = store.run("SELECT version FROM schema_migrations ORDER BY version").split()
        assert versions == [str(m.version) for m in migrate.migrations()]


EDGES = {
    "packets": [0, 2**64 - 1],
    "first_seen": [0, 4_102_444_800 * 10**9 + 123_456_789],
    "window_start": [0, 4_102_444_800_000],
    "src_addr": [bytes(16), b"\xff" * 16],
    "src_mac": [bytes(6), b"\xff" * 6],
    "src_port": [0, 65535],
    "direction": [0, 2],
    "tunnel_id": [0, 2**32 - 1],
    "src_net": ["", "a'b\\c\té\n"],
}


def test_edge_values_come_back(store: Store) -> None:
    """The smallest and largest values, time 0 and year 2100, are stored exactly."""
    flows = rows("flows", **EDGES)
    store.insert("flows", flows.slice(0, 1), "a")
    store.insert("flows", flows.slice(1, 1), "b")
    stored = store.query(f"SELECT {', '.join(EDGES)} FROM flows ORDER BY packets")
    for name, values in EDGES.items():
        column = stored[name]
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        assert column.to_pylist() == values, name


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(st.text(max_size=9), st.integers(0, 2**64 - 1), max_size=4),
    st.integers(0, 2**64 - 1),
)
def test_maps_come_back(store: Store, dropped: dict[str, int], seen: int) -> None:
    """Reasons and counts of the ledger are stored exactly, for any text."""
    name = uuid4().hex
    store.insert("ledger", rows("ledger", dropped=[dropped], seen=seen, probe=name), name)
    stored = store.query(
        "SELECT dropped, seen FROM ledger WHERE probe = {probe:String}", {"probe": name}
    )
    assert dict(stored["dropped"].to_pylist()[0]) == dropped
    assert stored["seen"].to_pylist() == [seen]


REPLACING = (
    "loads",
    "positions",
    "alerts_log",
    "alert_evidence",
    "alert_mutes",
    "alert_deliveries",
)


@pytest.mark.parametrize("table", sorted(SCHEMAS))
def test_every_table_takes_its_rows_once(store: Store, table: str) -> None:
    """Each table stores a row once for a token, however often it comes."""
    for _ in range(2):
        store.insert(table, rows(table), f"{table}/t/0/1/0")
    final = "FINAL" if table in REPLACING else ""
    assert store.run(f"SELECT count() FROM {table} {final}") == "1\n"


def test_known_token_changes_nothing(store: Store) -> None:
    """A repeated token adds nothing to flows and its rollups, even with other rows."""
    store.insert("flows", some_flows(1), "flows/t/0/1/0")
    before = sums(store)
    assert len(set(before)) == 1
    store.insert("flows", some_flows(1), "flows/t/0/1/0")
    store.insert("flows", some_flows(2), "flows/t/0/1/0")
    assert sums(store) == before


def test_token_does_not_leak(store: Store) -> None:
    """Equal rows under another token are stored, and so are rows of plain statements."""
    for number in range(3):
        store.insert("commits", rows("commits"), f"commits/{number}")
        store.command("INSERT INTO commits (topic, offset) SELECT 'plain', rand64()")
    assert store.run("SELECT count() FROM commits") == "6\n"
    assert store.run("SELECT getSetting('insert_deduplication_token')") == "\n"


def test_hostile_token(store: Store) -> None:
    """A token is text: quotes and backslashes in it are nothing else."""
    for token in ("a'b", "a\\", "'; DROP TABLE commits; --", "a', max_threads = '1", "日本"):
        store.insert("commits", rows("commits"), token)
        store.insert("commits", rows("commits"), token)
    assert store.run("SELECT count() FROM commits") == "5\n"


def test_tokens_outlive_the_process(tmp_path: Path) -> None:
    """A store that is opened again still knows its tokens."""
    for _ in range(2):
        with Store.open(f"chdb:{tmp_path}") as store:
            store.insert("flows", some_flows(1), "t")
            assert len(set(sums(store))) == 1
            assert store.run("SELECT count() FROM flows") == "50\n"


def test_rollup_that_missed_an_insert_gets_it(store: Store) -> None:
    """Rows that reached flows but not a rollup reach it when the insert is repeated."""
    create = store.run("SHOW CREATE TABLE flows_1m_feed FORMAT TSVRaw")
    store.command("DROP VIEW flows_1m_feed")
    store.insert("flows", some_flows(1), "t")
    assert store.run("SELECT count() FROM flows_1m") == "0\n"
    store.command(create)
    for _ in range(2):
        store.insert("flows", some_flows(1), "t")
        assert len(set(sums(store))) == 1


def test_token_without_its_part_is_forgotten(tmp_path: Path) -> None:
    """Killed after the token was noted and before the rows were there: the rows come in."""
    with Store.open(f"chdb:{tmp_path}") as store:
        store.insert("flows", rows("flows"), "kept")
        store.insert("flows", rows("flows", packets=10), "lost")
        part = store.run(
            "SELECT path FROM system.parts WHERE table = 'flows' AND active "
            "ORDER BY min_block_number DESC LIMIT 1"
        ).strip()
    # What the engine leaves when it is killed before it renames the part.
    Path(part).rename(Path(part).with_name("tmp_insert_" + Path(part).name))
    with Store.open(f"chdb:{tmp_path}") as store:
        assert store.run("SELECT sum(packets) FROM flows") == "1\n"
        for token in ("kept", "lost"):
            store.insert("flows", rows("flows", packets=10), token)
        assert [line.split("\t")[0] for line in sums(store)] == ["11"] * 3


def test_sums_survive_merging(store: Store) -> None:
    """Rollups give the same sums before and after their parts are merged, in fewer rows."""
    for seed in range(4):
        store.insert("flows", some_flows(seed), f"{seed}")
    before = sums(store)
    assert len(set(before)) == 1
    for table in FLOW_TABLES:
        store.command(f"OPTIMIZE TABLE {table} FINAL")
    assert sums(store) == before
    counts = [int(store.run(f"SELECT count() FROM {table}")) for table in FLOW_TABLES]
    assert counts[0] > counts[1] > counts[2]
    by_minute = (
        "SELECT toStartOfMinute(t.window_start) AS minute, src_addr, dst_addr, dst_port, "
        "sum(packets) FROM {} AS t GROUP BY ALL ORDER BY ALL"
    )
    assert store.run(by_minute.format("flows")) == store.run(by_minute.format("flows_1m"))


def test_no_rows_no_insert(store: Store) -> None:
    """An empty table inserts nothing and doesn't use its token up."""
    store.insert("commits", rows("commits").slice(0, 0), "t")
    store.insert("commits", rows("commits"), "t")
    assert store.run("SELECT count() FROM commits") == "1\n"


def test_insert_without_token_is_refused(store: Store) -> None:
    """Without a token a repeated insert would count twice."""
    with pytest.raises(StoreError, match="token"):
        store.insert("commits", rows("commits"), "")


def test_committed(store: Store) -> None:
    """Offsets come in order, each once, for one topic and partition, from a start."""
    offsets = [7, 3, 2**64 - 1, 7]
    store.insert("commits", rows("commits", topic="t", partition="0", offset=offsets), "1")
    store.insert("commits", rows("commits", topic="t", partition="1", offset=5), "2")
    store.insert("commits", rows("commits", topic="u", partition="0", offset=6), "3")
    assert store.committed("t", "0").tolist() == [3, 7, 2**64 - 1]
    assert store.committed("t", "0", since=7).tolist() == [7, 2**64 - 1]
    assert store.committed("t'", "\\").tolist() == []
    assert 3 in set(store.committed("t", "0"))


def test_loads_show_the_newest(store: Store) -> None:
    """A load is its newest row."""
    for minute, state in enumerate((1, 2)):
        load = rows("loads", topic="pcap/1", state=state, updated_at=T0_MS + minute)
        store.insert("loads", load, f"loads/{minute}")
    assert store.run("SELECT topic, state FROM loads FINAL") == "pcap/1\tfinished\n"


def test_query_parameters(store: Store) -> None:
    """Values are bound, not pasted."""
    found = store.query("SELECT {a:String} AS a, {b:UInt8} AS b", {"a": "x' OR 1", "b": 3})
    assert found.to_pylist() == [{"a": "x' OR 1", "b": 3}]
    assert store.command("SELECT {n:UInt64} + 1", {"n": 1}) == 2


def test_empty_result_has_columns(store: Store) -> None:
    """A query without rows still tells its columns."""
    found = store.query("SELECT src_addr, packets FROM flows")
    assert found.num_rows == 0
    assert found.column_names == ["src_addr", "packets"]


def test_bad_statements_are_one_line(store: Store) -> None:
    """A refused statement gives the engine's message as one line, whichever way it was run."""
    for ask in (store.query, store.command, store.run):
        with pytest.raises(StoreError, match=r"^Code: \d+\. DB::Exception: ") as caught:
            ask("SELECT\n nothing FROM nowhere")
        assert "\n" not in str(caught.value)


def test_column_names_win_over_aliases(store: Store) -> None:
    """An alias that is also a column doesn't change what WHERE and sums mean."""
    store.insert("flows", some_flows(1), "t")
    total = store.run("SELECT sum(packets) FROM flows")
    assert store.run("SELECT sum(packets) AS packets FROM flows HAVING sum(packets) > 0") == total


def test_memory_is_capped(store: Store) -> None:
    """A query that wants too much is refused, and the store goes on."""
    with pytest.raises(StoreError, match="memory limit"):
        store.run("SELECT length(groupArray(number)) FROM numbers(100000000)")
    store.insert("commits", rows("commits"), "t")
    assert store.run("SELECT count() FROM commits") == "1\n"


def test_a_process_caps_its_engine_and_not_python(tmp_path: Path) -> None:
    """A process of its own allows its engine 600 MB; arrays beyond that don't make it refuse."""
    code = f"""
import numpy as np
from flows.storage.store import Store
with Store.open("chdb:{tmp_path / "store"}") as store:
    arrays = np.ones(700_000_000, np.uint8)
    store.run("INSERT INTO commits (topic, partition, offset, packets, bytes) "
              "SELECT 't', '0', number, 1, 1 FROM numbers(100000)")
    print(store.run("SELECT count() FROM commits"), end="")
    print(store.run("SELECT value FROM system.server_settings "
                    "WHERE name = 'max_server_memory_usage'"), end="")
    assert arrays.nbytes > 600_000_000
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "100000\n600000000\n"


def test_threads_share_the_engine(store: Store) -> None:
    """Threads insert and query at once, each row once."""
    failures: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            with Store.open(store.setting) as mine:
                for number in range(8):
                    for _ in range(2):
                        mine.insert("flows", some_flows(number), f"{thread}/{number}")
                    assert len(mine.query("SELECT count() AS n FROM flows")) == 1
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert store.run("SELECT count() FROM flows") == f"{4 * 8 * 50}\n"
    assert len(set(sums(store))) == 1


def test_one_store_in_a_process(store: Store, tmp_path: Path) -> None:
    """The same directory is shared, another one is refused until the first is closed."""
    same = Store.open(f"chdb://{tmp_path}/./store")
    with pytest.raises(StoreError, match="close that one first"):
        Store.open(f"chdb:{tmp_path}/other")
    store.close()
    same.insert("commits", rows("commits"), "t")
    same.close()
    with Store.open(f"chdb:{tmp_path}/other") as other:
        assert other.run("SELECT count() FROM commits") == "0\n"


def test_closed_store_says_so(store: Store) -> None:
    """Using a closed store is an error with its name, closing it again is none."""
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.run("SELECT 1")


def test_directory_that_is_a_file(tmp_path: Path) -> None:
    """A file in the directory's place gives one line with the path."""
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match=str(path)) as caught:
            Store.open(f"chdb:{path}")
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_directory_without_permission(tmp_path: Path) -> None:
    """A directory that may not be written gives one line with the path."""
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        Store.open(f"chdb:{tmp_path}/store")


def test_damaged_store(tmp_path: Path) -> None:
    """Metadata that the engine can't read gives one line, and frees the directory."""
    with Store.open(f"chdb:{tmp_path}"):
        pass
    damaged = next(tmp_path.glob("store/*/*/flows.sql"))
    good = damaged.read_text()
    damaged.write_text("nonsense")
    for _ in range(2):
        with pytest.raises(StoreError, match=f"chdb:{tmp_path} can't be opened") as caught:
            Store.open(f"chdb:{tmp_path}")
        assert "\n" not in str(caught.value)
    damaged.write_text(good)
    with Store.open(f"chdb:{tmp_path}") as store:
        assert store.run("SELECT count() FROM flows") == "0\n"


OWNER = """
import sys
from flows.storage.store import Store
from tests.support.store_rows import rows
store = Store.open("chdb:" + sys.argv[1])
store.insert("commits", rows("commits", packets=42), "t")
print("ready", flush=True)
sys.stdin.read()
"""


def test_second_process_is_refused(tmp_path: Path) -> None:
    """Another process learns who owns the store and what to do; a killed owner frees it."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent.parent,
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        with pytest.raises(StoreOwned, match=rf"process {owner.pid} .*netspectra sql") as caught:
            Store.open(f"chdb:{tmp_path}")
        assert "\n" not in str(caught.value)
    finally:
        owner.kill()
        owner.communicate()
    (tmp_path / "insert-1.arrow").write_text("left by a kill")
    with Store.open(f"chdb:{tmp_path}") as store:
        assert store.run("SELECT sum(packets) FROM commits") == "42\n"
        assert not list(tmp_path.glob("insert-*"))
    assert (tmp_path / LOCK_NAME).read_text() == ""


def test_exit_without_close(tmp_path: Path) -> None:
    """A process that forgets to close ends cleanly all the same."""
    code = OWNER.replace("sys.stdin.read()", "")
    process = python(code, tmp_path)
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("ready\n", "", 0)


def test_light_import() -> None:
    """Importing the store doesn't load the engine."""
    code = (
        "import sys, flows.storage.store, flows.storage.reader\n"
        "print([name for name in ('chdb', 'clickhouse_connect') if name in sys.modules])"
    )
    out, _ = python(code).communicate(timeout=60)
    assert out == "[]\n"


def test_unreachable_server() -> None:
    """A server that doesn't answer gives one line with its address, without the password."""
    with pytest.raises(StoreError, match=r"http://me@127\.0\.0\.1:9/d can't be opened") as caught:
        Store.open("http://me:hunter2@127.0.0.1:9/d")
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_nothing_stays_open(tmp_path: Path) -> None:
    """After the last close the process has no engine, and may open another."""
    with Store.open(f"chdb:{tmp_path}"):
        assert Engine.present(tmp_path)
    assert not Engine.present(tmp_path)
    assert not [t for t in threading.enumerate() if t.name == "netspectra-reads"]
