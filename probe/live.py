"""What a live capture is, whatever reads the wire: eBPF or a packet socket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

from probe.filters import Rule
from schemas.record import CapturePoint, Direction, Packets

DEFAULT_RING_BYTES: Final = 64 * 2**20
"""Room for packets that wait to be read: 699,000 records, over a second at half a million/s."""

BOTH_WAYS: Final = frozenset({Direction.INGRESS, Direction.EGRESS})


@dataclass(frozen=True, slots=True)
class CaptureCounts:
    """Totals of a capture since it started, in packets.

    Attributes:
        seen: packets that reached the capture point and passed the filter, dropped ones included.
        dropped: packets that were seen and give no record, by reason (``ring_full``,
            ``sampled_out``).
        filtered: packets that were not of interest; not part of ``seen``.
    """

    seen: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    filtered: int = 0


@dataclass(frozen=True, kw_only=True)
class CaptureOptions:
    """What to capture, and how.

    Attributes:
        interfaces: names.
        directions: ways through the interface.
        method: ``auto`` takes the best that works; the others are tried alone.
        loader: of eBPF programs.
        attach: how TC programs are attached, for ``auto`` the best that works.
        xdp_mode: of the driver, or the generic one of the kernel.
        mode: a record for each packet, for each flow and second, or the second under overload.
        decapsulate: describe what tunnels carry instead of the tunnels.
        sampling_rate: keep one packet in so many, at random.
        keep: keep only packets that match one of these rules; all when empty.
        drop: drop packets that match one of these rules.
        ring_bytes: memory for packets that wait to be read, a power of two.
        name: of the probe, under which counters are pinned; None pins nothing.
        bpffs: where the BPF file system is mounted.
    """

    interfaces: tuple[str, ...]
    directions: frozenset[Direction] = BOTH_WAYS
    method: Literal["auto", "tc", "xdp", "packet"] = "auto"
    loader: Literal["auto", "libbpf", "bcc"] = "auto"
    attach: Literal["auto", "tcx", "clsact"] = "auto"
    xdp_mode: Literal["auto", "native", "generic"] = "auto"
    mode: Literal["packets", "flows", "auto"] = "packets"
    decapsulate: bool = False
    sampling_rate: int = 1
    keep: tuple[Rule, ...] = ()
    drop: tuple[Rule, ...] = ()
    ring_bytes: int = DEFAULT_RING_BYTES
    name: str | None = None
    bpffs: Path = Path("/sys/fs/bpf")


class LiveCapture(Protocol):
    """Packets of interfaces, as they pass.

    Attributes:
        point: where packets are seen.
        choices: lines for the user: what was chosen, and why nothing better.
        interfaces: names by number.
        sampling_rate: one of how many packets is recorded.
    """

    point: CapturePoint
    choices: tuple[str, ...]
    interfaces: Mapping[int, str]
    sampling_rate: int

    @property
    def aggregated(self) -> bool:
        """Whether records may stand for a flow's packets of up to a second."""

    def read(self, out: Packets) -> int:
        """Copy what waits to ``out``, at most its length; returns how many. Never blocks."""

    def watermark_ns(self) -> int:
        """Unix time before which no more packets will come, as of the last read; never falls."""

    def counts(self) -> CaptureCounts:
        """Totals since the start.

        After ``detach``, ``seen`` is what was read, what waits to be read and what was dropped.
        """

    def detach(self) -> None:
        """Take no new packets; what waits can still be read."""

    def close(self) -> None:
        """Detach and give everything back; may be called twice."""
