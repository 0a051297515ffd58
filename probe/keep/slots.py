"""A bounded queue of records from the probe to the writing process.

The records lie in shared memory, in slots. What goes through the pipes is which slot has how
many records and, the other way, which slots are free again. When none is, records are refused:
the probe never waits.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import Final

import numpy as np

from probe.keep.cells import map_bytes
from schemas.record import PACKET, PACKET_BYTES, PACKET_WORDS, Packets, as_words

SLOTS: Final = 64
SLOT_RECORDS: Final = 8192
SLOTS_BYTES: Final = SLOTS * SLOT_RECORDS * PACKET_BYTES
"""45 MB, of which only what is used takes memory."""

_TOKEN: Final = struct.Struct("=II")


class SlotWriter:
    """The probe's end.

    Args:
        memory: descriptor of ``SLOTS_BYTES`` of shared memory.
        work: pipe to the writing process; is made non-blocking.
        returned: pipe from it; is made non-blocking.
    """

    def __init__(self, memory: int, work: int, returned: int) -> None:
        # As words: numpy copies records field by field, words at once.
        words = map_bytes(memory, SLOTS_BYTES).view(np.uint64)
        self._slots = words.reshape(SLOTS, SLOT_RECORDS, PACKET_WORDS)
        self._work = work
        self._returned = returned
        self._free = list(range(SLOTS))
        os.set_blocking(work, False)
        os.set_blocking(returned, False)

    def offer(self, records: Packets) -> bool:
        """Pass up to ``SLOT_RECORDS`` records on; False when there is no room now.

        Raises:
            BrokenPipeError: nobody reads any more.
            ValueError: the records are not contiguous.
        """
        if not self._free:
            try:
                returned = os.read(self._returned, SLOTS)
            except BlockingIOError:
                return False
            if not returned:
                raise BrokenPipeError
            self._free.extend(returned)
        slot = self._free.pop()
        self._slots[slot, : len(records)] = as_words(records)
        # The pipe holds thousands of tokens, and there are never more than slots.
        os.write(self._work, _TOKEN.pack(slot, len(records)))
        return True


def read_slots(memory: int, work: int, returned: int) -> Iterator[Packets]:
    """The writing process's end: records as they come, until the pipe is closed.

    What is given is free again with the next step.
    """
    slots = map_bytes(memory, SLOTS_BYTES).view(PACKET).reshape(SLOTS, SLOT_RECORDS)
    while token := os.read(work, _TOKEN.size):
        slot, count = _TOKEN.unpack(token)
        yield np.asarray(slots[slot, :count])
        with contextlib.suppress(BrokenPipeError):
            os.write(returned, bytes([slot]))
