"""Alerts that belong together: one question is asked about all of them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flows.detect.alert import Alert


@dataclass(frozen=True)
class Situation:
    """Alerts of one tenant with a likely common cause.

    Attributes:
        alerts: the worst first, then the largest over their thresholds.
    """

    alerts: tuple[Alert, ...]

    @property
    def tenant(self) -> str:
        """Whose traffic it is."""
        return self.alerts[0].tenant

    @property
    def kind(self) -> str:
        """Rule that stands for it: that of the worst alert."""
        return self.alerts[0].rule

    @property
    def name(self) -> str:
        """Id: a function of the alerts and their revisions."""
        ids = sorted(alert.delivery_id for alert in self.alerts)
        return hashlib.blake2b("\0".join(ids).encode(), digest_size=8).hexdigest()


def situations(alerts: Iterable[Alert]) -> list[Situation]:
    """Put alerts together that share a tenant and a rule, a source, or a target.

    What is linked by a chain of others belongs together too, so there are at most as many
    situations as rules of each tenant.
    """
    everything = list(alerts)
    parents = list(range(len(everything)))

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    first: dict[tuple[str, str, str], int] = {}
    for number, alert in enumerate(everything):
        for mark in _marks(alert):
            parents[root(number)] = root(first.setdefault(mark, number))
    members: defaultdict[int, list[Alert]] = defaultdict(list)
    for number, alert in enumerate(everything):
        members[root(number)].append(alert)
    found = [Situation(tuple(sorted(group, key=_weight))) for group in members.values()]
    return sorted(found, key=lambda situation: _weight(situation.alerts[0]))


def _marks(alert: Alert) -> Sequence[tuple[str, str, str]]:
    """What an alert may share with others."""
    hosts = {alert.src_addr, alert.dst_addr, alert.probe} - {""}
    return [(alert.tenant, "rule", alert.rule), *((alert.tenant, "host", host) for host in hosts)]


def _weight(alert: Alert) -> tuple[int, float, str]:
    over = alert.value / alert.threshold if alert.threshold > 0 else alert.value
    return (-alert.severity, -over, alert.alert_id)
