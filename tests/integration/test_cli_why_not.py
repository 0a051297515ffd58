"""netspectra alerts why-not: how far an address is from each rule, and why it doesn't fire."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.cli import main
from flows.sinks import alert_rows
from flows.storage.store import Store
from tests.support.alerts import alert
from tests.support.store_rows import T0_MS, address, rows

SCANNER = "10.0.2.15"
Ask = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETSPECTRA_STORE", f"chdb:{tmp_path}/store")
    return tmp_path


@pytest.fixture
def store(place: Path) -> Iterator[Store]:
    """A store in which 10.0.2.15 asks 60 hosts for port 23, and 9 for port 22 an hour before."""
    with Store.open(f"chdb:{place}/store", serve=False) as opened:
        put_scan(opened, 60, 23, T0_MS)
        put_scan(opened, 9, 22, T0_MS - 3_600_000)
        yield opened


def put_scan(store: Store, hosts: int, port: int, window_ms: int) -> None:
    flows = rows(
        "flows", tenant="default", window_start=window_ms, src_addr=address(SCANNER),
        dst_addr=[address(f"192.0.2.{n}") for n in range(hosts)], src_port=40_000, dst_port=port,
        ip_proto=6, eth_type=0x0800, tcp_flags=2, folded_flows=0,
    )  # fmt: skip
    store.insert("flows", flows, f"f{window_ms}")
    totals = rows("totals", tenant="default", window_start=window_ms)
    store.insert("totals", totals, f"t{window_ms}")


@pytest.fixture
def ask(store: Store, capsys: pytest.CaptureFixture[str]) -> Ask:
    def ask(*arguments: str) -> dict[str, dict[str, Any]]:
        assert main(["alerts", "why-not", *arguments, "--format", "json"]) == 0
        return {each["rule"]: each for each in json.loads(capsys.readouterr().out)}

    return ask


def settings(place: Path, text: str) -> None:
    (place / "netspectra.yaml").write_text(text)


def test_every_rule_is_asked(ask: Ask) -> None:
    """Each rule tells what it measures of the address, largest first, and that it is too little."""
    found = ask(SCANNER)
    scan = found["host_scan"]
    assert (scan["value"], scan["threshold"], scan["percent"]) == (60, 100, 60)
    assert scan["entity"] == f"src_addr={SCANNER} dst_port=23 ip_proto=6"
    assert scan["window"] == "22:10:00 + 202 of 600 s"
    assert scan["why"] == "it is below the threshold"
    assert next(iter(found)) == "host_scan"
    assert found["super_spreader"]["value"] == 60
    assert found["data_loss"]["why"] == "the rule is not about addresses"
    target = ask("192.0.2.1")
    assert target["fan_in"]["value"] == 1
    assert target["host_scan"]["value"] == 0
    assert list(ask("192.0.2.1", "--rule", "host_scan")) == ["host_scan"]


def test_another_time_and_one_rule(ask: Ask) -> None:
    """--at looks at the windows of that time, --rule at one rule."""
    found = ask(SCANNER, "--at", "2023-11-14T21:13:21", "--rule", "host_scan")
    assert list(found) == ["host_scan"]
    assert found["host_scan"]["value"] == 9
    assert found["host_scan"]["window"] == "21:10:00 + 600 s"


def test_for_people(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """The nearest rule comes first, with value, percentage, threshold and reason."""
    assert main(["alerts", "why-not", SCANNER]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[:3] == [
        "host_scan       60 hosts, 60 % of 100",
        f"{'':16}src_addr={SCANNER} dst_port=23 ip_proto=6, window 22:10:00 + 202 of 600 s",
        f"{'':16}it is below the threshold",
    ]


def test_reasons(ask: Ask, store: Store, place: Path) -> None:
    """A rule that is off, that leaves the address out, or whose alert is muted says so."""
    settings(
        place,
        """
networks:
  scanners: [10.0.2.0/24]
detectors:
  fan_in: {enabled: false}
  host_scan: {threshold: 50, for: 30s, unless: {dst_port: 22}}
  port_scan: {where: {src_net: [internal]}}
alerts:
  mutes: [{name: ours, rule: host_scan, where: {src_addr: 10.0.0.0/8}}]
rules:
  - {name: busy, task: top_src_addr, metric: packets, threshold: 60}
  - {name: outside, task: top_src_addr, metric: packets, threshold: 60, where: {src_addr: 8.8.8.8}}
""",
    )
    found = ask(SCANNER)
    assert found["fan_in"]["why"] == "the rule is switched off"
    assert found["super_spreader"]["why"] == "`unless` leaves it out: src_net scanners"
    assert found["super_spreader"]["value"] == 60
    assert found["outside"]["why"] == "`where` is about others: src_addr 8.8.8.8"
    assert found["host_scan"]["why"] == "it is over, but muted by ours; it must be over for 30s"
    assert found["busy"]["value"] == 60
    assert found["busy"]["why"].startswith("it is over; just over may be too little")
    entity = {"src_addr": SCANNER}
    store.insert("alerts_log", alert_rows.alerts_log([alert(rule="busy", entity=entity)]), "a")
    assert ask(SCANNER)["busy"]["why"].startswith("there is an alert: ")


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["10.0.2"], 2, "'10.0.2' is no address"),
        ([SCANNER, "--rule", "nothing"], 2, "there is no rule 'nothing'; rules are amplification"),
        (
            [SCANNER, "--at", "2020-01-01"],
            2,
            "is of 2023-11-14 21:13:20 to 2023-11-14 22:13:22 UTC",
        ),
        (
            ["2001:db8::1"],
            1,
            "2001:db8::1 is in no stored flow of tenant default, 2023-11-14 21:13:20 to 2023-11-14",
        ),
        ([SCANNER, "--tenant", "x"], 1, "no traffic of tenant x is in the store; --tenant names"),
    ],
)
def test_what_cant_be_asked(
    store: Store, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, why: str
) -> None:
    """What can't be answered is one line that says what is missing."""
    assert main(["alerts", "why-not", *arguments]) == code
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1


def test_an_empty_store(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A store without traffic, or without tables, is told how to get some."""
    assert main(["alerts", "why-not", SCANNER]) == 1
    assert "there is no store" in capsys.readouterr().err
    with Store.open(f"chdb:{place}/store", serve=False):
        assert main(["alerts", "why-not", SCANNER]) == 1
        assert "no traffic of tenant" in capsys.readouterr().err
