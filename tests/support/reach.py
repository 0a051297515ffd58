"""A detector for tests: sources that touch many hosts."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Any

from flows.detect.alert import Severity
from flows.detect.detector import About, Reading, Readings
from flows.detect.matching import Matcher
from flows.detect.policy import RuleSpec
from flows.detect.window import View
from flows.sketches.superspread import SuperSpread
from flows.windows.fields import FieldList
from flows.windows.tasks import Task

HORIZON_NS = 600 * 10**9
TASK = Task("reach", "spread", FieldList(("src_addr",)), FieldList(("dst_addr",)), where="attempts")


class Reach:
    """Sources whose attempts reach 100 hosts."""

    about = About("reach", "{src_addr} reaches many", "hosts", "hosts", Severity.medium)
    tasks = (TASK,)
    horizon_ns = HORIZON_NS

    def read(self, view: View, watched: Collection[Hashable]) -> Readings:
        merged = view.merged.get("reach")
        if not isinstance(merged, SuperSpread):
            return Readings()
        rows = [
            Reading(
                key=row.key,
                entity=TASK.key.read(row.key, ()),
                value=row.estimate,
                lower=row.lower,
                upper=row.upper,
                confidence=0.95,
                threshold=100,
            )
            for row in merged.top(10).rows
            if row.lower >= 100
        ]
        return Readings(rows, len(rows))

    def sql(self, entity: Mapping[str, str], tenant: str, start_ns: int, end_ns: int) -> str:
        return ""

    def snapshot(self) -> Any:
        return None

    def restore(self, state: Any) -> None:
        return


def rule(unless: Mapping[str, tuple[str, ...]] | None = None) -> RuleSpec:
    """The rule that runs it."""
    return RuleSpec(
        name="reach",
        severity=Severity.medium,
        hold_ns=0,
        cooldown_ns=600 * 10**9,
        where=Matcher({}, {}),
        unless=Matcher(unless or {}, {}),
        notify=(),
        detector=Reach,
        horizon_ns=HORIZON_NS,
        tasks=(TASK,),
    )
