"""``netspectra backtest``: rules tried on captures, judged by labels."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from flows.cli import main
from probe.synthetic.scenario import HostScan, ManyConnections, Scenario, Threshold, lines
from tests.support.jobs import write_pcap

S = 10**9
SITE = Scenario(
    seed=3,
    duration_s=60,
    background=None,
    attacks=(
        HostScan(start_s=4, hosts_per_second=20, duration_s=20),
        HostScan(start_s=4, hosts_per_second=2, duration_s=40),
        ManyConnections(duration_s=40),
    ),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("backtest")
    (directory / "tmp").mkdir()
    write_pcap(directory / "site.pcap", np.concatenate(list(SITE.chunks())))
    limits = {"host_scan": Threshold(100, 600 * S)}
    (directory / "labels.jsonl").write_text("\n".join(lines(SITE, limits)))
    (directory / "strict.yaml").write_text("detectors: {host_scan: {threshold: 30}}\n")
    (directory / "wide.yaml").write_text("detectors: {port_scan: {enabled: false}}\n")
    (directory / "wrong.yaml").write_text("detectors: {host_scan: {threshold: many}}\n")
    return directory


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(tempfile, "tempdir", str(place / "tmp"))


def backtest(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What it prints, given that it succeeds."""
    code = main(["backtest", *arguments])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


def test_labels_give_recall_and_precision(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The fast scan is found in its pane; the slow one, under the threshold, is none."""
    before = set(place.iterdir())
    out = backtest(
        capsys, "--source", "pcap:site.pcap", "--labels", "labels.jsonl", "--format", "json"
    )
    report = json.loads(out)["the settings"]
    assert report["packets"] == SITE.packets
    assert report["end_ns"] - report["start_ns"] <= 62 * S
    scan = report["rules"]["host_scan"]
    assert (scan["alerts"], scan["medium_and_above"], scan["groups"]) == (1, 1, 0)
    assert (scan["recall"], scan["precision"], scan["delays_panes"]) == (1.0, 1.0, [0])
    assert report["rules"]["port_scan"]["alerts"] == 0
    slow = SITE.labels[1].entity
    assert scan["near"] == {" ".join(f"{k}={v}" for k, v in slow.items()): pytest.approx(0.8)}
    assert not list((place / "tmp").iterdir())
    assert set(place.iterdir()) == before


def test_two_files_of_rules_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    """Each rule has a row for each file; one that is off in a file says so."""
    out = backtest(
        capsys, "--rules", "strict.yaml", "--against", "wide.yaml", "--source", "pcap:site.pcap",
        "--labels", "labels.jsonl",
    )  # fmt: skip
    rows = [line.split() for line in out.splitlines()]
    scans = {row[1]: row[2:] for row in rows if row[:1] == ["host_scan"] and len(row) > 4}
    assert scans["strict.yaml"][:2] == ["2", "2"]
    assert scans["wide.yaml"][:2] == ["1", "1"]
    assert ["port_scan", "wide.yaml", "off"] in rows
    assert "wrong: src_addr=10.200.1." in out
    assert "host_scan (wide.yaml), nearly" in out
    assert "host_scan (strict.yaml), nearly" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rules", "wrong.yaml"), "detectors.host_scan.threshold = many in wrong.yaml: wanted"),
        (("--rules", "none.yaml"), "there is no file none.yaml"),
        (("--source", "pcap:none.pcap"), "none.pcap"),
        (("--source", "interface:lo"), "give --source pcap:FILE or kafka"),
        (("--source", "pcap:site.pcap", "--since", "2h"), "--since is for Kafka"),
        (("--source", "kafka", "--since", "soon"), "--since soon: wanted a time"),
        (("--source", "pcap:site.pcap", "--labels", "wrong.yaml"), "wrong.yaml line 1 is not JSON"),
        (("--source", "pcap:site.pcap", "--labels", "none"), "can't read none"),
        (("--rules", "wide.yaml", "--against", "wide.yaml"), "wanted another file than --rules"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    """Exit code 2, or 1 for a capture that isn't there, and no traceback."""
    code = main(["backtest", *arguments])
    out, err = capsys.readouterr()
    assert code == (1 if "none.pcap" in arguments[1] else 2), err
    (line,) = err.splitlines()
    assert message in line
    assert not out
