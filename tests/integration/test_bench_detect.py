"""The bench of detection: the short way through the classes is the way through engine and store."""

from __future__ import annotations

import pytest

from flows import labels
from flows.backtest import fired, judge
from flows.benchmarks import detect_report
from flows.benchmarks.detect import Outcome, Totals, groups_of, thresholds
from flows.benchmarks.detect_cases import CLEAN_PLANS, PLANS, Case, cases
from flows.benchmarks.detect_store import through_the_store
from flows.benchmarks.watch import PacketsLog, watch
from flows.errors import UsageError
from flows.settings import Settings
from probe.synthetic.scenario import Background, HostScan, Scenario, Threshold, lines
from tests.support import reach

S = 10**9
PANE_NS = 2 * S
SITE = Scenario(
    seed=5,
    duration_s=60,
    background=Background(packets_per_second=300),
    attacks=(HostScan(start_s=10, hosts_per_second=20), HostScan(start_s=20, hosts_per_second=1)),
)


def packets_of(scenario: Scenario) -> PacketsLog:
    return PacketsLog(scenario.chunks(8192), scenario.start_ns)


def test_the_engine_and_the_store_change_no_alert() -> None:
    """The same revisions come out of a run through bytewax and chDB, field by field."""
    settings, rules = Settings(), [reach.rule()]
    short = watch(packets_of(SITE), settings, rules)
    assert any(alert.event == "fired" for alert in short)
    stored = through_the_store(packets_of(SITE), settings, rules)
    assert stored == sorted(short, key=lambda alert: (alert.alert_id, alert.revision))


def test_what_is_planted_is_found_when_it_crosses() -> None:
    """The fast scan is found in the pane in which it reaches 100 hosts, the slow one is none."""
    known = labels.read(lines(SITE, {"host_scan": Threshold(100, reach.HORIZON_NS)}), "site")
    scans = [label for label in known if label.attack]
    assert len(scans) == 1
    alerts = fired(watch(packets_of(SITE), Settings(), [reach.rule()]))
    named = [labels.Label("reach", label.entity, *_times(label)) for label in scans]
    score = judge(alerts, named, ("reach",))
    assert (score.recall, score.precision) == (1.0, 1.0)
    assert score.delays_panes(PANE_NS) == (0.0, 0)


def _times(label: labels.Label) -> tuple[int, int, tuple[str, ...], bool, int | None]:
    return label.start_ns, label.end_ns, (), True, label.crossed_ns


def test_a_fault_is_told_with_what_repeats_it() -> None:
    """A miss and a false alert each have a line, and the table counts them."""
    case = Case("host_scan", 0, 7)
    known = labels.read(lines(SITE, {}), "site")
    alerts = fired(watch(packets_of(SITE), Settings(), [reach.rule()]))
    outcome = Outcome(case, {"host_scan": judge(alerts, known[:1], ("host_scan",))})
    missed, false, where = "\n".join(detect_report.faults(outcome, PANE_NS)).splitlines()
    assert missed == f"missed: {case}"
    assert "--only 'host_scan' --seed 7" in missed
    assert false.startswith("false: medium reach, src_addr=")
    assert where.endswith(str(case))
    totals = Totals()
    totals.add(outcome)
    row = detect_report.table(totals, PANE_NS).splitlines()[-1].split()
    assert row[:9] == ["host_scan", "1", "0", "0", "0.000", "1", "0.000", "1", "0"]
    assert row[9:] == ["-"] * 5
    assert not detect_report.quiet(totals)


def test_cases_are_all_plans_with_all_seeds() -> None:
    """Quick leaves out what takes days; equal cases plant equal packets."""
    every = list(cases(["host_scan", "nightly backup"], 3, 2, quick=False))
    assert len(every) == 2 * (len(PLANS["host_scan"]) + len(CLEAN_PLANS["nightly backup"]))
    assert {case.seed for case in every} == {3, 4}
    assert {case.group for case in cases(list(CLEAN_PLANS), 1, 1, quick=True)} == {*CLEAN_PLANS} - {
        "nightly backup"
    }
    assert every[0].plan.scenario(3) == every[0].plan.scenario(3)


@pytest.mark.parametrize("name", list(PLANS))
def test_every_attack_but_the_last_crosses(name: str) -> None:
    """The plans know their thresholds: all reach them but the last."""
    limit = thresholds(Settings())[name]
    attacks = [plan.scenario(1).labels[0] for plan in PLANS[name]]
    crossed = [attack.crossing_ns(*limit) is not None for attack in attacks]
    assert crossed == [True] * (len(crossed) - 1) + [False]


def test_unknown_parts_are_refused() -> None:
    """The message lists what there is."""
    assert groups_of("host_scan, zipf") == ["host_scan", "zipf"]
    with pytest.raises(UsageError, match="there is no 'scan' to detect; give some of host_scan"):
        groups_of("scan")
