"""The rules that the settings ask for, ready to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from flows.detect import plugins
from flows.detect.alert import Severity
from flows.detect.detector import Detector, Place
from flows.detect.detectors.amplification import Amplification
from flows.detect.detectors.data_loss import DataLoss
from flows.detect.detectors.fan_in import FanIn
from flows.detect.detectors.host_scan import HostScan
from flows.detect.detectors.port_scan import PortScan
from flows.detect.detectors.super_spreader import SuperSpreader
from flows.detect.detectors.syn_flood import SynFlood
from flows.detect.detectors.task_rule import TaskDetector
from flows.detect.detectors.volume import Volume
from flows.detect.matching import Matcher
from flows.detect.policy import RuleSpec
from flows.settings import Settings
from flows.settings.detection import Amplification as AmplificationSettings
from flows.settings.detection import Rule, RuleBase
from flows.settings.units import to_ns
from flows.windows.configured import tasks_of
from flows.windows.networks import Networks

Builder = Callable[[Any, Place], Detector]
"""Makes a detector of its section of the settings."""


def _amplification(section: Any, place: Place) -> Detector:
    ports = section.ports
    return Amplification(section.threshold, section.reflectors, ports, place.horizon_ns)


def _data_loss(section: Any, place: Place) -> Detector:
    return DataLoss(section.threshold, section.at_least, to_ns(section.silent), place.horizon_ns)


def _volume(section: Any, place: Place) -> Detector:
    names = Networks(place.networks).names
    learn_ns = to_ns(section.learn)
    return Volume(section.threshold, section.at_least, learn_ns, place.horizon_ns, names)


def _by_threshold(detector: Callable[[float, int], Detector]) -> Builder:
    return lambda section, place: detector(section.threshold, place.horizon_ns)


BUILDERS: Final[Mapping[str, Builder]] = {
    "host_scan": _by_threshold(HostScan),
    "port_scan": _by_threshold(PortScan),
    "super_spreader": _by_threshold(SuperSpreader),
    "fan_in": _by_threshold(FanIn),
    "syn_flood": _by_threshold(SynFlood),
    "amplification": _amplification,
    "volume": _volume,
    "data_loss": _data_loss,
}


def rules(settings: Settings) -> list[RuleSpec]:
    """All rules that are switched on.

    Raises:
        UsageError: a rule can't be set up.
    """
    return [spec(*each, settings) for each in _wanted(settings) if each[1].enabled]


def sections(settings: Settings) -> list[tuple[str, RuleBase]]:
    """All rules by name with what the settings say of them, switched on or not.

    Raises:
        UsageError: a rule can't be set up.
    """
    return [(name, section) for name, section, _ in _wanted(settings)]


def reflector_ports(settings: Settings) -> frozenset[int]:
    """UDP ports of which large answers are counted, for all rules that are switched on."""
    ports: set[int] = set()
    for _, section, _ in _wanted(settings):
        if section.enabled and isinstance(section, AmplificationSettings):
            ports.update(section.ports)
    return frozenset(ports)


def spec(name: str, section: RuleBase, builder: Builder, settings: Settings) -> RuleSpec:
    """A rule of a section of the settings; its window is a whole number of panes."""
    pane_ns = settings.window.pane_ns
    wanted_ns = to_ns(section.horizon) if section.horizon is not None else pane_ns
    horizon_ns = -(-wanted_ns // pane_ns) * pane_ns
    place = Place(horizon_ns, pane_ns, settings.networks, settings.seed)
    make = partial(builder, section, place)
    return RuleSpec(
        name=name,
        severity=Severity[section.severity],
        hold_ns=to_ns(section.hold),
        cooldown_ns=to_ns(section.cooldown),
        where=Matcher(section.where, settings.networks),
        unless=Matcher(section.unless, settings.networks),
        notify=section.notify,
        detector=make,
        horizon_ns=horizon_ns,
        tasks=tuple(make().tasks),
    )


_Wanted = tuple[str, RuleBase, Builder]


def _wanted(settings: Settings) -> Iterator[_Wanted]:
    if settings.detectors.enabled:
        for name, builder in BUILDERS.items():
            yield name, getattr(settings.detectors, name), builder
        for name, parameters in settings.detectors.plugins.items():
            yield name, *plugins.section(name, parameters, f"detectors.plugins.{name}")
    for rule in settings.rules:
        yield rule.name, *_of_rule(rule, settings)


def _of_rule(rule: Rule, settings: Settings) -> tuple[RuleBase, Builder]:
    """Section and builder of a rule of the user's own.

    What a rule on a detector doesn't say is as the detector's own section has it by default.
    """
    if rule.task is not None:
        return rule, partial(_task_detector, settings)
    assert rule.detector is not None
    said = {
        field.alias or name: getattr(rule, name)
        for name, field in RuleBase.model_fields.items()
        if name in rule.model_fields_set
    }
    values = {**said, "threshold": rule.threshold, **rule.with_}
    place = f"rules: {rule.name}"
    if rule.detector not in BUILDERS:
        return plugins.section(rule.detector, values, place)
    kind = type(getattr(settings.detectors, rule.detector))
    return plugins.checked(kind, values, place), BUILDERS[rule.detector]


def _task_detector(settings: Settings, section: Any, place: Place) -> Detector:
    # The settings have checked that there is such a task, and that it has the metric.
    (task,) = [task for task in tasks_of(settings.tasks) if task.name == section.task]
    names = Networks(settings.networks).names
    measured = section.metric, section.op, section.threshold
    return TaskDetector(task, *measured, place.horizon_ns, names)
