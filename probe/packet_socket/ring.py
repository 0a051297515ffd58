"""Frames that wait in memory shared with the kernel."""

from __future__ import annotations

from mmap import mmap

import numpy as np

from probe.packet_socket.fence import fence
from probe.packet_socket.frames import (
    NANOSECONDS,
    READY,
    SECONDS,
    SLOT_BYTES,
    count_ready,
    decode_slots,
)
from schemas.record import PACKET, Packets, as_words

_SECOND_NS = 1_000_000_000


class FrameRing:
    """The reader's side of a TPACKET_V2 ring of one interface.

    The kernel fills slots in order and takes a slot again when its status is 0.

    Args:
        memory: the ring, a multiple of ``SLOT_BYTES``.
        if_index: for the records.
        link_type: of the frames.
        decapsulate: describe what tunnels carry.

    The kernels are compiled when this returns.
    """

    def __init__(
        self, memory: mmap | bytearray, if_index: int, link_type: int, *, decapsulate: bool
    ) -> None:
        self._bytes = np.frombuffer(memory, np.uint8)
        self._words = self._bytes.view(np.uint32).reshape(-1, SLOT_BYTES // 4)
        self._statuses = self._words[:, 0]
        self._link = (link_type, if_index, decapsulate)
        self._next = 0
        self._compile()

    def __len__(self) -> int:
        return len(self._statuses)

    def read(self, out: Packets) -> int:
        """Decode what waits up to the ring's end, at most ``len(out)`` frames.

        Returns:
            How many frames, each a record. 0 when nothing waits.
        """
        ready = count_ready(self._statuses, self._next, len(out))
        if ready:
            fence()
            decode_slots(self._bytes, self._next, ready, *self._link, as_words(out))
            fence()
            self._statuses[self._next : self._next + ready] = 0
            self._next = (self._next + ready) % len(self)
        return int(ready)

    def oldest_ns(self) -> int | None:
        """Unix time of the frame that waits longest, None when none waits."""
        slot = self._words[self._next]
        if not int(slot[0]) & READY:
            return None
        fence()
        return int(slot[SECONDS // 4]) * _SECOND_NS + int(slot[NANOSECONDS // 4])

    def close(self) -> None:
        """Let go of the memory."""
        self._bytes = np.zeros(SLOT_BYTES, np.uint8)
        self._words = self._bytes.view(np.uint32).reshape(1, -1)
        self._statuses = self._words[:, 0]
        self._next = 0

    def _compile(self) -> None:
        """Have the kernels compiled, by calls that do nothing."""
        count_ready(self._statuses, 0, 0)
        fence()
        decode_slots(self._bytes, 0, 0, *self._link, as_words(np.empty(0, PACKET)))
