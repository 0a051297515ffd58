"""The rules that the settings ask for, ready to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from flows.detect.alert import Severity
from flows.detect.detector import Detector
from flows.detect.detectors.data_loss import DataLoss
from flows.detect.matching import Matcher
from flows.detect.policy import RuleSpec
from flows.settings import Settings
from flows.settings.detection import RuleBase
from flows.settings.units import to_ns


@dataclass(frozen=True)
class Place:
    """What a detector is made in.

    Attributes:
        settings: of the run.
        horizon_ns: of its window.
    """

    settings: Settings
    horizon_ns: int


Builder = Callable[[Any, Place], Detector]
"""Makes a detector of its section of the settings."""


def _data_loss(section: Any, place: Place) -> Detector:
    return DataLoss(section.threshold, section.at_least, to_ns(section.silent), place.horizon_ns)


BUILDERS: Final[Mapping[str, Builder]] = {"data_loss": _data_loss}


def rules(settings: Settings) -> list[RuleSpec]:
    """All rules that are switched on.

    Raises:
        UsageError: a rule can't be set up.
    """
    return list(_rules(settings))


def _rules(settings: Settings) -> Iterator[RuleSpec]:
    if settings.detectors.enabled:
        for name, builder in BUILDERS.items():
            section = getattr(settings.detectors, name)
            if section.enabled:
                yield spec(name, section, builder, settings)


def spec(name: str, section: RuleBase, builder: Builder, settings: Settings) -> RuleSpec:
    """A rule of a section of the settings."""
    horizon = section.horizon if section.horizon is not None else settings.window.pane
    make = partial(builder, section, Place(settings, to_ns(horizon)))
    return RuleSpec(
        name=name,
        severity=Severity[section.severity],
        hold_ns=to_ns(section.hold),
        cooldown_ns=to_ns(section.cooldown),
        where=Matcher(section.where, settings.networks),
        unless=Matcher(section.unless, settings.networks),
        notify=section.notify,
        detector=make,
        horizon_ns=to_ns(horizon),
        tasks=tuple(make().tasks),
    )
