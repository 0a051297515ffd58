"""Each part of the engine's benchmark measures what it says, at a tiny size."""

from __future__ import annotations

import pytest

from flows.benchmarks import engine
from flows.benchmarks.measure import Figure, Goal
from flows.benchmarks.sizes import Sizes

BASELINES = {
    "decode": {"fastavro", "loop that only hops", "scapy"},
    "kernel": {"loop that only touches", "Python dict"},
    "pane": {"DataSketches", "dict of sets"},
    "store": {"keeps nothing", "without order"},
    "whole": set(),
}
GOALS = {
    "decode": [Goal(10e6)] * 3,
    "store": [Goal(20, at_least=False)],
    "whole": [Goal(5e6), Goal(1.5e6), Goal(1500, at_least=False)],
}


def check(part: str, figures: list[Figure]) -> None:
    assert figures
    assert len({figure.name for figure in figures}) == len(figures)
    named = " ".join(baseline.name for figure in figures for baseline in figure.baselines)
    assert all(name in named for name in BASELINES[part])
    assert [figure.goal for figure in figures if figure.goal] == GOALS.get(part, [])
    for figure in figures:
        assert figure.part == part
        assert figure.value > 0
        assert all(baseline.value > 0 for baseline in figure.baselines)


@pytest.mark.parametrize("part", ["decode", "kernel", "pane"])
def test_part_in_this_process(part: str, tiny: Sizes) -> None:
    """Figures are positive and differ in name; the promised baselines and goals are there."""
    check(part, list(engine.run(part, tiny)))


@pytest.mark.slow
@pytest.mark.parametrize("part", ["store", "whole"])
def test_part_in_fresh_processes(part: str, tiny: Sizes) -> None:
    """The same holds for parts that open a store; they check themselves that all is stored."""
    check(part, list(engine.run(part, tiny)))
