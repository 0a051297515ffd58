"""Reading packet records out of a BPF ring buffer, many at a time.

The kernel maps a ring buffer (``BPF_MAP_TYPE_RINGBUF``, Linux 5.8; the format is in the kernel's
``Documentation/bpf/ringbuf.rst``) as a page with the consumer's position, which we write, a page
with the producer's, and the data twice in a row, so that what wraps round the end is contiguous.
Each record is headed by 8 bytes: its length in 30 bits, DISCARD (bit 30, not to be read), BUSY
(bit 31, still being written). Ours all have one length, so a slot is found by multiplying.

A reader must see a record's content only after its cleared BUSY bit, and release it only after
it has copied it. On x86 the processor keeps loads in order, and stores after earlier loads; and
the compiler can't move anything between kernels that Python calls one after the other. Other
machines need fences that numba can't express, so ``Ring`` refuses them.
"""

from __future__ import annotations

import mmap
import platform
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt

from probe.errors import Unavailable
from schemas.record import PACKET_BYTES, PACKET_WORDS, Packets, as_words

Words = npt.NDArray[np.uint64]

SLOT_BYTES: Final = PACKET_BYTES + 8
"""A record and its header."""
SLOT_WORDS: Final = SLOT_BYTES // 8
BUSY: Final = 1 << 31
DISCARD: Final = 1 << 30
ORDERED_MACHINES: Final = ("x86_64", "AMD64", "i686")

_BUSY = np.uint64(BUSY)
_DISCARD = np.uint64(DISCARD)
_ZERO = np.uint64(0)


@numba.njit(nogil=True, cache=True)
def count_complete(data: Any, first_word: Any, slots: Any, room: Any) -> Any:
    """Count the slots, of at most ``slots``, that can be taken now.

    Stops at a record that is still being written, and before more than ``room`` records.
    ``data`` is the ring as (n,) uint64 words; the rest is int64. Returns slots, int64.
    """
    records = np.int64(0)
    at = first_word
    for slot in range(slots):
        header = data[at]
        if header & _BUSY != _ZERO:
            return np.int64(slot)
        if header & _DISCARD == _ZERO:
            if records == room:
                return np.int64(slot)
            records += np.int64(1)
        at += SLOT_WORDS
    return np.int64(slots)


@numba.njit(nogil=True, cache=True)
def copy_records(data: Any, first_word: Any, slots: Any, offset_ns: Any, out: Any) -> Any:
    """Copy the records of complete slots, discarded ones left out.

    ``data`` is the ring as (n,) uint64 words, ``out`` (m, 11) uint64; ``offset_ns`` (uint64,
    wraps) is added to the first word. Returns the number of records, int64.
    """
    records = np.int64(0)
    at = first_word
    for _ in range(slots):
        if data[at] & _DISCARD == _ZERO:
            out[records, 0] = data[at + 1] + offset_ns
            for word in range(1, PACKET_WORDS):
                out[records, word] = data[at + 1 + word]
            records += np.int64(1)
        at += SLOT_WORDS
    return records


class RingView:
    """The reader's side of a ring of packet records; one reader only.

    Args:
        consumer: (1,) uint64, the position up to which we have read.
        producer: (1,) uint64, the position up to which slots are taken.
        data: (2 * n,) uint64, the ring twice; its size is a power of two bytes.
    """

    def __init__(self, consumer: Words, producer: Words, data: Words) -> None:
        self._consumer = consumer
        self._producer = producer
        self._data = data
        self._size_bytes = data.nbytes // 2
        self.consumed = int(consumer[0])
        """Position up to which records were read, in bytes since the ring was made."""
        self.produced = self.consumed
        """Position up to which slots were taken when the last read began."""

    def fill(self) -> float:
        """How much of the ring is taken, 0 to 1."""
        return (int(self._producer[0]) - int(self._consumer[0])) / self._size_bytes

    def read(self, out: Packets, offset_ns: int) -> int:
        """Move what is complete to ``out``, at most its length.

        Args:
            out: filled from its start.
            offset_ns: added to each ``ts_ns``, may be negative.

        Returns:
            The number of records.
        """
        consumer = int(self._consumer[0])
        self.produced = int(self._producer[0])
        waiting = (self.produced - consumer) // SLOT_BYTES
        first_word = (consumer & (self._size_bytes - 1)) // 8
        slots = count_complete(self._data, first_word, waiting, len(out))
        offset = np.uint64(offset_ns & 0xFFFFFFFFFFFFFFFF)
        records = copy_records(self._data, first_word, slots, offset, as_words(out))
        if slots:
            self.consumed = consumer + slots * SLOT_BYTES
            self._consumer[0] = self.consumed  # one aligned store of 8 bytes
        return int(records)


class Ring(RingView):
    """A ring buffer map of the kernel.

    Args:
        fd: of the map; not needed any more when this returns.
        size_bytes: of the ring, a power of two.

    Raises:
        Unavailable: on machines where reading would need fences.
        OSError: the kernel doesn't map it.
    """

    def __init__(self, fd: int, size_bytes: int) -> None:
        if platform.machine() not in ORDERED_MACHINES:
            msg = (
                f"the ring buffer is read without fences, which needs an x86 processor, not "
                f"{platform.machine()}"
            )
            raise Unavailable(msg)
        page = mmap.PAGESIZE
        self._ours = mmap.mmap(fd, page)
        try:
            self._kernels = mmap.mmap(fd, page + 2 * size_bytes, prot=mmap.PROT_READ, offset=page)
        except BaseException:
            self._ours.close()
            raise
        super().__init__(
            np.frombuffer(self._ours, np.uint64, 1),
            np.frombuffer(self._kernels, np.uint64, 1),
            np.frombuffer(self._kernels, np.uint64, offset=page),
        )

    def close(self) -> None:
        """Unmap; the ring can't be read any more. May be called twice."""
        self._consumer = self._producer = np.zeros(1, np.uint64)
        # Read-only as the ring was: for another type, a read would compile the kernels anew.
        self._data = np.frombuffer(bytes(16), np.uint64)
        self._ours.close()
        self._kernels.close()
