"""``netspectra bench``: what is asked for is measured, told to people and to programs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flows.benchmarks import fresh, inputs, report, storing, whole
from flows.benchmarks.engine import PARTS, parts_of
from flows.benchmarks.measure import Baseline, Figure, Goal, Timing, best
from flows.benchmarks.panes import accumulator
from flows.benchmarks.sizes import QUICK, Sizes
from flows.cli import main
from flows.errors import NetSpectraError, UsageError
from flows.kernels.layout import T_PACKETS

SUPERSPREAD = "flows.benchmarks.superspread"
TINY = Sizes(kernel_packets=2_000, dict_packets=500, active_flows=100)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.benchmarks.sizes.QUICK", TINY)


def test_parts_come_in_their_own_order() -> None:
    """Parts are measured in the order in which packets meet them, each once."""
    assert parts_of("whole, decode,whole") == ["decode", "whole"]
    assert parts_of(",".join(PARTS)) == list(PARTS)


@pytest.mark.parametrize("text", ["decode,cooking", "", " , "])
def test_unknown_parts_are_refused(text: str) -> None:
    """A part that isn't there, or none at all, is refused with the list of parts."""
    with pytest.raises(UsageError, match="there are decode, kernel, pane, store, whole"):
        parts_of(text)


def test_unknown_part_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """On the command line that is one line and exit code 2."""
    assert main(["bench", "engine", "--only", "cooking"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("netspectra: no part 'cooking'; there are decode")


@pytest.mark.usefixtures("tiny")
def test_json_alone_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json stdout is one JSON object with ratios, and progress goes to stderr."""
    assert main(["bench", "engine", "--quick", "--only", "kernel", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == "measuring kernel (1 of 1)\n"
    told = json.loads(out)
    assert told["quick"] is True
    assert told["machine"]["cpus"] > 0
    assert len(told["figures"]) == 3
    for figure in told["figures"]:
        assert figure["part"] == "kernel"
        assert figure["goal"] is None
        for baseline in figure["baselines"]:
            assert baseline["ratio"] == pytest.approx(figure["value"] / baseline["value"])


@pytest.mark.usefixtures("tiny")
def test_table_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """Without it stdout is the table, each baseline beneath its figure."""
    assert main(["bench", "engine", "--quick", "--only", "kernel"]) == 0
    out, _ = capsys.readouterr()
    assert out.startswith("kernel\n  Zipf 1.0 of 100 flows")
    assert out.count(" x  Python dict, packet by packet ") == 3


@pytest.mark.parametrize("name", ["bench engine", "bench superspread"])
def test_help_has_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Both benchmarks' help shows how they are called."""
    assert main([*name.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert "Examples:" in out
    assert f"netspectra {name}" in out


def test_superspread_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SuperSpread benchmark gets what the command line says."""
    calls: list[dict[str, Any]] = []
    module = SimpleNamespace(run=lambda **arguments: calls.append(arguments))
    monkeypatch.setitem(sys.modules, SUPERSPREAD, module)
    assert main(["bench", "superspread", "--quick", "--seed", "7"]) == 0
    assert calls == [{"quick": True, "seed": 7}]


def test_superspread_may_be_absent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it isn't part of the version, one line says so."""
    monkeypatch.setitem(sys.modules, SUPERSPREAD, None)
    assert main(["bench", "superspread"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("netspectra: this version has no SuperSpread benchmark")


def test_quick_is_less_of_everything() -> None:
    """No part of a quick run is larger than in a full one; most are smaller."""
    full, quick = asdict(Sizes()), asdict(QUICK)
    assert all(quick[name] <= full[name] for name in full)
    assert sum(quick[name] < full[name] for name in full) > len(full) / 2


@pytest.mark.parametrize(
    ("value", "goal", "reached"),
    [
        (5.0, None, None),
        (5.0, Goal(5), True),
        (4.9, Goal(5), False),
        (5.0, Goal(5, at_least=False), True),
        (5.1, Goal(5, at_least=False), False),
    ],
)
def test_goals(value: float, goal: Goal | None, reached: bool | None) -> None:
    """A goal is reached at its value, above or below it as it says."""
    figure = Figure("part", "name", value, "unit", goal=goal)
    assert figure.reached is reached
    told = report.goal(figure)
    assert told.endswith({None: "", True: ": reached", False: ": not reached"}[reached])
    assert bool(told) == (goal is not None)


def test_table_shows_ratio_and_baseline() -> None:
    """A line has the figure and its goal, the next one the ratio and the baseline's figure."""
    figure = Figure("p", "ours", 3e6, "rows/s", (Baseline("theirs", 1.5e6),), Goal(5e6))
    first, second = report.text([figure]).splitlines()
    assert first.split() == ["ours", "3", "M", "rows/s", "goal", ">=", "5", "M:", "not", "reached"]
    assert second.split() == ["2", "x", "theirs", "1.5", "M"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.234e9, "1.23 G"), (4.53e6, "4.53 M"), (77_234, "77.2 k"), (7_322, "7,322"), (0.96, "0.96")],
)
def test_numbers(value: float, text: str) -> None:
    """Numbers are told with three digits."""
    assert report.number(value) == text


def test_best_takes_the_cheapest_repeat() -> None:
    """Of several repeats the one with the least CPU time counts; preparing isn't timed."""
    loops = iter([400_000, 10, 400_000])
    timing = best(lambda count: sum(range(count)), 10, prepare=lambda: next(loops))
    once = best(lambda _: sum(range(400_000)), 10, repeats=1)
    assert timing.items == 10
    assert 0 <= timing.cpu_s < once.cpu_s


def test_timings_add_up() -> None:
    """Timings add up, and rates are items over seconds."""
    timing = Timing(10, 1.0, 2.0) + Timing(30, 1.0, 6.0)
    assert timing == Timing(40, 2.0, 8.0)
    assert (timing.per_cpu_s, timing.per_wall_s) == (20, 5)


def test_fresh_process_measures_its_own_memory() -> None:
    """A fresh process doesn't report the memory of the one that started it."""
    ballast = np.ones(50_000_000)
    assert fresh.peak_bytes() > ballast.nbytes
    assert 5_000_000 < fresh.call("flows.benchmarks.fresh:peak_bytes") < ballast.nbytes / 2


def test_fresh_process_that_fails_is_told() -> None:
    """A failure in the fresh process is one line that names what failed."""
    with pytest.raises(NetSpectraError, match=r"flows\.cli:main failed: .*nonsense"):
        fresh.call("flows.cli:main", nonsense=1)


def test_messages_hold_the_whole_traffic() -> None:
    """Decoded message by message, the traffic's packets are all absorbed."""
    traffic = inputs.traffic("flood", 300_000, 1e6)
    log, partition = whole.MessageLog(traffic), accumulator([])
    messages = 0
    while log.read_message(partition):
        messages += 1
    assert messages == 37
    assert log.progress.packets == partition.open_packets == traffic.packets
    assert partition.end(0).totals[:, T_PACKETS].sum() == traffic.packets
    assert log.cpu_s > 0
    assert log.wall_s > 0


@pytest.mark.parametrize("column", ["stored", "flow_packets"])
def test_lost_packets_fail_the_benchmark(column: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole run that stored too little gives no figure but an error."""
    sums = {"stored": TINY.zipf_packets, "flow_packets": TINY.zipf_packets, column: 5}
    monkeypatch.setattr(fresh, "call", lambda function, **_: sums)
    with pytest.raises(NetSpectraError, match="5 in "):
        list(whole.measure(TINY))


def test_lost_rows_fail_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """So does a store that lost rows."""
    done = {"rows": 10, "stored": 9, "steps": {}}
    monkeypatch.setattr(fresh, "call", lambda function, **_: done)
    with pytest.raises(NetSpectraError, match="9 of 10 rows are stored"):
        list(storing.measure(TINY))
