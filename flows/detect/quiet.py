"""What people want kept quiet, out of the settings and the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from flows.detect.matching import Matcher
from flows.detect.policy import Quiet, day_numbers
from flows.settings.detection import Alerts
from flows.storage.alerts import FOREVER_MS, StoredMute

_MS: Final = 10**6

Networks = Mapping[str, Sequence[str]]


def of_settings(alerts: Alerts, networks: Networks) -> tuple[Quiet, ...]:
    """Mutes and hours of maintenance that the settings name."""
    mutes = [
        Quiet(
            mute.name,
            Matcher(mute.where, networks),
            mute.rule,
            since_ns=_ns(mute.since),
            until_ns=_ns(mute.until),
        )
        for mute in alerts.mutes
    ]
    hours = [
        Quiet(
            each.name,
            Matcher(each.where, networks),
            each.rule,
            hours=(each.since, each.until),
            days=day_numbers(each.days),
        )
        for each in alerts.maintenance
    ]
    return (*mutes, *hours)


def of_store(mutes: Sequence[StoredMute], networks: Networks) -> tuple[Quiet, ...]:
    """Mutes that somebody made while jobs ran."""
    return tuple(
        Quiet(
            mute.mute_id,
            Matcher(mute.conditions, networks),
            mute.rule,
            mute.tenant,
            mute.since_ms * _MS,
            0 if mute.until_ms >= FOREVER_MS else mute.until_ms * _MS,
        )
        for mute in mutes
    )


def _ns(when: datetime | None) -> int:
    return 0 if when is None else int(when.timestamp() * 1000) * _MS
