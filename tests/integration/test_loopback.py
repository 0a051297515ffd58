"""The TCP port of an embedded store: who may ask, what, and by which programs."""

from __future__ import annotations

import base64
import http.client
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from flows.errors import UsageError
from flows.settings.model import Storage
from flows.storage import greeting
from flows.storage.loopback import ADDRESS, LoopbackServer
from flows.storage.store import Store
from tests.support.store_rows import rows

PASSWORD = "correct hörse battery"


def free_port() -> int:
    with socket.create_server((ADDRESS, 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """An open store with a row."""
    with Store.open(f"chdb:{tmp_path_factory.mktemp('loopback')}") as opened:
        opened.insert("flows", rows("flows", packets=42), "t")
        yield opened


@pytest.fixture(scope="module")
def port(store: Store) -> Iterator[int]:
    """The port at which it answers."""
    settings = Storage.model_validate({"serve_port": free_port(), "serve_password": PASSWORD})
    server = LoopbackServer(store, settings)
    assert settings.serve_port
    yield settings.serve_port
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((ADDRESS, settings.serve_port))


def ask(port: int, method: str, target: str, body: str = "", **headers: str) -> tuple[int, str]:
    status, answer = exchange(port, method, target, body, **headers)
    return status, answer.decode()


def ask_bytes(port: int, target: str, sql: str, **headers: str) -> bytes:
    status, answer = exchange(port, "POST", target, sql, **headers)
    assert status == 200
    return answer


def exchange(port: int, method: str, target: str, body: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=60)
    try:
        named = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
        connection.request(method, target, body.encode(), named)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"X_ClickHouse_User": "grafana", "X_ClickHouse_Key": PASSWORD},
        {"X_ClickHouse_Key": PASSWORD},
        {"Authorization": basic("default", PASSWORD)},
    ],
)
def test_the_password_lets_in(port: int, headers: dict[str, str]) -> None:
    """The password may come in ClickHouse's header or by basic authentication, for any user."""
    sql = "SELECT sum(packets) FROM flows"
    assert ask(port, "POST", "/?database=default", sql, **headers) == (200, "42\n")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X_ClickHouse_Key": ""},
        {"X_ClickHouse_Key": PASSWORD[:-1]},
        {"X_ClickHouse_Key": "x", "Authorization": basic("default", PASSWORD)},
        {"Authorization": basic("default", "")},
        {"Authorization": basic(PASSWORD, "")},
        {"Authorization": "Basic ***"},
        {"Authorization": f"Bearer {PASSWORD}"},
    ],
)
def test_others_are_refused(port: int, headers: dict[str, str]) -> None:
    """Without the password no statement is run, and the answer is ClickHouse's."""
    for method, target, body in (
        ("POST", "/", "SELECT 1"),
        ("GET", "/?query=SELECT%201", ""),
        ("GET", "/ping?query=SELECT%201", ""),
        ("POST", "/?password=correct%20h%C3%B6rse%20battery", "SELECT 1"),
    ):
        status, answer = ask(port, method, target, body, **headers)
        assert status == 403
        assert answer.startswith("Code: 516. DB::Exception: ")
    assert ask(port, "GET", "/ping", **headers) == (200, "Ok.\n")


def test_alerts_can_t_be_acted_on(port: int) -> None:
    """What the socket takes beside statements the port doesn't know."""
    status, _ = ask(port, "POST", "/alerts/ack", "{}", X_ClickHouse_Key=PASSWORD)
    assert status == 404


@pytest.mark.parametrize(
    ("sql", "status"),
    [
        ("INSERT INTO commits (topic) VALUES ('x')", 403),
        ("DROP TABLE flows", 403),
        ("SELECT 1 SETTINGS readonly = 0", 403),
        ("SELECT * FROM file('/etc/passwd')", 403),
    ],
)
def test_who_knows_it_may_only_read(port: int, sql: str, status: int) -> None:
    """The password opens no more than the socket's reading."""
    assert ask(port, "POST", "/", sql, X_ClickHouse_Key=PASSWORD)[0] == status


def test_only_this_machine_is_listened_to(port: int) -> None:
    """Another address of this machine doesn't answer."""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port))


def test_clickhouse_connect_reads(port: int) -> None:
    """ClickHouse's own client for Python connects, reads rows and Arrow, and binds parameters."""
    with clickhouse_connect.get_client(host=ADDRESS, port=port, password=PASSWORD) as client:
        assert client.ping()
        found = client.query(
            "SELECT src_addr, packets, window_start FROM flows WHERE packets = {n:UInt64}",
            parameters={"n": 42},
        )
        (row,) = found.named_results()
        assert (row["src_addr"].ipv4_mapped, row["packets"]) == (IPv4Address("10.0.0.1"), 42)
        assert client.query_arrow("SELECT packets FROM flows")["packets"].to_pylist() == [42]
        assert client.command("SELECT count() FROM flows") == 1
        with pytest.raises(DatabaseError, match="Code: 164"):
            client.command("TRUNCATE TABLE flows")


def test_clickhouse_connect_is_refused(port: int) -> None:
    """With a wrong password it says that it is wrong."""
    with pytest.raises(DatabaseError, match="Code: 516"):
        clickhouse_connect.get_client(host=ADDRESS, port=port, password="wrong password")


def test_a_taken_port_is_one_line(store: Store) -> None:
    """A port that somebody else has is named, with what to do."""
    with socket.create_server((ADDRESS, 0)) as taken:
        number = taken.getsockname()[1]
        settings = Storage.model_validate({"serve_port": number, "serve_password": PASSWORD})
        with pytest.raises(UsageError, match=f"127.0.0.1:{number}: .*SERVE_PORT") as caught:
            LoopbackServer(store, settings)
    assert "\n" not in str(caught.value)


def test_the_client_for_go_is_greeted(port: int, store: Store) -> None:
    """The first question of ClickHouse's client for Go is answered as its protocol has it.

    Its answer was read by version 2.51 of that client, which then read plain Native.
    """
    headers = {"X_ClickHouse_Key": PASSWORD}
    target = "/?database=default&default_format=Native&client_protocol_version=54483"
    version = store.run("SELECT version()").strip().encode()
    assert ask_bytes(port, target, greeting.QUESTION, **headers) == (
        b"\x01\x00\x02\xff\xff\xff\xff\x00"
        b"\x04\x01"
        b"\x0ddisplayName()\x06String\x00\x0anetspectra"
        b"\x09version()\x06String\x00"
        + bytes([len(version)])
        + version
        + b"\x0arevision()\x06UInt32\x00\x00\x00\x00\x00"
        b"\x0atimezone()\x06String\x00\x03UTC"
    )
    assert ask_bytes(port, target, "SELECT 7 AS x", **headers) == b"\x01\x01\x01x\x05UInt8\x07"
    spoken = target.partition("&client")[0]
    assert b"revision()\x06UInt32\x00\x00" not in ask_bytes(
        port, spoken, greeting.QUESTION, **headers
    )
    assert ask(port, "POST", target, greeting.QUESTION)[0] == 403
