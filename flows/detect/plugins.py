"""Detectors that other packages bring, by the entry point group ``netspectra.detectors``.

An entry point names a class, or anything callable, that makes a ``flows.detect.detector.Detector``
of keywords: its own parameters, as the settings give them, and those of ``horizon_ns``,
``pane_ns``, ``networks`` and ``seed`` that it has. A package is loaded only if the settings name
its detector.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from flows.detect.detector import About, Detector, Place
from flows.errors import UsageError
from flows.settings.detection import RuleBase

GROUP: Final = "netspectra.detectors"

_PARTS: Final = ("about", "tasks", "horizon_ns", "read", "sql", "snapshot", "restore")
_OF_RULES: Final = {field.alias or name for name, field in RuleBase.model_fields.items()}

_Section = TypeVar("_Section", bound=RuleBase)


def section(
    name: str, values: Mapping[str, Any], place: str
) -> tuple[RuleBase, Callable[[Any, Place], Detector]]:
    """What the settings say of a plug-in's rule, and what makes its detector.

    Args:
        name: of the entry point.
        values: of the rule, and parameters of the detector.
        place: in the settings, for messages.

    Raises:
        UsageError: there is no such plug-in, it can't be loaded, or values can't be used.
    """
    entry = _find(name, place)
    make = _load(entry)
    of_rule = {key: value for key, value in values.items() if key in _OF_RULES}
    about = getattr(make, "about", None)
    if isinstance(about, About):
        of_rule.setdefault("severity", about.severity.name)
    own = {key: value for key, value in values.items() if key not in _OF_RULES}
    return checked(RuleBase, of_rule, place), partial(_made, entry, make, own)


def checked(kind: type[_Section], values: Mapping[str, Any], place: str) -> _Section:
    """A section of the settings out of values.

    Raises:
        UsageError: a value can't be used, or there is no such field.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        fields = ", ".join(field.alias or name for name, field in kind.model_fields.items())
        lines = []
        for item in error.errors(include_url=False):
            name = ".".join(map(str, item["loc"]))
            why = str(item.get("ctx", {}).get("error", item["msg"]))
            if item["type"] == "extra_forbidden":
                lines.append(f"{place}: {name} is not known there; there are {fields}")
            else:
                lines.append(f"{place}: {name} = {item['input']}: wanted {why}")
        raise UsageError("\n".join(lines)) from None


def _find(name: str, place: str) -> EntryPoint:
    found = entry_points(group=GROUP)
    for entry in found:
        if entry.name == name:
            return entry
    known = ", ".join(sorted(found.names)) or "none is installed"
    msg = f"{place}: there is no detector {name}; of other packages: {known}"
    raise UsageError(msg)


def _load(entry: EntryPoint) -> Callable[..., Any]:
    try:
        made = entry.load()
    except Exception as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        msg = f"{_called(entry)} can't be loaded: {why}"
        raise UsageError(msg) from error
    if not callable(made):
        msg = f"{_called(entry)} is no detector: {entry.value} can't be called"
        raise UsageError(msg)
    call: Callable[..., Any] = made
    return call


def _made(
    entry: EntryPoint, make: Callable[..., Any], own: Mapping[str, Any], _: Any, place: Place
) -> Detector:
    """The plug-in's detector.

    Raises:
        UsageError: it doesn't take the parameters, or isn't a detector.
    """
    taken = inspect.signature(make).parameters
    offered = asdict(place)
    given = {key: value for key, value in offered.items() if key in taken}
    try:
        inspect.signature(make).bind(**given, **own)
    except TypeError as error:
        names = ", ".join(name for name in taken if name not in offered) or "none"
        msg = f"{_called(entry)}: {error}; its parameters: {names}"
        raise UsageError(msg) from None
    try:
        detector: Detector = make(**given, **own)
        lacking = [part for part in _PARTS if not hasattr(detector, part)]
    except Exception as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        msg = f"{_called(entry)} can't be made: {why}"
        raise UsageError(msg) from error
    if lacking:
        msg = f"{_called(entry)} is no detector: it lacks {', '.join(lacking)}"
        raise UsageError(msg)
    return detector


def _called(entry: EntryPoint) -> str:
    package = f" of package {entry.dist.name} {entry.dist.version}" if entry.dist else ""
    return f"detector {entry.name}{package}"
