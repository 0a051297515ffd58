"""Open windows: what a detector sees depends on the panes alone, not on who reported when."""

from __future__ import annotations

import pickle
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.detect.window import DetectUpdate, OpenWindows, ProbeFacts, View
from flows.sketches.distinct import Distinct
from flows.sketches.frequency import Frequency
from flows.sketches.superspread import SuperSpread
from flows.windows.tasks import PaneSketch
from flows.windows.unit import END_OF_TIME_NS
from schemas.hashing import hash_words

SECOND = 10**9
PANE_NS = 2 * SECOND
PARTITIONS = ("t/0", "t/1")


def distinct(*elements: int) -> Distinct:
    sketch = Distinct()
    sketch.update(np.array(elements, np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return sketch


def update(
    partition: str, offset: int, watermark_s: float, *panes: Any, **more: Any
) -> DetectUpdate:
    """A unit with a distinct sketch for each (pane, element)."""
    sketches = [PaneSketch(pane, 1, distinct(element)) for pane, element in panes]
    watermark_ns = END_OF_TIME_NS if watermark_s < 0 else int(watermark_s * SECOND)
    by_task = {("a", "task"): sketches} if sketches else {}
    return DetectUpdate(partition, offset, watermark_ns, PANE_NS, by_task, **more)


def seen(views: list[View]) -> list[tuple[int, int, float, int]]:
    """Pane and window start, s, elements in the window so far and in the pane."""
    return [
        (
            view.pane_start_ns // SECOND,
            view.start_ns // SECOND,
            view.merged["task"].estimate().value,  # type: ignore[union-attr]
            len(view.pane["task"]),
        )
        for view in views
    ]


def test_a_pane_is_seen_when_all_partitions_have_passed_it() -> None:
    """A partition that is ahead waits; then panes come in order, each with all partitions'."""
    windows = OpenWindows(10 * SECOND, PARTITIONS)
    assert list(windows.add(update("t/0", 1, 8, (0, 1), (1, 2), (2, 3)))) == []
    found = list(windows.add(update("t/1", 1, 4, (0, 10), (1, 1))))
    assert seen(found[:1]) == [(0, 0, 3, 2)]  # the window goes on changing: it is one object
    assert [view.pane_start_ns // SECOND for view in found] == [0, 2]
    assert windows.watermark_ns == 4 * SECOND


def test_a_horizon_begins_anew() -> None:
    """The first pane of the next horizon is alone in its window."""
    windows = OpenWindows(4 * SECOND, ("t/0",))
    views = [
        seen([view])[0]
        for view in windows.add(update("t/0", 1, -1, (0, 1), (1, 2), (2, 3), (3, 3)))
    ]
    assert views == [(0, 0, 1, 1), (2, 0, 2, 1), (4, 4, 1, 1), (6, 4, 1, 1)]
    assert windows.ended


def test_a_unit_that_was_seen_is_left_out() -> None:
    """A replay from before the snapshot changes nothing."""
    windows = OpenWindows(10 * SECOND, ("t/0",))
    first = update("t/0", 1, 4, (0, 1))
    assert len(list(windows.add(first))) == 1
    assert list(windows.add(first)) == []


def test_late_panes_join_the_open_window_or_are_left_out() -> None:
    """A late pane of the open window counts in it; one of an earlier window was judged already."""
    windows = OpenWindows(4 * SECOND, ("t/0",))
    list(windows.add(update("t/0", 1, 8, (2, 1))))
    (view,) = windows.add(update("t/0", 2, 8, (2, 2)))
    assert seen([view]) == [(4, 4, 2, 1)]
    assert list(windows.add(update("t/0", 3, 8, (0, 3)))) == []


def test_late_words_of_probes_come_with_the_next_pane() -> None:
    """What probes say of a pane that is gone isn't lost."""
    windows = OpenWindows(4 * SECOND, ("t/0",))
    list(windows.add(update("t/0", 1, 8, (2, 1))))
    late = ProbeFacts("a", "p", 0, 5)
    assert list(windows.add(update("t/0", 2, 8, probes=(late,)))) == []
    (view,) = windows.add(update("t/0", 3, 10, (4, 1)))
    assert view.probes == [late]


def test_a_window_that_a_run_began_in_says_so() -> None:
    """Windows before the place where sketches begin are not whole."""
    windows = OpenWindows(4 * SECOND, ("t/0",))
    views = list(windows.add(update("t/0", 1, -1, (1, 1), (2, 1), since_ns=2 * SECOND)))
    assert [view.whole for view in views] == [False, True]


def test_years_between_panes_cost_nothing() -> None:
    """Only panes with something in them are seen."""
    windows = OpenWindows(600 * SECOND, ("t/0",))
    far = 40 * 365 * 86_400 // 2
    assert len(list(windows.add(update("t/0", 1, -1, (0, 1), (far, 2))))) == 2


def units(rng: random.Random, partition: str) -> list[DetectUpdate]:
    """A partition's log: panes in order of time, each in one unit."""
    found, pane = [], 0
    for offset in range(1, 12):
        later = sorted(rng.sample(range(pane, pane + 9), rng.randrange(4)))
        pane = later[-1] + 1 if later else pane
        mark_s = 2 * pane if offset < 11 else -1
        found.append(update(partition, offset, mark_s, *[(p, rng.randrange(40)) for p in later]))
    return found


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_order_of_partitions_and_restarts_change_nothing(seed: int) -> None:
    """However two partitions' units interleave, and wherever a snapshot is taken: equal views."""
    rng = random.Random(seed)
    logs = {partition: units(rng, partition) for partition in PARTITIONS}

    def views(order: list[str], restart: int | None) -> list[tuple[int, int, float, int]]:
        windows = OpenWindows(10 * SECOND, PARTITIONS)
        left = {partition: iter(log) for partition, log in logs.items()}
        found = []
        for step, partition in enumerate(order):
            if step == restart:
                state = pickle.loads(pickle.dumps(windows.snapshot()))
                windows = OpenWindows(10 * SECOND, PARTITIONS, state)
            found += [seen([view])[0] for view in windows.add(next(left[partition]))]
        return found

    plain = [partition for partition in PARTITIONS for _ in logs[partition]]
    shuffled = rng.sample(plain, len(plain))
    assert views(shuffled, rng.randrange(len(plain))) == views(plain, None)


def test_all_kinds_of_sketches_survive_a_snapshot() -> None:
    """Distinct, frequency and spread sketches go on merging after a restart."""
    keys = np.array([[1], [2]], np.uint64)
    hashes = hash_words(keys)
    often = Frequency(1)
    often.update(keys, hashes, np.array([3, 4], np.uint64), np.array([30, 40], np.uint64))
    spread = SuperSpread(1)
    spread.update(keys, hashes, np.array([7, 8], np.uint64))
    panes = {
        ("a", name): [PaneSketch(0, 1, sketch)]
        for name, sketch in (("d", distinct(1)), ("f", often), ("s", spread))
    }
    windows = OpenWindows(10 * SECOND, ("t/0",))
    list(windows.add(DetectUpdate("t/0", 1, 2 * SECOND, PANE_NS, panes)))
    windows = OpenWindows(10 * SECOND, ("t/0",), windows.snapshot())
    later = {key: [replace(each, pane=1) for each in found] for key, found in panes.items()}
    (view,) = windows.add(DetectUpdate("t/0", 2, 4 * SECOND, PANE_NS, later))
    assert view.merged["d"].estimate().value == 1  # type: ignore[union-attr]
    assert view.merged["f"].total_packets == 14  # type: ignore[union-attr]
    assert [row.estimate for row in view.merged["s"].top().rows] == [1, 1]  # type: ignore[union-attr]


def test_state_of_another_version_is_refused() -> None:
    """Foreign recovery state is named, not misread."""
    with pytest.raises(ValueError, match="recovery state has version 99"):
        OpenWindows(SECOND, ("t/0",), (99,))
