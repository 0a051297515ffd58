"""The report of stores made by hand: hostile names, losses, other owners, captures."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from flows.report import page
from flows.report.questions import ALERTS_IN_FULL, Questions
from flows.report.scope import Scope
from flows.report.words import completeness, remarks, what_it_is
from flows.storage.store import Store
from tests.support.jobs import CLI, command, ipv4_packets, write_pcap
from tests.support.markup import Shape

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='x()'>\u202eevil\x1b[31m"


def insert(store: Store, table: str, **columns: object) -> None:
    names, values = ", ".join(columns), ", ".join(str(value) for value in columns.values())
    store.command(f"INSERT INTO {table} ({names}) VALUES ({values})")


def text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def fill(store: Store, *, name: str = "p", folded: int = 0, lost: int = 0) -> None:
    """Two flows, two years apart, and what belongs to them."""
    for year in (1, 3):
        start = f"toDateTime64({year} * 31536000, 3, 'UTC')"
        seen = f"toDateTime64({year} * 31536000, 9, 'UTC')"
        of = {"tenant": text("t"), "probe": text(name), "window_start": start}
        insert(
            store, "flows", **of, src_addr="toIPv6('10.0.0.1')", dst_addr="toIPv6('10.0.0.2')",
            src_port=1024, dst_port=53, ip_proto=17, eth_type=2048, packets=10, bytes=1000,
            first_seen=seen, last_seen=seen, sampling_rate=1, folded_flows=folded,
        )  # fmt: skip
        insert(store, "totals", **of, pane_ms=2000, packets=10, bytes=1000, ipv4_packets=10)
        insert(
            store, "ledger", **of, hop=text("capture"), seen=10 + lost, delivered=10,
            dropped=f"map('ring_full', {lost})", in_flight=0,
        )  # fmt: skip


def test_hostile_names_are_text(tmp_path: Path) -> None:
    """Markup, terminal escapes and marks that turn the reading are shown as harmless text."""
    with Store.open(f"chdb:{tmp_path / 'store'}", serve=False) as store:
        fill(store, name=HOSTILE)
        insert(
            store, "alerts_log", alert_id=text("a" * 32), revision=1, event=text("fired"),
            tenant=text("t"), rule=text("r"), title=text(HOSTILE), severity=text("high"),
            status=text("firing"), entity=f"map('src_net', {text(HOSTILE)})",
            entity_text=text(f"src_net={HOSTILE}"), summary=text(HOSTILE), unit=text(HOSTILE),
            evidence=f"[map({text(HOSTILE)}, {text(HOSTILE)})]", evidence_sql=text(HOSTILE),
            window_start="toDateTime64(31536000, 3, 'UTC')",
            first_seen="toDateTime64(31536000, 9, 'UTC')",
            last_seen="toDateTime64(31536001, 9, 'UTC')",
        )  # fmt: skip
        found = Questions(store.query, Scope("t", 0, 10**18)).answers()
    assert found is not None
    html = page.render(found, HOSTILE, 0)
    shape = Shape(html)
    assert "script" not in shape.tags
    assert "img" not in shape.tags
    assert not shape.risky
    assert html.count("&lt;script&gt;") >= 5
    assert not re.search("[\u202e\x1b]", html)


def test_more_alerts_than_are_shown_in_full(tmp_path: Path) -> None:
    """What is listed in short stands out too, and is counted."""
    count = ALERTS_IN_FULL + 2
    with Store.open(f"chdb:{tmp_path / 'store'}", serve=False) as store:
        fill(store)
        for number in range(count):
            insert(
                store, "alerts_log", alert_id=text(f"{number:032x}"), revision=1,
                event=text("fired"), tenant=text("t"), rule=text("r"), title=text(f"no {number}"),
                severity=text("high"), status=text("firing"),
                entity=f"map('src_addr', '10.1.0.{number}')", entity_text=text("x"),
                window_start="toDateTime64(31536000, 3, 'UTC')",
                first_seen="toDateTime64(31536000, 9, 'UTC')",
                last_seen="toDateTime64(31536001, 9, 'UTC')",
            )  # fmt: skip
        found = Questions(store.query, Scope("t", 0, 10**18)).answers()
    assert found is not None
    told = [*found.alerts, *found.other_alerts]
    assert len(found.other_alerts) == 2
    assert {row["entity"]["src_addr"] for row in told} == {f"10.1.0.{n}" for n in range(count)}
    assert any("More alerts: " in remark.text for remark in remarks(found))
    assert f"no {count - 1}" in page.render(found, "x", 0)


def test_losses_folding_and_gaps_are_told(tmp_path: Path) -> None:
    """An incomplete span says how much is missing and why; folded rankings are intervals."""
    with Store.open(f"chdb:{tmp_path / 'store'}", serve=False) as store:
        fill(store, folded=7, lost=2)
        found = Questions(store.query, Scope("t", 0, 10**18)).answers()
    assert found is not None
    mood, word, sentence = completeness(found)
    assert (mood, word) == ("bad", "incomplete")
    assert "4 packets" in sentence
    assert "ring_full" in sentence
    assert found.series.gappy
    assert "Most of that time is empty" in next(iter(what_it_is(found)))
    assert any("14 flows are in coarser rows" in remark.text for remark in remarks(found))
    assert found.sums.sources is None
    html = page.render(found, "x", 0)
    assert "averages over" not in html
    assert "incomplete" in html


def test_the_command_works_while_a_job_owns_the_store(tmp_path: Path) -> None:
    """A report of an owned store comes through its socket; what can't be is one line."""
    with Store.open(f"chdb:{tmp_path / 'store'}") as store:
        fill(store)
        made = command([*CLI, "report"], tmp_path, STORE="chdb:store")
        assert made.returncode == 0, made.stderr
        assert made.stdout.startswith("report.html: 20 packets, 0 alerts, ")
        assert "Traffic seen by p" in (tmp_path / "report.html").read_text()
        for arguments, why in (
            (["--where", "colour = 1"], "colour"),
            (["--from", "2001-01-01"], "no traffic in that time; tenant t has some from 1971"),
            (["--where", "dst_port = 1"], "no traffic where dst_port = 1"),
            (["--where", "1) OR (1"], "wanted one condition"),
            (["-o", "nowhere/report.html"], "there is no directory nowhere"),
            (["--since", "1h", "--from", "2001-01-01"], "give one"),
            (["--tenant", "nobody"], "no traffic of tenant nobody"),
        ):
            done = command([*CLI, "report", *arguments], tmp_path, STORE="chdb:store")
            assert done.returncode in (1, 2), arguments
            assert why in done.stderr
            assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob(".report*"))


def test_read_writes_a_report(tmp_path: Path) -> None:
    """A one-off reading leaves its report, titled with the capture, and no store."""
    write_pcap(tmp_path / "a.pcap", ipv4_packets(np.random.default_rng(3), 500))
    done = command([*CLI, "read", "a.pcap", "-o", "a.html"], tmp_path)
    assert done.returncode == 0, done.stderr
    html = (tmp_path / "a.html").read_text()
    assert "<h1>a.pcap</h1>" in html
    assert "500 packets" in html
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.html", "a.pcap"]
    refused = command([*CLI, "read", "a.pcap", "-o", "nowhere/a.html"], tmp_path)
    assert refused.returncode == 2
    assert "there is no directory nowhere" in refused.stderr
