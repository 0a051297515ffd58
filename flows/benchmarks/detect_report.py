"""What ``netspectra bench detect`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Final

from flows.backtest import Fired
from flows.benchmarks.detect import Outcome, Totals, serious
from flows.detect.alert import Severity

PATIENCE_PANES: Final = 2
"""Panes after the crossing within which what is fast must be found."""

_HEAD: Final = (
    f"{'':<16}{'':>40}{'delay, fast':>30}{'slow':>13}\n"
    f"{'detector':<16}{'planted':>8}{'found':>6}{'low':>5}{'recall':>7}{'false':>6}"
    f"{'precision':>10}{'misnamed':>9}{'related':>8}{'mean':>6}{'worst':>6}{'late':>5}"
    f"{'mean':>7}{'worst':>6}"
)


def table(totals: Totals, pane_ns: int) -> str:
    """A row a detector.

    Delays are in panes after that in which the threshold was reached: of attacks that reach it
    within a minute, with how many of them are late, and of slow ones, that take a horizon.
    ``low`` is how many were found by an alert below medium.
    """
    rows = [_row(name, totals, pane_ns) for name in sorted(totals.scores)]
    return "\n".join([_HEAD, *rows])


def _row(name: str, totals: Totals, pane_ns: int) -> str:
    score = totals.scores[name]
    delays: dict[bool, list[int]] = {True: [], False: []}
    for outcome in totals.outcomes.get(name, ()):
        found = outcome.scores[name].found if name in outcome.scores else []
        delays[outcome.case.plan.slow] += [find.delay_panes(pane_ns) for find in found]
    fast, slow = delays[False], delays[True]
    late = f"{sum(delay > PATIENCE_PANES for delay in fast)}" if fast else "-"
    low = sum(find.alert.alert.severity < Severity.medium for find in score.found)
    planted = len(score.found) + len(score.missed)
    return (
        f"{name:<16}{planted:>8}{len(score.found):>6}{low:>5}{_share(score.recall):>7}"
        f"{len(score.wrong):>6}{_share(score.precision):>10}{len(score.misnamed):>9}"
        f"{len(score.related):>8}{_mean(fast):>6}{_worst(fast):>6}{late:>5}"
        f"{_mean(slow):>7}{_worst(slow):>6}"
    )


def _mean(delays: Sequence[int]) -> str:
    return f"{fmean(delays):.2f}" if delays else "-"


def _worst(delays: Sequence[int]) -> str:
    return f"{max(delays)}" if delays else "-"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def quiet(totals: Totals) -> str:
    """A row for each kind of look-alike; empty without any."""
    rows = [f"{'look-alike':<24}{'runs':>6}{'false alerts':>14}{'below medium':>14}"]
    for group, outcomes in totals.outcomes.items():
        if not outcomes[0].case.plan.planted.hostile:
            wrong = sum(len(outcome.wrong) for outcome in outcomes)
            faint = sum(len(outcome.faint) for outcome in outcomes)
            rows.append(f"{group:<24}{len(outcomes):>6}{wrong:>14}{faint:>14}")
    return "\n".join(rows) if len(rows) > 1 else ""


def faults(outcome: Outcome, pane_ns: int) -> list[str]:
    """A line for what was missed or late, and for each alert that should not have fired."""
    found = [f"missed: {outcome.case}"] if outcome.missed else []
    for score in outcome.scores.values():
        delays = [find.delay_panes(pane_ns) for find in score.found]
        if not outcome.case.plan.slow and max(delays, default=0) > PATIENCE_PANES:
            found.append(f"late by {max(delays)} panes: {outcome.case}")
    return found + [f"false: {line(alert)}\n  in {outcome.case}" for alert in outcome.wrong]


def line(fired: Fired) -> str:
    """An alert on one line."""
    alert = fired.alert
    return (
        f"{alert.severity.name} {alert.rule}, {alert.entity_text}: {alert.value:,.4g} {alert.unit} "
        f"({alert.lower:,.4g} to {alert.upper:,.4g}, threshold {alert.threshold:,.4g})"
    )


def clean(name: str, found: Sequence[Fired]) -> str:
    """What clean traffic raised."""
    head = f"clean {name}: {len(found)} alerts, {len(serious(found))} of medium and above"
    return "\n".join([head, *(f"  {line(each)}" for each in found)])
