"""The ring reader on rings of bytes: wrap, busy and discarded records, and its limits."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.ebpf.ring import BUSY, DISCARD, SLOT_BYTES, Ring, RingView
from probe.errors import Unavailable
from schemas.record import PACKET, PACKET_BYTES, Packets


class FakeRing:
    """The kernel's side of a ring, and the reader's as plain Python, byte by byte."""

    def __init__(self, size_bytes: int = 4096, start: int = 0) -> None:
        self.size = size_bytes
        self.data = np.zeros(2 * size_bytes, np.uint8)
        self.consumer = np.array([start], np.uint64)
        self.producer = np.array([start], np.uint64)
        self.view = RingView(self.consumer, self.producer, self.data.view(np.uint64))

    def _store(self, position: int, raw: bytes) -> None:
        for i, byte in enumerate(raw):
            at = (position + i) % self.size
            self.data[at] = self.data[at + self.size] = byte

    def put(self, record: bytes, bits: int = 0) -> bool:
        position = int(self.producer[0])
        if position + SLOT_BYTES - int(self.consumer[0]) > self.size:
            return False
        self._store(position, (PACKET_BYTES | bits).to_bytes(4, "little") + bytes(4) + record)
        self.producer[0] = position + SLOT_BYTES
        return True

    def set_bits(self, position: int, bits: int) -> None:
        self._store(position, (PACKET_BYTES | bits).to_bytes(4, "little"))

    def twin(self, limit: int, offset_ns: int) -> tuple[bytes, int]:
        """What a read must give, and where the consumer must stand after it."""
        out, position = b"", int(self.consumer[0])
        while position < int(self.producer[0]):
            raw = bytes(int(self.data[(position + i) % self.size]) for i in range(SLOT_BYTES))
            header = int.from_bytes(raw[:4], "little")
            keep = not header & DISCARD
            if header & BUSY or (keep and len(out) == limit * PACKET_BYTES):
                break
            if keep:
                ts_ns = (int.from_bytes(raw[8:16], "little") + offset_ns) % 2**64
                out += ts_ns.to_bytes(8, "little") + raw[16:]
            position += SLOT_BYTES
        return out, position


def packets(count: int) -> Packets:
    return np.zeros(count, PACKET)


def record(number: int) -> bytes:
    return number.to_bytes(8, "little") + bytes((number + i) % 256 for i in range(80))


KINDS = st.sampled_from([0, 0, 0, DISCARD, BUSY])


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.lists(KINDS, max_size=30), st.integers(0, 25)), max_size=12),
    start=st.integers(0, 1000),
    offset_ns=st.integers(-(2**63), 2**63 - 1),
)
def test_reads_as_its_twin(steps: list[tuple[list[int], int]], start: int, offset_ns: int) -> None:
    """Whatever is written between reads of any length, records and position are the twin's."""
    ring = FakeRing(start=start * SLOT_BYTES)
    number, busy = 0, []
    for kinds, limit in steps:
        for position in busy:
            ring.set_bits(position, 0)
        busy = []
        for kind in kinds:
            position = int(ring.producer[0])
            if ring.put(record(number), kind):
                number += 1
                if kind == BUSY:
                    busy.append(position)
        expected, position = ring.twin(limit, offset_ns)
        out = packets(limit)
        count = ring.view.read(out, offset_ns)
        assert out[:count].tobytes() == expected
        assert int(ring.consumer[0]) == position
        assert ring.view.consumed == position
        assert ring.view.produced == int(ring.producer[0])


def test_wraps_in_the_middle_of_a_record() -> None:
    """A record of which a part is at the end of the ring and a part at its start is whole."""
    ring = FakeRing(start=4096 - 2 * 8)  # 96 doesn't divide 4096, so any multiple of 8 is met
    assert ring.put(record(7))
    out = packets(1)
    assert ring.view.read(out, 0) == 1
    assert out.tobytes() == record(7)


def test_stops_at_a_busy_record() -> None:
    """What follows a record that is being written waits for it."""
    ring = FakeRing()
    for number, bits in enumerate([0, BUSY, 0]):
        ring.put(record(number), bits)
    out = packets(4)
    assert ring.view.read(out, 0) == 1
    assert ring.view.consumed < ring.view.produced
    assert ring.view.read(out, 0) == 0
    ring.set_bits(SLOT_BYTES, 0)
    assert ring.view.read(out, 0) == 2
    assert out["ts_ns"][:2].tolist() == [1, 2]
    assert ring.view.consumed == ring.view.produced


def test_a_released_record_may_be_overwritten() -> None:
    """What was read is a copy: the kernel may reuse its place at once."""
    ring = FakeRing()
    ring.put(record(1))
    out = packets(1)
    ring.view.read(out, 5)
    ring.data[:] = 255
    assert out["ts_ns"][0] == 6
    assert out.tobytes()[8:] == record(1)[8:]


def test_fill() -> None:
    """Fill is the part of the ring that is taken."""
    ring = FakeRing()
    assert ring.view.fill() == 0
    while ring.put(record(0)):
        pass
    assert ring.view.fill() == 42 * SLOT_BYTES / 4096
    ring.view.read(packets(21), 0)
    assert ring.view.fill() == 21 * SLOT_BYTES / 4096


def test_refuses_a_strided_array() -> None:
    """Records can be put only into a contiguous array of packets."""
    ring = FakeRing()
    with pytest.raises(ValueError, match="contiguous"):
        ring.view.read(packets(4)[::2], 0)


def test_refuses_other_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where loads may be reordered, a ring isn't opened."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(Unavailable, match="x86 processor, not aarch64"):
        Ring(-1, 4096)
