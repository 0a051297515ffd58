"""Very many sources begin to talk with one host."""

from __future__ import annotations

from collections.abc import Mapping

from flows.detect.alert import Severity
from flows.detect.detector import About
from flows.detect.detectors.spread import SpreadDetector
from flows.detect.detectors.wording import counted
from flows.sketches.superspread import Spreader
from flows.windows.fields import FieldList
from flows.windows.tasks import Task


class FanIn(SpreadDetector):
    """Different sources that began to talk with one host.

    A distributed attack on it, or a crowd (Jung, Krishnamurthy, Rabinovich, "Flash crowds and
    denial of service attacks", 2002: in a crowd most sources have been seen before). A service
    with a public is named in ``unless``, or given a rule with a higher threshold.

    Args:
        threshold: different sources.
        horizon_ns: length of the window.
    """

    about = About(
        name="fan_in",
        title="Very many sources contact {dst_addr}",
        metric="sources",
        unit="sources",
        severity=Severity.medium,
        technique="T1498",
    )
    task = Task(
        "_fan_in",
        "spread",
        FieldList(("dst_addr",)),
        FieldList(("src_addr",)),
        where="initiated",
    )

    def told(self, entity: Mapping[str, str], row: Spreader) -> str:
        """What happened to a host."""
        return f"{counted(*row[1:], 'source')} contacted {entity['dst_addr']}"
