"""What the README shows is what happens."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from flows.cli import COMMANDS
from flows.settings import load
from flows.storage.store import Store
from tests.support.jobs import ROOT, environment, ipv4_packets, write_pcap
from tests.support.kafka import SCRIPT, free_port
from tests.support.kafka import run as broker

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
BASH = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
"""Commands that need root or Kafka."""

COMMAND_LINES = [line for block in BLOCKS for line in block.splitlines() if line.strip()]
SLOW = ("make ", "netspectra bench")
"""Whole builds and benchmarks, which have tests of their own."""


def shell_path(directory: Path) -> str:
    """A search path on which `netspectra` is this program."""
    command = directory / "bin" / "netspectra"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m flows.cli "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return f"{command.parent}{os.pathsep}{os.environ['PATH']}"


def test_commands_of_the_readme_run_in_order(tmp_path: Path) -> None:
    """Every command line, in order, in one shell's directory, ends with 0."""
    write_pcap(tmp_path / "capture.pcap", ipv4_packets(np.random.default_rng(3), 2000))
    path = shell_path(tmp_path)
    run = [line for line in COMMAND_LINES if not line.startswith(SLOW)]
    assert len(run) >= 7
    for line in run:
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=tmp_path,
            env={**environment(), "PATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        # doctor warns where nothing is installed, and says so; it fails for no other reason.
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert done.stdout.strip(), line


@pytest.mark.requires("kafka")
def test_the_walk_through_kafka_runs(tmp_path: Path) -> None:
    """A capture goes through a broker into the store, and the ledger says that all of it did."""
    (block,) = [b for b in BASH if "broker.py start" in b]
    port = free_port(1)
    path = shell_path(tmp_path)
    packets = ipv4_packets(np.random.default_rng(3), 2000)
    write_pcap(tmp_path / "capture.pcap", packets)
    block = block.replace("deploy/kafka/broker.py", f"{sys.executable} {SCRIPT}")
    block = block.replace("start --data", f"start --port {port} --data")
    first, last = block.split("netspectra topics list\n")
    ask = "netspectra sql 'SELECT sum(delivered) FROM ledger WHERE hop = 5' --format csv"
    stored = f"NETSPECTRA_STORE=chdb:from-kafka {ask} 2>/dev/null | grep -qx 2000"
    wait = f"for try in $(seq 240); do {stored} && break; sleep 0.5; done; {stored}\n"
    done = subprocess.run(
        ["/bin/bash", "-e", "-c", f"{first}{wait}netspectra topics list\n{last}wait\n"],
        cwd=tmp_path,
        env={**environment(KAFKA__BROKERS=f"127.0.0.1:{port}"), "PATH": path},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    if done.returncode:
        broker("stop", "--data", str(tmp_path / "kafka-data"))
    assert done.returncode == 0, (done.stdout, done.stderr)
    hops = re.findall(
        r"^(capture|transport|decode|window|store)\s+(\d+)\s+(\d+)", done.stdout, re.M
    )
    assert {hop: (int(s), int(d)) for hop, s, d in hops} == dict.fromkeys(
        ("capture", "transport", "decode", "window", "store"), (2000, 2000)
    )
    assert "complete: every packet that was wanted is in Kafka" in done.stdout
    assert "complete: every packet seen is stored" in done.stdout


def test_tables_of_the_readme_exist(tmp_path: Path) -> None:
    """Each table or view that the README names is in the store, and answers."""
    table = README[README.index("| table or view |") :].split("\n\n")[0]
    names = [
        name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    assert len(names) >= 12
    with Store.open(f"chdb:{tmp_path / 'store'}", serve=False) as store:
        for name in names:
            store.query(f"SELECT count() FROM {name}")


EXAMPLES = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
"""Settings files."""


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_settings_of_the_readme_are_good(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each example file is read, and has the values that it shows."""
    monkeypatch.chdir(tmp_path)
    Path("slack-url.txt").write_text("https://hooks.example.net/T0KEN")
    Path("netspectra.yaml").write_text(example)
    settings, shown = load(env={}), yaml.safe_load(example)
    assert settings.source == shown.get("source", "demo")
    assert {"internal", *shown.get("networks", ())} == set(settings.networks)
    assert [n.name for n in settings.notifiers] == [n["name"] for n in shown.get("notifiers", ())]


def test_commands_of_the_readme_are_ours() -> None:
    """`netspectra NAME` is a command, wherever the README says so."""
    named = set(re.findall(r"netspectra (\w+)", "\n".join([*COMMAND_LINES, *BASH])))
    assert named <= set(COMMANDS)
    assert {"read", "run", "sql", "config", "doctor", "bench"} <= named


def test_links_of_the_readme_lead_somewhere() -> None:
    """Each relative link is a file."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
