"""Gets an explanation of the right form: keeps good ones, asks once more for a broken one."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter, OrderedDict
from typing import Final

from flows.enrich import answer as answers
from flows.enrich import prompt
from flows.enrich.breaker import Breaker
from flows.enrich.budget import Budget
from flows.enrich.client import Model
from flows.enrich.faults import tokens_of
from flows.enrich.sender import Bill, GivenUp, Sender
from flows.settings.llm import Llm

MAX_CACHED: Final = 256
CACHE_S: Final = 3600.0
"""How long the answer to an equal question is good."""


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
        self._sender = Sender(budget, breaker, counts, retry_s)
        self._counts = counts
        self._cache: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._lock = threading.Lock()
        self.finishing = self._sender.finishing

    def close(self) -> None:
        """Give up what is under way."""
        self._sender.closing.set()
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
        most_tokens = tokens_of(messages) + self._llm.max_answer_tokens
        schema = answers.schema()
        return self._sender.send(lambda: self._model.ask(messages, schema), most_tokens, bill).text


def _digest(messages: list[prompt.Message]) -> str:
    text = "\0".join(message["content"] for message in messages)
    return hashlib.sha256(f"{prompt.VERSION}\0{text}".encode()).hexdigest()
