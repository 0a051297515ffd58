"""Very many connections to one service are begun and not completed."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, Final

from flows.detect.alert import Severity
from flows.detect.detector import MAX_READINGS, About, Reading, Readings
from flows.detect.detectors.flow_sql import statement
from flows.detect.detectors.rates import Weight, weights, weighty
from flows.detect.detectors.spread import SAMPLED_CONFIDENCE, figures, sampling_facts
from flows.detect.detectors.wording import counted, rate, span
from flows.detect.window import View
from flows.sketches.superspread import Spreader
from flows.windows.fields import FieldList
from flows.windows.tasks import Task

_SECOND_NS: Final = 10**9
_KEY: Final = FieldList(("dst_addr", "dst_port"))


class SynFlood:
    """SYN packets per second to one service, of flows without an ACK, on average over the window.

    Each leaves a half-open connection behind (Eddy, RFC 4987). Wang, Zhang, Shin, "Detecting SYN
    flooding attacks", 2002, compare SYNs with FINs; with flows at hand those that never
    acknowledged anything are counted themselves. ``spoofed_share`` is the number of different
    sources per packet: near 100 % every packet says that it comes from somebody else. Under
    sampling a connection of which only the SYN was kept counts too.

    Args:
        threshold: packets per second.
        horizon_ns: length of the window.
    """

    about: Final = About(
        name="syn_flood",
        title="SYN flood to {dst_addr} port {dst_port}",
        metric="SYN packets without a connection",
        unit="packets/s",
        severity=Severity.high,
        technique="T1499.001",
    )
    task: Final = Task("_syn_flood", "frequency", _KEY, where="syn")
    sources: Final = Task(
        "_syn_flood_sources", "spread", _KEY, FieldList(("src_addr",)), where="syn"
    )

    def __init__(self, threshold: float, horizon_ns: int) -> None:
        self.threshold = threshold
        self.horizon_ns = horizon_ns
        self._horizon_s = horizon_ns / _SECOND_NS

    @property
    def tasks(self) -> Sequence[Task]:
        """Packets per service, and their different sources."""
        return (self.task, self.sources)

    def read(self, view: View, watched: Collection[Hashable]) -> Readings:
        """Measure."""
        over = weighty(view, self.task, "packets", self.threshold * self._horizon_s)
        rows = over[:MAX_READINGS]
        rows += weights(view, self.task, "packets", rows, watched)
        known = figures(view, self.sources, [row.key for row in rows])
        found = [self._reading(view, row, who) for row, who in zip(rows, known, strict=True)]
        return Readings(found, len(over))

    def _reading(self, view: View, packets: Weight, sources: Spreader) -> Reading:
        entity = _KEY.read(packets.key, ())
        per_second = packets.times(1 / self._horizon_s)
        spoofed = min(sources.estimate / max(packets.value, 1), 1.0)
        title = f"SYN flood to {entity['dst_addr']} port {entity['dst_port']}"
        who = counted(*sources[1:], "source")
        return Reading(
            key=packets.key,
            entity=entity,
            value=per_second.value,
            lower=per_second.lower,
            upper=per_second.upper,
            confidence=1.0 if view.sampling.rate == 1 else SAMPLED_CONFIDENCE,
            threshold=self.threshold,
            facts={
                "packets": f"{packets.value:.0f}",
                "sources": f"{sources.estimate:.0f}",
                "sources_lower": f"{sources.lower:.0f}",
                "sources_upper": f"{sources.upper:.0f}",
                "spoofed_share": f"{spoofed:.0%}",
                **sampling_facts(view),
            },
            title=f"{title}: {rate(per_second.value, 'packets/s')}",
            summary=f"{entity['dst_addr']} port {entity['dst_port']} was sent {packets.value:,.0f} "
            f"SYN packets without a connection by {who} in {span(view)}.",
        )

    def sql(self, entity: Mapping[str, str], tenant: str, start_ns: int, end_ns: int) -> str:
        """The packets of such flows, per second of the window, exactly."""
        value = f"sum(f.packets) / {self._horizon_s!r}"
        return statement(self.task, value, entity, tenant, start_ns, end_ns)

    def snapshot(self) -> Any:
        """Nothing beyond the sketches."""
        return None

    def restore(self, state: Any) -> None:
        """Nothing to go on with."""
