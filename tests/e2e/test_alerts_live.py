"""A scan on a live interface, looked after from the command line while the job owns the store."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from tests.support.jobs import CLI, MAIN, environment
from tests.support.namespaces import DEVICE, inside, pair, send

PATIENCE_S = 120
SCANNER = "203.0.113.9"
SETTINGS = {
    "STORE": "chdb:data",
    "CAPTURE__METHOD": "packet",
    "DETECTORS__HOST_SCAN__THRESHOLD": "30",
    "ALERTS__UPDATE_EVERY": "1s",
}
SCAN = [
    bytes(Ether(dst="02:00:00:00:00:01") / IP(src=SCANNER, dst=f"192.0.2.{n}") / TCP(dport=23))
    for n in range(60)
]

pytestmark = [pytest.mark.requires("netns", "packet_socket"), pytest.mark.timeout(600)]


def netspectra(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *arguments],
        capture_output=True,
        text=True,
        env=environment(**SETTINGS),
        cwd=place,
        timeout=PATIENCE_S,
        check=False,
    )


def alerts(place: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    """Alerts of the rule by id; none while the store isn't there yet."""
    done = netspectra(
        place, "alerts", "list", "--rule", "host_scan", "--format", "jsonl", *arguments
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {each["alert_id"]: each for each in found}


def status(place: Path) -> list[str]:
    return [each["status"] for each in alerts(place, "--all").values()]


def test_what_people_do_reaches_the_running_job(tmp_path: Path) -> None:
    """An alert fires, is muted, heard again and closed, while the scan goes on: one alert."""
    with pair() as (near, far):
        with inside(far.name):
            job = subprocess.Popen(
                MAIN,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=tmp_path,
                env=environment(SOURCE=f"interface:{DEVICE}", **SETTINGS),
            )

        def scan_until(met: Callable[[], bool], what: str) -> None:
            deadline_s = time.monotonic() + PATIENCE_S
            while not met():
                assert job.poll() is None, job.communicate()
                assert time.monotonic() < deadline_s, f"{what}: {alerts(tmp_path, '--all')}"
                send(near.name, SCAN)

        try:
            scan_until(lambda: status(tmp_path) == ["firing"], "it fires")
            (alert_id,) = alerts(tmp_path)
            assert netspectra(tmp_path, "alerts", "mute", alert_id[:8], "--for", "1h").stdout
            scan_until(lambda: status(tmp_path) == ["muted"], "it is muted")
            (mute,) = json.loads(netspectra(tmp_path, "alerts", "mutes", "--format", "json").stdout)
            netspectra(tmp_path, "alerts", "unmute", mute["mute_id"])
            scan_until(lambda: status(tmp_path) == ["firing"], "it fires again")
            netspectra(tmp_path, "alerts", "close", alert_id, "--verdict", "benign")
            scan_until(lambda: status(tmp_path) == ["resolved"], "it is closed")

            def is_told() -> bool:
                shown = json.loads(
                    netspectra(tmp_path, "alerts", "show", alert_id, "--json").stdout
                )
                return bool(shown["revisions"][-1]["event"] == "resolved")

            scan_until(is_told, "the job itself has ended it")
            job.send_signal(signal.SIGINT)
            out, err = job.communicate(timeout=PATIENCE_S)
        finally:
            job.kill()
    assert job.returncode == 0, err
    assert "Traceback" not in err, out
    assert list(alerts(tmp_path, "--all")) == [alert_id]
    shown = json.loads(netspectra(tmp_path, "alerts", "show", alert_id, "--json").stdout)
    assert (shown["src_addr"], shown["dst_port"], shown["verdict"]) == (SCANNER, 23, "benign")
    events = [each["event"] for each in shown["revisions"] if each["event"] != "updated"]
    assert events == ["fired", "muted", "fired", "resolved"]
    assert {row["src_addr"] for row in shown["evidence_rows"]} == {SCANNER}
