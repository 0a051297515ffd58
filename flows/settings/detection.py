"""Settings of detection: the detectors, rules of the user's own, alerts, mutes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AwareDatetime, BeforeValidator, Field, model_validator

from flows.settings.section import Section
from flows.settings.units import Count, Duration, Name, Names, Quantity, Values, parse_list

SeverityName = Literal["info", "low", "medium", "high", "critical"]

FIELD_CONDITIONS: Final = (
    "addr", "net", "src_addr", "dst_addr", "src_net", "dst_net", "src_port", "dst_port",
    "ip_proto", "vlan_id", "tunnel_id", "if_index", "direction", "probe",
)  # fmt: skip
"""Fields that ``where``, ``except`` and mutes may name."""

QUIET_NETWORKS: Final = ("scanners", "dns", "nat", "cdn")
"""Names of networks whose hosts touch many others by trade; none exists unless it is set."""


REFLECTOR_PORTS: Final = (
    17, 19, 53, 69, 111, 123, 137, 161, 389, 520, 1434, 1900, 3283, 3702, 5353, 5683, 11_211,
    27_015,
)  # fmt: skip
"""UDP services known for answers larger than what was asked (US-CERT TA14-017A, and CoAP)."""

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Port = Annotated[int, Field(ge=0, le=65_535)]
Ports = Annotated[tuple[Port, ...], BeforeValidator(parse_list)]


def _check_conditions(value: Any) -> Any:
    for field in value if isinstance(value, Mapping) else ():
        if field not in FIELD_CONDITIONS:
            msg = f"fields out of {', '.join(FIELD_CONDITIONS)}, not {field}"
            raise ValueError(msg)
    return value


Conditions = Annotated[dict[str, Values], BeforeValidator(_check_conditions)]
"""Per field a value or a list, one of which must hold: addresses, ranges, names of networks."""


def _at(value: Any) -> Any:
    """A time without a zone is UTC; YAML reads such a time by itself."""
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    if isinstance(value, str):
        try:
            when = datetime.fromisoformat(value.strip())
        except ValueError:
            pass
        else:
            return when if when.tzinfo else when.replace(tzinfo=UTC)
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_at)]


class RuleBase(Section):
    """What every rule has.

    Attributes:
        enabled: Whether it runs.
        severity: Of its alerts.
        horizon: Window that is measured over: one of ``window.horizons``, or the pane; None is the
            pane.
        hold: ``for``: how long it must be over the threshold before the alert fires.
        cooldown: How long after its end the same alert is taken up again, instead of a new one.
        where: Only entities for which all of these hold.
        unless: No entity for which all of these hold.
        notify: Names of notifiers that are told; empty tells all.
    """

    enabled: bool = True
    severity: SeverityName = "medium"
    horizon: Duration | None = timedelta(seconds=600)
    hold: Annotated[Duration, Field(alias="for")] = timedelta()
    cooldown: Duration = timedelta(minutes=10)
    where: Conditions = {}
    unless: Conditions = {}
    notify: Names = ()


class HostScan(RuleBase):
    """One source tries one port of many hosts, without a connection coming about.

    Attributes:
        threshold: Different hosts within the horizon.
    """

    unless: Conditions = {"src_net": QUIET_NETWORKS}
    threshold: Quantity = 100


class PortScan(RuleBase):
    """One source tries many ports of one host, without connections coming about.

    Attributes:
        threshold: Different ports within the horizon.
    """

    unless: Conditions = {"src_net": QUIET_NETWORKS}
    threshold: Quantity = 100


class SuperSpreader(RuleBase):
    """One source begins to talk with very many hosts.

    Attributes:
        threshold: Different hosts within the horizon.
    """

    unless: Conditions = {"src_net": QUIET_NETWORKS}
    threshold: Quantity = 3000


class FanIn(RuleBase):
    """Very many sources begin to talk with one host.

    Attributes:
        threshold: Different sources within the horizon.
    """

    unless: Conditions = {"dst_net": QUIET_NETWORKS}
    threshold: Quantity = 10_000


class SynFlood(RuleBase):
    """Very many connections to one service are begun and not completed.

    Attributes:
        threshold: SYN packets per second without a connection.
    """

    severity: SeverityName = "high"
    horizon: Duration | None = None
    threshold: Quantity = 1000


class Amplification(RuleBase):
    """Many reflectors send large answers to one victim.

    Attributes:
        threshold: Bits per second of such answers.
        reflectors: Fewest different senders.
        ports: UDP ports of services that are misused for it.
    """

    severity: SeverityName = "high"
    horizon: Duration | None = None
    unless: Conditions = {"dst_net": ("dns",)}
    threshold: Quantity = 10_000_000
    reflectors: Annotated[Count, Field(ge=1)] = 20
    ports: Ports = REFLECTOR_PORTS


class Volume(RuleBase):
    """A host or a named network sends or receives far more than it usually does.

    Attributes:
        threshold: Times the usual upper bound.
        at_least: Bits per second below which nothing is a matter.
        learn: Traffic that must have been seen before anything is judged.
    """

    severity: SeverityName = "medium"
    horizon: Duration | None = timedelta(seconds=60)
    threshold: Quantity = 3
    at_least: Quantity = 5_000_000
    learn: Duration = timedelta(hours=1)


class DataLoss(RuleBase):
    """Packets of a probe are missing, or it has gone silent.

    Attributes:
        threshold: Share of its packets that is missing.
        at_least: Missing packets below which nothing is a matter.
        silent: How long nothing may come of a probe that didn't say goodbye.
    """

    severity: SeverityName = "medium"
    horizon: Duration | None = timedelta(seconds=60)
    threshold: Quantity = 0.001
    at_least: Count = 100
    silent: Duration = timedelta(seconds=60)


class Detectors(Section):
    """The detectors; all run unless switched off.

    Attributes:
        plugins: Parameters of detectors that other packages bring, by name.
    """

    enabled: bool = True
    host_scan: HostScan = HostScan()
    port_scan: PortScan = PortScan()
    super_spreader: SuperSpreader = SuperSpreader()
    fan_in: FanIn = FanIn()
    syn_flood: SynFlood = SynFlood()
    amplification: Amplification = Amplification()
    volume: Volume = Volume()
    data_loss: DataLoss = DataLoss()
    plugins: dict[str, dict[str, Any]] = {}


class Rule(RuleBase):
    """A rule of the user's own: on a task, or on a detector with other parameters.

    Attributes:
        name: Its name, unique.
        task: The task that is measured.
        detector: The detector that is used, instead of a task.
        metric: Of a task: ``distinct`` (distinct and spread tasks), ``packets_per_second``,
            ``bits_per_second``, ``packets``, ``bytes`` (frequency tasks).
        op: Which side of the threshold is wrong.
        threshold: Number (``10Gbps``, ``500kpps``).
        with_: ``with``: other parameters of the detector.
    """

    name: Name
    task: str | None = None
    detector: str | None = None
    metric: (
        Literal["distinct", "packets_per_second", "bits_per_second", "packets", "bytes"] | None
    ) = None
    op: Literal[">", ">=", "<", "<="] = ">"
    threshold: Quantity
    with_: Annotated[dict[str, Any], Field(alias="with")] = {}

    @model_validator(mode="after")
    def _check_subject(self) -> Self:
        if (self.task is None) == (self.detector is None):
            msg = "either a task or a detector"
            raise ValueError(msg)
        if self.task is not None and (self.metric is None or self.with_):
            msg = "a metric, and no `with`, for a rule on a task"
            raise ValueError(msg)
        return self


class Mute(Section):
    """Alerts that nobody wants to hear of.

    Attributes:
        name: Shown as ``muted_by``.
        rule: Only of this rule; empty means all.
        where: Only of entities for which all of these hold.
        since: ``from``: when it begins.
        until: When it ends.
    """

    name: Name
    rule: str = ""
    where: Conditions = {}
    since: Annotated[Time | None, Field(alias="from")] = None
    until: Time | None = None


class Maintenance(Section):
    """Hours in which alerts are kept quiet, again and again.

    Attributes:
        name: Shown as ``muted_by``.
        days: Days of the week (``sat,sun``); empty means every day.
        since: ``from``: time of day (``02:00``), UTC.
        until: Time of day, UTC; before ``from`` it is that of the next day.
        rule: Only of this rule; empty means all.
        where: Only of entities for which all of these hold.
    """

    name: Name
    days: Annotated[tuple[Day, ...], BeforeValidator(parse_list)] = ()
    since: Annotated[time, Field(alias="from")]
    until: time
    rule: str = ""
    where: Conditions = {}


class Alerts(Section):
    """What happens to what the rules find.

    Attributes:
        group_above: More entities than this that a rule finds in one pane are one alert.
        max_open: Alerts of one rule and tenant that are open at a time; more join a group.
        update_every: How often an alert that lasts is told again, in event time.
        resolve_after: How long it must be quiet at least before an alert is over; never less than
            a full horizon.
        mutes: What nobody wants to hear of.
        maintenance: Hours in which alerts are kept quiet.
    """

    group_above: Annotated[Count, Field(ge=1)] = 20
    max_open: Annotated[Count, Field(ge=1, le=10_000)] = 200
    update_every: Duration = timedelta(seconds=60)
    resolve_after: Duration = timedelta(seconds=60)
    mutes: tuple[Mute, ...] = ()
    maintenance: tuple[Maintenance, ...] = ()


def check_rules(value: Any) -> Any:
    """Refuse two rules of one name, and names of detectors.

    Raises:
        ValueError: A name appears twice.
    """
    seen = set(Detectors.model_fields)
    for rule in value:
        if rule.name in seen:
            msg = f"a name of its own for each rule, and {rule.name} is taken"
            raise ValueError(msg)
        seen.add(rule.name)
    return value
