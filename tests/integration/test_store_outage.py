"""Jobs while their ClickHouse is away, slow or overloaded: it costs time and nothing else.

The server is the real engine behind our own front (``tests/support/clickhouse_http.py``), not a
ClickHouse server; what goes wrong is made to go wrong in the front.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from flows.sources.logs import LogProgress
from flows.storage.store import Store
from flows.windows.control import RunControl
from tests.support import jobs
from tests.support.clickhouse_http import PASSWORD, ClickHouse
from tests.support.jobs import (
    ArrayLog,
    environment,
    ipv4_packets,
    run_flow,
    sums,
    truth,
    write_pcap,
)
from tests.support.kafka import wait_until

PACKETS = ipv4_packets(np.random.default_rng(7), 4_000, span_ns=20 * 10**9)

RUN = """
import sys
from flows.sources import logs
logs.MESSAGE_PACKETS = 500
from flows.cli import main
sys.exit(main(["run"]))
"""
"""The command, reading messages so small that a capture gives many units."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ClickHouse]:
    """A front of one's own, whose inserts take a moment so that there is time for trouble."""
    with ClickHouse(tmp_path / "engine") as running:
        running.switch("slow 0.02")
        yield running


class Run:
    """``netspectra run`` on a capture, as it runs; its lines are collected."""

    def __init__(self, server: ClickHouse, directory: Path) -> None:
        capture = directory / "some.pcap"
        if not capture.exists():
            write_pcap(capture, PACKETS)
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUN],
            cwd=directory,
            env=environment(SOURCE=f"pcap:{capture}", STORE=server.setting, TENANT="t"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        assert self._process.stderr
        self._out, err = self._process.stdout, self._process.stderr
        self._readers = [
            threading.Thread(target=lambda: self.lines.extend(err)),
            threading.Thread(target=self._out.read),
        ]

    def __enter__(self) -> Self:
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self.end()

    def told(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def end(self) -> int:
        code = self._process.wait(100)
        for reader in self._readers:
            reader.join()
        for stream in (self._out, self._process.stderr):
            assert stream
            stream.close()
        return code


def until_inserts(server: ClickHouse, count: int) -> None:
    wait_until(lambda: server.counts.get("inserts", 0) >= count)


def assert_all_is_there(server: ClickHouse) -> None:
    """Every additive table holds the capture exactly, and each unit is committed once."""
    server.switch("up")
    with Store.open(server.setting) as store:
        assert set(sums(store, "t").values()) == {truth(PACKETS)}
        commits = "SELECT sum(packets), sum(bytes), count() - uniqExact(offset) FROM commits"
        packets, octets = truth(PACKETS)
        assert store.run(commits) == f"{packets}\t{octets}\t0\n"


@pytest.mark.parametrize(
    "trouble", ["refuse", "503", "stall", "error 252 TOO_MANY_PARTS", "error 241 MEMORY_LIMIT"]
)
def test_an_outage_costs_time_and_nothing_else(
    server: ClickHouse, tmp_path: Path, trouble: str
) -> None:
    """A run in whose middle the server goes away waits for it and ends with exact sums."""
    with Run(server, tmp_path) as run:
        until_inserts(server, 12)
        before = server.switch(trouble)
        if trouble == "stall":
            wait_until(lambda: server.counts.get("stalled", 0) >= 1)
        else:
            wait_until(lambda: run.told("store unavailable, waiting"))
        during = server.switch("up")
        assert run.end() == 0, run.lines
    assert during["inserts"] <= before["inserts"] + 1, "the server wasn't away"
    assert run.told("store is back")
    assert PASSWORD not in "".join(run.lines)
    assert_all_is_there(server)


def test_every_second_insert_fails(server: ClickHouse, tmp_path: Path) -> None:
    """With half of the inserts refused everything is stored once."""
    server.switch("half")
    with Run(server, tmp_path) as run:
        assert run.end() == 0, run.lines
    assert server.counts["refused"] > 10
    assert_all_is_there(server)


def test_answers_are_lost(server: ClickHouse, tmp_path: Path) -> None:
    """Inserts that were carried out, and whose answers were lost, are repeated and count once."""
    server.switch("cut 10")
    with Run(server, tmp_path) as run:
        assert run.end() == 0, run.lines
    assert server.counts["cut"] == 10
    assert_all_is_there(server)


@pytest.mark.parametrize("trouble", ["refuse", "stall"])
def test_stopped_during_an_outage(server: ClickHouse, tmp_path: Path, trouble: str) -> None:
    """SIGTERM ends the waiting at once, with one line and code 1; the next run lacks nothing."""
    with Run(server, tmp_path) as run:
        until_inserts(server, 12)
        server.switch(trouble)
        if trouble == "stall":
            wait_until(lambda: server.counts.get("stalled", 0) >= 1)
        else:
            wait_until(lambda: run.told("store unavailable, waiting"))
        run.stop()
        assert run.end() == 1
    ours = [line for line in run.lines if line.startswith("netspectra: ")]
    assert len(ours) == 1
    assert re.search(r"stopped while the store was unavailable \(.+\); the next run", ours[0])
    server.switch("up")
    with Run(server, tmp_path) as again:
        assert again.end() == 0, again.lines
    assert again.told("going on")
    assert_all_is_there(server)


def test_an_error_that_stays_ends_the_run(server: ClickHouse, tmp_path: Path) -> None:
    """A password that is no longer right is one line and code 1; put right, nothing lacks."""
    with Run(server, tmp_path) as run:
        until_inserts(server, 12)
        server.switch("error 516 AUTHENTICATION_FAILED")
        assert run.end() == 1
    ours = [line for line in run.lines if line.startswith("netspectra: ")]
    assert len(ours) == 1
    assert "AUTHENTICATION_FAILED" in ours[0]
    assert not run.told("Traceback")
    server.switch("up")
    with Run(server, tmp_path) as again:
        assert again.end() == 0, again.lines
    assert_all_is_there(server)


def test_reading_waits(server: ClickHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the server is away nothing more is read: what waits is what was read before."""
    progress: list[LogProgress] = []

    class Watched(ArrayLog):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[arg-type]
            progress.append(self.progress)

    monkeypatch.setattr(jobs, "ArrayLog", Watched)
    control, seen = RunControl(), []

    def trouble() -> None:
        until_inserts(server, 12)
        server.switch("refuse")
        control.wait(1)
        seen.append(progress[0].packets)
        control.wait(2)
        seen.append(progress[0].packets)
        server.switch("up")

    helper = threading.Thread(target=trouble)
    helper.start()
    with Store.open(server.setting) as store:
        run_flow(store, "t", [PACKETS], control=control, message=100)
        helper.join()
        assert control.failure is None
        assert seen[0] == seen[1] < len(PACKETS)
        assert set(sums(store, "t").values()) == {truth(PACKETS)}
