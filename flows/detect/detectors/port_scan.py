"""One source tries many ports of one host."""

from __future__ import annotations

from collections.abc import Mapping

from flows.detect.alert import Severity
from flows.detect.detector import About
from flows.detect.detectors.spread import SpreadDetector
from flows.detect.detectors.wording import counted
from flows.sketches.superspread import Spreader
from flows.windows.fields import FieldList
from flows.windows.tasks import Task


class PortScan(SpreadDetector):
    """Different ports of one host that a source tried, without connections coming about.

    A vertical scan, with any of the ways of asking: SYN, connect, FIN, NULL, XMAS, UDP (Lyon,
    "Nmap Network Scanning", 2009). See ``HostScan`` for what an attempt is.

    Args:
        threshold: different ports.
        horizon_ns: length of the window.
    """

    about = About(
        name="port_scan",
        title="{src_addr} tries many ports of {dst_addr}",
        metric="ports tried",
        unit="ports",
        severity=Severity.medium,
        technique="T1046",
    )
    task = Task(
        "_port_scan",
        "spread",
        FieldList(("src_addr", "dst_addr")),
        FieldList(("dst_port",)),
        where="attempts",
    )

    def told(self, entity: Mapping[str, str], row: Spreader) -> str:
        """What a source did."""
        ports = counted(*row[1:], "port")
        return f"{entity['src_addr']} tried {ports} of {entity['dst_addr']}"
