"""netspectra alerts: what is shown, what is done, and what is refused in one line."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.cli import main
from flows.detect.alert import Severity, Status
from flows.notify.outbox import Delivery, record
from flows.sinks import alert_rows
from flows.storage import alerts
from flows.storage.store import Store
from tests.support.alerts import SECOND_NS, T0_NS, alert
from tests.support.store_rows import address, rows

Run = Callable[..., str]

HOSTILE = "evil\x1b[2J\nname"
SCAN = alert(
    evidence_sql="SELECT uniqExact(dst_addr) AS value FROM flows\nWHERE dst_port = 23",
    expected="1 to 9 hosts",
    members=("src_addr=10.0.2.15 dst_port=23",),
)
FLOOD = alert(
    rule="syn_flood",
    entity={"dst_addr": "2001:db8::1", "dst_port": "443"},
    severity=Severity.critical,
    value=123_456.0,
    lower=123_456.0,
    upper=123_456.0,
    unit="packets/s",
    first_seen_ns=T0_NS + 60 * SECOND_NS,
)
GROUP = alert(
    rule="fan_in",
    entity={},
    entity_text="214 targets",
    member_count=214,
    status=Status.muted,
    muted_by="backup",
    severity=Severity.info,
)
OVER = alert(
    rule="volume",
    title=HOSTILE,
    entity={"probe": HOSTILE},
    status=Status.resolved,
    event="resolved",
    resolved_at_ns=T0_NS + 99 * SECOND_NS,
    evidence_sql="",
    evidence=({HOSTILE: HOSTILE},),
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An open store with four alerts, which the settings name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETSPECTRA_STORE", f"chdb:{tmp_path}/store")
    with Store.open(f"chdb:{tmp_path}/store", serve=False) as opened:
        table = alert_rows.alerts_log([SCAN, FLOOD, GROUP, OVER])
        opened.insert("alerts_log", table, "t")
        yield opened


@pytest.fixture
def run(store: Store, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `netspectra alerts`; gives what it says on stdout, or the one line on stderr."""

    def run(*arguments: str, code: int = 0) -> str:
        assert main(["alerts", *arguments]) == code
        shown = capsys.readouterr()
        if code in (0, 1) and not shown.err:
            return shown.out
        assert shown.out == ""
        assert shown.err.count("\n") == 1
        return shown.err

    return run


def test_list_is_a_table_that_fits(run: Run) -> None:
    """Open alerts, the worst first, each named by eight digits, within 100 columns."""
    text = run("list")
    assert max(map(len, text.splitlines())) <= 100
    lines = [line.split() for line in text.splitlines()[1:]]
    found = [line for line in lines if len(line) > 6]
    assert "→ 2001:db8::1" in text
    assert "10.0.2.15 → :23" in text
    assert [line[0] for line in found] == [a.alert_id[:8] for a in (FLOOD, SCAN, GROUP)]
    assert found[0][1:4] == ["critical", "firing", "syn_flood"]
    assert "123k" in text
    assert "214 (206-222)" in text
    assert "2023-11-14 22:13" in text
    assert run() == text


def test_list_says_what_it_leaves_out(run: Run) -> None:
    """A short list tells how many more there are; an empty one what to try."""
    assert "… and 2 more; -n 3 lists them all" in run("list", "-n", "1")
    assert run("list", "--rule", "nothing") == ("no open alerts; --all lists those that are over\n")
    assert run("list", "--all", "--tenant", "nobody") == "no alerts\n"


def test_list_for_programs(run: Run) -> None:
    """JSON, JSON lines and CSV have the same rows with whole ids and ISO times."""
    found = json.loads(run("list", "--all", "--format", "json"))
    assert [row["rule"] for row in found] == ["syn_flood", "volume", "host_scan", "fan_in"]
    assert found[0]["alert_id"] == FLOOD.alert_id
    assert found[0]["first_seen"] == "2023-11-14T22:14:20.000+00:00"
    assert found[0]["resolved_at"] is None
    lines = run("list", "--all", "--format", "jsonl").splitlines()
    assert [json.loads(line) for line in lines] == found
    table = list(csv.DictReader(io.StringIO(run("list", "--all", "--format", "csv"))))
    assert [row["alert_id"] for row in table] == [row["alert_id"] for row in found]
    assert run("list", "--rule", "nothing", "--format", "jsonl") == ""


def test_list_is_filtered(run: Run) -> None:
    """Severity means this one and worse; times are those of the traffic."""

    def rules(*arguments: str) -> set[str]:
        return {
            json.loads(line)["rule"]
            for line in run("list", *arguments, "--format", "jsonl").splitlines()
        }

    assert rules("--severity", "medium") == {"syn_flood", "host_scan"}
    assert rules("--from", "2023-11-14T22:14:00") == {"syn_flood"}
    assert rules("--to", "2023-11-14 23:13:40+01:00") == {"host_scan", "fan_in"}
    assert rules("--since", "1h") == set()
    assert "give one" in run("list", "--since", "1h", "--from", "2023-11-14", code=2)
    assert "wanted a duration" in run("list", "--since", "soon", code=2)
    assert "wanted a time" in run("list", "--from", "soon", code=2)


def test_show_tells_all(run: Run, store: Store) -> None:
    """Life, measurement, members, evidence, SQL, people and deliveries, and what to do next."""
    updated = replace(SCAN, revision=2, event="updated", value=300.0, upper=310.0)
    store.insert("alerts_log", alert_rows.alerts_log([updated]), "t2")
    flow = {"src_addr": "10.0.2.15", "dst_addr": "192.0.2.1", "packets": "7"}
    store.insert("alert_evidence", alert_rows.evidence(SCAN.alert_id, 1, [flow]), "e")
    sent = Delivery(SCAN.alert_id, 1, "ops", "delivered", 2, "200 OK", T0_NS // 10**6)
    record(store, [sent])
    run("ack", SCAN.alert_id[:8], "--by", "ann", "--comment", "asking")
    text = run("show", SCAN.alert_id[:8].upper())
    for part in (
        SCAN.title,
        f"{SCAN.alert_id} (revision 2)",
        "medium, firing",
        "T1046 (MITRE ATT&CK)",
        "over 600 s",
        "300 hosts, between 206.5 and 310 (0.95 sure)",
        "100 hosts",
        "1 to 9 hosts",
        SCAN.summary,
        "fired: 214 at 2023-11-14 22:13:30",
        "updated: 300",
        "  src_addr=10.0.2.15 dst_port=23\n",
        "  hosts  answered\n  214    3\n",
        "  10.0.2.15  192.0.2.1  7\n",
        SCAN.evidence_sql,
        "acknowledged by ann: asking",
        "revision 1 to ops: delivered",
        "after 2 tries: 200 OK",
        f"netspectra extract {SCAN.alert_id[:8]}",
    ):
        assert part in text, part


def test_show_for_programs(run: Run) -> None:
    """As JSON an alert has all of it, revisions included."""
    found = json.loads(run("show", FLOOD.alert_id, "--json"))
    assert found["entity"] == {"dst_addr": "2001:db8::1", "dst_port": "443"}
    assert found["last_seen"] == "2023-11-14T22:14:30.000+00:00"
    assert [each["event"] for each in found["revisions"]] == ["fired"]
    assert found["ack_at"] is None


def test_text_off_the_wire_is_harmless(run: Run) -> None:
    """Control characters in names are shown, not obeyed."""
    for text in (run("list", "--all"), run("show", OVER.alert_id)):
        assert "\x1b" not in text
        assert "evil\\x1b" in text


def test_alert_is_named_by_its_id(run: Run) -> None:
    """An id that is none, or nobody's, is refused by every command in one line."""
    for name, *options in (
        ("show",),
        ("ack",),
        ("close", "--verdict", "benign"),
        ("mute", "--for", "2h"),
        ("sql",),
    ):
        assert "no alert id begins with 0123abcd" in run(name, "0123abcd", *options, code=2)
        assert "is no alert id" in run(name, "x'y", *options, code=2)


def test_ack_and_close(run: Run, store: Store) -> None:
    """Who did what with an alert is kept; a closed one is no longer open."""
    assert run("ack", FLOOD.alert_id[:8], "--by", "ann") == f"acknowledged: {FLOOD.title}\n"
    run("close", FLOOD.alert_id[:8], "--by", "bob", "--verdict", "false_positive")
    row = alerts.one(store.query, FLOOD.alert_id)
    assert (row["ack_by"], row["closed_by"], row["verdict"]) == ("ann", "bob", "false_positive")
    assert row["status"] == "resolved"
    assert "syn_flood" not in run("list")
    assert "--verdict" in run("close", FLOOD.alert_id, code=2)
    assert "String should have at most 100" in run("ack", FLOOD.alert_id, "--by", "x" * 101, code=2)


def test_who_acts_by_default(run: Run, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --by it is the login name."""
    monkeypatch.setenv("LOGNAME", "carol")
    run("ack", SCAN.alert_id)
    assert [each.done_by for each in alerts.actions(store.query)] == ["carol"]


def test_mute_an_alert_and_take_it_back(run: Run, store: Store) -> None:
    """A mute by id is about the rule and entity of the alert, for as long as was said."""
    now_ms = time.time_ns() // 10**6
    said = run("mute", SCAN.alert_id[:8], "--for", "2h", "--reason", "ours", "--by", "ann")
    (mute,) = alerts.mutes(store.query, now_ms)
    assert f"unmute {mute.mute_id}" in said
    assert (mute.rule, mute.tenant, mute.made_by) == ("host_scan", "default", "ann")
    assert mute.conditions == {"src_addr": ("10.0.2.15",), "dst_port": ("23",)}
    assert now_ms + 7_199_000 < mute.until_ms < now_ms + 7_260_000
    listed = run("mutes")
    assert "rule host_scan src_addr=10.0.2.15 dst_port=23 tenant default" in listed
    assert "by ann: ours" in listed
    assert json.loads(run("mutes", "--format", "json"))[0]["reason"] == "ours"
    assert run("unmute", mute.mute_id[:4]) == "taken back: the mute of ann\n"
    assert run("mutes") == "no mutes but those that the settings may name\n"
    assert "no mute id begins" in run("unmute", mute.mute_id, code=2)


def test_mute_by_rule_and_entity(run: Run, store: Store) -> None:
    """Ranges, addresses and names of networks are taken, several options hold together."""
    where = ("src_addr=internal,192.0.2.7", "dst_port=443", "src_addr=2001:DB8::/32")
    named = [part for each in where for part in ("--where", each)]
    run("mute", "--rule", "host_scan", *named, "--until", "2200-01-01")
    (mute,) = alerts.mutes(store.query, 0)
    assert mute.conditions == {
        "src_addr": ("internal", "192.0.2.7", "2001:db8::/32"),
        "dst_port": ("443",),
    }
    run("mute", "--where", "addr=10.0.0.1")
    assert "for ever" in run("mutes")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "give either the ID"),
        ([SCAN.alert_id, "--rule", "host_scan"], "give either the ID"),
        (["--rule", "host_scam"], "there is no rule 'host_scam'; rules are amplification"),
        (["--where", "src_addr"], "wanted FIELD=VALUE"),
        (["--where", "colour=red"], "no such field; fields are addr"),
        (["--where", "src_addr=10.0.0.1/8"], "did you mean 10.0.0.0/8?"),
        (["--where", "src_addr=printers"], "an address, a range or a name of `networks`"),
        (["--rule", "fan_in", "--for", "2h", "--until", "2200-01-01"], "give one"),
        (["--rule", "fan_in", "--until", "2020-01-01"], "it would be over already"),
        ([GROUP.alert_id], "214 targets have nothing in common that could be muted"),
    ],
)
def test_mutes_that_make_no_sense_are_refused(
    run: Run, store: Store, arguments: list[str], why: str
) -> None:
    """A mute that would mean nothing, or more than was meant, isn't made."""
    assert why in run("mute", *arguments, code=2)
    assert not alerts.mutes(store.query, 0)


def test_sql_is_compared_with_the_claim(run: Run, store: Store) -> None:
    """The statement can be copied; run, it bears the alert out or not."""
    assert run("sql", SCAN.alert_id) == f"{SCAN.evidence_sql}\n"
    said = run("sql", SCAN.alert_id, "--run", code=1)
    assert "the store says 0 hosts; the alert claims 214 (206.5 to 221.5): outside" in said
    targets = [address(f"192.0.2.{n}") for n in range(210)]
    store.insert("flows", rows("flows", dst_addr=targets, dst_port=23), "f")
    assert "the store says 210 hosts" in run("sql", SCAN.alert_id, "--run")
    assert "rule volume has no statement" in run("sql", OVER.alert_id, code=1)


def test_without_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is no store the remedy is said, and none is made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETSPECTRA_STORE", f"chdb:{tmp_path}/none")
    for arguments in (["list"], ["show", "00"], ["mutes"], ["mute", "--rule", "fan_in"]):
        assert main(["alerts", *arguments]) == 1
        assert "netspectra run" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
