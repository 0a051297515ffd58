"""Many reflectors send large answers to one victim."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, Final

from flows.detect.alert import Severity
from flows.detect.detector import MAX_READINGS, About, Reading, Readings
from flows.detect.detectors.flow_sql import statement
from flows.detect.detectors.rates import Weight, weights, weighty
from flows.detect.detectors.spread import SAMPLED_CONFIDENCE, confidence, figures, sampling_facts
from flows.detect.detectors.wording import SERVICES, counted, rate, span
from flows.detect.window import View
from flows.sketches.superspread import Spreader
from flows.windows.fields import FieldList
from flows.windows.tasks import Task

_SECOND_NS: Final = 10**9
_BITS: Final = 8
_KEY: Final = FieldList(("dst_addr", "src_port"))


class Amplification:
    """Bits per second of large answers of one UDP service to one host, from many senders.

    Requests with the victim's address as their source are sent to open services whose answers
    are larger than what was asked (US-CERT alert TA14-017A, "UDP-Based Amplification Attacks").
    Counted are flows from one of ``ports`` to another port with over 200 bytes a frame; averaged
    over the window. Only with at least ``reflectors`` different senders for certain: one resolver
    with large answers is no attack. Later fragments have no ports and are not counted, so the
    attack may be several times larger.

    Args:
        threshold: bits per second.
        reflectors: fewest different senders.
        ports: of services that are misused.
        horizon_ns: length of the window.
    """

    about: Final = About(
        name="amplification",
        title="Amplification from port {src_port} to {dst_addr}",
        metric="reflected traffic",
        unit="bit/s",
        severity=Severity.high,
        technique="T1498.002",
    )
    task: Final = Task("_amplification", "frequency", _KEY, where="reflected")
    senders: Final = Task(
        "_amplification_senders", "spread", _KEY, FieldList(("src_addr",)), where="reflected"
    )

    def __init__(
        self, threshold: float, reflectors: int, ports: Collection[int], horizon_ns: int
    ) -> None:
        self.threshold = threshold
        self.horizon_ns = horizon_ns
        self._reflectors = reflectors
        self._ports = frozenset(ports)
        self._per_second = _BITS * _SECOND_NS / horizon_ns

    @property
    def tasks(self) -> Sequence[Task]:
        """Bytes per victim and port, and their different senders."""
        return (self.task, self.senders)

    def read(self, view: View, watched: Collection[Hashable]) -> Readings:
        """Measure."""
        large = weighty(view, self.task, "bytes", self.threshold / self._per_second)
        large = [row for row in large if row.key[-1] in self._ports]
        known = figures(view, self.senders, [row.key for row in large])
        over = [
            (row, who)
            for row, who in zip(large, known, strict=True)
            if who.lower >= self._reflectors
        ]
        rest = weights(view, self.task, "bytes", [row for row, _ in over], watched)
        known = figures(view, self.senders, [row.key for row in rest])
        rows = over[:MAX_READINGS] + list(zip(rest, known, strict=True))
        return Readings([self._reading(view, *row) for row in rows], len(over))

    def _reading(self, view: View, octets: Weight, senders: Spreader) -> Reading:
        entity = _KEY.read(octets.key, ())
        bits = octets.times(self._per_second)
        port = int(entity["src_port"])
        service = SERVICES.get(port, f"UDP port {port}")
        who = counted(*senders[1:], "sender")
        certain = 1.0 if view.sampling.rate == 1 else SAMPLED_CONFIDENCE
        return Reading(
            key=octets.key,
            entity=entity,
            value=bits.value,
            # Without enough reflectors nothing is certain of an attack.
            lower=bits.lower if senders.lower >= self._reflectors else 0.0,
            upper=bits.upper,
            confidence=min(certain, confidence(view, self.senders)),
            threshold=self.threshold,
            facts={
                "service": service,
                "bytes": f"{octets.value:.0f}",
                "senders": f"{senders.estimate:.0f}",
                "senders_lower": f"{senders.lower:.0f}",
                "senders_upper": f"{senders.upper:.0f}",
                **sampling_facts(view),
            },
            title=f"{service} amplification to {entity['dst_addr']}: {rate(bits.value, 'bit/s')}",
            summary=f"{who} of {service} sent {octets.value:,.0f} bytes of large answers to "
            f"{entity['dst_addr']} in {span(view)}.",
        )

    def sql(self, entity: Mapping[str, str], tenant: str, start_ns: int, end_ns: int) -> str:
        """The bits of such flows, per second of the window, exactly."""
        value = f"sum(f.bytes) * {self._per_second!r}"
        ports = ", ".join(map(str, sorted(self._ports)))
        return statement(
            self.task, value, entity, tenant, start_ns, end_ns, f"f.src_port IN ({ports})"
        )

    def snapshot(self) -> Any:
        """Nothing beyond the sketches."""
        return None

    def restore(self, state: Any) -> None:
        """Nothing to go on with."""
