"""Entities that came near the threshold of a rule, by the statements of the detectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from flows.detect import registry
from flows.detect.alert import text_of
from flows.detect.policy import RuleSpec
from flows.settings import Settings
from flows.settings.detection import Rule, Volume
from flows.storage.embedded import quote

if TYPE_CHECKING:
    from flows.storage.alerts import Query

SHARE: Final = 0.5
"""Of the threshold, from which on an entity is near."""

WINDOWS: Final = 60
"""Windows of a rule that are looked at, those with most packets: each costs a query."""

TOP: Final = 5

_MS: Final = 10**6


def near_misses(query: Query, settings: Settings) -> dict[str, list[tuple[str, float]]]:
    """Entities that came to at least half of a rule's threshold and never to all of it.

    By rule, with their share of the threshold, the nearest first. A rule whose threshold is
    learnt, one for too little of something, and one about probes have none.
    """
    tenants = [row["tenant"] for row in query("SELECT DISTINCT tenant FROM totals").to_pylist()]
    sections = dict(registry.sections(settings))
    found = {}
    for spec in registry.rules(settings):
        section = sections[spec.name]
        threshold = getattr(section, "threshold", None)
        below = isinstance(section, Rule) and section.op.startswith("<")
        if spec.tasks and threshold and not below and not isinstance(section, Volume):
            shares: defaultdict[str, float] = defaultdict(float)
            for tenant in tenants:
                for entity, value in _near(query, spec, tenant, threshold):
                    shares[entity] = max(shares[entity], value / threshold)
            near = [(entity, share) for entity, share in shares.items() if share < 1]
            found[spec.name] = sorted(near, key=lambda each: (-each[1], each[0]))[:TOP]
    return found


def _near(
    query: Query, spec: RuleSpec, tenant: str, threshold: float
) -> Iterator[tuple[str, float]]:
    """What is near in the busiest windows of a tenant, or over."""
    detector = spec.detector()
    horizon_ms = spec.horizon_ns // _MS
    windows = query(
        f"SELECT intDiv(toUnixTimestamp64Milli(window_start), {horizon_ms}) AS number, "
        f"sum(packets) AS n FROM totals WHERE tenant = {quote(tenant)} "
        f"GROUP BY number ORDER BY n DESC LIMIT {WINDOWS}"
    ).to_pylist()
    for window in windows:
        start_ns = window["number"] * spec.horizon_ns
        sql = detector.sql({}, tenant, start_ns, start_ns + spec.horizon_ns)
        if not sql:
            return
        rows = query(f"SELECT * FROM (\n{sql}\n) WHERE value >= {SHARE * threshold}").to_pylist()
        for row in rows:
            entity = {name: str(value) for name, value in row.items() if name != "value"}
            if spec.concerns(entity):
                yield text_of(entity), float(row["value"])
