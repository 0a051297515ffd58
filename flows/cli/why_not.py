"""How far an address is from every rule."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

from flows.cli.text import number, time_text
from flows.detect import quiet, registry
from flows.detect.alert import text_of
from flows.detect.policy import RuleSpec, Wishes
from flows.errors import StoreError
from flows.settings import Settings
from flows.settings.detection import Amplification, RuleBase, Volume
from flows.settings.units import format_duration
from flows.storage import alerts, flow_rows
from flows.storage.embedded import quote

if TYPE_CHECKING:
    from flows.storage.alerts import Query

_MS: Final = 10**6
_SECOND_NS: Final = 10**9
_ADDRESSES: Final = ("src_addr", "dst_addr")


@dataclass(frozen=True)
class Traffic:
    """What of a tenant's traffic is in the store: start of the first pane, end of the last."""

    tenant: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class Distance:
    """How far an address is from a rule.

    Attributes:
        rule: its name.
        entity: the largest that the address is part of, as text; empty for none.
        value: its measurement; None where there is none.
        unit: of the value and the threshold.
        threshold: of the rule; None where it isn't fixed.
        window: what was looked at, ``22:10:00 + 34 of 600 s``.
        why: why the rule doesn't fire, or that it does.
    """

    rule: str
    entity: str
    value: float | None
    unit: str
    threshold: float | None
    window: str
    why: str

    @property
    def percent(self) -> float | None:
        """The value in percent of the threshold."""
        if self.value is None or not self.threshold:
            return None
        return 100 * self.value / self.threshold


def traffic(query: Query, wanted: str | None, usual: str) -> Traffic:
    """What of a tenant's traffic is in the store.

    Args:
        query: of the store.
        wanted: the tenant; None for the usual one, or the only one that there is.
        usual: the settings' own tenant.

    Raises:
        StoreError: nothing is.
    """
    rows = query(
        "SELECT tenant, toUnixTimestamp64Milli(min(window_start)) AS first_ms, "
        "toUnixTimestamp64Milli(max(window_start)) + argMax(pane_ms, window_start) AS end_ms "
        "FROM totals GROUP BY tenant ORDER BY tenant"
    ).to_pylist()
    known = {str(row["tenant"]): row for row in rows}
    tenant = wanted or (next(iter(known)) if len(known) == 1 else usual)
    if tenant not in known:
        names = ", ".join(list(known)[:20])
        hint = f"--tenant names another: {names}" if names else "run `netspectra run` first"
        msg = f"no traffic of tenant {tenant} is in the store; {hint}"
        raise StoreError(msg)
    row = known[tenant]
    return Traffic(tenant, row["first_ms"] * _MS, row["end_ms"] * _MS)


class WhyNot:
    """Asks every rule how far an address is from it.

    Args:
        query: of the store.
        settings: with the rules.
        stored: the tenant's traffic.
        address: as text.
        at_ns: a time in the windows to look at; the newest ones by default.
    """

    def __init__(
        self, query: Query, settings: Settings, stored: Traffic, address: str, at_ns: int | None
    ) -> None:
        self._query = query
        self._settings = settings
        self._stored = stored
        self._address = address
        self._at_ns = stored.end_ns - 1 if at_ns is None else at_ns
        made = alerts.mutes(query, time.time_ns() // _MS, begun=True)
        networks = settings.networks
        mutes = quiet.of_settings(settings.alerts, networks) + quiet.of_store(made, networks)
        self._wishes = Wishes(mutes)

    def distances(self, only: str = "") -> Iterator[Distance]:
        """The distance from each rule, or from one."""
        running = {spec.name: spec for spec in registry.rules(self._settings)}
        for name, section in registry.sections(self._settings):
            if only in ("", name):
                spec = running.get(name)
                yield self._off(name) if spec is None else self._distance(spec, section)

    def check_address(self) -> None:
        """See that the tenant's flows know the address: no rule could say more of another.

        Raises:
            StoreError: it is in none.
        """
        stored = self._stored
        either = " OR ".join(flow_rows.of_entity({name: self._address}) for name in _ADDRESSES)
        tenant = quote(stored.tenant)
        sql = f"SELECT 1 FROM flows WHERE tenant = {tenant} AND ({either}) LIMIT 1"
        if not self._query(sql).num_rows:
            span = f"{time_text(stored.start_ns)} to {time_text(stored.end_ns)} UTC"
            msg = f"{self._address} is in no stored flow of tenant {stored.tenant}, {span}"
            raise StoreError(msg)

    @staticmethod
    def _off(name: str) -> Distance:
        return Distance(name, "", None, "", None, "", "the rule is switched off")

    def _distance(self, spec: RuleSpec, section: RuleBase) -> Distance:
        detector = spec.detector()
        about = detector.about
        threshold = None if isinstance(section, Volume) else getattr(section, "threshold", None)
        start_ns = self._at_ns - self._at_ns % spec.horizon_ns
        end_ns = min(start_ns + spec.horizon_ns, self._stored.end_ns)
        seen_s, whole_s = (end_ns - start_ns) // _SECOND_NS, spec.horizon_ns // _SECOND_NS
        window = f"{_clock(start_ns)} + {f'{seen_s} of ' * (seen_s < whole_s)}{whole_s} s"

        def distance(entity: str, value: float | None, why: str) -> Distance:
            return Distance(spec.name, entity, value, about.unit, threshold, window, why)

        keyed = {name for task in spec.tasks for name in task.key.names}
        fields = [name for name in _ADDRESSES if name in keyed]
        if not fields:
            return distance("", None, "the rule is not about addresses")
        try:
            rows = [
                row
                for field in fields
                for row in self._rows(detector, {field: self._address}, start_ns, end_ns)
            ]
        except StoreError as error:
            return distance("", None, f"it can't be measured: {error}")
        rows.sort(key=lambda row: -row[1])
        looked_at = [row for row in rows if spec.concerns(row[0])]
        entity, value = (looked_at or rows or [({fields[0]: self._address}, 0.0)])[0]
        why = self._why(spec, section, entity, value, end_ns)
        return distance(text_of(entity), value, why)

    def _rows(
        self, detector: Any, entity: Mapping[str, str], start_ns: int, end_ns: int
    ) -> list[tuple[dict[str, str], float]]:
        """Entities that the address is part of, with their measurements."""
        sql = detector.sql(entity, self._stored.tenant, start_ns, end_ns)
        found = self._query(sql).to_pylist() if sql else []
        return [
            ({k: str(row[k]) for k in row if k != "value"}, float(row["value"])) for row in found
        ]

    def _why(
        self,
        spec: RuleSpec,
        section: RuleBase,
        entity: Mapping[str, str],
        value: float,
        end_ns: int,
    ) -> str:
        if not spec.concerns(entity):
            if spec.unless and spec.unless.matches(entity):
                return f"`unless` leaves it out: {self._conditions(section.unless, entity)}"
            return f"`where` is about others: {self._conditions(section.where, {})}"
        if isinstance(section, Volume):
            return (
                f"compared with {section.threshold:g} times what is usual, which the job learns, "
                f"and {number(section.at_least)} at least"
            )
        threshold = getattr(section, "threshold", None)
        if threshold is None:
            return "the rule has no fixed threshold"
        if value < threshold:
            return "it is below the threshold"
        return self._over(spec, section, entity, end_ns)

    def _over(
        self, spec: RuleSpec, section: RuleBase, entity: Mapping[str, str], end_ns: int
    ) -> str:
        """What becomes of an entity that is over the threshold."""
        mute = self._wishes.muted_by(spec.name, self._stored.tenant, entity, end_ns)
        text = quote(text_of(entity))
        rows = self._query(
            "SELECT alert_id, toString(status) AS status FROM alerts AS a "
            f"WHERE a.rule = {quote(spec.name)} AND (a.entity_text = {text} "
            f"OR has(a.members, {text})) ORDER BY a.last_seen DESC LIMIT 1"
        ).to_pylist()
        parts = []
        if mute:
            parts.append(f"it is over, but muted by {mute}")
        if rows:
            parts.append(f"there is an alert: {rows[0]['alert_id'][:8]} ({rows[0]['status']})")
        elif not mute:
            parts.append(
                "it is over; just over may be too little for the lower bound, which counts"
            )
        if spec.hold_ns:
            parts.append(f"it must be over for {format_duration(section.hold)}")
        if isinstance(section, Amplification) and not rows:
            parts.append(f"at least {section.reflectors} senders must take part")
        return "; ".join(parts)

    def _conditions(
        self, conditions: Mapping[str, tuple[str, ...]], entity: Mapping[str, str]
    ) -> str:
        """Conditions as text; of networks those that the entity's addresses lie in."""
        told = []
        for field, values in conditions.items():
            held = [value for value in values if self._in_network(value, entity.values())]
            told.append(f"{field} {', '.join(held or values)}")
        return ", ".join(told)

    def _in_network(self, name: str, texts: Any) -> bool:
        return any(
            ip_address(text) in ip_network(cidr)
            for text in texts
            if _is_address(text)
            for cidr in self._settings.networks.get(name, ())
        )


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _clock(time_ns: int) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(time_ns // _SECOND_NS))
