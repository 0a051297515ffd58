"""Metrics of a job that runs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.jobs import environment
from tests.unit.flows.test_metrics import port as port
from tests.unit.flows.test_metrics import scrape

PATIENCE_S = 120


def test_a_job_tells_what_it_has_stored(tmp_path: Path, port: int) -> None:
    """While the demo runs, what is read and stored is there to be scraped."""
    job = subprocess.Popen(
        [sys.executable, "-m", "bytewax.run", "flows.main"],
        cwd=tmp_path,
        env=environment(SOURCE="demo", METRICS__PORT=str(port), STORE=f"chdb:{tmp_path / 's'}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        found: dict[tuple[str, tuple[str, ...]], float] = {}
        while not (
            found.get(("netspectra_packets_stored_total", ()))
            and found.get(("netspectra_store_bytes", ()))
        ):
            assert time.monotonic() < deadline_s, found
            assert job.poll() is None, job.communicate()
            try:
                found = scrape(port)
            except OSError:
                time.sleep(0.1)
        job.send_signal(signal.SIGINT)
        job.communicate(timeout=PATIENCE_S)
    finally:
        job.kill()
    read = sum(n for (name, _), n in found.items() if name == "netspectra_packets_read_total")
    assert read >= found["netspectra_packets_stored_total", ()] > 0
    assert found["netspectra_units_stored_total", ()] > 0
