"""Who reads a store how: by its owner's socket, or from the directory itself."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flows.errors import StoreError, StoreOwned, UsageError
from flows.storage import server
from flows.storage.ownership import Ownership
from flows.storage.reader import SocketReader, open_for_reading
from flows.storage.server import socket_path
from flows.storage.store import Store
from tests.support.store_rows import rows

ROOT = Path(__file__).parent.parent.parent

READ = """
import sys
from flows.storage.reader import open_for_reading
with open_for_reading("chdb:" + sys.argv[1]) as reader:
    print(type(reader).__name__, reader.query("SELECT sum(packets) AS p FROM commits").to_pylist())
    print(reader.query_text("SELECT 1 AS x", "JSONEachRow"))
    try:
        reader.query_text("DROP TABLE commits", "TSV")
    except Exception as e:
        print(e)
"""


def read_elsewhere(directory: Path) -> list[str]:
    return subprocess.run(
        [sys.executable, "-c", READ, str(directory)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    ).stdout.splitlines()


def test_reading_is_the_same_while_a_job_runs_and_after(tmp_path: Path) -> None:
    """Another process reads by the socket, later from the directory, with the same answers."""
    with Store.open(f"chdb:{tmp_path}") as store:
        store.insert("commits", rows("commits", packets=42), "t")
        during = read_elsewhere(tmp_path)
    after = read_elsewhere(tmp_path)
    assert during[0] == "SocketReader [{'p': 42}]"
    assert after[0] == "EngineReader [{'p': 42}]"
    assert during[1:] == after[1:]
    assert during[1:] == [
        "b'{\"x\":1}\\n'",
        "Code: 164. DB::Exception: statements begin with SELECT, WITH, SHOW, DESCRIBE, EXPLAIN or "
        "EXISTS, not with drop; nothing else is served. (READONLY)",
    ]


def test_long_path(tmp_path: Path) -> None:
    """A directory whose path is too long for a socket is served from a short private one."""
    directory = tmp_path / ("d" * 60) / ("e" * 60)
    with Store.open(f"chdb:{directory}") as store:
        store.insert("commits", rows("commits", packets=42), "t")
        short = socket_path(directory)
        assert short.parent != directory
        assert stat.S_IMODE(short.parent.stat().st_mode) == 0o700
        assert read_elsewhere(directory)[0] == "SocketReader [{'p': 42}]"
    assert not short.parent.exists()
    assert not (directory / server.NOTE_NAME).exists()


def test_stale_socket_is_removed(tmp_path: Path) -> None:
    """What a killed owner left is replaced, and readers don't take it for an owner."""
    with Store.open(f"chdb:{tmp_path}") as store:
        store.insert("commits", rows("commits", packets=42), "t")
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / server.SOCKET_NAME))
    left.close()
    assert read_elsewhere(tmp_path)[0] == "EngineReader [{'p': 42}]"
    with Store.open(f"chdb:{tmp_path}"):
        assert read_elsewhere(tmp_path)[0] == "SocketReader [{'p': 42}]"
    assert not (tmp_path / server.SOCKET_NAME).exists()


def test_note_of_a_stranger_is_not_followed(tmp_path: Path) -> None:
    """A note that names a directory not made by us doesn't get it removed."""
    precious = tmp_path / "netspectra-precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    store = tmp_path / "store"
    store.mkdir()
    (store / server.NOTE_NAME).write_text(f"{precious}/sub/../../x/sock\n")
    server.remove_stale(store)
    assert (precious / "file").exists()
    assert not (store / server.NOTE_NAME).exists()


def test_no_store_to_read(tmp_path: Path) -> None:
    """Reading makes no store, but says how to."""
    with pytest.raises(StoreError, match="netspectra run"):
        open_for_reading(f"chdb:{tmp_path}/none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(UsageError):
        open_for_reading("none")


def test_reading_does_not_migrate(tmp_path: Path) -> None:
    """A store without its schema is refused with the remedy, and let go."""
    with Store.open(f"chdb:{tmp_path}", migrated=False) as store:
        store.command("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a")
    for _ in range(2):
        with pytest.raises(StoreError, match="netspectra migrate"):
            open_for_reading(f"chdb:{tmp_path}")
    with Store.open(f"chdb:{tmp_path}"):
        pass


def test_reader_waits_for_an_owner_that_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that is locked without a socket is waited for, then refused."""
    with Store.open(f"chdb:{tmp_path}"):
        pass
    monkeypatch.setattr("flows.storage.reader._OWNER_START_S", 0.3)
    lock = Ownership.take(tmp_path, "starting")
    try:
        with pytest.raises(StoreOwned, match=str(os.getpid())):
            open_for_reading(f"chdb:{tmp_path}")
    finally:
        lock.release()
    with open_for_reading(f"chdb:{tmp_path}") as reader:
        assert reader.query_text("SELECT 1", "TSV") == b"1\n"


def test_owner_that_ends_is_told(tmp_path: Path) -> None:
    """A reader whose owner has gone says to run again."""
    reader = SocketReader(tmp_path / "gone.sock")
    with pytest.raises(StoreError, match="run the command again"):
        reader.query_text("SELECT 1", "TSV")
