"""Records kept by the writing process: round trips, a bounded queue, kills, full disks."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from fastavro.read import LOGICAL_READERS

from probe.errors import KeepError
from probe.keep import Keeper, KeepOptions, open_keeper
from probe.keep.slots import SLOT_RECORDS, SLOTS
from probe.live import CaptureOptions
from schemas import readers
from schemas.record import PACKET, Packets
from tests.support.processes import gone, stopped, until

MIB = 1 << 20
CAPTURE = CaptureOptions(interfaces=("eth0",))
INTERFACES = {2: "eth0"}
FIELDS = PACKET.names or ()

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to act as someone else")


@pytest.fixture(autouse=True)
def not_by_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUDO_UID", "SUDO_GID"):
        monkeypatch.delenv(name, raising=False)


def some(count: int, first: int = 0) -> Packets:
    """Records that are all different and tell their number."""
    packets = np.zeros(count, PACKET)
    numbers = np.arange(first, first + count)
    packets["ts_ns"] = 1_700_000_000_000_000_000 + numbers
    packets["src_addr"][:, 10:12] = packets["dst_addr"][:, 10:12] = 255
    packets["src_addr"][:, 12:] = numbers.astype(">u4").view(np.uint8).reshape(-1, 4)
    packets["if_index"], packets["packets"], packets["wire_bytes"] = 2, 1, 60
    packets["ip_proto"], packets["dst_port"] = 6, 443
    return packets


def keeper(path: Path, kind: Any = "avro", **changed: Any) -> Keeper:
    return open_keeper(KeepOptions(path, kind, **changed), CAPTURE, INTERFACES)


def files(path: Path) -> list[Path]:
    return sorted(path.glob("netspectra-*"), key=lambda file: file.name[28:])


def read(path: Path) -> Packets:
    """Records of an Avro file up to a cut, by fastavro."""
    rows: list[bytes] = []
    with path.open("rb") as file, contextlib.suppress(EOFError):
        rows.extend(b"".join(row[name] for name in FIELDS) for row in fastavro.reader(file))
    return np.frombuffer(b"".join(rows), PACKET)


def read_all(path: Path) -> Packets:
    return np.concatenate([np.empty(0, PACKET), *map(read, files(path))])


def test_avro_round_trip(tmp_path: Path) -> None:
    """Records of any number come back byte for byte, in order, from a file that explains itself."""
    packets = some(20_001)
    with keeper(tmp_path / "new" / "folder") as keep:
        for start, stop in ((0, 1), (1, 1), (1, 20_000), (20_000, 20_001)):
            keep.offer(packets[start:stop])
    (file,) = files(tmp_path / "new" / "folder")
    assert file.name == "netspectra-20231114T221320Z-0000.avro"
    assert read(file).tobytes() == packets.tobytes()
    with file.open("rb") as opened:
        metadata = fastavro.reader(opened).metadata
    assert metadata["netspectra.interfaces"] == '{"2": "eth0"}'
    counts = keep.counts()
    assert (counts.offered, counts.kept, counts.skipped) == (20_001, 20_001, {})
    assert counts.kept_bytes == file.stat().st_size
    assert keep.trouble is None


def test_avro_with_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With our readers registered fastavro shows addresses and numbers."""
    monkeypatch.setattr("fastavro.read.LOGICAL_READERS", dict(LOGICAL_READERS))
    before = dict(LOGICAL_READERS)
    readers.register()
    try:
        with keeper(tmp_path) as keep:
            keep.offer(some(3))
        with files(tmp_path)[0].open("rb") as file:
            rows: list[Any] = list(fastavro.reader(file))
    finally:
        LOGICAL_READERS.clear()
        LOGICAL_READERS.update(before)
    assert [str(row["src_addr"]) for row in rows] == ["0.0.0.0", "0.0.0.1", "0.0.0.2"]
    assert {row["dst_port"] for row in rows} == {443}


def test_text_round_trip(tmp_path: Path) -> None:
    """Every record is a line, in order, after one line that names the columns."""
    with keeper(tmp_path, "text") as keep:
        keep.offer(some(10_000))
    (file,) = files(tmp_path)
    lines = file.read_text().splitlines()
    assert lines[0].startswith("# time interface direction source > destination ")
    assert len(lines) == 10_001
    assert lines[258] == (
        "2023-11-14T22:13:20.000000257Z eth0 - 0.0.1.1:0 > 0.0.0.0:443 tcp - 60 1 - - 0 0 -"
    )
    assert lines[1:] == sorted(lines[1:])


def test_rotation_and_limit(tmp_path: Path) -> None:
    """Old files go, the directory never takes more than the limit, what stays is the newest."""
    count = 200_000
    with keeper(tmp_path, limit_bytes=3 * MIB, rotate_bytes=MIB) as keep:
        for first in range(0, count, 8000):
            keep.offer(some(8000, first))
            with stopped(keep.pid):
                assert sum(file.stat().st_size for file in files(tmp_path)) <= 3 * MIB
    counts = keep.counts()
    assert counts.kept == count
    assert counts.deleted_files == counts.files - len(files(tmp_path)) > 0
    assert all(file.stat().st_size <= MIB for file in files(tmp_path))
    left = read_all(tmp_path)
    assert len(left) > 20_000
    assert left.tobytes() == some(len(left), count - len(left)).tobytes()


@pytest.mark.parametrize("kind", ["avro", "text"])
def test_offer_never_blocks(tmp_path: Path, kind: str) -> None:
    """While the writer stands still batches are taken up to the bound, then skipped whole."""
    with keeper(tmp_path, kind) as keep:
        batch = some(SLOT_RECORDS)
        with stopped(keep.pid):
            for _ in range(SLOTS + 10):
                keep.offer(batch)
            keep.offer(some(3))
        assert keep.counts().skipped == {"queue_full": 10 * SLOT_RECORDS + 3}
        until(lambda: keep.counts().kept == SLOTS * SLOT_RECORDS)
        keep.offer(some(5))
    counts = keep.counts()
    assert counts.kept == SLOTS * SLOT_RECORDS + 5
    assert counts.offered == counts.kept + sum(counts.skipped.values())


def test_writer_killed(tmp_path: Path) -> None:
    """After a kill -9 offering goes on, all is counted, and the file has whole records."""
    with keeper(tmp_path) as keep:
        for first in range(0, 80_000, 8000):
            keep.offer(some(8000, first))
        until(lambda: keep.counts().kept > 20_000)
        os.kill(keep.pid, signal.SIGKILL)
        until(lambda: keep.trouble is not None)
        for _ in range(100):
            keep.offer(some(8000))
        assert keep.trouble == (
            f"the process that writes to {tmp_path} ended (SIGKILL): nothing is kept"
        )
        counts = keep.counts()
    assert counts.offered == 880_000
    assert counts.kept + sum(counts.skipped.values()) == counts.offered
    assert counts.skipped["writer_ended"] > 0
    left = read_all(tmp_path)
    assert len(left) >= counts.kept
    assert left.tobytes() == some(len(left)).tobytes()


PARENT = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[2:]
import numpy as np
from probe.keep import KeepOptions, open_keeper
from probe.live import CaptureOptions
from schemas.record import PACKET
keep = open_keeper(KeepOptions(Path(sys.argv[1]), "avro"), CaptureOptions(interfaces=()), {})
packets = np.zeros(8000, PACKET)
packets["wire_bytes"] = np.arange(8000)
for _ in range(5):
    keep.offer(packets)
print(keep.pid, flush=True)
time.sleep(1000)
"""


def test_parent_killed(tmp_path: Path) -> None:
    """A killed probe leaves no process behind, and all that it offered is in the file."""
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", PARENT, str(tmp_path), root]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    until(lambda: gone(pid))
    left = read_all(tmp_path)
    assert len(left) == 40_000
    assert (left["wire_bytes"].reshape(5, 8000) == np.arange(8000)).all()
    with keeper(tmp_path) as keep:  # and the directory is free again
        keep.offer(some(1))


def test_signals_are_the_probes(tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM don't stop the writer: it ends when the probe is done."""
    with keeper(tmp_path) as keep:
        assert os.getpgid(keep.pid) != os.getpgid(0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(keep.pid, number)
        keep.offer(some(100))
    assert keep.counts().kept == 100


def test_disk_full(tmp_path: Path) -> None:
    """When a file can't grow, keeping stops and says so; the records before are there."""
    with keeper(tmp_path) as keep:
        resource.prlimit(keep.pid, resource.RLIMIT_FSIZE, (MIB, MIB))
        for first in range(0, 80_000, 2000):
            keep.offer(some(2000, first))
        until(lambda: sum(keep.counts().skipped.values()) + keep.counts().kept == 80_000)
        assert keep.trouble is not None
        assert keep.trouble.startswith(f"{tmp_path} takes no more (File too large)")
        counts = keep.counts()
    assert counts.skipped == {"disk_full": 80_000 - counts.kept}
    (file,) = files(tmp_path)
    assert MIB - 2100 * 88 < file.stat().st_size <= MIB
    assert read(file).tobytes() == some(counts.kept).tobytes()


SMALL_DISK = """
mount -t tmpfs -o size=2m,mode=755 none "$1" && exec "$2" - "$1" "$3" <<'END'
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
import numpy as np
import fastavro
from probe.keep import KeepOptions, open_keeper
from probe.live import CaptureOptions
from schemas.record import PACKET
with open_keeper(KeepOptions(Path(sys.argv[1]), "avro"), CaptureOptions(interfaces=()), {}) as keep:
    for _ in range(30):
        keep.offer(np.ones(2000, PACKET))
counts = keep.counts()
(path,) = Path(sys.argv[1]).iterdir()
with path.open("rb") as file:
    readable = sum(1 for _ in fastavro.reader(file))
print(counts.offered, counts.kept, counts.skipped["disk_full"], readable, keep.trouble)
END
"""


@needs_root
def test_small_disk(tmp_path: Path) -> None:
    """On a disk of 2 MiB all that fits is kept and readable, the rest is counted."""
    root = str(Path(__file__).parents[3])
    command = ["unshare", "--mount", "sh", "-c", SMALL_DISK, "sh", str(tmp_path)]
    done = subprocess.run(
        [*command, sys.executable, root], capture_output=True, text=True, check=False
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no private mounts here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    offered, kept, full, readable, trouble = done.stdout.split(maxsplit=4)
    assert (int(offered), int(kept) + int(full)) == (60_000, 60_000)
    assert readable == kept
    assert int(kept) * 88 > MIB
    assert "No space left on device" in trouble


def test_close_twice_and_offer_after(tmp_path: Path) -> None:
    """Closing again does nothing; what is offered then is counted as not kept."""
    keep = keeper(tmp_path)
    keep.close()
    keep.close()
    keep.offer(some(2))
    assert keep.counts().skipped == {"writer_ended": 2}
    assert files(tmp_path) == []
    assert keep.trouble is None


def test_closing_a_writer_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that doesn't answer is killed, and what it held is counted."""
    monkeypatch.setattr("probe.keep.keeper._CLOSE_SECONDS", 0.1)
    keep = keeper(tmp_path)
    os.kill(keep.pid, signal.SIGSTOP)
    keep.offer(some(7))
    keep.close()
    assert gone(keep.pid)
    assert keep.counts().skipped == {"writer_ended": 7}


def test_directory_of_another(tmp_path: Path) -> None:
    """Two probes don't share a directory, whose limit they would both break."""
    with keeper(tmp_path), pytest.raises(KeepError, match="another probe keeps its files in"):
        keeper(tmp_path, "text")


def test_no_directory(tmp_path: Path) -> None:
    """A path that is a file is refused in one line."""
    (tmp_path / "file").touch()
    with pytest.raises(KeepError, match=r"can't hold files: (File exists|Not a directory); choose"):
        keeper(tmp_path / "file")


def test_unknown_interface(tmp_path: Path) -> None:
    """Frames of an interface that isn't there can't be kept."""
    with pytest.raises(KeepError, match=r"^frames of netspectra0 .*(can't be read|CAP_NET_RAW)"):
        open_keeper(KeepOptions(tmp_path), CAPTURE, {77: "netspectra0"})


@needs_root
def test_directory_that_may_not_be_written(tmp_path: Path) -> None:
    """Root's powers aren't used: the directory's owner must be allowed to write."""
    tmp_path.chmod(0o500)
    with pytest.raises(KeepError, match="can't be written by its owner"):
        keeper(tmp_path)


@needs_root
def test_privileges(tmp_path: Path) -> None:
    """The writer is the directory's owner, without capabilities, and so are its files."""
    os.chown(tmp_path, 65_534, 65_534)
    with keeper(tmp_path) as keep:
        text = Path(f"/proc/{keep.pid}/status").read_text()
        status = dict(line.split(":\t", 1) for line in text.splitlines())
        keep.offer(some(1))
    assert status["Uid"].split() == ["65534"] * 4
    assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Amb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert files(tmp_path)[0].stat().st_uid == 65_534


@needs_root
def test_new_directory_of_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new directory and its files belong to the user who called sudo."""
    monkeypatch.setenv("SUDO_UID", "65534")
    monkeypatch.setenv("SUDO_GID", "65534")
    tmp_path.chmod(0o755)
    with keeper(tmp_path / "new") as keep:
        keep.offer(some(1))
    assert (tmp_path / "new").stat().st_uid == files(tmp_path / "new")[0].stat().st_uid == 65_534
    assert tmp_path.stat().st_uid == 0


def test_inherits_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer has its pipes, two pieces of memory and the directory; no file, no setting."""
    monkeypatch.setenv("NETSPECTRA_LLM__API_KEY", "secret")
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        with keeper(tmp_path / "files") as keep:
            assert b"NETSPECTRA_" not in Path(f"/proc/{keep.pid}/environ").read_bytes()
            folder = Path(f"/proc/{keep.pid}/fd")
            opened = {int(entry.name): str(entry.readlink()) for entry in folder.iterdir()}
    others = sorted(name for number, name in opened.items() if number > 2)
    memory = [f"/memfd:netspectra-keep{name} (deleted)" for name in ("", "-records")]
    assert {name for name in others if not name.startswith("pipe:")} == {
        *memory,
        str(tmp_path / "files"),
    }
    assert len([name for name in others if name.startswith("pipe:")]) == 1
