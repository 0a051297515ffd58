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

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMAND_LINES = [line for block in BLOCKS for line in block.splitlines() if line.strip()]
SLOW = ("make ", "netspectra bench")
"""Whole builds and benchmarks, which have tests of their own."""


def test_commands_of_the_readme_run_in_order(tmp_path: Path) -> None:
    """Every command line, in order, in one shell's directory, ends with 0."""
    write_pcap(tmp_path / "capture.pcap", ipv4_packets(np.random.default_rng(3), 2000))
    command = tmp_path / "bin" / "netspectra"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m flows.cli "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
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


def test_settings_of_the_readme_are_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example file is read, and every NETSPECTRA_ variable that is named is a setting."""
    (example,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "netspectra.yaml").write_text(example)
    settings = load(env={})
    assert settings.source == yaml.safe_load(example)["source"]
    assert {"internal", "office"} <= set(settings.networks)


def test_commands_of_the_readme_are_ours() -> None:
    """`netspectra NAME` is a command, wherever the README says so."""
    named = set(re.findall(r"netspectra (\w+)", "\n".join(COMMAND_LINES)))
    assert named <= set(COMMANDS)
    assert {"read", "run", "sql", "config", "doctor", "bench"} <= named


def test_links_of_the_readme_lead_somewhere() -> None:
    """Each relative link is a file."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
