"""The socket of a store's owner: what it answers, and what it refuses."""

from __future__ import annotations

import http.client
import json
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from flows.errors import StoreError
from flows.storage import server
from flows.storage.client import ask
from flows.storage.embedded import Engine, Limits
from flows.storage.reader import EngineReader, SocketReader, open_for_reading
from flows.storage.server import ReadServer, socket_path
from flows.storage.store import Store
from tests.support.store_rows import rows


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """An open store with a row, served to other processes."""
    with Store.open(f"chdb:{tmp_path_factory.mktemp('reads')}") as store:
        store.insert("commits", rows("commits", packets=42), "t")
        yield store


@pytest.fixture
def path(owned: Store) -> Path:
    """The socket of the open store."""
    return socket_path(Path(owned.setting.removeprefix("chdb:")))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that no reader may see."""
    file = tmp_path / "secret.csv"
    file.write_text("a\ntopsecret\n")
    return file


def request(
    path: Path, method: str, target: str, body: bytes = b"", **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(str(path))
    try:
        connection.request(
            method, target, body, {k.replace("_", "-"): v for k, v in headers.items()}
        )
        response = connection.getresponse()
        return response.status, response.read(), response.headers
    finally:
        connection.close()


def test_socket_is_private(path: Path) -> None:
    """Only the owner's user may connect."""
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_ping(path: Path) -> None:
    """A ping, and a request without a statement, is answered."""
    assert request(path, "GET", "/ping")[:2] == (200, b"Ok.\n")
    assert request(path, "GET", "/")[:2] == (200, b"Ok.\n")


def test_statement_in_url_and_body(path: Path) -> None:
    """A statement comes in the URL, the body, or begins in one and ends in the other."""
    assert request(path, "GET", "/?query=SELECT%201")[:2] == (200, b"1\n")
    assert request(path, "POST", "/", b"SELECT 1")[:2] == (200, b"1\n")
    assert request(path, "POST", "/?query=SELECT", b"1 ;")[:2] == (200, b"1\n")
    assert request(path, "POST", "/?database=default", b"SELECT sum(packets) FROM commits")[:2] == (
        200,
        b"42\n",
    )


def test_formats(path: Path) -> None:
    """The format is the statement's own, the header's, the parameter's, in this order."""
    target = "/?default_format=JSONEachRow&query=SELECT%201%20AS%20x"
    status, body, headers = request(path, "GET", target)
    assert (status, json.loads(body)) == (200, {"x": 1})
    assert headers["X-ClickHouse-Format"] == "JSONEachRow"
    assert request(path, "GET", target, X_ClickHouse_Format="CSV")[1] == b"1\n"
    status, body, headers = request(path, "GET", target + "%20FORMAT%20JSON")
    assert json.loads(body)["data"] == [{"x": 1}]
    assert headers["X-ClickHouse-Format"] == "JSON"
    arrow = request(path, "POST", "/?default_format=Arrow", b"SELECT 1 AS x")[1]
    assert pa.ipc.open_file(arrow).read_all().to_pylist() == [{"x": 1}]


def test_parameters(path: Path) -> None:
    """Parameters are bound, not pasted."""
    target = "/?param_name=x%27%20OR%201&param_n=3"
    body = b"SELECT {name:String}, {n:UInt8}"
    assert request(path, "POST", target, body)[1] == b"x\\' OR 1\t3\n"


@pytest.mark.parametrize(
    ("sql", "status", "code"),
    [
        ("SELECT 1 FROM nowhere", 404, "60"),
        ("SELECT nothing", 404, "47"),
        ("SELECT 1 FROM", 400, "62"),
        ("SELECT toUInt8('x')", 400, "6"),
        ("SELECT 1 FORMAT Nonsense", 404, "73"),
        ("SELECT throwIf(1)", 500, "395"),
        ("DROP TABLE flows", 403, "164"),
        ("SELECT 1 SETTINGS readonly = 0", 403, "164"),
        ("SELECT 1 SETTINGS max_execution_time = 0", 403, "164"),
    ],
)
def test_errors_are_clickhouses(path: Path, sql: str, status: int, code: str) -> None:
    """An error has ClickHouse's status, header and words."""
    found, body, headers = request(path, "POST", "/", sql.encode())
    assert (found, headers["X-ClickHouse-Exception-Code"]) == (status, code)
    assert body.startswith(f"Code: {code}. DB::Exception: ".encode())


def test_bad_requests(path: Path) -> None:
    """Requests that aren't ClickHouse's are answered, not dropped."""
    assert request(path, "GET", "/elsewhere")[0] == 404
    assert request(path, "GET", "/?query=SELECT%201&database=other")[0] == 404
    assert request(path, "GET", "/?query=SELECT%201&default_format=a%0d%0ab")[0] == 404
    assert request(path, "POST", "/", b"SELECT '\xff'")[0] == 400
    assert request(path, "POST", "/", b"", Content_Length="-1")[0] == 413
    huge = str(server.MAX_STATEMENT_BYTES + 1)
    assert request(path, "POST", "/", b"", Content_Length=huge)[0] == 413
    assert request(path, "POST", "/", b"", Transfer_Encoding="chunked")[0] == 411
    assert request(path, "DELETE", "/")[0] == 501
    assert request(path, "GET", "/ping")[0] == 200


WRITES = [
    "INSERT INTO commits (topic) VALUES ('x')",
    "INSERT INTO FUNCTION file('{out}') SELECT 1",
    "DROP TABLE commits",
    "TRUNCATE TABLE commits",
    "CREATE TABLE t (a Int8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE t (a Int8)",
    "CREATE FUNCTION f AS x -> x",
    "ALTER TABLE commits DELETE WHERE 1",
    "OPTIMIZE TABLE commits FINAL",
    "RENAME TABLE commits TO c",
    "DETACH TABLE commits",
    "SYSTEM STOP MERGES",
    "SYSTEM SHUTDOWN",
    "KILL QUERY WHERE 1",
    "SET max_threads = 2",
    "USE system",
    "GRANT SELECT ON *.* TO default",
    "BACKUP TABLE commits TO File('{out}')",
    "WITH 1 AS x INSERT INTO commits (offset) SELECT x",
    "EXPLAIN SELECT 1; DROP TABLE commits",
]
WAYS_OUT = [
    "SELECT 1 INTO OUTFILE '{out}'",
    "SELECT file('{secret}')",
    "SELECT * FROM file('{secret}')",
    "SELECT * FROM file('{secret}', CSVWithNames)",
    "DESCRIBE file('{secret}')",
    "DESCRIBE TABLE file('{secret}')",
    "EXPLAIN SELECT * FROM file('{secret}')",
    "SELECT * FROM `{secret}`",
    "SELECT * FROM default.`{secret}`",
    "DESCRIBE `{secret}`",
    "SELECT * FROM view(SELECT * FROM `{secret}`)",
    "SELECT * FROM merge('default', 'secret') UNION ALL SELECT file('{secret}')",
    "SELECT * FROM url('http://127.0.0.1:9/x', CSV, 'a String')",
    "SELECT * FROM s3('http://127.0.0.1:9/bucket/x')",
    "SELECT * FROM deltaLake('http://127.0.0.1:9/bucket/x')",
    "SELECT * FROM remote('127.0.0.1:9', system.one)",
    "SELECT * FROM mysql('127.0.0.1:9', 'a', 'b', 'c', 'd')",
    "SELECT * FROM postgresql('127.0.0.1:9', 'a', 'b', 'c', 'd')",
    "SELECT * FROM sqlite('{secret}', 't')",
    "SELECT * FROM executable('cat {secret}', CSV, 'a String')",
    "SELECT * FROM Python(secret)",
    "SELECT * FROM cluster('default', system.one)",
    "SELECT * FROM loop(commits) LIMIT 1",
    "SELECT * FROM fileCluster('default', '{secret}')",
]


@pytest.mark.parametrize("sql", WRITES + WAYS_OUT)
def test_refused_over_the_socket(
    owned: Store, path: Path, secret: Path, tmp_path: Path, sql: str
) -> None:
    """Nothing is written, and nothing outside the store is read."""
    out = tmp_path / "out"
    status, body, _ = request(path, "POST", "/", sql.format(secret=secret, out=out).encode())
    assert status in (400, 403, 404)
    assert body.startswith(b"Code: ")
    assert b"topsecret" not in body
    assert not out.exists()
    assert owned.run("SELECT sum(packets) FROM commits") == "42\n"


@pytest.mark.parametrize("sql", [w for w in WRITES if not w.startswith(("SET", "USE", "KILL"))])
def test_engine_refuses_writes_too(
    owned: Store, tmp_path: Path, sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were our own check blind, the engine would still refuse every write."""
    monkeypatch.setattr("flows.storage.statements.check", lambda *_: None)
    engine = owned._backend
    assert isinstance(engine, Engine)
    with pytest.raises(StoreError, match=r"^Code: "):
        b"".join(engine.read(sql.format(out=tmp_path / "out"), "TSV", Limits())[1])
    assert not (tmp_path / "out").exists()
    assert owned.run("SELECT sum(packets) FROM commits") == "42\n"


def test_limits(owned: Store, path: Path) -> None:
    """Rows, time and memory of one query are limited; the store goes on."""
    engine = owned._backend
    assert isinstance(engine, Engine)
    limits = Limits(rows=100, seconds=0.2, memory_bytes=50_000_000)
    for sql, name in (
        ("SELECT number FROM numbers(1000) FORMAT JSON", "TOO_MANY_ROWS"),
        ("SELECT number FROM numbers(1000)", "TOO_MANY_ROWS"),
        ("SELECT count() FROM numbers(1e13)", "TIMEOUT_EXCEEDED"),
        ("SELECT length(groupArray(number)) FROM numbers(1e8)", "MEMORY_LIMIT_EXCEEDED"),
    ):
        with pytest.raises(StoreError, match=name):
            b"".join(engine.read(sql, "TSV", limits)[1])
    assert request(path, "GET", "/?query=SELECT%201")[0] == 200


def test_a_reader_may_ask_for_less(path: Path) -> None:
    """Limits in the address below the owner's own hold; higher ones change nothing."""
    sql = "SELECT number FROM numbers(1000)"
    with pytest.raises(StoreError, match="TOO_MANY_ROWS"):
        SocketReader(path, Limits(rows=100)).query_text(sql, "JSON")
    assert len(SocketReader(path, Limits(rows=10**9)).query_text(sql, "TSV").split()) == 1000
    with pytest.raises(StoreError, match=r"TOO_MANY_ROWS|broke off"):
        SocketReader(path, Limits(rows=10**9)).query_text(
            "SELECT number FROM numbers(2000000)", "JSON"
        )
    for wrong in ("x", "0", "-1", "nan"):
        status, body, _ = request(path, "GET", f"/?query=SELECT%201&max_result_rows={wrong}")
        assert status == 400
        assert b"max_result_rows" in body or b"limit" in body


def test_large_grouping_goes_through_files(owned: Store) -> None:
    """A query whose groups don't fit its memory is answered all the same."""
    engine = owned._backend
    assert isinstance(engine, Engine)
    sql = "SELECT count() FROM (SELECT number AS n, count() FROM numbers(3000000) GROUP BY n)"
    assert b"".join(engine.read(sql, "TSV", Limits())[1]) == b"3000000\n"


def test_result_that_breaks_off_is_an_error(path: Path) -> None:
    """A large result that meets a limit midway doesn't look whole."""
    with pytest.raises(StoreError, match=r"broke off|TOO_MANY_ROWS"):
        for _ in ask(path, "SELECT number FROM numbers(100000000)", "TSV"):
            pass


def test_large_result_streams(path: Path) -> None:
    """A result of many blocks arrives whole, in pieces."""
    pieces = list(ask(path, "SELECT number FROM numbers(500000)", "TSV"))
    assert len(pieces) > 1
    assert b"".join(pieces) == b"".join(b"%d\n" % n for n in range(500_000))


def test_many_readers(path: Path) -> None:
    """More readers than slots are all answered."""
    answers = []

    def read() -> None:
        answers.append(b"".join(ask(path, "SELECT sleep(0.1)", "TSV")))

    threads = [threading.Thread(target=read) for _ in range(3 * server.MAX_QUERIES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [b"0\n"] * len(threads)


def test_too_many_readers_are_told(
    owned: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that finds no slot in time is told, and the slots come back."""
    monkeypatch.setattr(server, "_WAIT_S", 0.01)
    reads = ReadServer._shared
    assert reads is not None
    taken = [reads.run("SELECT 1", "TSV")[1] for _ in range(server.MAX_QUERIES)]
    for pieces in taken:
        next(pieces)
    assert request(path, "POST", "/", b"SELECT 1")[0] == 503
    for pieces in taken:
        list(pieces)
    assert request(path, "POST", "/", b"SELECT 1")[0] == 200


def test_reader_that_leaves_frees_its_slot(path: Path) -> None:
    """Readers that go away in the middle of a result don't use slots up."""
    for _ in range(server.MAX_QUERIES + 1):
        pieces = ask(path, "SELECT number FROM numbers(900000)", "TSV")
        next(pieces)
        pieces.close()
    deadline = time.monotonic() + 60
    while request(path, "POST", "/", b"SELECT 1")[0] != 200:
        assert time.monotonic() < deadline


def test_owner_reads_itself(owned: Store) -> None:
    """The process that owns the store reads by its own engine."""
    with open_for_reading(owned.setting) as reader:
        assert isinstance(reader, EngineReader)
        assert reader.query("SELECT sum(packets) AS p FROM commits").to_pylist() == [{"p": 42}]
        with pytest.raises(StoreError, match="FORMAT"):
            reader.query("SELECT 1 FORMAT CSV")
    assert owned.run("SELECT 1") == "1\n"
