"""Live capture by packet sockets."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from probe.errors import LiveError, Unavailable
from probe.filters import keep_matching, rules_array
from probe.live import CaptureCounts, CaptureOptions
from probe.packet_socket.ring import FrameRing
from probe.packet_socket.sockets import PacketSocket
from schemas.record import PACKET, CapturePoint, Packets, as_words

_SETTLE_NS: Final = 10_000_000
"""Longest that a frame is believed to be on its way into a ring after it got its time."""


class PacketSocketCapture:
    """A ``LiveCapture`` that needs neither BPF nor any capability but CAP_NET_RAW.

    Each interface has a ring of its own, ``ring_bytes`` shared evenly. Frames of directions that
    are not wanted are refused in the kernel; rules and sampling apply to what was taken from
    the ring, so a frame that found it full counts as seen whatever the rules say, and as one
    packet however many segments it stood for: nobody knows. The kernel also counts as full the
    rare frame whose kind of segmentation it can't describe (SCTP; UDP before Linux 6.2).

    Args:
        options: what to capture; ``method``, ``loader``, ``attach``, ``xdp_mode``, ``name`` and
            ``bpffs`` say nothing here.

    Raises:
        Unavailable: no CAP_NET_RAW, or flows are wanted, which only eBPF aggregates.
        LiveError: an interface doesn't exist or its frames can't be decoded.
        FilterError: more rules than there is room for.
    """

    point = CapturePoint.AF_PACKET
    aggregated = False
    choices: tuple[str, ...] = ()
    interfaces: Mapping[int, str]

    def __init__(self, options: CaptureOptions) -> None:
        if options.mode == "flows":
            msg = "AF_PACKET gives a record for each packet, not for flows: use mode packets"
            raise Unavailable(msg)
        if not options.interfaces or not options.directions:
            msg = "nothing to capture: name an interface and a direction"
            raise LiveError(msg)
        self.sampling_rate = options.sampling_rate
        self._rules = rules_array(options.keep), rules_array(options.drop)
        self._random = np.random.default_rng()
        self._sockets: list[PacketSocket] = []
        self._rings: list[FrameRing] = []
        self._turn = 0
        self._watermark_ns = 0
        self._taken = self._filtered = self._sampled_out = self._ring_full = 0
        self._detached = False
        self._left = np.empty(0, PACKET)
        names = tuple(dict.fromkeys(options.interfaces))
        ring_bytes = options.ring_bytes // len(names)
        try:
            for name in names:
                opened = PacketSocket(name, options.directions, ring_bytes)
                self._sockets.append(opened)
                link = opened.if_index, opened.link_type
                self._rings.append(FrameRing(opened.map, *link, decapsulate=options.decapsulate))
            self._select(self._left)  # compiled, like the rings' kernels, before frames come
            for opened in self._sockets:
                opened.start()
        except BaseException:
            self._release()
            raise
        self.interfaces = {s.if_index: name for s, name in zip(self._sockets, names, strict=True)}
        slots = len(self._rings[0])
        self.choices = (f"AF_PACKET on {', '.join(names)}: room for {slots:,} frames each",)

    def read(self, out: Packets) -> int:
        """Decode what waits to ``out``, at most its length; returns how many. Never blocks."""
        now_ns = time.time_ns()
        if self._detached:
            rows = min(len(self._left), len(out))
            as_words(out)[:rows] = as_words(self._left)[:rows]
            self._left = self._left[rows:]
            oldest_ns = int(self._left["ts_ns"].min(initial=now_ns))
        else:
            rows = self._read_rings(out)
            waiting = (ring.oldest_ns() for ring in self._rings)
            oldest_ns = min(ts_ns for ts_ns in (now_ns, *waiting) if ts_ns is not None)
        self._watermark_ns = max(self._watermark_ns, oldest_ns - _SETTLE_NS)
        return rows

    def _read_rings(self, out: Packets) -> int:
        rows = 0
        self._turn += 1
        for i in range(len(self._rings)):
            ring = self._rings[(self._turn + i) % len(self._rings)]
            left = len(ring)  # what arrives meanwhile can wait: no reader is kept for ever
            while left and rows < len(out):
                taken = ring.read(out[rows : rows + left])
                rows += self._select(out[rows : rows + taken])
                left -= taken
                if not taken:
                    break
        return rows

    def watermark_ns(self) -> int:
        """Unix time before which no more packets will come, as of the last read; never falls."""
        return self._watermark_ns

    def counts(self) -> CaptureCounts:
        """Totals since the start, of what was read and what was dropped.

        What waits in a ring is counted when it is read or by ``detach``: before it is decoded,
        nobody knows how many packets it stands for, and whether they are wanted.
        """
        self._ring_full += sum(opened.statistics() for opened in self._sockets)
        dropped = {"ring_full": self._ring_full, "sampled_out": self._sampled_out}
        return CaptureCounts(self._taken + sum(dropped.values()), dropped, self._filtered)

    def detach(self) -> None:
        """Take no new packets; what waits is counted, and can still be read."""
        if self._detached:
            return
        for opened in self._sockets:
            opened.detach()
        room = np.empty(sum(map(len, self._rings)), PACKET)
        self._left = room[: self._read_rings(room)]
        self._detached = True

    def close(self) -> None:
        """Detach and give everything back; may be called twice."""
        self.detach()
        with contextlib.suppress(OSError):
            self.counts()
        self._left = self._left[:0]
        self._release()

    def _release(self) -> None:
        for ring in self._rings:
            ring.close()
        for opened in self._sockets:
            opened.close()
        self._rings.clear()
        self._sockets.clear()

    def _select(self, packets: Packets) -> int:
        """Move the records that are wanted to the front, count the others; returns how many."""
        if any(len(rules) for rules in self._rules):
            wanted = np.empty(len(packets), np.bool_)
            keep_matching(as_words(packets), *self._rules, wanted)
            packets, lost = _keep(packets, wanted)
            self._filtered += lost
        if self.sampling_rate > 1:
            chosen = self._random.integers(self.sampling_rate, size=len(packets)) == 0
            packets, lost = _keep(packets, chosen)
            self._sampled_out += lost
        self._taken += int(packets["packets"].sum())
        return len(packets)


def _keep(packets: Packets, wanted: npt.NDArray[np.bool_]) -> tuple[Packets, int]:
    """Move wanted records to the front: they, and how many packets the others stood for."""
    lost = int(packets["packets"][~wanted].sum())
    words = as_words(packets)
    kept = words[wanted]
    words[: len(kept)] = kept
    return packets[: len(kept)], lost
