"""The commands as a user types them: faults are one clear line, signals end cleanly."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.errors import StoreError
from flows.storage import client
from flows.storage.ownership import Ownership
from flows.storage.server import socket_path
from tests.support.jobs import (
    CLI,
    MAIN,
    SECOND,
    ask,
    command,
    environment,
    ipv4_packets,
    truth,
    write_pcap,
)

RUN = (*CLI, "run")
BOTH = pytest.mark.parametrize("job", [MAIN, RUN], ids=["main", "run"])
PACKETS = ipv4_packets(np.random.default_rng(1), 3000)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with captures of each kind."""
    write_pcap(tmp_path / "good.pcap", PACKETS)
    whole = (tmp_path / "good.pcap").read_bytes()
    (tmp_path / "cut.pcap").write_bytes(whole[: 24 + 70 * 2000 + 30])
    (tmp_path / "empty.pcap").touch()
    (tmp_path / "text.pcap").write_text("this is no capture\n")
    (tmp_path / "folder").mkdir()
    write_pcap(tmp_path / "strange.pcap", PACKETS[:3], link_type=9999)
    (tmp_path / "head.pcap").write_bytes(whole[:10])
    return tmp_path


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The only line on stderr, which isn't a traceback."""
    assert "Traceback" not in done.stderr, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("netspectra: ")
    return lines[0]


def sums(place: Path) -> dict[str, tuple[int, int]]:
    """Packets and bytes of the additive tables and of the commits."""
    tables = ("flows", "totals", "flows_1m", "flows_1h", "commits")
    parts = [f"SELECT '{t}' AS t, sum(packets) AS p, sum(bytes) AS b FROM {t}" for t in tables]
    rows = ask(place / "data", " UNION ALL ".join(parts))
    return {row["t"]: (int(row["p"]), int(row["b"])) for row in rows}


@BOTH
@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("missing.pcap", ["missing.pcap does not exist", "check the name"]),
        ("*.nothing", ["*.nothing matches no file", "check the pattern"]),
        ("empty.pcap", ["empty.pcap is empty"]),
        ("text.pcap", ["text.pcap is no pcap or pcapng capture", "text"]),
        ("folder", ["folder is a directory", "*.pcap"]),
        ("strange.pcap", ["strange.pcap", "9999"]),
        ("head.pcap", ["head.pcap"]),
    ],
)
def test_a_file_that_cannot_be_read(
    place: Path, job: tuple[str, ...], file: str, words: list[str]
) -> None:
    """One line that names the file and says what is wrong; no store is made."""
    done = command(job, place, SOURCE=f"pcap:{file}", STORE="chdb:data")
    line = complaint(done)
    assert all(word in line for word in words), line
    assert done.returncode == 1
    assert not (place / "data").exists()


@pytest.mark.parametrize("file", ["missing.pcap", "empty.pcap", "text.pcap", "strange.pcap"])
def test_read_tells_the_same(place: Path, file: str) -> None:
    """``netspectra read`` names the file in one line too."""
    done = command([*CLI, "read", file], place)
    assert file in complaint(done)
    assert done.returncode in (1, 2)


@BOTH
def test_a_misspelt_variable(place: Path, job: tuple[str, ...]) -> None:
    """The line names the variable and the nearest known one."""
    done = command(job, place, SOURCE="pcap:good.pcap", STROE="chdb:data")
    line = complaint(done)
    assert "NETSPECTRA_STROE" in line
    assert "NETSPECTRA_STORE" in line
    assert done.returncode == 2


@BOTH
def test_a_misspelt_setting_in_the_file(place: Path, job: tuple[str, ...]) -> None:
    """The line names the file's setting and the nearest known one."""
    (place / "netspectra.yaml").write_text("window:\n  pain: 2s\n")
    done = command(job, place, SOURCE="pcap:good.pcap")
    line = complaint(done)
    assert "window.pain" in line
    assert "window.pane" in line
    assert done.returncode == 2


@BOTH
def test_values_that_mean_nothing(place: Path, job: tuple[str, ...]) -> None:
    """A line for each value that can't be used, with what could be."""
    done = command(job, place, SOURCE="tape:x", STORE="redis:x", WINDOW__PANE="soon")
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    for name in ("SOURCE", "STORE", "WINDOW__PANE"):
        assert sum(f"NETSPECTRA_{name}" in line for line in lines) == 1
    assert done.returncode == 2


@BOTH
def test_a_store_that_is_a_file(place: Path, job: tuple[str, ...]) -> None:
    """A path that is no directory can't be a store."""
    done = command(job, place, SOURCE="pcap:good.pcap", STORE="chdb:text.pcap")
    line = complaint(done)
    assert "text.pcap" in line
    assert "can't be opened" in line
    assert done.returncode == 1
    assert (place / "text.pcap").read_text() == "this is no capture\n"


@BOTH
def test_a_store_of_another_process(place: Path, job: tuple[str, ...]) -> None:
    """The line names the owner and what to do."""
    owner = Ownership.take(place / "data", "a test")
    try:
        done = command(job, place, SOURCE="pcap:good.pcap", STORE="chdb:data")
    finally:
        owner.release()
    line = complaint(done)
    assert "is in use by process" in line
    assert "a test" in line
    assert "stop that process or choose another directory" in line
    assert done.returncode == 1


def test_sql_without_a_store(place: Path) -> None:
    """Asking before anything is stored says so, and makes no store."""
    done = command([*CLI, "sql", "SELECT 1"], place, STORE="chdb:data")
    assert "there is no store" in complaint(done)
    assert done.returncode == 1
    assert not (place / "data").exists()


@BOTH
def test_a_capture_that_is_cut(place: Path, job: tuple[str, ...]) -> None:
    """What comes before the cut is kept, the ledger knows the rest, the exit code says so."""
    done = command(job, place, SOURCE="pcap:cut.pcap", STORE="chdb:data")
    line = complaint(done)
    assert "cut.pcap is cut at byte 140024" in line
    assert "what comes before is kept" in line
    assert done.returncode == 3
    assert set(sums(place).values()) == {truth(PACKETS[:2000])}
    ledger = ask(
        place / "data",
        "SELECT toString(hop) AS hop, toUInt32(sum(seen)) AS seen, "
        "toUInt32(sum(delivered)) AS delivered, sumMap(dropped) AS dropped "
        "FROM ledger GROUP BY hop ORDER BY hop",
    )
    assert [(r["hop"], r["seen"], r["delivered"]) for r in ledger] == [
        ("capture", 2001, 2000),
        ("window", 2000, 2000),
        ("store", 2000, 2000),
    ]
    assert {key: int(n) for key, n in ledger[0]["dropped"].items()} == {"truncated": 1}
    assert not any(row["dropped"] for row in ledger[1:])


def test_read_of_a_cut_capture(place: Path) -> None:
    """The one-off reading says it too, after its summary."""
    done = command([*CLI, "read", "cut.pcap"], place)
    assert "cut.pcap is cut" in complaint(done)
    assert "2,000" in done.stdout
    assert "truncated" in done.stdout
    assert done.returncode == 3


@BOTH
def test_the_same_capture_again(place: Path, job: tuple[str, ...]) -> None:
    """Skipped with a line, under its own name and another one; replaced and added on request."""
    settings = {"SOURCE": "pcap:good.pcap", "STORE": "chdb:data"}
    first = command(job, place, **settings)
    assert (first.returncode, first.stderr) == (0, "")
    once = truth(PACKETS)
    assert set(sums(place).values()) == {once}
    (place / "good.pcap").rename(place / "renamed.pcap")
    settings["SOURCE"] = "pcap:renamed.pcap"
    again = command(job, place, **settings)
    assert again.returncode == 0
    assert "renamed.pcap is stored already (3,000 packets, probe good.pcap)" in complaint(again)
    assert set(sums(place).values()) == {once}
    replaced = command(job, place, **settings, AGAIN="replace")
    assert replaced.returncode == 0
    assert "renamed.pcap was stored before and is replaced" in complaint(replaced)
    assert set(sums(place).values()) == {once}
    added = command(job, place, **settings, AGAIN="add")
    assert (added.returncode, added.stderr) == (0, "")
    assert set(sums(place).values()) == {tuple(2 * value for value in once)}


def test_a_glob_loads_what_is_new(place: Path) -> None:
    """Of two captures one is stored: the other one is loaded, the first is named."""
    (place / "in").mkdir()
    write_pcap(place / "in" / "one.pcap", PACKETS)
    command(MAIN, place, SOURCE="pcap:in/*.pcap", STORE="chdb:data")
    later = ipv4_packets(np.random.default_rng(2), 500, start_ns=1_700_100_000 * SECOND)
    write_pcap(place / "in" / "two.pcap", later)
    done = command(MAIN, place, SOURCE="pcap:in/*.pcap", STORE="chdb:data")
    assert "one.pcap is stored already" in complaint(done)
    assert done.returncode == 0
    both = np.concatenate((PACKETS, later))
    assert set(sums(place).values()) == {truth(both)}


@contextlib.contextmanager
def running(job: tuple[str, ...], place: Path, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """A job in a process of its own, up to its first commit."""
    process = subprocess.Popen(
        list(job),
        cwd=place,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + 120
        while not _commits(place / "data"):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.02)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _commits(directory: Path) -> int:
    try:
        answer = client.ask(socket_path(directory), "SELECT count() FROM commits", "TSV")
        return int(b"".join(answer))
    except (OSError, StoreError):
        return 0


DEMO = {"SOURCE": "demo", "STORE": "chdb:data", "DEMO__PACKETS": "400M"}


@BOTH
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_a_signal_ends_the_job_cleanly(
    place: Path, job: tuple[str, ...], number: signal.Signals
) -> None:
    """What was read is stored or accounted for: all sums agree, and the line says the rest."""
    with running(job, place, **DEMO) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    (line,) = err.splitlines()
    assert line.startswith("netspectra: stopped: ")
    assert process.returncode == 3
    (stored,) = set(sums(place).values())
    assert stored[0] > 0
    assert f"stopped: {stored[0]:,} packets are stored" in line
    assert f"{stored[0]:,}" in out
    ledger = ask(
        place / "data",
        "SELECT toUInt64(sum(seen)) AS s, toUInt64(sum(delivered)) AS d FROM ledger GROUP BY hop",
    )
    assert {(int(row["s"]), int(row["d"])) for row in ledger} == {(stored[0], stored[0])}


@BOTH
def test_a_second_interrupt_ends_the_job_at_once(place: Path, job: tuple[str, ...]) -> None:
    """One line and exit code 130, whatever of the job is at work then."""
    with running(job, place, **DEMO) as process:
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        _, err = process.communicate(timeout=60)
    assert err == "netspectra: stopped\n"
    assert process.returncode == 130


def test_sql_answers_while_the_job_runs(place: Path) -> None:
    """Asked in the middle and afterwards; a second job on the store is refused meanwhile."""
    with running(RUN, place, **DEMO) as process:
        question = [*CLI, "sql", "--format", "jsonl", "SELECT sum(packets) AS n FROM flows"]
        early = json.loads(command(question, place, STORE="chdb:data").stdout)
        assert int(early["n"]) > 0
        refused = command(RUN, place, SOURCE="pcap:good.pcap", STORE="chdb:data")
        assert f"is in use by process {process.pid} " in complaint(refused)
        assert refused.returncode == 1
        denied = command([*CLI, "sql", "DROP TABLE flows"], place, STORE="chdb:data")
        assert denied.returncode == 1
        complaint(denied)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert sums(place)["flows"][0] >= int(early["n"])


FINGERPRINTS = {
    "flows": "window_start, src_addr, dst_addr, src_port, dst_port, ip_proto, packets, bytes, "
    "first_seen, last_seen, tcp_flags",
    "totals": "window_start, packets, bytes, records, late_packets, ipv4_packets",
    "ledger": "window_start, hop, seen, delivered",
    "distinct_counts": "window_start, horizon, task, estimate, lower, upper",
    "heavy_hitters": "window_start, horizon, task, ranked_by, rank, key_text, packets_lower, "
    "packets_upper, bytes_lower, bytes_upper, error",
}


def fingerprints(place: Path) -> list[dict[str, Any]]:
    """Number of rows and a digest of each table."""
    parts = [
        f"SELECT '{table}' AS t, count() AS n, sum(cityHash64({columns})) AS digest FROM {table}"
        for table, columns in FINGERPRINTS.items()
    ]
    return sorted(ask(place / "data", " UNION ALL ".join(parts)), key=lambda row: str(row["t"]))


LONG = ipv4_packets(np.random.default_rng(3), 1_600_000, span_ns=100 * SECOND, hosts=12)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Fingerprints of the long capture's tables after one run from end to end."""
    place = tmp_path_factory.mktemp("undisturbed")
    write_pcap(place / "long.pcap", LONG)
    done = command(MAIN, place, SOURCE="pcap:long.pcap", STORE="chdb:data")
    assert (done.returncode, done.stderr) == (0, "")
    return fingerprints(place)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_load_is_completed(
    tmp_path: Path, undisturbed: list[dict[str, Any]], number: signal.Signals
) -> None:
    """Stopped or killed in the middle, run again: row by row the tables of an undisturbed run."""
    write_pcap(tmp_path / "long.pcap", LONG)
    settings = {"SOURCE": "pcap:long.pcap", "STORE": "chdb:data"}
    with running(MAIN, tmp_path, **settings) as process:
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    before = sums(tmp_path)
    assert 0 < before["commits"][0] < len(LONG)
    if number != signal.SIGKILL:
        assert process.returncode == 3, err
        assert "run the same command again to go on" in err
        assert set(before.values()) == {before["commits"]}
    done = command(MAIN, tmp_path, **settings)
    assert "long.pcap was loaded in part: going on" in complaint(done)
    assert done.returncode == 0
    assert set(sums(tmp_path).values()) == {truth(LONG)}
    assert fingerprints(tmp_path) == undisturbed


@BOTH
def test_a_reader_that_has_enough_is_no_fault(place: Path, job: tuple[str, ...]) -> None:
    """With the summary cut off by `head`, the run still ends well and everything is stored."""
    line = f"{' '.join(job)} | head -n 2"
    done = subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", line],
        cwd=place,
        env=environment(SOURCE="pcap:good.pcap", STORE="chdb:data"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert set(sums(place).values()) == {truth(PACKETS)}


def test_demo_traffic_stays_out_of_a_server(tmp_path: Path) -> None:
    """Only when told does it go there; the password isn't repeated."""
    done = command(RUN, tmp_path, STORE="http://me:geheim@127.0.0.1:9/db")
    assert done.returncode == 2
    assert "NETSPECTRA_DEMO__ALLOW_SERVER=true" in complaint(done)
    assert "geheim" not in done.stderr


FAILING = """
import sys
from flows.errors import StoreError
from flows.storage.store import Store

def refuse(self, table, rows, token):
    raise StoreError("the store refused rows: told to by the test")

Store.insert_once = refuse
from flows.cli import main
sys.exit(main(["run", "-w", "2"]))
"""


def test_a_failure_ends_all_workers(place: Path) -> None:
    """Also one that has no partition, and would wait for ever for the others."""
    done = command(
        (sys.executable, "-c", FAILING), place, SOURCE=f"pcap:{place / 'good.pcap'}", STORE="chdb:x"
    )
    assert done.returncode == 1, done.stderr
    assert "told to by the test" in complaint(done)
