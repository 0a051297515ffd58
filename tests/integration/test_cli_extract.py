"""netspectra extract: an alert's packets out of the capture that was loaded, or what was kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scapy.utils import RawPcapNgReader

from flows.cli import main
from flows.detect.alert import Alert, Status
from flows.sinks import alert_rows
from flows.storage.store import Store
from probe.capture import CaptureFile
from probe.capture.extract import extract
from schemas.record import Packets
from tests.support.alerts import SECOND_NS, alert
from tests.support.jobs import CLI, command, ipv4_packets, write_pcap

START_NS = 1_700_000_000 * SECOND_NS
SCANNER, TARGETS = 99, 40

Run = Callable[..., tuple[int, str, str]]


def scan() -> Packets:
    """Other traffic, and from the fifth second on 10.0.0.99 that asks 40 hosts, which answer."""
    packets = ipv4_packets(np.random.default_rng(5), 2000)
    asked = ipv4_packets(np.random.default_rng(6), 2 * TARGETS, start_ns=START_NS + 5 * SECOND_NS,
                         span_ns=5 * SECOND_NS)  # fmt: skip
    asked["ip_proto"] = 6
    for ways, here, there in ((slice(0, None, 2), "src", "dst"), (slice(1, None, 2), "dst", "src")):
        asked[f"{here}_addr"][ways, 14:] = 0, SCANNER
        asked[f"{there}_addr"][ways, 14:] = [(1, n) for n in range(TARGETS)]
        asked[f"{there}_port"][ways] = 23
    packets = np.concatenate([packets, asked])
    return packets[np.argsort(packets["ts_ns"], kind="stable")]


SCAN = alert(
    entity={"src_addr": f"10.0.0.{SCANNER}", "dst_port": "23"}, probe="",
    first_seen_ns=START_NS + 4 * SECOND_NS, last_seen_ns=START_NS + 10 * SECOND_NS,
)  # fmt: skip


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a capture and the store that it was loaded into."""
    place = tmp_path_factory.mktemp("extract")
    write_pcap(place / "scan.pcap", scan())
    done = command([*CLI, "read", "--keep", "store", "scan.pcap"], place, timeout_s=280)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def place(loaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("NETSPECTRA_STORE", f"chdb:{loaded}/store")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    with Store.open(f"chdb:{loaded}/store", serve=False) as store:
        store.command("TRUNCATE TABLE alerts_log")


@pytest.fixture
def run(place: Path, loaded: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Stores an alert, extracts its packets; gives the exit code and what was said."""

    def run(raised: Alert, *arguments: str) -> tuple[int, str, str]:
        with Store.open(f"chdb:{loaded}/store", serve=False) as store:
            token = f"{place.name}/{raised.alert_id}"
            store.insert("alerts_log", alert_rows.alerts_log([raised]), token)
        code = main(["extract", raised.alert_id[:8], *arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def records(path: Path) -> Packets:
    with CaptureFile(path) as capture:
        return capture.read(10_000)


def of_scan(packets: Packets) -> Packets:
    scanner = (packets["src_addr"][:, 15] == SCANNER) | (packets["dst_addr"][:, 15] == SCANNER)
    return packets[scanner]


def test_packets_come_from_the_capture_that_was_loaded(run: Run, loaded: Path, place: Path) -> None:
    """Without --from the loaded file is read; questions and answers come out, and nothing else."""
    code, out, err = run(SCAN)
    assert (code, err) == (0, "")
    name = f"{SCAN.alert_id[:8]}.pcapng"
    assert out == (
        f"80 of 2,080 packets in 1 file, 2023-11-14 22:13:25 to 2023-11-14 22:13:29 UTC, "
        f"are in {name}\n"
    )
    found = records(place / name)
    assert found.tobytes() == of_scan(records(loaded / "scan.pcap")).tobytes()
    with RawPcapNgReader(str(place / name)) as reader:
        assert len(list(reader)) == 80


def test_time_and_ports_limit_what_is_taken(run: Run) -> None:
    """Only a second around the time that the alert was counted, and only its port, is taken."""
    short = alert(entity=SCAN.entity, first_seen_ns=START_NS + 8 * SECOND_NS, horizon_s=2,
                  last_seen_ns=START_NS + 8 * SECOND_NS, status=Status.resolved)  # fmt: skip
    times = of_scan(scan())["ts_ns"]
    near = (times >= START_NS + 7 * SECOND_NS) & (times <= START_NS + 9 * SECOND_NS)
    assert run(short, "-o", "short.pcapng")[1].startswith(f"{near.sum()} of 2,080 ")
    going_on = replace(short, alert_id="a" * 32, status=Status.firing)
    since = (times >= START_NS + 7 * SECOND_NS).sum()
    assert run(going_on, "-o", "on.pcapng")[1].startswith(f"{since} of 2,080 ")
    entity = {"src_addr": f"10.0.0.{SCANNER}", "dst_port": "22"}
    other = alert(entity=entity, first_seen_ns=SCAN.first_seen_ns)
    code, out, err = run(other, "-o", "none.pcapng")
    assert (code, out) == (1, "")
    assert err.startswith("netspectra: none of 2,080 packets in 1 file is of this alert (2023-11")
    assert not Path("none.pcapng").exists()


def test_what_led_to_an_alert_is_taken(run: Run, loaded: Path, place: Path) -> None:
    """Packets of its window from before it was first over its threshold are among those written."""
    late = replace(SCAN, first_seen_ns=START_NS + 8 * SECOND_NS)
    assert run(late, "-o", "late.pcapng")[1].startswith("80 of 2,080 ")
    whole = of_scan(records(loaded / "scan.pcap"))
    assert records(place / "late.pcapng").tobytes() == whole.tobytes()
    gone = replace(late, alert_id="b" * 32, tenant="gone")
    code, _, err = run(gone, "--from", str(loaded / "scan.pcap"), "-o", "gone.pcapng")
    assert (code, err) == (0, "")
    assert records(place / "gone.pcapng").tobytes() == whole.tobytes()


def test_members_of_a_group(run: Run) -> None:
    """Packets of a group are those of its listed members, and it is said how many there are."""
    members = tuple(f"dst_addr=10.0.1.{n} dst_port=23" for n in range(10))
    group = alert(entity={"dst_port": "23"}, members=members, member_count=40,
                  first_seen_ns=SCAN.first_seen_ns)  # fmt: skip
    code, out, _ = run(group)
    assert code == 0
    assert out.startswith("20 of 2,080 packets")
    assert "they are of 10 members of 40, the largest" in out


def test_packets_come_from_what_a_probe_kept(run: Run, loaded: Path, place: Path) -> None:
    """A directory of kept files is searched; what was deleted of it is told."""
    kept = place / "kept"
    kept.mkdir()
    packets = records(loaded / "scan.pcap")
    cuts = [START_NS + seconds * SECOND_NS for seconds in (0, 7, 14, 30)]
    for number in range(3):
        part = packets[(packets["ts_ns"] >= cuts[number]) & (packets["ts_ns"] < cuts[number + 1])]
        source = write_pcap(place / "part.pcap", part)
        name = f"netspectra-20231114T2213{20 + 7 * number}Z-{number:04}.pcapng"
        with (kept / name).open("wb") as file:
            extract([source], lambda found: np.ones(len(found), np.bool_), file)
    code, out, err = run(SCAN, "--from", str(kept), "-o", "a.pcapng")
    assert (code, err) == (0, "")
    assert out.startswith("80 of 2,080 packets in 3 files")
    assert records(place / "a.pcapng").tobytes() == of_scan(packets).tobytes()
    (kept / "netspectra-20231114T221320Z-0000.pcapng").unlink()
    code, out, err = run(SCAN, "--from", str(kept), "-o", "b.pcapng")
    assert code == 0
    assert "1 older file(s) have been deleted" in err
    assert int(out.split()[0]) == (of_scan(packets)["ts_ns"] >= cuts[1]).sum()


def test_what_cant_be_done_is_one_line(run: Run, loaded: Path, place: Path) -> None:
    """Nothing is overwritten; what is missing is said with the remedy."""
    (place / "there.pcapng").write_text("precious")
    code, out, err = run(SCAN, "-o", "there.pcapng")
    assert (code, out) == (1, "")
    assert err == "netspectra: there.pcapng is there already: name another file, or remove it\n"
    assert Path("there.pcapng").read_text() == "precious"
    assert "holds no file that `netspectra probe --write` made" in run(SCAN, "--from", ".")[2]
    assert "does not exist" in run(SCAN, "--from", "gone.pcap")[2]
    later = alert(entity=SCAN.entity, first_seen_ns=START_NS + 10**6 * SECOND_NS)
    assert "was not loaded from a capture file; name the files" in run(later)[2]
    about_probe = alert(entity={"probe": "p"}, first_seen_ns=SCAN.first_seen_ns)
    assert "about probe=p, which no packet shows" in run(about_probe)[2]
    capture = loaded / "scan.pcap"
    shutil.move(capture, loaded / "elsewhere.pcap")
    try:
        code, _, err = run(SCAN, "-o", "x.pcapng")
        assert (code, err.count("\n")) == (2, 1)
        assert "scan.pcap can't be read: No such file or directory; name the files" in err
        shutil.copy(loaded / "elsewhere.pcap", capture)
        with capture.open("ab") as file:
            file.write(b"x")
        err = run(SCAN, "-o", "x.pcapng")[2]
        assert "scan.pcap has changed since it was loaded" in err
        assert "can't be read to its end" in err
    finally:
        shutil.move(loaded / "elsewhere.pcap", capture)
