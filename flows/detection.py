"""Detection in a run of the main job: its rules, what people wish, who hears of alerts."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from flows import logs
from flows.detect import quiet, registry
from flows.detect.alert import Alert
from flows.detect.policy import Policy, RuleSpec, Wishes
from flows.enrich.enricher import Enricher
from flows.errors import NetSpectraError, UsageError
from flows.notify.channel import Counts
from flows.notify.dispatcher import Dispatcher
from flows.operators.detect import Detection
from flows.settings import Settings
from flows.settings.units import to_ns
from flows.sinks.alerts import AlertSink, Hear
from flows.sinks.evidence import EvidenceCollector
from flows.storage import alerts as stored
from flows.storage.store import Store
from flows.windows.control import RunControl
from flows.windows.tasks import Task

LOOK_EVERY_S: Final = 1.0
"""How often the store is asked what people wish."""

CLOSE_S: Final = 5.0
"""How long notifiers, evidence and explanations may take to finish at the end of a run."""


def policy_of(settings: Settings) -> Policy:
    """What the settings want of the alerts of all rules."""
    alerts = settings.alerts
    return Policy(
        alerts.group_above,
        alerts.max_open,
        to_ns(alerts.update_every),
        to_ns(alerts.resolve_after),
    )


def merged(tasks: Sequence[Task], rules: Sequence[RuleSpec]) -> list[Task]:
    """The tasks that are fed: the user's, and what rules ask for beyond them, each once.

    How many rows a task lists doesn't matter here: rules look at its sketch.

    Raises:
        UsageError: two different tasks have one name.
    """
    by_name = {task.name: task for task in tasks}
    for rule in rules:
        for task in rule.tasks:
            fed = by_name.setdefault(task.name, task)
            if replace(fed, top=task.top, share=task.share) != task:
                msg = f"rule {rule.name} needs a task {task.name} that is defined differently"
                raise UsageError(msg)
    return list(by_name.values())


class DetectionRun:
    """Detection for the time of one run.

    Args:
        settings: of the run.
        store: that is open.
        resumes: whether the run goes on with what another one read: its open alerts are ours.
        tell: whether notifiers are told.
        first: whether this process is the only one of its job, or the first: what an earlier run
            left to be sent is its business.

    Raises:
        NetSpectraError: a rule or a notifier can't be set up.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        resumes: bool,
        tell: bool = True,
        first: bool = True,
    ) -> None:
        self.rules = registry.rules(settings)
        self._settings = settings
        self._store = store
        self._wishes = Wishes(quiet.of_settings(settings.alerts, settings.networks))
        self._always = self._wishes.quiet
        self._resumes = resumes
        self._first = first
        self._changes = stored.ChangeWatch(store.query, time.time_ns() // 10**6)
        self._evidence = EvidenceCollector(store)
        self._dispatcher = Dispatcher(settings, store) if tell else None
        told = [self._dispatcher.offer] if self._dispatcher is not None else []
        self._enricher = Enricher(settings, store, told)
        self._done = threading.Event()
        self._looker = threading.Thread(target=self._look, daemon=True, name="wishes")

    def tasks(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks that are fed, given those of the settings."""
        return merged(tasks, self.rules)

    @property
    def notified(self) -> Mapping[str, Counts]:
        """What became of the alerts, by notifier."""
        return {} if self._dispatcher is None else self._dispatcher.counts

    @property
    def explained(self) -> Mapping[str, int]:
        """What became of explanations; names as in ``Enricher.counts``."""
        return self._enricher.counts

    def detection(self) -> Detection:
        """What the dataflow needs to know."""
        known: defaultdict[str, list[Alert]] = defaultdict(list)
        if self._resumes and self.rules:
            for alert in stored.open_alerts(self._store.query):
                known[alert.rule].append(alert)
        return Detection(
            self.rules,
            policy_of(self._settings),
            self._wishes,
            lambda rule: tuple(known[rule]),
        )

    def sink(self, control: RunControl) -> AlertSink:
        """Where alerts go."""
        hearers: list[Hear] = [self._evidence.offer, self._enricher.offer]
        if self._dispatcher is not None:
            hearers.insert(0, self._dispatcher.offer)
        return AlertSink(self._store, control, hearers)

    def start(self) -> None:
        """Begin to look what people wish, and to send what an earlier run could not."""
        if not self.rules:
            return
        # Before the first pane: what is muted never fires.
        self._read_wishes()
        self._looker.start()
        if self._first:
            self._enricher.resume()
            if self._dispatcher is not None:
                self._dispatcher.resume()

    def close(self) -> None:
        """Finish what is under way; what can't be sent now is sent by the next run."""
        self._done.set()
        self._enricher.close(CLOSE_S)
        if self._dispatcher is not None:
            self._dispatcher.close(CLOSE_S)
        self._evidence.close(CLOSE_S)
        if self._looker.is_alive():
            self._looker.join(CLOSE_S)

    def _look(self) -> None:
        while not self._done.wait(LOOK_EVERY_S):
            self._read_wishes()

    def _read_wishes(self) -> None:
        try:
            changes = self._changes.read()
        except NetSpectraError as error:
            logs.get("alerts").debug("mutes can't be read", why=str(error))
            return
        mutes = quiet.of_store(changes.mutes, self._settings.networks)
        self._wishes.quiet = (*self._always, *mutes)
        self._wishes.closed |= {act.alert_id for act in changes.actions if act.action == "close"}
