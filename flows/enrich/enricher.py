"""Explains alerts beside the dataflow: by templates all of them, by the model those that it may."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from flows import logs
from flows.detect.alert import Alert
from flows.enrich import rows
from flows.enrich.breaker import FIRST_PAUSE_S
from flows.enrich.rows import NOTHING, Enrichment, EnrichmentStore
from flows.enrich.stage import Hear, ModelStage
from flows.enrich.templates import Templates
from flows.errors import StoreError
from flows.settings import Settings

MAX_OFFERED: Final = 10_000
"""Revisions that wait in memory; more are read from the store later."""

MAX_BATCH: Final = 2000
"""Revisions that are explained in one step, so that they share an insert and a question."""

GATHER_S: Final = 0.5
"""Time for which alerts are gathered: those of one pane come within it."""

_PAUSE_S: Final = 2.0


class Enricher:
    """What the dataflow hands alerts to once they are stored.

    Each revision that fires, goes on, is muted or ends gets the words of a template, within a
    second. With ``llm`` on, alerts that fire are also marked ``pending`` and put to the model.
    Nothing here holds up or fails the dataflow, and nothing is forgotten: what isn't in the store
    when the process dies is found there as missing by ``resume``.

    Args:
        settings: of the run.
        store: that has ``alerts_log``; several threads use it.
        tell: told of alerts that the model has explained (``Alert.explanation``), such as
            ``Dispatcher.offer``.
        first_pause_s: for which a service that doesn't work is left alone first.

    Attributes:
        counts: what happened. Alerts by how it ended: ``templates``, ``done``, ``partial``,
            ``failed``, ``budget``; ``requests``, ``tokens``, ``cached``, ``retried``, ``opened``
            (of the breaker), ``struck`` claims; and faults by name: ``timeout``, ``connection``,
            ``rate_limited``, ``server_error``, ``refused``, ``refusal``, ``truncated``, ``cut``,
            ``malformed``, ``unreadable``, ``unsupported``, ``overdue``, ``store``.
    """

    def __init__(
        self,
        settings: Settings,
        store: EnrichmentStore,
        tell: Sequence[Hear] = (),
        *,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._store = store
        self._templates = Templates(settings.networks)
        self._stage = (
            ModelStage(settings, store, tell, self.counts, first_pause_s)
            if settings.llm.on
            else None
        )
        self._offered: deque[Alert] = deque()
        self._behind = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._working = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="enrich")
        self._thread.start()

    def offer(self, alert: Alert) -> None:
        """Tell of a revision that is stored; returns at once."""
        if alert.event in ("pending", "dropped") or alert.explanation is not None:
            return
        if len(self._offered) >= MAX_OFFERED:
            self.counts["spilled"] += 1
            self._behind = True
        else:
            self._offered.append(alert)
        self._wake.set()

    def resume(self) -> None:
        """Take up what an earlier run left; call it before the first ``offer``.

        Raises:
            StoreError: the store refused or is away.
        """
        if self._stage is not None:
            left = self._stage.resume()
            if left:
                self._stage.take(left)
        self._behind = True
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Whether everything that was offered is dealt with."""
        waits = self._offered or self._behind or self._working
        return not waits and (self._stage is None or self._stage.idle)

    def close(self, timeout_s: float = 5.0) -> None:
        """Finish what can be finished in time; the rest is taken up by the next run."""
        until_s = time.monotonic() + timeout_s
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout_s)
        if self._stage is not None:
            self._stage.close(until_s)
            told = {name: n for name, n in sorted(self.counts.items()) if n}
            logs.get("enrich").info("alerts put to the language model", **told)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._closing.wait(GATHER_S)
            self._wake.clear()
            self._working = True
            try:
                self._step()
            except StoreError as error:
                self.counts["store"] += 1
                logs.get("enrich").warning("explanations can't be stored", why=str(error))
                self._behind = True
                if self._closing.wait(_PAUSE_S):
                    return
            finally:
                self._working = False
            if self._offered or self._behind:
                self._wake.set()
            elif self._closing.is_set():
                return

    def _step(self) -> None:
        """Explain what was offered, else what the store says is left.

        Raises:
            StoreError: the store refused or is away; what was taken is found there again.
        """
        batch = [self._offered.popleft() for _ in range(min(len(self._offered), MAX_BATCH))]
        if not batch and self._behind:
            self._behind = False
            batch = rows.unexplained(self._store)
            self._behind = len(batch) == rows.PAGE
        # Of each alert the newest revision says it all.
        newest = {alert.alert_id: alert for alert in sorted(batch, key=lambda a: a.revision)}
        if not newest:
            return
        found = [
            Enrichment(a.alert_id, a.revision, "none", self._templates.explain(a))
            for a in newest.values()
        ]
        wanted = [a for a in newest.values() if self._stage is not None and self._stage.wants(a)]
        pending = [a for a in wanted if self._stage is not None and self._stage.is_new(a)]
        found += [Enrichment(a.alert_id, a.revision, "pending", NOTHING) for a in pending]
        rows.write(self._store, found)
        self.counts["templates"] += len(newest)
        if self._stage is not None:
            self._stage.note(newest.values())
            if wanted:
                self._stage.take(wanted)
