"""The spread operator in dataflows of one's own."""

from __future__ import annotations

import re
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, cluster_main, run_main

import flows.operators.superspread as spread

SECOND_NS = 10**9
ALICE, BOB = spread.address_words(["10.0.0.1", "10.0.0.2"]).tolist()


def pairs(*rows: tuple[float, list[int], int]) -> spread.Pairs:
    return spread.Pairs(
        ts_ns=np.array([int(at * SECOND_NS) for at, _, _ in rows], np.uint64),
        keys=np.array([key for _, key, _ in rows], np.uint64).reshape(-1, 2),
        elements=np.array([[element] for *_, element in rows], np.uint64).reshape(-1, 1),
    )


def flow_of(inp: list[Any], down: list[Any], late: list[Any], **options: Any) -> Dataflow:
    flow = Dataflow("test")
    stream = op.input("inp", flow, TestingSource(inp))
    out = spread.window("spread", stream, length=timedelta(seconds=10), **options)
    op.output("down", out.down, TestingSink(down))
    op.output("late", out.late, TestingSink(late))
    return flow


def counts(down: list[Any]) -> list[tuple[str, int, dict[tuple[int, ...], float]]]:
    return sorted(
        (key, window.start_ns // SECOND_NS, {row.key: row.estimate for row in window.top.rows})
        for key, window in down
    )


@pytest.fixture(params=["main", "cluster-1", "cluster-2"])
def run(request: pytest.FixtureRequest) -> Any:
    """Each way to run a dataflow in one process."""
    if request.param == "main":
        return run_main
    workers = int(request.param[-1])
    return lambda flow: cluster_main(flow, [], 0, worker_count_per_proc=workers)


def test_window_counts_different_elements_per_key_and_stream(run: Any) -> None:
    """Repeats don't count, windows don't mix, nor do the stream's keys."""
    down: list[Any] = []
    late: list[Any] = []
    inp = [
        ("a", pairs((1, ALICE, 1), (2, ALICE, 2), (3, ALICE, 1), (4, BOB, 1))),
        ("b", pairs((5, ALICE, 7))),
        ("a", pairs((11, BOB, 1), (12, BOB, 2))),
    ]
    run(flow_of(inp, down, late))
    assert counts(down) == [
        ("a", 0, {tuple(ALICE): 2, tuple(BOB): 1}),
        ("a", 10, {tuple(BOB): 2}),
        ("b", 0, {tuple(ALICE): 1}),
    ]
    assert late == []


def test_window_late_pairs_are_counted_apart() -> None:
    """A pair of a closed window is late; within the lateness its window is still open."""
    down: list[Any] = []
    late: list[Any] = []
    inp = [
        ("a", pairs((1, ALICE, 1))),
        ("a", pairs((12, ALICE, 2))),
        ("a", pairs((2, ALICE, 3))),
        ("a", pairs((14, ALICE, 4))),
        ("a", pairs((3, ALICE, 5), (4, ALICE, 6), (15, ALICE, 7))),
    ]
    run_main(flow_of(inp, down, late, lateness=timedelta(seconds=3)))
    assert counts(down) == [("a", 0, {tuple(ALICE): 2}), ("a", 10, {tuple(ALICE): 3})]
    assert late == [("a", 2)]


def test_window_resumes_from_a_snapshot(tmp_path: Path) -> None:
    """A window that was open at a crash holds what came before and after it."""
    init_db_dir(tmp_path, 1)
    recovery = RecoveryConfig(str(tmp_path))
    down: list[Any] = []
    late: list[Any] = []
    inp = [
        ("a", pairs((1, ALICE, 1))),
        TestingSource.ABORT(),
        ("a", pairs((2, ALICE, 2))),
        ("a", pairs((11, ALICE, 3))),
    ]
    flow = flow_of(inp, down, late)
    for _ in range(2):
        run_main(flow, epoch_interval=timedelta(0), recovery_config=recovery)
    assert counts(down)[-2:] == [("a", 0, {tuple(ALICE): 2}), ("a", 10, {tuple(ALICE): 1})]


def test_window_beyond_the_exact_form_has_bounds() -> None:
    """With thousands of pairs the estimate lies within bounds that hold the truth."""
    down: list[Any] = []
    inp = [("a", pairs(*((1.0, ALICE, element) for element in range(5000))))]
    run_main(flow_of(inp, down, []))
    ((_, window),) = down
    (row,) = window.top.rows
    assert row.lower <= row.estimate <= row.upper
    assert row.upper - row.lower < 0.25 * 5000
    assert abs(row.estimate - 5000) < 0.15 * 5000
    assert window.top.confidence == 0.95


def test_documented_example_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    """The example in the docstring runs, and its output is the one written beside it."""
    text = textwrap.dedent(spread.window.__doc__ or "")
    code, output = (
        textwrap.dedent(re.search(rf"```{{{kind}}}\n(.*?)```", text, re.DOTALL)[1])  # type: ignore[index]
        for kind in ("testcode", "testoutput")
    )
    exec(compile(code, "example", "exec"), {})
    assert capsys.readouterr().out.split("\n") == output.split("\n")
