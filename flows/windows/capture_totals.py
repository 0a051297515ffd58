"""A capture's running totals as the differences that tables add up."""

from __future__ import annotations

from collections.abc import Mapping


class CaptureTotals:
    """What a capture saw and lost, as far as it has been told."""

    def __init__(self) -> None:
        self._given = 0
        self._dropped: dict[str, int] = {}

    def advance(self, seen: int, dropped: Mapping[str, int]) -> tuple[int, dict[str, int]]:
        """Take new totals; returns how much was seen, and lost by reason, since the last.

        Totals are read one after the other while packets pass, so what was given on may seem to
        shrink by a few; it is told when it has grown again. What was seen is always what was
        given on and what was lost.
        """
        given = max(seen - sum(dropped.values()), self._given)
        new_given, self._given = given - self._given, given
        new_dropped: dict[str, int] = {}
        for reason, total in dropped.items():
            known = self._dropped.get(reason, 0)
            if total > known:
                new_dropped[reason] = total - known
                self._dropped[reason] = total
        return new_given + sum(new_dropped.values()), new_dropped
