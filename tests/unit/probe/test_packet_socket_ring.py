"""A ring shared with a writer that plays the kernel's part."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.packet_socket import frames
from probe.packet_socket.frames import SLOT_BYTES
from probe.packet_socket.ring import FrameRing
from schemas.record import PACKET

SLOTS = 8


class Writer:
    """Fills free slots in order with numbered frames, as the kernel does; drops when none is."""

    def __init__(self) -> None:
        self.memory = bytearray(SLOTS * SLOT_BYTES)
        self.ring = FrameRing(self.memory, 1, 1, decapsulate=False)
        self.written = self.dropped = 0

    def write(self, frames_: int) -> None:
        for _ in range(frames_):
            at = self.written % SLOTS * SLOT_BYTES
            if struct.unpack_from("<I", self.memory, at)[0]:
                self.dropped += 1
                continue
            frame = bytes(12) + b"\x88\xcc"
            struct.pack_into("<IIIHHII", self.memory, at, 0, 14, 14, 90, 104, 0, self.written)
            self.memory[at + 90 : at + 104] = frame
            struct.pack_into("<I", self.memory, at, 1)
            self.written += 1


def test_an_empty_ring_gives_nothing() -> None:
    """Nothing waits, so nothing is read and nothing is oldest."""
    writer = Writer()
    assert writer.ring.read(np.zeros(4, PACKET)) == 0
    assert writer.ring.oldest_ns() is None
    assert len(writer.ring) == SLOTS


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=30))
@settings(max_examples=60, deadline=None)
def test_frames_come_once_and_in_order(steps: list[tuple[int, int]]) -> None:
    """Each frame that was written is read once, in order, however reads and writes alternate."""
    writer = Writer()
    got: list[int] = []
    for wrote, room in [*steps, (0, SLOTS), (0, SLOTS)]:
        writer.write(wrote)
        oldest = writer.ring.oldest_ns()
        out = np.zeros(room, PACKET)
        rows = writer.ring.read(out)
        assert rows <= room
        if rows:
            assert oldest == out["ts_ns"][0]
        got += out["ts_ns"][:rows].tolist()
    assert got == list(range(writer.written))
    assert writer.ring.oldest_ns() is None


def test_a_slot_is_free_once_it_was_read() -> None:
    """The kernel can fill what was read, and only that."""
    writer = Writer()
    writer.write(SLOTS + 3)
    assert (writer.written, writer.dropped) == (SLOTS, 3)
    writer.ring.read(np.zeros(5, PACKET))
    writer.write(6)
    assert (writer.written, writer.dropped) == (SLOTS + 5, 4)


def test_reading_stops_at_a_slot_that_is_not_ready() -> None:
    """A slot that the kernel still writes, and those behind it, stay."""
    writer = Writer()
    writer.write(5)
    struct.pack_into("<I", writer.memory, 2 * SLOT_BYTES, 0)
    assert writer.ring.read(np.zeros(SLOTS, PACKET)) == 2
    assert writer.ring.read(np.zeros(SLOTS, PACKET)) == 0
    struct.pack_into("<I", writer.memory, 2 * SLOT_BYTES, 1)
    assert writer.ring.read(np.zeros(SLOTS, PACKET)) == 3


@given(st.lists(st.sampled_from([0, 1, 0x11, 0x10, 0x100]), min_size=1, max_size=20), st.data())
@settings(max_examples=60, deadline=None)
def test_ready_slots_are_counted_alike(statuses: list[int], data: st.DataObject) -> None:
    """Compiled and plain count the same, which is the run of slots with the lowest bit."""
    array = np.array(statuses, np.uint32)
    first = data.draw(st.integers(0, len(statuses) - 1))
    most = data.draw(st.integers(0, 25))
    run = next((i for i, s in enumerate(statuses[first:]) if not s & 1), len(statuses) - first)
    assert frames.count_ready(array, first, most) == min(run, most)
    assert frames.count_ready.py_func(array, first, most) == min(run, most)


def test_a_closed_ring_is_empty() -> None:
    """After closing nothing refers to the memory, and nothing can be read."""
    writer = Writer()
    writer.write(3)
    writer.ring.close()
    assert writer.ring.read(np.zeros(4, PACKET)) == 0
    writer.memory.clear()  # fails while someone looks at it


def test_a_buffer_of_another_kind_is_refused() -> None:
    """Records can only go where records belong."""
    writer = Writer()
    writer.write(1)
    with pytest.raises(ValueError, match="dtype"):
        writer.ring.read(np.zeros(4, np.uint64))
