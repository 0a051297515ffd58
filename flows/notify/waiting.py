"""Alerts that wait for a receiver: of each alert no more than it needs to hear."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from flows.detect.alert import Alert
from flows.notify.selection import Selection, Told


class Waiting:
    """Revisions that are still to be sent, in the order in which alerts came up.

    While a receiver is away, revisions of one alert pile up, and the newest says it all: it takes
    the place of those before it. One thing is never left out: whoever hasn't heard that an alert
    fired is told so before it hears that it is over. So at most two revisions of an alert wait.

    Args:
        selection: what the receiver wants.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._alerts: OrderedDict[str, list[Alert]] = OrderedDict()

    def __len__(self) -> int:
        """Revisions that wait."""
        return sum(map(len, self._alerts.values()))

    def __iter__(self) -> Iterator[Alert]:
        """Revisions that wait, those of one alert together."""
        return (alert for revisions in self._alerts.values() for alert in revisions)

    def put(self, alert: Alert, told: Told) -> list[Alert]:
        """Take an alert if it is wanted; returns those whose place it takes.

        Args:
            alert: a revision.
            told: what the receiver knows of the alert without those that wait.
        """
        revisions = self._alerts.get(alert.alert_id, [])
        expected = Told.by(revisions[-1]) if revisions else told
        if not self._selection.wants(alert, expected):
            return []
        firing = Told.by(alert).firing
        # Those that the receiver must hear before: the news that it fired.
        first = [] if firing or told.firing else [a for a in revisions if Told.by(a).firing][-1:]
        self._alerts[alert.alert_id] = [*first, alert]
        return [a for a in revisions if a not in first]

    def next(self) -> Alert:
        """The revision to be sent next; there must be one."""
        return next(iter(self._alerts.values()))[0]

    def remove(self, alert: Alert) -> None:
        """A revision has been dealt with."""
        revisions = self._alerts.get(alert.alert_id, [])
        left = [a for a in revisions if a.revision > alert.revision]
        if left:
            self._alerts[alert.alert_id] = left
        else:
            self._alerts.pop(alert.alert_id, None)

    def postpone(self, alert: Alert) -> None:
        """A revision could not be sent: other alerts go first, so that it can't hold them up."""
        if alert.alert_id in self._alerts:
            self._alerts.move_to_end(alert.alert_id)
