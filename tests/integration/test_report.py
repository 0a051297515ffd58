"""The report on demo traffic: what it says is what the tables hold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flows.report import page
from flows.report.questions import Answers, Questions
from flows.report.scope import Scope
from flows.report.words import completeness, remarks, what_it_is
from flows.storage.reader import Reader, open_for_reading
from tests.support import demo
from tests.support.markup import Shape

SECOND = 10**9


@pytest.fixture(scope="module")
def reader(demo_store: str) -> Iterator[Reader]:
    with open_for_reading(demo_store) as opened:
        yield opened


@pytest.fixture(scope="module")
def answers(reader: Reader) -> Answers:
    found = Questions(reader.query, everything(reader)).answers()
    assert found is not None
    return found


def everything(reader: Reader, where: str = "") -> Scope:
    (row,) = reader.query(
        "SELECT toUnixTimestamp64Milli(min(window_start)) AS first,"
        " toUnixTimestamp64Milli(max(window_start)) + 2000 AS last FROM totals"
    ).to_pylist()
    return Scope(demo.TENANT, row["first"] * 10**6, row["last"] * 10**6, where)


def test_answers_are_the_tables(reader: Reader, answers: Answers) -> None:
    """Sums, steps, rankings and hosts are exact sums over the flows of the span."""
    (row,) = reader.query(
        "SELECT sum(packets) AS n, sum(bytes) AS b, uniqExactIf(src_addr, eth_type != 2054) AS s,"
        " max(bytes) AS largest FROM flows"
    ).to_pylist()
    assert answers.sums.packets == row["n"] == demo.PACKETS
    assert answers.sums.bytes == row["b"] == answers.series.bytes.sum()
    assert answers.sums.sources == row["s"]
    assert answers.series.packets.sum() == demo.PACKETS
    assert answers.series.percent_complete.min() == 100
    assert sum(each.bytes for each in answers.rankings["Protocols"]) == row["b"]
    assert answers.flows[0]["b"] >= row["largest"]
    assert answers.pairs[0]["b"] == answers.pairs[0]["there"] + answers.pairs[0]["back"]
    assert answers.ledger.complete


def test_estimates_and_alerts_are_all_there(answers: Answers) -> None:
    """Spreaders have bounds around their estimate, alerts have evidence and an explanation."""
    assert {row.task for row in answers.spread} == {
        "fan_in", "fan_out", "fan_out_service", "pair_ports",
    }  # fmt: skip
    for row in (*answers.spread, *answers.distinct):
        assert row.lower <= row.estimate <= row.upper
        assert 0.9 < row.confidence <= 1
    assert answers.alert_count == len(answers.alerts) >= 3
    assert all(row["evidence_rows"] and row["assessment"] for row in answers.alerts)


def test_the_summary_says_what_matters(answers: Answers) -> None:
    """The words name the sums, the verdict of the ledger, and each alert that fired."""
    words = " ".join(what_it_is(answers))
    assert f"{demo.PACKETS:,} packets" in words
    assert "3 min 20 s" in words
    assert completeness(answers)[:2] == ("good", "complete")
    told = {remark.alert_id for remark in remarks(answers)}
    assert {row["alert_id"] for row in answers.alerts} <= told


def test_where_restricts_flows(reader: Reader, answers: Answers) -> None:
    """With --where sums are of such flows only, the ledger is of all, and the page says so."""
    found = Questions(reader.query, everything(reader, "dst_port = 443 OR dst_port = 80")).answers()
    assert found is not None
    (row,) = reader.query(
        "SELECT sum(packets) AS n FROM flows WHERE dst_port IN (80, 443)"
    ).to_pylist()
    assert found.sums.packets == row["n"] < answers.sums.packets
    assert found.hops == answers.hops
    assert found.alert_count == answers.alert_count
    assert "Only flows where <code>dst_port = 443 OR dst_port = 80</code>" in page.render(
        found, "x", 0
    )


def test_the_page_is_whole_in_itself(answers: Answers) -> None:
    """Nothing is loaded or run: no scripts, no styles in elements, links stay in the page."""
    shape = Shape(page.render(answers, "x", 0))
    assert not {"script", "iframe", "object", "img", "form"} & set(shape.tags)
    assert not shape.risky
    assert len(shape.ids) == len(set(shape.ids))
    inside = {link.removeprefix("#") for link in shape.links if link.startswith("#")}
    assert inside <= set(shape.ids)
    assert [link for link in shape.links if not link.startswith("#")] == ["data:,"]


def test_nothing_in_the_span_gives_nothing(reader: Reader) -> None:
    """A span without flows has no answers."""
    assert Questions(reader.query, Scope(demo.TENANT, 0, 1000 * SECOND)).answers() is None
