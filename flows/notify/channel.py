"""The way of alerts to one notifier: what waits for it, and the thread that sends."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception_type
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_when_event_set
from tenacity.wait import wait_exponential, wait_random

from flows import logs
from flows.detect.alert import Alert
from flows.detect.explanation import Explanation
from flows.errors import NetSpectraError
from flows.notify.notifier import NotTold, Recipient, Refused
from flows.notify.outbox import PAGE, Cursor, Delivery, Outbox, State, now_ms
from flows.notify.recorder import Recorder
from flows.notify.selection import NOTHING, Told
from flows.notify.text import line, presentable
from flows.notify.waiting import Waiting

MAX_OFFERED: Final = 10_000
"""Alerts that are taken in beyond those that were looked at; more are read from the store."""

MAX_WAITING: Final = 1_000
"""Revisions that wait in memory, beyond which no more are read from the store."""

MAX_KNOWN: Final = 20_000
"""Alerts of which it is kept in mind what the receiver knows."""

FIRST_PAUSE_S: Final = 1.0
"""Time after the first failed try, doubled with each that follows."""

MAX_PAUSE_S: Final = 300.0
"""Longest time between tries, whatever the receiver asks for."""

STORE_PAUSE_S: Final = 5.0


@dataclass(slots=True)
class Counts:
    """What became of the alerts of one notifier, in this run.

    Attributes:
        sent: revisions that arrived.
        retried: tries that failed and were followed by another.
        refused: revisions that the receiver won't take.
        superseded: revisions whose place a newer one took before they were sent.
        pending: revisions that wait in memory.
        spilled: offers that were left to the store, the memory being full.
    """

    sent: int = 0
    retried: int = 0
    refused: int = 0
    superseded: int = 0
    pending: int = 0
    spilled: int = 0


class Channel:
    """One notifier.

    A failed try is followed by others for as long as it takes, after longer and longer pauses;
    meanwhile the alert that failed stands behind the others, so that one that a receiver can't
    digest doesn't keep the rest from it. Revisions of one alert never change places.

    Args:
        recipient: the notifier and what it wants.
        outbox: its part of the store.
        recorder: writes down what became of each.
        explain: has words about any alert.
        first_pause_s: time after the first failed try.
    """

    def __init__(
        self,
        recipient: Recipient,
        outbox: Outbox,
        recorder: Recorder,
        explain: Callable[[Alert], Explanation],
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self.name = recipient.selection.name
        self.counts = Counts()
        self._notifier = recipient.notifier
        self._outbox = outbox
        self._recorder = recorder
        self._explain = explain
        self._waiting = Waiting(recipient.selection)
        self._offered: deque[Alert] = deque()
        self._known: OrderedDict[str, Told] = OrderedDict()
        self._tries: dict[str, int] = {}
        self._cursor = Cursor()
        self._behind = threading.Event()
        self._wake = threading.Event()
        self._finishing = threading.Event()
        self._overdue = False
        self._away = ""
        self._refusal = ""
        self._log = logs.get("notify").bind(notifier=self.name)
        self._growing_s = wait_exponential(first_pause_s) + wait_random(0, first_pause_s)
        self._retrying = Retrying(
            retry=retry_if_exception_type(NotTold),
            wait=self._pause_s,
            sleep=sleep_using_event(self._finishing),
            stop=stop_when_event_set(self._finishing),
            before_sleep=self._failed,
        )
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"notify-{self.name}")
        self._thread.start()

    def resume(self) -> None:
        """Send what an earlier run left.

        Raises:
            StoreError: the store refused or is away.
        """
        self._outbox.begin()
        self._behind.set()
        self._wake.set()

    def offer(self, alert: Alert) -> None:
        """Take a revision; never waits."""
        if self._behind.is_set() or len(self._offered) >= MAX_OFFERED:
            self.counts.spilled += 1
            self._behind.set()
        else:
            self._offered.append(alert)
        self._wake.set()

    def finish(self) -> None:
        """Send what waits, then end; after a failed try at once."""
        self._finishing.set()
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the end; a thread that isn't there in time ends after what it has begun."""
        self._thread.join(timeout_s)
        self._overdue = True
        if left := len(self._waiting) + len(self._offered):
            self._log.info("alerts wait for the next run", alerts=left)

    def _run(self) -> None:
        try:
            while not self._overdue and self._step():
                pass
        except RetryError:
            pass  # told to end while the receiver is away
        finally:
            self._notifier.close()

    def _step(self) -> bool:
        """Do the next thing; false when there is none and none will come."""
        self._take_in()
        if self._waiting:
            self._retrying(self._send_next)
        elif self._behind.is_set():
            return self._read_back()
        elif self._finishing.is_set():
            return False
        else:
            self._wake.wait()
            self._wake.clear()
        return True

    def _take_in(self) -> None:
        while self._offered:
            alerts = [self._offered.popleft() for _ in range(min(len(self._offered), PAGE))]
            self._put(alerts)

    def _read_back(self) -> bool:
        """Take what waits in the store; false when that fails and there is no time left."""
        # Before reading: what is stored from now on is offered again.
        self._behind.clear()
        cursor: Cursor | None = self._cursor
        try:
            while cursor is not None and len(self._waiting) < MAX_WAITING:
                alerts, cursor = self._outbox.pending(cursor)
                self._put(alerts)
        except NetSpectraError as error:
            self._behind.set()
            self._log.warning("can't read waiting alerts from the store", why=str(error))
            return not self._finishing.wait(STORE_PAUSE_S)
        if cursor is not None:
            self._behind.set()
        self._cursor = cursor or Cursor()
        return True

    def _put(self, alerts: Sequence[Alert]) -> None:
        self._look_up([a.alert_id for a in alerts if a.alert_id not in self._known])
        for alert in alerts:
            told = self._known.get(alert.alert_id, NOTHING)
            for old in self._waiting.put(alert, told):
                self.counts.superseded += 1
                if not old.is_explained:
                    # Otherwise the revision itself was told, and its explanation still may be.
                    self._end(old, "superseded", f"revision {alert.revision} took its place")
        self.counts.pending = len(self._waiting)

    def _look_up(self, alert_ids: Sequence[str]) -> None:
        """Ask the store what an earlier run told of alerts; at worst they are told again."""
        if not alert_ids:
            return
        try:
            told = self._outbox.told(alert_ids)
        except NetSpectraError as error:
            self._log.warning("can't read from the store what was told", why=str(error))
            return
        for alert_id in alert_ids:
            self._know(alert_id, told.get(alert_id, NOTHING))

    def _know(self, alert_id: str, told: Told) -> None:
        self._known[alert_id] = told
        self._known.move_to_end(alert_id)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def _send_next(self) -> None:
        """Try to tell of one revision.

        Raises:
            NotTold: it didn't arrive; another one may go before it at the next try.
        """
        self._take_in()
        alert = self._waiting.next()
        self._tries[alert.delivery_id] = self._tries.get(alert.delivery_id, 0) + 1
        state: State = "refused"
        try:
            detail = self._notifier.send(presentable(self._explained(alert)))
            state = "delivered"
        except NotTold:
            self._waiting.postpone(alert)
            raise
        except Refused as error:
            detail = str(error)
        except Exception as error:
            # A fault of ours must not keep other alerts from being told.
            detail = f"{type(error).__name__} in the notifier: {error}"
        self._waiting.remove(alert)
        self._know(alert.alert_id, Told.by(alert))
        self._end(alert, state, detail)
        self._account(alert, state, detail)

    def _explained(self, alert: Alert) -> Alert:
        """The alert with some words about it: those of a template until there are better ones."""
        if alert.explanation is not None:
            return alert
        return replace(alert, explanation=self._explain(alert))

    def _account(self, alert: Alert, state: State, detail: str) -> None:
        self.counts.pending = len(self._waiting)
        if self._away:
            self._log.info("notifier is back")
            self._away = ""
        if state == "delivered":
            self.counts.sent += 1
            self._log.debug("alert sent", delivery=alert.delivery_id)
            return
        self.counts.refused += 1
        if detail != self._refusal:
            self._refusal = detail
            self._log.warning("alert refused", delivery=alert.delivery_id, why=detail)

    def _end(self, alert: Alert, state: State, detail: str) -> None:
        tries = self._tries.pop(alert.delivery_id, 0)
        self._recorder.put(
            Delivery(
                alert.alert_id,
                alert.revision,
                self.name,
                state,
                tries,
                line(detail),
                now_ms(),
                alert.is_explained,
            )
        )

    def _pause_s(self, state: RetryCallState) -> float:
        wanted_s = max(self._growing_s(state), _fault(state).after_s)
        return min(wanted_s, MAX_PAUSE_S)

    def _failed(self, state: RetryCallState) -> None:
        self.counts.retried += 1
        self._away = str(_fault(state))
        again_s = round(state.next_action.sleep, 1) if state.next_action else 0
        self._log.warning("alert not sent, trying again", why=self._away, again_s=again_s)


def _fault(state: RetryCallState) -> NotTold:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, NotTold)
    return error
