"""A capture's running totals as the differences that tables add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CaptureTotals:
    """What a capture saw and lost, as far as it has been told.

    Attributes:
        given: packets that it gave on.
        dropped: packets that it lost, by reason.
    """

    given: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)

    def advance(
        self, seen: int, dropped: Mapping[str, int]
    ) -> tuple[CaptureTotals, int, dict[str, int]]:
        """Take a newer reading.

        Its numbers are read one after the other while packets pass, so what was given on may
        seem to shrink by a few; it is told when it has grown again. What is new in seen is
        always what is new in given and in dropped.

        Returns:
            The totals to go on with, what was newly seen, and newly lost by reason.
        """
        known = self.dropped
        lost = {reason: total - known.get(reason, 0) for reason, total in dropped.items()}
        lost = {reason: count for reason, count in lost.items() if count > 0}
        given = max(seen - sum(dropped.values()), self.given)
        kept = {**known, **{reason: known.get(reason, 0) + n for reason, n in lost.items()}}
        return CaptureTotals(given, kept), given - self.given + sum(lost.values()), lost
