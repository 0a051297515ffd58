"""One question, from the first request to the last claim, within limits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flows.enrich import prompt
from flows.enrich.ask.claims import Cutter, Said, fault
from flows.enrich.ask.lookup import Lookup, Ran
from flows.enrich.ask.scope import Ask, Scope
from flows.enrich.client import Model
from flows.enrich.faults import ModelFault, tokens_of
from flows.enrich.pack import Row
from flows.enrich.pseudonyms import Pseudonyms
from flows.enrich.sender import Bill, GivenUp, Sender
from flows.enrich.turn import Call, Turn
from flows.notify.text import line

MAX_QUESTION_CHARS: Final = 2000

LAST_CALL: Final = (
    "No more calls. Answer now from the rows that you have, in the form that was asked for."
)
_NOTHING_HELD: Final = (
    "None of that is shown, for: {why}. Answer once more; end each line with the rows that bear "
    "it, such as [R2], and write only what stands in them."
)


@dataclass(frozen=True)
class Allowance:
    """What one question may take.

    Attributes:
        rounds: requests to the model that may call tools.
        calls: of tools, in all.
        tokens: of all requests and answers.
        seconds: in all.
    """

    rounds: int = 8
    calls: int = 20
    tokens: int = 120_000
    seconds: float = 180.0


@dataclass(frozen=True)
class Exchange:
    """A question that was answered before, and what was said."""

    question: str
    answer: str


@dataclass
class Answer:
    """What became of a question.

    Attributes:
        claims: that hold, as they are shown, with their rows.
        struck: why others were struck, one for each.
        cited: rows that the claims cite.
        ran: statements that were run.
        requests: that were sent.
        tokens: of them and their answers.
        seconds: that it took.
        fault: why it broke off; empty if it didn't.
    """

    claims: list[Said] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)
    cited: list[Row] = field(default_factory=list)
    ran: list[Ran] = field(default_factory=list)
    requests: int = 0
    tokens: int = 0
    seconds: float = 0.0
    fault: str = ""

    @property
    def text(self) -> str:
        """The claims as one text, without their rows."""
        return "\n".join(said.claim.text for said in self.claims)


class Hearer:
    """Is told what happens as it happens; by default it doesn't care."""

    def running(self, call: Call) -> None:
        """The model calls a tool; names in its arguments are pseudonyms."""

    def said(self, said: Said) -> None:
        """A claim holds."""


class Dialog:
    """Answers questions, one after the other.

    Args:
        model: that is asked.
        sender: has requests sent within the budget.
        counts: where to count: ``rounds``, ``calls``, ``struck``, ``exhausted``, ``repaired``.
        limits: of each question.
    """

    def __init__(
        self,
        model: Model,
        sender: Sender,
        counts: Counter[str],
        most_answer_tokens: int,
        limits: Allowance | None = None,
    ) -> None:
        self._model = model
        self._sender = sender
        self._counts = counts
        self._most_answer_tokens = most_answer_tokens
        self._limits = limits or Allowance()

    def answer(
        self,
        question: str,
        before: Sequence[Exchange],
        ask: Ask,
        scope: Scope,
        hidden: Pseudonyms,
        hearer: Hearer | None = None,
    ) -> Answer:
        """Answer a question. What breaks it off is said in the answer, which has what there was.

        Args:
            question: of the user.
            before: what was asked and said before, the oldest first.
            ask: of the store.
            scope: what the question is about.
            hidden: pseudonyms for it.
            hearer: told what happens.

        Raises:
            StoreError: the store is away.
        """
        sent = hidden.hide(line(question, MAX_QUESTION_CHARS))
        lookup = Lookup(ask, scope, hidden, sent)
        one = _Question(self, lookup, hidden, hearer or Hearer(), self._limits)
        began_s = time.monotonic()
        try:
            one.run(_opening(sent, before, lookup, hidden))
        except GivenUp as error:
            one.found.fault = str(error)
        found = one.found
        names = {name for said in found.claims for name in said.claim.rows}
        found.cited = [row for row in lookup.rows if row.name in names]
        found.ran = lookup.ran
        found.requests, found.tokens = one.bill.requests, one.bill.tokens
        found.seconds = time.monotonic() - began_s
        return found


def _opening(
    question: str, before: Sequence[Exchange], lookup: Lookup, hidden: Pseudonyms
) -> list[dict[str, Any]]:
    messages = [{"role": "system", "content": prompt.text(prompt.ASK_VERSION)}]
    for exchange in before:
        messages.append({"role": "user", "content": hidden.hide(exchange.question)})
        messages.append({"role": "assistant", "content": hidden.hide(exchange.answer)})
    messages.append({"role": "user", "content": f"{lookup.begin()}\nQuestion: {question}"})
    return messages


class _Question:
    """The run of one question."""

    def __init__(
        self, dialog: Dialog, lookup: Lookup, hidden: Pseudonyms, hearer: Hearer, limits: Allowance
    ) -> None:
        self._dialog = dialog
        self._lookup = lookup
        self._hidden = hidden
        self._hearer = hearer
        self._limits = limits
        self._tools = lookup.tools()
        self._counts = dialog._counts
        self._calls = 0
        self._uncited: list[str] = []
        self.bill = Bill.of("ask", limits.seconds)
        self.found = Answer()

    def run(self, messages: list[dict[str, Any]]) -> None:
        """Ask, look up, ask again, until there is an answer.

        Raises:
            GivenUp: there is none, or it breaks off.
            StoreError: the store is away.
        """
        may_call, repaired = True, False
        for number in range(1, self._limits.rounds + 3):
            self._counts["rounds"] += 1
            if may_call and (number >= self._limits.rounds or self._calls >= self._limits.calls):
                may_call = False
                self._counts["exhausted"] += 1
                messages.append({"role": "user", "content": LAST_CALL})
            turn = self._turn(messages, may_call)
            messages.append(turn.as_message())
            if turn.calls:
                if not may_call:
                    msg = f"the model asks for more queries than it may ({self._limits.calls})"
                    raise GivenUp(msg)
                messages += [self._called(call) for call in turn.calls]
                continue
            self._strike(self._uncited)
            if self.found.claims or repaired:
                break
            repaired, may_call = True, False
            self._counts["repaired"] += 1
            why = ", ".join(sorted(set(self.found.struck))) or "nothing was said"
            messages.append({"role": "user", "content": _NOTHING_HELD.format(why=why)})
        if not self.found.claims:
            msg = "nothing of the answer is borne by the rows of the store"
            raise GivenUp(msg)

    def _turn(self, messages: Sequence[dict[str, Any]], may_call: bool) -> Turn:
        """One request, heard claim by claim."""
        self._in_time()
        cutter, heard = Cutter(), False
        self._uncited = []
        most_tokens = tokens_of(messages, self._tools) + self._dialog._most_answer_tokens
        if self.bill.tokens + most_tokens > self._limits.tokens:
            msg = f"the question takes more than {self._limits.tokens:,} tokens"
            raise GivenUp(msg, "budget")

        def hear(words: str) -> None:
            nonlocal heard
            for said in cutter.feed(words):
                heard = True
                self._judge(said)

        def request() -> Turn:
            nonlocal cutter
            # Half a claim of a try that broke off is no beginning of the next.
            cutter = Cutter()
            try:
                return self._dialog._model.turn(messages, self._tools, hear, may_call=may_call)
            except ModelFault as broken:
                # What was said can't be taken back, so it isn't asked for again.
                if heard:
                    broken.passing = False
                raise

        turn = self._dialog._sender.send(request, most_tokens, self.bill)
        for said in cutter.rest():
            self._judge(said)
        return turn

    def _in_time(self) -> None:
        """Hold to the time of the question.

        Raises:
            GivenUp: it is over.
        """
        if time.monotonic() > self.bill.until_s:
            msg = f"it takes longer than {self._limits.seconds:.0f} s"
            raise GivenUp(msg)

    def _judge(self, said: Said) -> None:
        why = fault(said, self._lookup.pack())
        if not why:
            shown = Said(
                said.claim.model_copy(update={"text": self._hidden.restore(said.claim.text)}),
                said.remark,
            )
            if shown not in self.found.claims:
                self.found.claims.append(shown)
                self._hearer.said(shown)
        elif said.claim.rows:
            self._strike([why])
        else:
            # Words between calls claim nothing yet; those of the answer do.
            self._uncited.append(why)

    def _strike(self, reasons: Sequence[str]) -> None:
        self.found.struck += reasons
        self._counts["struck"] += len(reasons)

    def _called(self, call: Call) -> dict[str, Any]:
        self._in_time()
        self._calls += 1
        self._counts["calls"] += 1
        if self._calls > self._limits.calls:
            told = f"Refused: {self._limits.calls} calls are the most for one question."
        else:
            self._hearer.running(call)
            told = self._lookup.answer(call)
        return {"role": "tool", "tool_call_id": call.id, "content": told}
