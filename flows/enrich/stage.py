"""Asks the model about situations, in threads of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from flows import logs
from flows.detect.alert import Alert, Severity, Status
from flows.detect.explanation import EnrichmentStatus, Explanation
from flows.enrich import prompt, rows
from flows.enrich.asker import Asker
from flows.enrich.breaker import FIRST_PAUSE_S, Breaker
from flows.enrich.budget import Budget
from flows.enrich.check import check
from flows.enrich.compose import compose
from flows.enrich.context import is_settled, surroundings
from flows.enrich.destination import hides
from flows.enrich.pack import pack
from flows.enrich.pseudonyms import Pseudonyms
from flows.enrich.rows import Enrichment, EnrichmentStore
from flows.enrich.sender import RETRY_S, Bill, Closing, GivenUp
from flows.enrich.situation import Situation, situations
from flows.errors import StoreError
from flows.settings import Settings

GROWTH: Final = 10
"""Times its value or members that make an alert worth explaining anew."""

MAX_KNOWN: Final = 20_000

SETTLE_S: Final = 5.0
"""How long flows may take to be stored after their alert was."""

_LOOK_S: Final = 0.25
_STORE_PAUSE_S: Final = 2.0

Hear = Callable[[Alert], None]
"""Is told of an alert with its explanation; must not block or fail."""


@dataclass(frozen=True)
class _Known:
    """What was explained of an alert: how often, how large it was, and what it is by now."""

    times: int = 1
    value: float = 0.0
    members: int = 0
    newest: Alert | None = None


Case = tuple[Situation, Bill]


class ModelStage:
    """Explains alerts by the model.

    Args:
        settings: of the run; ``llm`` is on.
        store: with the alerts.
        tell: told of alerts that were explained.
        counts: where to count.
        first_pause_s: for which a service that doesn't work is left alone first.
    """

    def __init__(
        self,
        settings: Settings,
        store: EnrichmentStore,
        tell: Sequence[Hear],
        counts: Counter[str],
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        llm = settings.llm
        self._settings = settings
        self._llm = llm
        self._store = store
        self._tell = tell
        self._counts = counts
        self._hides = hides(llm)
        self._least = Severity[llm.min_severity]
        self._nothing = replace(rows.NOTHING, model=llm.model or "", prompt_version=prompt.VERSION)
        self._budget = Budget(llm.requests_per_hour, llm.tokens_per_hour, llm.kind_share)
        retry_s = min(RETRY_S, first_pause_s)
        self._asker = Asker(llm, self._budget, Breaker(first_pause_s), counts, retry_s)
        self._cases: deque[Case] = deque()
        self._ready = threading.Condition()
        self._busy = 0
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._threads = [
            threading.Thread(target=self._work, daemon=True, name=f"enrich-{n}")
            for n in range(llm.concurrency)
        ]
        for thread in self._threads:
            thread.start()

    def resume(self) -> list[Alert]:
        """Take up what an earlier run spent, explained and left; returns what it left.

        Raises:
            StoreError: the store refused or is away.
        """
        for kind, requests, tokens, ago_s in rows.spent(self._store):
            self._budget.seed(kind, requests, tokens, ago_s)
        for alert_id, value, members in rows.explained(self._store):
            self._known[alert_id] = _Known(1, value, members)
        return rows.waiting(self._store)

    def wants(self, alert: Alert) -> bool:
        """Whether the model is to be asked about a revision."""
        named = self._llm.detectors
        if alert.status is not Status.firing or alert.severity < self._least:
            return False
        if named and alert.detector not in named and alert.rule not in named:
            return False
        known = self._known.get(alert.alert_id)
        if known is None:
            return True
        grown = alert.value >= GROWTH * known.value > 0
        grown = grown or alert.member_count >= GROWTH * known.members > 0
        return grown and known.times < self._llm.max_per_alert

    def is_new(self, alert: Alert) -> bool:
        """Whether nothing was asked about the alert before."""
        return alert.alert_id not in self._known

    def note(self, alerts: Iterable[Alert]) -> None:
        """Take note of newer revisions: who is told of an explanation is told of the newest."""
        for alert in alerts:
            known = self._known.get(alert.alert_id)
            if known is not None:
                self._known[alert.alert_id] = replace(known, newest=alert)

    def take(self, alerts: Sequence[Alert]) -> None:
        """Ask about alerts, those that belong together at once; returns immediately."""
        for alert in alerts:
            known = self._known.get(alert.alert_id)
            times = known.times + 1 if known is not None else 1
            self._known[alert.alert_id] = _Known(times, alert.value, alert.member_count, alert)
            self._known.move_to_end(alert.alert_id)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        within_s = self._llm.deadline.total_seconds()
        with self._ready:
            self._cases += [(each, Bill.of(each.kind, within_s)) for each in situations(alerts)]
            self._ready.notify_all()

    @property
    def idle(self) -> bool:
        """Whether nothing waits or is under way."""
        with self._ready:
            return not self._cases and not self._busy

    def close(self, until_s: float) -> None:
        """Finish what waits if it can be done in time; the rest stays pending in the store.

        Args:
            until_s: end of the time for it, on the monotonic clock.
        """
        with self._ready:
            self._asker.finishing.set()
            self._ready.notify_all()
        for thread in self._threads:
            thread.join(max(until_s - time.monotonic(), 0.0))
        self._asker.close()
        with self._ready:
            left = len(self._cases) + self._busy
            self._cases.clear()
        if left:
            logs.get("enrich").info("situations wait for the next run", situations=left)

    def _work(self) -> None:
        while True:
            with self._ready:
                while not self._cases:
                    if self._asker.finishing.is_set():
                        return
                    self._ready.wait()
                situation, bill = self._cases.popleft()
                self._busy += 1
            try:
                self._handle(situation, bill)
            except Closing:
                pass
            finally:
                with self._ready:
                    self._busy -= 1

    def _handle(self, situation: Situation, bill: Bill) -> None:
        """Explain a situation, or say that it isn't explained, and why.

        Raises:
            Closing: the run ends.
        """
        try:
            status, reason, found = self._explain(situation, bill)
        except GivenUp as error:
            status, reason = error.status, str(error)
        except Closing:
            raise
        except Exception as error:
            # A fault of ours must not keep other alerts from being explained.
            self._counts["faults"] += 1
            status, reason = "failed", f"{type(error).__name__} while explaining it"
        else:
            self._finish(situation, bill, status, reason, found)
            return
        log = logs.get("enrich")
        log.info("not explained by the model", situation=situation.name, why=reason)
        nothing = [self._nothing] * len(situation.alerts)
        self._finish(situation, bill, status, reason, nothing)

    def _explain(
        self, situation: Situation, bill: Bill
    ) -> tuple[EnrichmentStatus, str, list[Explanation]]:
        names = {
            "probe": {alert.probe for alert in situation.alerts},
            "rule": {rule.name for rule in self._settings.rules},
        }
        self._settle(situation.alerts[0])
        hidden = Pseudonyms(self._settings.networks, names, off=not self._hides)
        sent = pack(situation, surroundings(self._store, situation), hidden)
        question = prompt.question(sent)
        answer = self._asker.ask(question, bill)
        checked = check(answer, sent)
        self._counts["struck"] += checked.struck
        why = ", ".join(sorted(set(checked.reasons)))
        if not checked.bears:
            self._counts["unsupported"] += 1
            msg = f"the evidence doesn't bear the answer: {why}"
            raise GivenUp(msg)
        self._asker.keep(question, answer)
        explain = compose(checked, sent, hidden, self._nothing.model, prompt.VERSION)
        found = [explain(alert) for alert in situation.alerts]
        if checked.struck:
            return "partial", f"{checked.struck} claims struck: {why}", found
        return "done", "", found

    def _settle(self, alert: Alert) -> None:
        """Wait for the flows behind an alert, which may be stored after it."""
        until_s = time.monotonic() + SETTLE_S
        while not is_settled(self._store, alert) and time.monotonic() < until_s:
            if self._asker.finishing.wait(_LOOK_S):
                return

    def _finish(
        self,
        situation: Situation,
        bill: Bill,
        status: EnrichmentStatus,
        reason: str,
        found: Sequence[Explanation],
    ) -> None:
        """Store how it ended, and tell of explanations.

        Raises:
            Closing: the run ends before the store takes it.
        """
        written = [
            Enrichment(alert.alert_id, alert.revision, status, each, reason, situation.name)
            for alert, each in zip(situation.alerts, found, strict=True)
            # An earlier explanation is better than none.
            if each.assessment or self._known.get(alert.alert_id, _Known()).times == 1
        ]
        if written:
            written[0] = replace(written[0], requests=bill.requests, tokens=bill.tokens)
            self._write(written)
        self._counts[status] += len(found)
        for alert, explanation in zip(situation.alerts, found, strict=True):
            if explanation.assessment:
                newest = self._known.get(alert.alert_id, _Known()).newest or alert
                for hear in self._tell:
                    hear(replace(newest, explanation=explanation))

    def _write(self, written: Sequence[Enrichment]) -> None:
        while True:
            try:
                rows.write(self._store, written)
            except StoreError as error:
                self._counts["store"] += 1
                logs.get("enrich").warning("an explanation can't be stored", why=str(error))
                if self._asker.finishing.wait(_STORE_PAUSE_S):
                    raise Closing from None
            else:
                return
