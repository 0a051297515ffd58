"""Operator: units into revisions of alerts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Stream as Flow
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream, StatefulBatchLogic
from typing_extensions import override

from flows.detect.alert import Alert
from flows.detect.policy import Policy, RuleSpec, Wishes
from flows.detect.rule import RuleAtWork
from flows.detect.updates import update_for
from flows.detect.window import DetectUpdate
from flows.windows.unit import Unit


@dataclass(frozen=True)
class Detection:
    """What detection needs to know.

    Attributes:
        rules: all that run.
        policy: what holds for all of them.
        wishes: what people want kept quiet.
        known: gives the open alerts of a rule that the store holds, for a start without recovery.
    """

    rules: Sequence[RuleSpec] = ()
    policy: Policy = field(default_factory=Policy)
    wishes: Wishes = field(default_factory=Wishes)
    known: Callable[[str], Sequence[Alert]] = lambda rule: ()


_Named = tuple[str, DetectUpdate]
"""With the rule's name, for a builder isn't told its key."""


class _RuleLogic(StatefulBatchLogic[_Named, Alert, tuple[str, tuple[Any, ...]]]):
    def __init__(
        self,
        make: Callable[[str, tuple[Any, ...] | None], RuleAtWork],
        state: tuple[str, tuple[Any, ...]] | None,
        *,
        kept: bool,
    ) -> None:
        self._make = make
        self._kept = kept
        self._state = state
        self._rule: RuleAtWork | None = None

    @override
    def on_batch(self, values: list[_Named]) -> tuple[list[Alert], bool]:
        found: list[Alert] = []
        for name, update in values:
            if self._rule is None:
                self._rule = self._make(name, self._state and self._state[1])
                self._state = (name, ())
            found += self._rule.apply(update)
        return (found, StatefulBatchLogic.RETAIN)

    @override
    def snapshot(self) -> tuple[str, tuple[Any, ...]]:
        assert self._state is not None
        if self._rule is None or not self._kept:
            return self._state
        return (self._state[0], self._rule.snapshot())


@operator
def detect(
    step_id: str,
    up: Flow[Unit],
    *,
    detection: Detection,
    partitions: Sequence[str],
    kept: bool,
) -> Flow[Alert]:
    """Judge each closed pane by every rule.

    Keyed by rule, so that workers share the rules. On resume what was judged since the last
    snapshot is judged again, and the revisions are the same.

    :arg step_id: Unique ID.
    :arg up: Units of all partitions.
    :arg detection: Rules, and how their alerts are treated.
    :arg partitions: Names of all partitions, as ``topic/partition``.
    :arg kept: Whether snapshots are kept; the engine asks for them all the same.
    :returns: Revisions of alerts.

    """
    specs = {spec.name: spec for spec in detection.rules}

    def updates(unit: Unit) -> list[tuple[str, _Named]]:
        return [(name, (name, update_for(spec, unit))) for name, spec in specs.items()]

    def make(name: str, state: tuple[Any, ...] | None) -> RuleAtWork:
        return RuleAtWork(
            specs[name],
            detection.policy,
            detection.wishes,
            partitions=partitions,
            known=() if state else detection.known(name),
            state=state,
        )

    keyed: KeyedStream[_Named] = op.flat_map("updates", up, updates)
    found = op.stateful_batch("judge", keyed, lambda state: _RuleLogic(make, state, kept=kept))
    return op.map("alert", found, lambda item: item[1])
