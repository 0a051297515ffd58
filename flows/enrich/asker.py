"""Gets an answer to a question: tries again, waits, and gives up, within budget and time."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flows import logs
from flows.detect.explanation import EnrichmentStatus
from flows.enrich import answer as answers
from flows.enrich import prompt
from flows.enrich.breaker import Breaker
from flows.enrich.budget import Budget
from flows.enrich.client import Model, ModelFault, tokens_of
from flows.settings.llm import Llm

MAX_CACHED: Final = 256
CACHE_S: Final = 3600.0
"""How long the answer to an equal question is good."""

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
        requests: that were sent.
        tokens: of questions and answers.
    """

    kind: str
    until_s: float
    requests: int = 0
    tokens: int = 0


class Asker:
    """Asks one model. Several threads use it.

    Args:
        llm: the settings.
        budget: of requests and tokens.
        breaker: of the service.
        counts: where to count.
        retry_s: pause before a try that nobody asked to wait for.
    """

    def __init__(
        self, llm: Llm, budget: Budget, breaker: Breaker, counts: Counter[str], retry_s: float
    ) -> None:
        self._llm = llm
        self._model = Model(llm)
        self._budget = budget
        self._breaker = breaker
        self._counts = counts
        self._retry_s = retry_s
        self._cache: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._lock = threading.Lock()
        self.finishing = threading.Event()
        self._closing = threading.Event()

    def close(self) -> None:
        """Give up what is under way."""
        self._closing.set()
        self._model.close()

    def ask(self, question: list[prompt.Message], bill: Bill) -> answers.Answer:
        """An answer of the right form; one that can't be read is asked for once more.

        Raises:
            GivenUp: there will be none.
            Closing: the run ends.
        """
        text = self._cached(question) or self._answer(question, bill)
        try:
            return answers.read(text)
        except answers.Unreadable as error:
            self._counts["unreadable"] += 1
            again = prompt.repair(question, str(error))
        try:
            return answers.read(self._answer(again, bill))
        except answers.Unreadable as error:
            self._counts["unreadable"] += 1
            msg = f"the answer can't be read: {error}"
            raise GivenUp(msg) from None

    def keep(self, question: list[prompt.Message], answer: answers.Answer) -> None:
        """Keep a good answer for when the same is asked again."""
        with self._lock:
            self._cache[_digest(question)] = (time.monotonic(), answer.model_dump_json())
            while len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)

    def _cached(self, question: list[prompt.Message]) -> str:
        with self._lock:
            made_s, text = self._cache.get(_digest(question), (0.0, ""))
        if not text or time.monotonic() - made_s > CACHE_S:
            return ""
        self._counts["cached"] += 1
        return text

    def _answer(self, messages: list[prompt.Message], bill: Bill) -> str:
        """What the model says, after as many tries as it takes and as there is time for."""
        tries, why = 0, ""
        while True:
            self._wait(self._breaker.wait_s, bill, why)
            try:
                return self._try(messages, bill)
            except ModelFault as fault:
                why = str(fault)
                if not fault.passing or (not fault.away and (tries := tries + 1) >= TRIES):
                    raise GivenUp(why) from None
                self._counts["retried"] += 1
                if fault.name != "form":
                    pause_s = max(fault.after_s, self._retry_s)
                    self._wait(_countdown(pause_s), bill, why)

    def _try(self, messages: list[prompt.Message], bill: Bill) -> str:
        """Send one request.

        Raises:
            ModelFault: there is no answer.
            GivenUp: the budget is spent.
        """
        entry = self._budget.begin(bill.kind, tokens_of(messages) + self._llm.max_answer_tokens)
        if entry is None:
            self._breaker.unused()
            self._counts["over_budget"] += 1
            msg = "the budget of this hour is spent (llm.requests_per_hour, llm.tokens_per_hour)"
            raise GivenUp(msg, "budget")
        bill.requests += 1
        self._counts["requests"] += 1
        tokens = 0
        try:
            reply = self._model.ask(messages, answers.schema())
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
        return reply.text

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
                within = f"{self._llm.deadline.total_seconds():.0f} s"
                msg = f"no answer within {within}: {why or 'the service is left alone'}"
                raise GivenUp(msg)
            if self.finishing.is_set() or self._closing.wait(min(seconds, rest_s, 0.25)):
                raise Closing
        if self._closing.is_set():
            raise Closing


def _countdown(seconds: float) -> Callable[[], float]:
    until_s = time.monotonic() + seconds
    return lambda: until_s - time.monotonic()


def _digest(messages: list[prompt.Message]) -> str:
    text = "\0".join(message["content"] for message in messages)
    return hashlib.sha256(f"{prompt.VERSION}\0{text}".encode()).hexdigest()
