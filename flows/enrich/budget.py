"""How much may be asked in an hour, in all and of one kind of alert."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

HOUR_S: Final = 3600.0


@dataclass
class _Spent:
    at_s: float
    kind: str
    requests: int
    tokens: int


class Budget:
    """Requests and tokens of the last hour. Safe to use from several threads.

    A request is entered with the most it can take before it is sent, and corrected by what it
    took, so that several at once can't pass the limit together.

    Args:
        requests: most in any hour.
        tokens: most in any hour.
        kind_share: share of both that one kind may take; at least one request.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        requests: int,
        tokens: int,
        kind_share: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._requests = requests
        self._tokens = tokens
        self._share = kind_share
        self._clock = clock
        self._spent: deque[_Spent] = deque()
        self._lock = threading.Lock()

    def begin(self, kind: str, tokens: int) -> _Spent | None:
        """Enter a request; None if it doesn't fit.

        Args:
            kind: of the alerts.
            tokens: most that question and answer can take.
        """
        with self._lock:
            now_s = self._clock()
            while self._spent and self._spent[0].at_s <= now_s - HOUR_S:
                self._spent.popleft()
            of_kind = [each for each in self._spent if each.kind == kind]
            fits = self._fits(list(self._spent), tokens, 1.0) and self._fits(
                of_kind, tokens, self._share
            )
            if not fits:
                return None
            entry = _Spent(now_s, kind, 1, tokens)
            self._spent.append(entry)
            return entry

    def _fits(self, spent: list[_Spent], tokens: int, share: float) -> bool:
        requests = sum(each.requests for each in spent) + 1
        used = sum(each.tokens for each in spent) + tokens
        most = max(int(self._requests * share), min(self._requests, 1))
        return requests <= most and used <= self._tokens * share

    def end(self, entry: _Spent, tokens: int) -> None:
        """A request is over, and took so many tokens."""
        with self._lock:
            entry.tokens = tokens

    def seed(self, kind: str, requests: int, tokens: int, ago_s: float) -> None:
        """Enter what an earlier run asked; the oldest first, before anything else."""
        with self._lock:
            self._spent.append(_Spent(self._clock() - ago_s, kind, requests, tokens))
