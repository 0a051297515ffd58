"""Hands alerts to the notifiers, each of which has a thread of its own: none is waited for."""

from __future__ import annotations

import time

from flows.detect.alert import Alert
from flows.enrich.templates import Templates
from flows.notify.channel import FIRST_PAUSE_S, Channel, Counts
from flows.notify.make import recipients
from flows.notify.outbox import Outbox, OutboxStore
from flows.notify.recorder import Recorder
from flows.settings import Settings


class Dispatcher:
    """All notifiers of the settings.

    Alerts must be in the store before they are offered: from there come those that a kill, a full
    memory or a receiver that is away left over. ``updated_at`` there must be the clock's time.

    Args:
        settings: of the run.
        store: that has ``alerts_log`` and ``alert_deliveries``; several threads use it.
        first_pause_s: time after the first failed try; each further one doubles it.

    Raises:
        UsageError: a notifier can't be made of its settings.
    """

    def __init__(
        self, settings: Settings, store: OutboxStore, first_pause_s: float = FIRST_PAUSE_S
    ) -> None:
        found = recipients(settings)
        self._recorder = Recorder(store)
        explain = Templates(settings.networks).explain
        self._channels = [
            Channel(each, Outbox(store, each.selection), self._recorder, explain, first_pause_s)
            for each in found
        ]

    @property
    def counts(self) -> dict[str, Counts]:
        """What became of the alerts, by notifier."""
        return {channel.name: channel.counts for channel in self._channels}

    def resume(self) -> None:
        """Send what an earlier run left; call it before the first ``offer``, in one process.

        A notifier that is new is told of what comes from here on.

        Raises:
            StoreError: the store refused or is away.
        """
        for channel in self._channels:
            channel.resume()

    def offer(self, alert: Alert) -> None:
        """Hand over a revision that is stored; never waits."""
        for channel in self._channels:
            channel.offer(alert)

    def close(self, timeout_s: float = 5.0) -> None:
        """Send what waits if it can be done in time; the rest is left to the next run.

        Receivers that are away are tried once more, not waited for.

        Args:
            timeout_s: most seconds for sending, and as many for the store to write it down.
        """
        deadline_s = time.monotonic() + timeout_s
        for channel in self._channels:
            channel.finish()
        for channel in self._channels:
            channel.join(max(deadline_s - time.monotonic(), 0.0))
        self._recorder.close(timeout_s)
