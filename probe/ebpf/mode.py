"""When to count flows in the kernel instead of recording each packet."""

from __future__ import annotations

from typing import Final

MAX_FILL: Final = 0.8
"""Of the ring; beyond it the reader is too slow."""
RISES: Final = 2
"""Checks in a row that find lost packets."""
CALM_S: Final = 30.0
"""For how long the rate must be under half of what was too much."""


class ModeSwitch:
    """Chooses flows when the ring overflows, packets again when the rate has long been low.

    Attributes:
        aggregate: the choice.
    """

    def __init__(self) -> None:
        self.aggregate = False
        self._rises = 0
        self._before: tuple[float, int, int] | None = None
        self._too_much = 0.0
        self._calm_since_s: float | None = None

    def check(self, now_s: float, seen: int, lost: int, fill: float) -> bool:
        """Choose anew.

        Args:
            now_s: monotonic time.
            seen: packets since the start.
            lost: packets that found the ring full, since the start.
            fill: of the ring, 0 to 1.

        Returns:
            Whether to count flows.
        """
        before, self._before = self._before, (now_s, seen, lost)
        if before is None or now_s <= before[0]:
            return self.aggregate
        rate = (seen - before[1]) / (now_s - before[0])
        if self.aggregate:
            self._look_for_calm(now_s, rate)
        else:
            self._rises = self._rises + 1 if lost > before[2] else 0
            if self._rises >= RISES or fill > MAX_FILL:
                self.aggregate = True
                self._too_much = rate
                self._calm_since_s = None
        return self.aggregate

    def _look_for_calm(self, now_s: float, rate: float) -> None:
        if rate >= self._too_much / 2:
            self._calm_since_s = None
        elif self._calm_since_s is None:
            self._calm_since_s = now_s
        elif now_s - self._calm_since_s >= CALM_S:
            self.aggregate = False
            self._rises = 0
