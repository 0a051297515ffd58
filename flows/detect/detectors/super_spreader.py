"""One source begins to talk with very many hosts."""

from __future__ import annotations

from collections.abc import Mapping

from flows.detect.alert import Severity
from flows.detect.detector import About
from flows.detect.detectors.spread import SpreadDetector
from flows.detect.detectors.wording import counted
from flows.sketches.superspread import Spreader
from flows.windows.fields import FieldList
from flows.windows.tasks import Task


class SuperSpreader(SpreadDetector):
    """Different hosts with which a source began to talk, whether or not they answered.

    Worms, peer-to-peer clients, crawlers, mail bots (Venkataraman, Song, Gibbons, Blum, "New
    streaming algorithms for fast detection of superspreaders", 2005). Who only answers, as a
    server does, begins nothing.

    Args:
        threshold: different hosts.
        horizon_ns: length of the window.
    """

    about = About(
        name="super_spreader",
        title="{src_addr} contacts very many hosts",
        metric="hosts contacted",
        unit="hosts",
        severity=Severity.medium,
        technique="T1018",
    )
    task = Task(
        "_super_spreader",
        "spread",
        FieldList(("src_addr",)),
        FieldList(("dst_addr",)),
        where="initiated",
    )

    def told(self, entity: Mapping[str, str], row: Spreader) -> str:
        """What a source did."""
        return f"{entity['src_addr']} contacted {counted(*row[1:], 'host')}"
