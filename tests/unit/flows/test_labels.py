"""Labels: the file's format, and that the scenario library writes what is read."""

from __future__ import annotations

import json

import pytest

from flows import labels
from flows.errors import UsageError
from probe.synthetic.scenario import BusyServer, HostScan, Scenario, Threshold, lines

S = 10**9
SCAN = (
    '{"detector": "host_scan", "entity": {"src_addr": "10.0.0.1", "dst_port": 445}, '
    '"start": "2026-03-01T10:00:00.000001Z", "end": "2026-03-01T11:01:00+01:00"}'
)


def test_a_line_is_a_label() -> None:
    """Times of any zone become ns, ports text; what is left out has its default."""
    (label,) = labels.read(["", SCAN, "\n"], "labels.jsonl")
    assert label.entity == {"src_addr": "10.0.0.1", "dst_port": "445"}
    assert label.start_ns == 1_772_359_200_000_001_000
    assert label.end_ns == 1_772_359_260 * S
    assert (label.related, label.attack, label.crossed_ns) == ((), True, None)
    assert label.due_ns == label.start_ns


def test_the_due_time_is_that_of_crossing() -> None:
    """Who knows when the threshold was reached counts the delay from there."""
    line = json.dumps(json.loads(SCAN) | {"crossed": "2026-03-01T10:00:12Z"})
    (label,) = labels.read([line], "labels.jsonl")
    assert label.due_ns == 1_772_359_212 * S


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nothing", "f line 2 is not JSON"),
        (SCAN.replace('"start"', '"begin"'), "f line 2: start: Field required"),
        (SCAN.replace("000001Z", "000001"), "f line 2: start: Input should have timezone"),
        (SCAN.replace("T11:01", "T10:59"), "f line 2: the label ends before it starts"),
        ('{"detector": "x", "entity": {}, "start": 0, "end": 1}', "names no entity"),
        ("[1]", "f line 2: a label: Input should be a valid dictionary"),
    ],
)
def test_what_is_no_label_is_refused(line: str, message: str) -> None:
    """The message names file, line, field and what is wrong."""
    with pytest.raises(UsageError, match=message):
        labels.read([SCAN, line], "f")


def test_a_scenario_writes_labels() -> None:
    """Attacks come with the time of crossing; those that never cross, and look-alikes, as clean."""
    fast = HostScan(start_s=20, hosts_per_second=10, duration_s=60)
    slow = HostScan(start_s=0, hosts_per_second=1, duration_s=60)
    scenario = Scenario(duration_s=100, attacks=(fast, slow, BusyServer()))
    limits = {"host_scan": Threshold(100, 600 * S)}
    found = labels.read(lines(scenario, limits), "labels")
    kinds = [(label.detector, label.attack, label.crossed_ns is None) for label in found]
    assert kinds == [
        ("host_scan", True, False),
        ("host_scan", False, True),
        ("host_scan", False, True),
        ("super_spreader", False, True),
    ]
    planted = scenario.labels[0]
    crossed_ns = planted.crossing_ns(*limits["host_scan"])
    assert crossed_ns is not None
    assert found[0].crossed_ns is not None
    assert 0 <= crossed_ns - found[0].crossed_ns < 1000
    assert found[0].entity == planted.entity
    assert found[0].related == ("super_spreader",)


def test_attacks_without_a_threshold_are_due_at_once() -> None:
    """Where no threshold is named an attack must be found from its start."""
    scenario = Scenario(duration_s=10, attacks=(HostScan(start_s=2),))
    (label,) = labels.read(lines(scenario, {}), "labels")
    assert label.attack
    assert label.crossed_ns == label.start_ns == scenario.start_ns + 2 * S
