"""Which process ``deploy/kafka/broker.py`` takes for a node, however its folder is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import kafka


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder of a cluster of one node."""
    folder = tmp_path / "kd"
    (folder / "node-1").mkdir(parents=True)
    cluster = {"nodes": 1, "port": 20_000, "cluster_id": "x"}
    (folder / "cluster.json").write_text(json.dumps(cluster))
    return folder


@pytest.fixture
def node(data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with the command line of the node, and its pid file."""
    properties = data / "node-1" / "server.properties"
    code = "import time; time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code, "kafka.Kafka", str(properties)]) as process:
        (data / "node-1" / "pid").write_text(f"{process.pid}\n")
        yield process
        process.kill()


@pytest.mark.parametrize("name", ["unresolved", "symlink"])
def test_a_node_is_found_by_any_path(
    name: str, data: Path, node: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """Stop ends the node also by a path with .. or a link in it, and says so."""
    other = tmp_path / "other"
    if name == "symlink":
        other.symlink_to(data)
    else:
        other.mkdir()
        other = Path(os.path.relpath(other)) / ".." / "kd"
    done = kafka.run("stop", "--data", str(other))
    assert (done.returncode, done.stdout, done.stderr) == (0, "node 1 stopped\n", "")
    assert node.wait(10) == -15
    assert not (data / "node-1" / "pid").exists()
    done = kafka.run("stop", "--data", str(other))
    assert (done.returncode, done.stdout) == (0, f"nothing runs in {data.resolve()}\n")


def test_a_node_started_by_a_link_is_found(data: Path, tmp_path: Path) -> None:
    """The process may have been started with a path that has a link in it."""
    link = tmp_path / "link"
    link.symlink_to(data)
    code = "import time; time.sleep(600)"
    properties = str(link / "node-1" / "server.properties")
    with subprocess.Popen([sys.executable, "-c", code, "kafka.Kafka", properties]) as process:
        (data / "node-1" / "pid").write_text(f"{process.pid}\n")
        assert kafka.run("stop", "--data", str(data)).stdout == "node 1 stopped\n"
        process.kill()


def test_the_file_of_another_process_stays(data: Path, tmp_path: Path) -> None:
    """Stop neither ends a process that isn't the node nor deletes the file that names it."""
    pid_file = data / "node-1" / "pid"
    pid_file.write_text(f"{os.getpid()}\n")
    done = kafka.run("stop", "--data", str(data))
    assert (done.returncode, done.stdout) == (0, f"nothing runs in {data.resolve()}\n")
    assert pid_file.read_text() == f"{os.getpid()}\n"
