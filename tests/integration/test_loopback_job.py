"""The TCP port of an embedded store in jobs, and in what runs beside them."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from flows.job import Job
from flows.settings import Settings
from flows.storage.loopback import ADDRESS
from tests.integration.test_loopback import PASSWORD, ask, free_port
from tests.support.jobs import CLI, command, ipv4_packets, write_pcap


def test_a_job_answers_while_it_lasts(tmp_path: Path) -> None:
    """A job that is set up answers at the port of its settings, and no more when it is over."""
    number = free_port()
    settings = Settings(
        source="demo",
        store=f"chdb:{tmp_path}/store",
        storage={"serve_port": number, "serve_password": PASSWORD},
    )
    job = Job(settings, tell=False)
    try:
        assert ask(number, "POST", "/", "SELECT 7", X_ClickHouse_Key=PASSWORD) == (200, "7\n")
    finally:
        job.abandon()
    with pytest.raises(ConnectionRefusedError):
        ask(number, "GET", "/ping")


def test_a_job_with_a_taken_port_ends(tmp_path: Path) -> None:
    """A job whose port is taken doesn't begin, says so in a line, and tells no password."""
    with socket.create_server((ADDRESS, 0)) as taken:
        done = command(
            [*CLI, "run"],
            tmp_path,
            SOURCE="demo",
            DEMO__PACKETS="10",
            STORE=f"chdb:{tmp_path}/store",
            STORAGE__SERVE_PORT=str(taken.getsockname()[1]),
            STORAGE__SERVE_PASSWORD=PASSWORD,
        )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert PASSWORD not in done.stderr


def test_what_runs_beside_a_job_wants_no_port(tmp_path: Path) -> None:
    """A capture is read while the job that the settings describe has the ports."""
    write_pcap(tmp_path / "a.pcap", ipv4_packets(np.random.default_rng(1), 100))
    with socket.create_server((ADDRESS, 0)) as taken:
        number = str(taken.getsockname()[1])
        done = command(
            [*CLI, "read", "a.pcap"],
            tmp_path,
            METRICS__PORT=number,
            STORAGE__SERVE_PORT=number,
            STORAGE__SERVE_PASSWORD=PASSWORD,
        )
    assert done.returncode == 0, done.stderr
