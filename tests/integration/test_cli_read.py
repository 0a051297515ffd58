"""``netspectra read`` and ``sql`` in processes of their own, from a capture to answers."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def write_capture(file: Path, packets: int) -> None:
    """UDP packets of 60 bytes from 10.0.0.1 to 10.0.0.2, one a second."""
    frame = bytes(12) + b"\x08\x00"
    frame += struct.pack(">BBHHHBBH4s4s", 0x45, 0, 46, 0, 0, 64, 17, 0, b"\n\0\0\1", b"\n\0\0\2")
    frame = (frame + struct.pack(">HHHH", 1000, 53, 26, 0)).ljust(60, b"\0")
    body = b"".join(struct.pack("<4I", 10**9 + n, 0, 60, 60) + frame for n in range(packets))
    file.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + body)


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Not named after the test: the socket of a store in it has to have a short path.
    place = tmp_path_factory.mktemp("read")
    (place / "tmp").mkdir()
    write_capture(place / "a.pcap", 5)
    return place


def netspectra(
    place: Path, *arguments: str, text: str = "", **env: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        capture_output=True,
        text=True,
        input=text,
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place / "tmp"), **env},
        timeout=240,
        check=False,
    )


def test_read_prints_a_summary_and_leaves_nothing(place: Path) -> None:
    """A one-off reading prints what it found, and its store is gone afterwards."""
    done = netspectra(place, "read", "a.pcap")
    assert done.returncode == 0, done.stderr
    assert "a.pcap, tenant default" in done.stdout
    assert "5  (IPv4 5)" in done.stdout
    assert "10.0.0.1" in done.stdout
    assert "complete: every packet seen is stored" in done.stdout
    assert "the temporary store is removed" in done.stdout
    assert not list((place / "tmp").iterdir())


def test_kept_store_answers_sql(place: Path) -> None:
    """A store that is kept answers SQL in each format, by argument and by standard input."""
    assert netspectra(place, "read", "--keep", "kept", "a.pcap").returncode == 0
    env = {"NETSPECTRA_STORE": "chdb:kept"}
    query = "SELECT ip_text(src_addr) AS src, sum(packets) AS n FROM flows GROUP BY src;"
    assert netspectra(place, "sql", query, **env).stdout == "src\tn\n10.0.0.1\t5\n"
    answers = {
        "csv": '"src","n"\n"10.0.0.1",5\n',
        "jsonl": '{"src":"10.0.0.1","n":5}\n',
        "TSV": "10.0.0.1\t5\n",
    }
    for form, expected in answers.items():
        done = netspectra(place, "sql", "--format", form, text=query, **env)
        assert done.stdout == expected
    done = netspectra(place, "sql", "SELECT number FROM numbers(9)", "-n", "2", **env)
    assert done.stdout == "number\n0\n1\n"
    done = netspectra(place, "sql", "SELECT nothing FROM flows", **env)
    assert done.returncode == 1
    assert done.stderr.startswith("netspectra: ")
    assert "nothing" in done.stderr
    assert done.stderr.count("\n") == 1


def test_missing_store_is_one_line(place: Path) -> None:
    """Asking before there is a store says how to make one, and makes none."""
    done = netspectra(place, "sql", "SELECT 1")
    assert done.returncode == 1
    assert done.stderr.startswith("netspectra: there is no store in ")
    assert "netspectra run" in done.stderr
    assert not (place / "netspectra-demo").exists()


@pytest.mark.parametrize("content", [b"", bytes(100), b"hello"])
def test_no_capture_is_one_line(place: Path, content: bytes) -> None:
    """A file that is no capture ends with one line, exit code 1, and no store left."""
    (place / "b.pcap").write_bytes(content)
    done = netspectra(place, "read", "b.pcap")
    assert done.returncode == 1
    assert "b.pcap" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list((place / "tmp").iterdir())


def test_migrate_is_repeatable(place: Path) -> None:
    """A dry run makes nothing, a run makes the tables, a second one has nothing to do."""
    env = {"NETSPECTRA_STORE": "chdb:new"}
    dry = netspectra(place, "migrate", "--dry-run", **env)
    assert "CREATE TABLE IF NOT EXISTS flows" in dry.stdout
    assert not (place / "new").exists()
    assert "statements were run" in netspectra(place, "migrate", **env).stdout
    assert netspectra(place, "migrate", **env).stdout == "the store is up to date\n"
    done = netspectra(place, "migrate", "--dry-run", **env)
    assert (done.stdout, done.stderr) == ("", "the store is up to date\n")
