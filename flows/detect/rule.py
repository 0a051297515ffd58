"""One rule at work: its open windows, and for each tenant its detector and its alerts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from flows.detect.alert import Alert
from flows.detect.detector import Detector
from flows.detect.lifecycle import Lifecycle
from flows.detect.policy import Policy, RuleSpec, Wishes
from flows.detect.window import DetectUpdate, OpenWindows

STATE_VERSION: Final = 1


class RuleAtWork:
    """Takes units, gives revisions of alerts.

    Args:
        spec: the rule.
        policy: what holds for all rules.
        wishes: what people want kept quiet.
        partitions: all partitions that will report.
        known: alerts of the rule that an earlier run left open; those of a snapshot win.
        state: an earlier ``snapshot``.
    """

    def __init__(
        self,
        spec: RuleSpec,
        policy: Policy,
        wishes: Wishes,
        *,
        partitions: Sequence[str],
        known: Iterable[Alert] = (),
        state: tuple[Any, ...] | None = None,
    ) -> None:
        self._spec = spec
        self._policy = policy
        self._wishes = wishes
        self._tenants: dict[str, tuple[Detector, Lifecycle]] = {}
        windows = None
        if state is not None:
            version, made_for, windows, tenants = state
            if version != STATE_VERSION:
                msg = f"recovery state has version {version}, this program reads {STATE_VERSION}"
                raise ValueError(msg)
            for tenant, learnt, lives in tenants:
                detector, lifecycle = self._of(tenant)
                if learnt is not None:
                    detector.restore(learnt)
                lifecycle.restore(lives)
            # Other sizes or tasks can't be merged with what was kept: the window begins anew.
            windows = windows if made_for == self._made_for else None
        for alert in known:
            self._of(alert.tenant)[1].seed([alert])
        self._windows = OpenWindows(spec.horizon_ns, partitions, windows)

    @property
    def _made_for(self) -> str:
        """What the windows' sketches were made for."""
        return repr((self._spec.horizon_ns, self._spec.tasks))

    def apply(self, update: DetectUpdate) -> list[Alert]:
        """Take a unit; returns what became of alerts, in order of event time."""
        found = []
        for view in self._windows.add(update):
            detector, lifecycle = self._of(view.tenant)
            readings = detector.read(view, lifecycle.watched)
            found += lifecycle.step(readings, view)
        for _, lifecycle in self._tenants.values():
            if self._windows.ended:
                # What fires goes on firing: nobody knows how it went on behind a capture's end.
                found += lifecycle.last_words()
            else:
                found += lifecycle.advance(self._windows.watermark_ns)
        return found

    def _of(self, tenant: str) -> tuple[Detector, Lifecycle]:
        if tenant not in self._tenants:
            detector = self._spec.detector()
            lifecycle = Lifecycle(self._spec, detector, tenant, self._policy, self._wishes)
            self._tenants[tenant] = detector, lifecycle
        return self._tenants[tenant]

    def snapshot(self) -> tuple[Any, ...]:
        """Immutable, picklable state."""
        tenants = tuple(
            (tenant, detector.snapshot(), lifecycle.snapshot())
            for tenant, (detector, lifecycle) in self._tenants.items()
        )
        return (STATE_VERSION, self._made_for, self._windows.snapshot(), tenants)
