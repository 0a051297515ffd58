"""What ``netspectra bench detect`` prints."""

from __future__ import annotations

from collections.abc import Sequence

from flows.backtest import Fired, Score
from flows.benchmarks.detect import Outcome, Totals, serious

HEAD = (
    f"{'detector':<16}{'planted':>8}{'found':>7}{'recall':>8}{'false':>7}{'precision':>11}"
    f"{'mean delay':>12}{'worst':>7}{'misnamed':>10}{'related':>9}"
)


def table(totals: Totals, pane_ns: int) -> str:
    """A row a detector; delays are in panes after that in which the threshold was reached."""
    rows = [_row(name, score, pane_ns) for name, score in totals.scores.items()]
    return "\n".join([HEAD, *rows])


def _row(name: str, score: Score, pane_ns: int) -> str:
    delays = score.delays_panes(pane_ns)
    mean, worst = (f"{delays[0]:.2f}", f"{delays[1]}") if delays else ("-", "-")
    planted = len(score.found) + len(score.missed)
    return (
        f"{name:<16}{planted:>8}{len(score.found):>7}{_share(score.recall):>8}"
        f"{len(score.wrong):>7}{_share(score.precision):>11}{mean:>12}{worst:>7}"
        f"{len(score.misnamed):>10}{len(score.related):>9}"
    )


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


def faults(outcome: Outcome) -> list[str]:
    """A line for what was missed and for each alert that should not have fired."""
    found = [f"missed: {outcome.case}"] if outcome.missed else []
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
