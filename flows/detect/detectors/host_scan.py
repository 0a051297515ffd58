"""One source tries one port of many hosts."""

from __future__ import annotations

from collections.abc import Mapping

from flows.detect.alert import Severity
from flows.detect.detector import About
from flows.detect.detectors.spread import SpreadDetector
from flows.detect.detectors.wording import counted, port_text
from flows.sketches.superspread import Spreader
from flows.windows.fields import FieldList
from flows.windows.tasks import Task


class HostScan(SpreadDetector):
    """Different hosts of which a source tried one port, without a connection coming about.

    A horizontal scan: the same service is looked for everywhere, or hosts that are there at all
    (ping). That most tries come to nothing is what tells a scanner from a busy client (Jung,
    Paxson, Berger, Balakrishnan, "Fast portscan detection using sequential hypothesis testing",
    2004). Counted are attempts as ``flows.kernels.classes`` has them; a client whose connections
    are opened at a pane's end is counted once in a while too, so the threshold shouldn't be small.
    Under sampling a connection of which only the SYN was kept looks like an attempt.

    Args:
        threshold: different hosts.
        horizon_ns: length of the window.
    """

    about = About(
        name="host_scan",
        title="{src_addr} tries port {dst_port} of many hosts",
        metric="hosts tried",
        unit="hosts",
        severity=Severity.medium,
        technique="T1046",
    )
    task = Task(
        "_host_scan",
        "spread",
        FieldList(("src_addr", "dst_port", "ip_proto")),
        FieldList(("dst_addr",)),
        where="attempts",
    )

    def told(self, entity: Mapping[str, str], row: Spreader) -> str:
        """What a source did."""
        hosts = counted(*row[1:], "host")
        if entity["ip_proto"] in ("1", "58"):
            return f"{entity['src_addr']} pinged {hosts} without an answer"
        return f"{entity['src_addr']} tried {port_text(entity)} of {hosts}"
