"""Which stored windows make up a selection of time."""

from __future__ import annotations

import random

from flows.storage.selection import Gap, Window, cover

MINUTES = [Window("t", start, 60) for start in range(0, 1800, 60)]
TENS = [Window("t", start, 600) for start in range(0, 1800, 600)]


def cells(selected: range, every: range = range(0, 1800, 60)) -> dict[str, dict[int, bool]]:
    return {"t": {start: start in selected for start in every}}


def test_longer_windows_come_first() -> None:
    """Ten minutes inside the span are one window, minutes at its ends are one each."""
    found = cover(cells(range(540, 1320, 60)), [*MINUTES, *TENS], 60)
    assert [(w.start_s, w.horizon_s) for w in found.windows] == [
        (540, 60), (600, 600), (1200, 60), (1260, 60),
    ]  # fmt: skip
    assert found.gaps == []


def test_what_has_no_window_is_missing() -> None:
    """Selected time with traffic and without a sketch is named, neighbours as one gap."""
    stored = [w for w in MINUTES if w.start_s not in (120, 180, 600)]
    found = cover(cells(range(0, 900, 60)), stored, 60)
    assert len(found.windows) == 12
    assert found.gaps == [Gap("t", 120, 240), Gap("t", 600, 660)]


def test_time_without_traffic_is_not_missing() -> None:
    """A cell without traffic needs no sketch, and doesn't keep a longer window from being used."""
    quiet = cells(range(0, 300, 60), every=range(0, 300, 60))
    assert cover(quiet, TENS, 60).windows == TENS[:1]
    assert cover(quiet, TENS, 60).gaps == []


def test_a_window_that_has_more_is_not_used() -> None:
    """A window with traffic outside of the selection would count it too."""
    found = cover(cells(range(0, 540, 60)), TENS, 60)
    assert found.windows == []
    assert found.gaps == [Gap("t", 0, 540)]


def test_tenants_are_apart() -> None:
    """Windows of one tenant cover nothing of another."""
    both = {"a": {0: True}, "b": {0: True}}
    found = cover(both, [Window("a", 0, 60)], 60)
    assert (found.windows, found.gaps) == ([Window("a", 0, 60)], [Gap("b", 0, 60)])
    assert cover({}, [Window("a", 0, 60)], 60) == ([], [])


def test_any_selection_is_covered_once() -> None:
    """Chosen windows and gaps together are the selected cells, each exactly once."""
    rng = random.Random(1)
    for _ in range(300):
        own = {at: rng.random() < 0.8 for at in range(0, 1800, 60) if rng.random() < 0.8}
        stored = [w for w in (*MINUTES, *TENS) if rng.random() < 0.7]
        found = cover({"t": own}, stored, 60)
        spans = [(w.start_s, w.start_s + w.horizon_s) for w in found.windows]
        spans += [(gap.start_s, gap.end_s) for gap in found.gaps]
        covered = [at for start, end in spans for at in range(start, end, 60) if at in own]
        assert sorted(covered) == [at for at, selected in own.items() if selected]
