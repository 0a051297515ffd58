"""The settings of a live capture as the probe takes them."""

from __future__ import annotations

from flows.settings import Settings
from probe.filters import parse_rule
from probe.live import BOTH_WAYS, CaptureOptions
from schemas.record import Direction

_DIRECTIONS = {
    "both": BOTH_WAYS,
    "ingress": frozenset({Direction.INGRESS}),
    "egress": frozenset({Direction.EGRESS}),
}


def options(settings: Settings, interfaces: tuple[str, ...] = ()) -> CaptureOptions:
    """What the settings say of a capture.

    Args:
        settings: of the run.
        interfaces: names; by default those of the source.

    Raises:
        FilterError: a rule can't be read.
    """
    capture = settings.capture
    named = tuple(name.strip() for name in settings.source_target.split(",") if name.strip())
    return CaptureOptions(
        interfaces=interfaces or named,
        directions=_DIRECTIONS[capture.directions],
        method=capture.method,
        loader=capture.loader,
        attach=capture.attach,
        xdp_mode=capture.xdp_mode,
        mode=capture.mode,
        decapsulate=capture.decapsulate,
        sampling_rate=capture.sampling_rate,
        keep=tuple(map(parse_rule, capture.filter)),
        drop=tuple(map(parse_rule, capture.exclude)),
        ring_bytes=capture.ring_mb * 2**20,
        name=settings.probe_name(),
    )
