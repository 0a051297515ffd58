"""What a backtest tells: tables for people, one JSON object for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rich.table import Table

from flows.backtest import Fired, Score, Tally
from flows.cli.backtest_run import Finding, Report
from flows.progress import format_time
from flows.summary import make_console, printable

WIDTH = 120
"""Columns that the table takes: numbers that are cut off tell nothing."""

SHOWN = 10
"""Wrong alerts and missed labels of a rule that are listed."""


def show(reports: Mapping[str, Report]) -> None:
    """Print a table with the rules of each report side by side, and what else there is to say.

    Args:
        reports: one or two, by what they are called; of the same traffic.
    """
    console = make_console()
    console.width = max(console.width, WIDTH)
    first = next(iter(reports.values()))
    console.print(
        f"{first.packets:,} packets, {format_time(first.start_ns)} to {format_time(first.end_ns)} "
        f"({_seconds(first.end_ns - first.start_ns)})"
    )
    names = list(dict.fromkeys(f.rule for report in reports.values() for f in report.findings))
    found = {(title, f.rule): f for title, report in reports.items() for f in report.findings}
    judged = any(finding.score for finding in found.values())
    console.print(_table(list(reports), names, found, judged, first.pane_ns))
    if judged:
        console.print(
            "\nmedian, longest: how long alerts lasted; delay, worst: panes after the crossing"
        )
    for title, report in reports.items():
        head = f" ({title})" if len(reports) > 1 else ""
        for finding in report.findings:
            if finding.tally.entities:
                console.print(f"\n{finding.rule}{head}, most often about", style="bold")
            for entity, times in finding.tally.entities:
                console.print(f"  {times:>6,}  {printable(entity)}")
            for line in _faults(finding.score) if finding.score else ():
                console.print(f"  {line}")
            if finding.near:
                console.print(f"\n{finding.rule}{head}, nearly", style="bold")
            for entity, share in finding.near:
                console.print(f"  {share:>6.0%}  {printable(entity)}")


def _table(
    titles: Sequence[str],
    rules: Sequence[str],
    found: Mapping[tuple[str, str], Finding],
    judged: bool,
    pane_ns: int,
) -> Table:
    several = len(titles) > 1
    table = Table(box=None, pad_edge=False, padding=(0, 0, 0, 2), header_style="dim")
    columns = ["alerts", "medium+", "groups", "median", "longest", "notices/day"]
    columns += ["recall", "precision", "delay", "worst"] if judged else []
    table.add_column("rule", no_wrap=True)
    if several:
        table.add_column("rules of")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for rule in rules:
        for title in titles:
            finding = found.get((title, rule))
            cells = _cells(finding, judged, pane_ns) if finding else ["off"]
            table.add_row(rule, *([title] if several else []), *cells)
    return table


def _cells(finding: Finding, judged: bool, pane_ns: int) -> list[str]:
    tally, score = finding.tally, finding.score
    lasted = [median(tally.lasted_ns), tally.lasted_ns[-1]] if tally.lasted_ns else []
    cells = [
        f"{tally.alerts:,}",
        f"{tally.serious:,}",
        f"{tally.groups:,}",
        *([_seconds(ns) for ns in lasted] or ["-", "-"]),
        f"{tally.notices_per_day:,.0f}",
    ]
    if judged:
        assert score is not None
        delays = score.delays_panes(pane_ns)
        cells += [
            _share(score.recall),
            _share(score.precision),
            *([f"{delays[0]:.1f}", f"{delays[1]}"] if delays else ["-", "-"]),
        ]
    return cells


def _seconds(ns: float) -> str:
    return f"{ns / 1e9:,.0f} s"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _faults(score: Score) -> list[str]:
    lines = [
        f"missed: {label.detector} of {printable(str(dict(label.entity)))} "
        f"from {format_time(label.start_ns)}"
        for label in score.missed
    ]
    lines += [
        f"wrong: {printable(each.alert.entity_text)} at {format_time(each.alert.first_seen_ns)}, "
        f"{each.alert.value:,.4g} {each.alert.unit}"
        for each in score.wrong
    ]
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], f"and {more:,} more"] if more > 0 else lines


def as_json(reports: Mapping[str, Report]) -> str:
    """One object; times are Unix ns, delays panes."""
    return json.dumps({title: _report(report) for title, report in reports.items()}, indent=2)


def _report(report: Report) -> dict[str, Any]:
    return {
        "packets": report.packets,
        "start_ns": report.start_ns,
        "end_ns": report.end_ns,
        "rules": {
            finding.rule: {**_tally(finding.tally), "near": dict(finding.near)}
            | (_score(finding.score, report.pane_ns) if finding.score else {})
            for finding in report.findings
        },
    }


def _tally(tally: Tally) -> dict[str, Any]:
    return {
        "alerts": tally.alerts,
        "medium_and_above": tally.serious,
        "groups": tally.groups,
        "lasted_s": [round(ns / 1e9, 3) for ns in tally.lasted_ns],
        "notices_per_day": tally.notices_per_day,
        "entities": dict(tally.entities),
    }


def _score(score: Score, pane_ns: int) -> dict[str, Any]:
    return {
        "recall": score.recall,
        "precision": score.precision,
        "delays_panes": [find.delay_panes(pane_ns) for find in score.found],
        "missed": [
            {"entity": dict(label.entity), "start_ns": label.start_ns} for label in score.missed
        ],
        "related": len(score.related),
        "wrong": [_wrong(each) for each in score.wrong],
    }


def _wrong(fired: Fired) -> dict[str, Any]:
    alert = fired.alert
    return {
        "entity": alert.entity_text,
        "severity": alert.severity.name,
        "first_seen_ns": alert.first_seen_ns,
        "value": alert.value,
        "lower": alert.lower,
        "upper": alert.upper,
        "threshold": alert.threshold,
    }
