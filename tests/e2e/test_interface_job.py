"""The main job on a live interface: real HTTP between two namespaces, asked about while it runs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.storage.server import socket_path
from tests.support.jobs import MAIN, ask, environment
from tests.support.namespaces import DEVICE, End, inside, pair, run, running, snmp

PATIENCE_S = 120
PORT = 8123
REQUESTS = 5
BODY = 300_000
FETCH = "import sys, urllib.request; print(len(urllib.request.urlopen(sys.argv[1]).read()))"

pytestmark = pytest.mark.requires("netns", "packet_socket")


def wait_for(met: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def fetch(client: End, server: End) -> None:
    url = f"http://{server.ipv4}:{PORT}/body"
    assert run(client.name, sys.executable, "-S", "-c", FETCH, url).strip() == str(BODY)


@pytest.mark.parametrize(
    "method", [pytest.param("tc", marks=pytest.mark.requires("bpf")), "packet"]
)
def test_http_between_two_hosts(method: str, tmp_path: Path) -> None:
    """Flows of each direction hold TCP's own number of segments, while the job goes on."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "body").write_bytes(bytes(BODY))
    web = (sys.executable, "-m", "http.server", str(PORT), "--directory", str(tmp_path / "web"))
    with pair() as (client, server), running(server.name, *web):
        with inside(client.name):
            job = subprocess.Popen(
                MAIN,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=tmp_path,
                env=environment(
                    SOURCE=f"interface:{DEVICE}",
                    STORE="chdb:data",
                    CAPTURE__METHOD=method,
                ),
            )
        store = tmp_path / "data"
        try:
            wait_for(lambda: socket_path(store).exists(), "the job serves its store")
            for _ in range(REQUESTS):
                fetch(client, server)
            sent = {
                client.ipv4: snmp(client.name)["TcpOutSegs"] + snmp(client.name)["TcpRetransSegs"],
                server.ipv4: snmp(server.name)["TcpOutSegs"] + snmp(server.name)["TcpRetransSegs"],
            }
            sql = (
                "SELECT ip_text(src_addr) AS src, sum(packets) AS n, uniqExact(src_port) AS ports, "
                "min(bytes) AS b FROM flows WHERE ip_proto = 6 GROUP BY src"
            )
            wait_for(
                lambda: {row["src"]: row["n"] for row in ask(store, sql)} == sent,
                f"{ask(store, sql)} becomes {sent}",
            )
            rows = {row["src"]: row for row in ask(store, sql)}
            assert rows[client.ipv4]["ports"] == REQUESTS
            assert rows[server.ipv4]["ports"] == 1
            (body,) = ask(
                store,
                f"SELECT sum(bytes) AS b, any(if_name) AS name, any(toString(direction)) AS way "
                f"FROM flows WHERE src_port = {PORT}",
            )
            assert body["b"] > REQUESTS * BODY
            assert (body["name"], body["way"]) == (DEVICE, "ingress")
            job.send_signal(signal.SIGINT)
            out, err = job.communicate(timeout=PATIENCE_S)
        finally:
            job.kill()
    assert job.returncode == 0, err
    assert "Traceback" not in err
    hops = ask(
        store,
        "SELECT toString(hop) AS hop, sum(seen) AS s, sum(delivered) AS d FROM ledger GROUP BY hop",
    )
    total = sum(sent.values())
    assert {row["hop"]: (row["s"], row["d"]) for row in hops}.keys() == {
        "capture",
        "window",
        "store",
    }
    assert all(row["s"] == row["d"] >= total for row in hops)
    assert len({row["s"] for row in hops}) == 1
    assert "complete" in out
