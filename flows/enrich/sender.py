"""Sends requests to the model: tries again, waits, and gives up, within budget and time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from flows import logs
from flows.detect.explanation import EnrichmentStatus
from flows.enrich.breaker import Breaker
from flows.enrich.budget import Budget
from flows.enrich.faults import ModelFault

TRIES: Final = 4
"""Of one question, when the service itself works."""

RETRY_S: Final = 1.0


class Closing(Exception):
    """The run ends; what is under way stays pending."""


class GivenUp(Exception):
    """There will be no answer that can be used; why, in one line.

    Args:
        why: for people.
        status: how that is called.
    """

    def __init__(self, why: str, status: EnrichmentStatus = "failed") -> None:
        super().__init__(why)
        self.status = status


@dataclass
class Bill:
    """What a question may take and has taken.

    Attributes:
        kind: of the alerts, for the budget.
        until_s: end of the time for it, on the monotonic clock.
        within_s: how long that time was.
        requests: that were sent.
        tokens: of questions and answers.
    """

    kind: str
    until_s: float
    within_s: float
    requests: int = 0
    tokens: int = 0

    @classmethod
    def of(cls, kind: str, within_s: float) -> Bill:
        """A bill whose time begins now."""
        return cls(kind, time.monotonic() + within_s, within_s)


class Counted(Protocol):
    """What comes back, with the tokens that it took."""

    @property
    def tokens(self) -> int:
        """Tokens of the question and the answer."""


T = TypeVar("T", bound=Counted)


class Sender:
    """Has requests sent. Several threads use it.

    Args:
        budget: of requests and tokens.
        breaker: of the service.
        counts: where to count.
        retry_s: pause before a try that nobody asked to wait for.
        most_away: tries of one question while the service doesn't work; 0: as many as there is
            time for.

    Attributes:
        finishing: set it, and nobody waits for a service any more.
        closing: set it, and nothing more is sent.
    """

    def __init__(
        self,
        budget: Budget,
        breaker: Breaker,
        counts: Counter[str],
        retry_s: float = RETRY_S,
        *,
        most_away: int = 0,
    ) -> None:
        self._budget = budget
        self._breaker = breaker
        self._counts = counts
        self._retry_s = retry_s
        self._most_away = most_away
        self.finishing = threading.Event()
        self.closing = threading.Event()

    def send(self, request: Callable[[], T], most_tokens: int, bill: Bill) -> T:
        """What comes back, after as many tries as it takes and as there is time for.

        Args:
            request: sends it; raises ``ModelFault``.
            most_tokens: that question and answer can take.
            bill: of the question.

        Raises:
            GivenUp: nothing will come back.
            Closing: the run ends.
        """
        tries, away, why = 0, 0, ""
        while True:
            self._wait(self._breaker.wait_s, bill, why)
            try:
                return self._try(request, most_tokens, bill)
            except ModelFault as fault:
                why = str(fault)
                tries, away = tries + (not fault.away), away + fault.away
                if not fault.passing or tries >= TRIES or 0 < self._most_away <= away:
                    raise GivenUp(why) from None
                if self._most_away and fault.after_s > bill.until_s - time.monotonic():
                    msg = f"{why}; it wants to be left alone for {fault.after_s:.0f} s"
                    raise GivenUp(msg) from None
                self._counts["retried"] += 1
                if fault.name != "form":
                    pause_s = max(fault.after_s, self._retry_s)
                    self._wait(_countdown(pause_s), bill, why)

    def _try(self, request: Callable[[], T], most_tokens: int, bill: Bill) -> T:
        """Send one request.

        Raises:
            ModelFault: there is no answer.
            GivenUp: the budget is spent.
        """
        entry = self._budget.begin(bill.kind, most_tokens)
        if entry is None:
            self._breaker.unused()
            self._counts["over_budget"] += 1
            msg = "the budget of this hour is spent (llm.requests_per_hour, llm.tokens_per_hour)"
            raise GivenUp(msg, "budget")
        bill.requests += 1
        self._counts["requests"] += 1
        tokens = 0
        try:
            reply = request()
            tokens = reply.tokens
        except ModelFault as fault:
            tokens = fault.tokens
            self._counts[fault.name] += 1
            self._heed(fault)
            raise
        finally:
            self._budget.end(entry, tokens)
            bill.tokens += tokens
            self._counts["tokens"] += tokens
        self._breaker.succeeded()
        return reply

    def _heed(self, fault: ModelFault) -> None:
        """Tell the breaker what a fault says of the service."""
        if not fault.away:
            self._breaker.succeeded()
            return
        if self._breaker.failed(fault.after_s):
            self._counts["opened"] += 1
            logs.get("enrich").warning("the language model is left alone", why=str(fault))

    def _wait(self, left_s: Callable[[], float], bill: Bill, why: str) -> None:
        """Wait until nothing is left to wait for.

        Raises:
            GivenUp: that takes longer than there is time for.
            Closing: the run ends; a run that is finishing doesn't wait for a service.
        """
        while (seconds := left_s()) > 0:
            rest_s = bill.until_s - time.monotonic()
            if rest_s <= 0:
                self._counts["overdue"] += 1
                within = f"{bill.within_s:.0f} s"
                msg = f"no answer within {within}: {why or 'the service is left alone'}"
                raise GivenUp(msg)
            if self.finishing.is_set() or self.closing.wait(min(seconds, rest_s, 0.25)):
                raise Closing
        if self.closing.is_set():
            raise Closing


def _countdown(seconds: float) -> Callable[[], float]:
    until_s = time.monotonic() + seconds
    return lambda: until_s - time.monotonic()
