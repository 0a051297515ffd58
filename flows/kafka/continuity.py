"""What is missing, or came twice, between the batches of a probe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from flows.windows.sequence import Place
from schemas.batch import BatchHeader
from schemas.record import Packets

BY_CHOICE: Final = frozenset({"sampled_out"})
"""Reasons for which packets are dropped that were never meant to come."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a batch shows beside its packets.

    Attributes:
        repeated: It came before.
        missing_batches: How many that should have come before it didn't.
        missing_packets: Packets in them; None if the batches don't say.
        dropped: Packets by reason that the probe dropped since it last told.
    """

    repeated: bool = False
    missing_batches: int = 0
    missing_packets: int | None = 0
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def lost(self) -> int | None:
        """Packets that were lost on the way or by the probe; None if that isn't known."""
        if self.missing_packets is None:
            return None
        return self.missing_packets + sum(
            count for reason, count in self.dropped.items() if reason not in BY_CHOICE
        )


class Continuity:
    """Follows the numbers of all probes' batches, from wherever reading began.

    Batches of one probe, boot and partition must come in the order of the log. The first one
    that is seen shows nothing missing, unless it is the probe's drops since it started.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[str, str, bytes, int], Place] = {}
        self._dropped: dict[tuple[str, str, bytes], dict[str, int]] = {}

    def note(self, header: BatchHeader, packets: Packets) -> Finding:
        """Take in a batch as it was decoded."""
        probe = (header.tenant, header.probe, header.boot_id)
        stream = (*probe, header.partition)
        place = self._places.get(stream, Place.at(header))
        missing_batches, missing_packets = place.missing(header)
        if missing_batches < 0:
            return Finding(repeated=True)
        self._places[stream] = place.after(header, total(packets))
        return Finding(
            missing_batches=missing_batches,
            missing_packets=missing_packets,
            dropped=self._growth(probe, header),
        )

    def _growth(self, probe: tuple[str, str, bytes], header: BatchHeader) -> dict[str, int]:
        if header.counters is None:
            return {}
        known = self._dropped.get(probe, {})
        self._dropped[probe] = dict(header.counters.dropped)
        growth = {
            reason: count - known.get(reason, 0)
            for reason, count in header.counters.dropped.items()
        }
        return {reason: count for reason, count in growth.items() if count > 0}


def total(packets: Packets) -> int:
    """Packets that the records stand for."""
    return int(packets["packets"].sum(dtype=np.uint64))
