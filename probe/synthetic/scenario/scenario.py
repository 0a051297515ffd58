"""A background and what is planted in it, as one stream of packets."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from probe.synthetic.scenario.addresses import NETWORKS
from probe.synthetic.scenario.arrivals import within
from probe.synthetic.scenario.background import Background
from probe.synthetic.scenario.compose import chunks, slices
from probe.synthetic.scenario.exchange import Stream
from probe.synthetic.scenario.labels import Label, label
from probe.synthetic.scenario.planted import MOST, Planted, Slot
from probe.synthetic.schedule import derive
from schemas.record import Packets

WARM_UP_NS: Final = 60 * 10**9
"""The background begins this much earlier, so that its rate is right from the first packet."""

LONGEST_S: Final = 366 * 86_400


@dataclass(frozen=True)
class Scenario:
    """Clean traffic with attacks and look-alikes planted in it, and what a detector should say.

    Equal parameters give equal packets, in any process. Adding to ``attacks`` changes no packet
    of the background or of those before it. Each record is one packet; timestamps never
    decrease. Conversations under way at the end are cut, and some are under way at the start.
    """

    seed: int = 1
    """0 to 2**64 - 1."""
    start_ns: int = 1_699_999_800_000_000_000
    """Unix time at which it starts; the default is a Tuesday, 22:10 UTC, where a horizon of 600 s
    begins."""
    duration_s: float = 600.0
    background: Background | None = field(default_factory=Background)
    """None for nothing but what is planted."""
    attacks: tuple[Planted, ...] = ()
    """Attacks and look-alikes."""

    def __post_init__(self) -> None:
        """Refuse what can't be generated.

        Raises:
            ValueError: a parameter is out of range; the text names it and the range.
        """
        within("seed", self.seed, 0, 2**64 - 1)
        within("start_ns", self.start_ns, WARM_UP_NS, 2**62)
        within("duration_s", self.duration_s, 1e-3, LONGEST_S)
        within("number of attacks and look-alikes", len(self.attacks), 0, MOST)

    def chunks(self, size: int = 65_536) -> Iterator[Packets]:
        """All packets in time order, ``size`` records a chunk, fewer in the last.

        Raises:
            ValueError: the size isn't positive.
        """
        within("size", size, 1, 2**32)
        return chunks(slices(self._streams, *self._span_ns), self._origin_ns, size)

    @functools.cached_property
    def packets(self) -> int:
        """How many packets there are; counting takes a third of the time of making them."""
        return sum(len(part.packets) for part in slices(self._streams, *self._span_ns))

    @property
    def labels(self) -> list[Label]:
        """What should be found: one label an attack."""
        return self._labels(hostile=True)

    @property
    def negatives(self) -> list[Label]:
        """What should not be found: one label for each detector that a look-alike may mislead."""
        return self._labels(hostile=False)

    @property
    def networks(self) -> Mapping[str, tuple[str, ...]]:
        """Named networks for the settings of the detectors."""
        return NETWORKS

    @property
    def _origin_ns(self) -> int:
        return self.start_ns - WARM_UP_NS

    @property
    def _span_ns(self) -> tuple[int, int]:
        return WARM_UP_NS, WARM_UP_NS + max(round(self.duration_s * 1e9), 1)

    def _slot(self, place: int) -> Slot:
        return Slot(place, derive(self.seed, 1 + place), self._origin_ns, *self._span_ns)

    @functools.cached_property
    def _streams(self) -> list[Stream]:
        streams: list[Stream] = []
        if self.background is not None:
            end_ns = self._span_ns[1]
            streams += self.background.streams(derive(self.seed, 0), self._origin_ns, end_ns)
        for place, planted in enumerate(self.attacks):
            streams += planted.streams(self._slot(place))
        return streams

    def _labels(self, hostile: bool) -> list[Label]:
        return [
            label(planted, self._slot(place), kind)
            for place, planted in enumerate(self.attacks)
            for kind in planted.kinds
            if planted.hostile == hostile
        ]
