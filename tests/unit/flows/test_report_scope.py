"""What traffic a report is about."""

from __future__ import annotations

from flows.report.scope import Scope


def test_a_condition_is_one_of_several() -> None:
    """The user's condition can't take back those on tenant and time."""
    assert Scope("t", 0, 1, "a = 1 OR b = 2").flows.endswith("AND (a = 1 OR b = 2)")
    assert Scope("t", 0, 1).flows == Scope("t", 0, 1).panes


def test_windows_that_overlap_belong_to_the_span() -> None:
    """A window of 600 s that begins before the span and ends in it is asked for."""
    scope = Scope("t", 1_000_000_000_000, 2_000_000_000_000)
    assert "+ 1000 * horizon > 1000000" in scope.windows
    assert "< 2000000" in scope.windows
