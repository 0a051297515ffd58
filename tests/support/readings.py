"""Readings without traffic, for tests of what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.detect.alert import Alert, Severity
from flows.detect.detector import About, Reading, Readings
from flows.detect.lifecycle import Lifecycle
from flows.detect.matching import Matcher
from flows.detect.policy import Policy, RuleSpec, Wishes
from flows.detect.window import View

SECOND = 10**9
PANE_NS = 2 * SECOND
NETWORKS: dict[str, tuple[str, ...]] = {"dns": ("10.0.0.53/32",)}


class Scripted:
    """A detector that reads what it is told."""

    about = About("scripted", "{src_addr} does it", "hosts", "hosts", Severity.medium, "T1046")
    tasks = ()

    def __init__(self, horizon_ns: int = 600 * SECOND) -> None:
        self.horizon_ns = horizon_ns

    def read(self, view: View, watched: Any) -> Readings:
        return Readings()

    def sql(self, entity: Mapping[str, str], tenant: str, start_ns: int, end_ns: int) -> str:
        return f"SELECT {start_ns}, {end_ns}"

    def snapshot(self) -> Any:
        return None

    def restore(self, state: Any) -> None:
        return


def reading(source: str, value: float, threshold: float = 100, **changes: Any) -> Reading:
    entity = {"src_addr": source}
    return Reading(source, entity, value, value, value, 1.0, threshold, **changes)


def spec(
    *, hold_s: int = 0, cooldown_s: int = 600, horizon_s: int = 600, unless: Any = None
) -> RuleSpec:
    return RuleSpec(
        name="rule",
        severity=Severity.medium,
        hold_ns=hold_s * SECOND,
        cooldown_ns=cooldown_s * SECOND,
        where=Matcher({}, NETWORKS),
        unless=Matcher(unless or {}, NETWORKS),
        notify=(),
        detector=lambda: Scripted(horizon_s * SECOND),
        horizon_ns=horizon_s * SECOND,
        tasks=(),
    )


class Run:
    """One rule's alerts over time."""

    def __init__(self, rule: RuleSpec | None = None, **policy: Any) -> None:
        self.rule = rule or spec()
        self.wishes = Wishes()
        self.policy = Policy(**policy)
        self.told: list[Alert] = []
        self.lives = self._new()

    def _new(self) -> Lifecycle:
        return Lifecycle(self.rule, self.rule.detector(), "t", self.policy, self.wishes)

    def pane(self, at_s: int, *rows: Reading, over: int | None = None) -> list[Alert]:
        """A pane that starts at a time has closed, and this was read."""
        start_ns = at_s * SECOND
        view = View(
            tenant="t",
            pane_start_ns=start_ns,
            pane_ns=PANE_NS,
            start_ns=start_ns - start_ns % self.rule.horizon_ns,
            horizon_ns=self.rule.horizon_ns,
            merged={},
            pane={},
            probes=(),
        )
        listed = sum(each.over() for each in rows)
        found = self.lives.step(Readings(rows, listed if over is None else over), view)
        self.told += found
        return found

    def panes(self, first_s: int, last_s: int, *rows: Reading) -> None:
        for at_s in range(first_s, last_s, 2):
            self.pane(at_s, *rows)

    def pass_to(self, at_s: int) -> list[Alert]:
        """Time goes by without a packet."""
        found = list(self.lives.advance(at_s * SECOND))
        self.told += found
        return found

    def restart(self) -> None:
        """Go on from a snapshot."""
        import pickle

        state = pickle.loads(pickle.dumps(self.lives.snapshot()))
        self.lives = self._new()
        self.lives.restore(state)

    @property
    def events(self) -> list[str]:
        return [alert.event for alert in self.told]
