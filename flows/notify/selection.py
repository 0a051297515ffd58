"""Which revisions of alerts a notifier is told of."""

from __future__ import annotations

from dataclasses import dataclass

from flows.detect.alert import Alert, Severity, Status
from flows.settings.notifiers import NotifierBase

GROWTH = 10
"""Times the members that it was told of, which make a group worth telling again."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a receiver knows of an alert.

    Attributes:
        revision: newest that it was sent; 0 for none.
        firing: whether it takes the alert for one that lasts.
        severity: that it was told.
        members: of a group, that it was told.
        explained: whether that revision was told with a language model's explanation.
    """

    revision: int = 0
    firing: bool = False
    severity: int = 0
    members: int = 0
    explained: bool = False

    @classmethod
    def by(cls, alert: Alert) -> Told:
        """What is known after an alert has been told."""
        firing = alert.status is Status.firing
        return cls(
            alert.revision, firing, int(alert.severity), alert.member_count, alert.is_explained
        )


NOTHING = Told()


class Selection:
    """The wishes of one notifier.

    Args:
        settings: of the notifier.
        everything: whether it is told whatever a rule's ``notify`` says.
    """

    def __init__(self, settings: NotifierBase, *, everything: bool = False) -> None:
        self.name = settings.name
        self.min_severity = Severity[settings.min_severity]
        self.events = frozenset(settings.events)
        self.everything = everything
        self._tenants = frozenset(settings.tenants)
        self._rules = frozenset(settings.rules)

    def wants(self, alert: Alert, told: Told) -> bool:
        """Whether a receiver that knows ``told`` is to be told of a revision.

        The first that a receiver hears of an alert counts as fired, whatever the revision: it may
        have been muted before, or less severe. What it never heard of isn't resolved for it.
        """
        if not self._concerns(alert):
            return False
        if alert.is_explained:
            fresh = (alert.revision, True) > (told.revision, told.explained)
            return "explained" in self.events and told.firing and fresh
        if alert.revision <= told.revision:
            return False
        if alert.status is Status.resolved and alert.event != "dropped":
            return "resolved" in self.events and told.firing
        if alert.status is not Status.firing or alert.severity < self.min_severity:
            return False
        if not told.firing or "updated" in self.events:
            return True
        rises = alert.severity > told.severity
        grows = told.members > 0 and alert.member_count >= GROWTH * told.members
        return "escalated" in self.events and (rises or grows)

    def _concerns(self, alert: Alert) -> bool:
        named = self.everything or not alert.notify or self.name in alert.notify
        return (
            named
            and (not self._tenants or alert.tenant in self._tenants)
            and (not self._rules or alert.rule in self._rules)
        )
