"""Rules between settings that no single field can check."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from flows.settings.detection import RuleBase
from flows.settings.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.settings.model import Settings

MIN_PANE = timedelta(seconds=1)
MAX_HORIZON = timedelta(days=1)

Problem = tuple[tuple[str | int, ...], Any, str]


def check(settings: Settings) -> None:
    """Check all rules.

    Raises:
        ValidationError: One error per rule that is broken, at the place of its setting.
    """
    errors = [
        InitErrorDetails(
            type=PydanticCustomError("wanted", "{wanted}", {"wanted": wanted}),
            loc=loc,
            input=value,
        )
        for loc, value, wanted in (
            *_windows(settings),
            *_llm(settings),
            *_serving(settings),
            *_notify(settings),
            *_rules(settings),
        )
    ]
    if errors:
        title = type(settings).__name__
        raise ValidationError.from_exception_data(title, errors)


def _windows(settings: Settings) -> Iterator[Problem]:
    window = settings.window
    # The tables give horizons, and the pane is one, in whole seconds.
    if not MIN_PANE <= window.pane <= MAX_HORIZON or window.pane % MIN_PANE:
        yield ("window", "pane"), window.pane, "whole seconds between 1s and 86400s"
        return
    pane = format_duration(window.pane)
    for horizon in window.horizons:
        if horizon % window.pane or not window.pane <= horizon <= MAX_HORIZON:
            wanted = f"multiples of the pane ({pane}), at most 86400s"
            yield ("window", "horizons"), horizon, wanted
    for name in ("idle", "max_skew"):
        if getattr(window, name) <= timedelta():
            yield ("window", name), getattr(window, name), "more than 0s"


def _llm(settings: Settings) -> Iterator[Problem]:
    if settings.llm.enabled and not settings.llm.model:
        yield ("llm", "model"), None, "the name of a model, because llm.enabled is true"


def _serving(settings: Settings) -> Iterator[Problem]:
    port, password = settings.storage.serve_port, settings.storage.serve_password
    if port is not None and settings.store_directory is None:
        yield ("storage", "serve_port"), port, "nothing: the store's server is asked itself"
    elif port is not None and password is None:
        wanted = "12 characters or more, because storage.serve_port is set"
        yield ("storage", "serve_password"), None, wanted


def _notify(settings: Settings) -> Iterator[Problem]:
    names = {notifier.name for notifier in settings.notifiers}
    known = ", ".join(sorted(names)) or "none are set"
    rules: list[tuple[tuple[str | int, ...], Any]] = [
        *((("detectors", name), value) for name, value in settings.detectors),
        *((("rules", number), rule) for number, rule in enumerate(settings.rules)),
    ]
    for loc, rule in rules:
        for name in rule.notify if isinstance(rule, RuleBase) else ():
            if name not in names:
                yield (*loc, "notify"), name, f"names of notifiers ({known})"


_METRICS = {
    "distinct": ("distinct",),
    "spread": ("distinct",),
    "frequency": ("packets_per_second", "bits_per_second", "packets", "bytes"),
}
"""Metrics that a task of a type has."""


def _rules(settings: Settings) -> Iterator[Problem]:
    kinds = {task.name: task.type for task in settings.tasks if task.type in _METRICS}
    for number, rule in enumerate(settings.rules):
        loc = "rules", number
        too_little = rule.op in ("<", "<=")
        if rule.task is None:
            if too_little:
                yield (*loc, "op"), rule.op, "> or >= for a rule on a detector"
            continue
        kind = kinds.get(rule.task)
        if kind is None:
            known = ", ".join(kinds) or "there is none"
            yield (*loc, "task"), rule.task, f"a task of type distinct, frequency, spread ({known})"
        elif rule.metric not in _METRICS[kind]:
            yield (*loc, "metric"), rule.metric, f"{' or '.join(_METRICS[kind])} for {rule.task}"
        elif too_little and kind != "distinct":
            yield (*loc, "op"), rule.op, "> or >= but for tasks of type distinct"
