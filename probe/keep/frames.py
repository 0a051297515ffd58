"""The writing process's work for pcapng: from the rings to the files, in bulk."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from probe.filters import keep_matching, rules_array
from probe.keep.cells import Cell, Cells
from probe.keep.files import Keep, RotatedFiles
from probe.keep.options import SUFFIXES, KeepOptions
from probe.keep.pcapng import decode_frames, file_head, file_tail, write_frames
from probe.keep.ring import BLOCK_BYTES, RETIRE_SECONDS, FrameRing
from probe.live import CaptureOptions
from schemas.record import PACKET_WORDS, Direction

_BUFFER_BYTES: Final = 3 * BLOCK_BYTES
_FLUSH_SECONDS: Final = 0.5
_FILTER_BYTES: Final = 256
"""What the filter must see of a frame, whatever is kept of it."""

_TURN_BLOCKS: Final = 16
_Bytes = npt.NDArray[np.uint8]
_Words = npt.NDArray[np.uint32]
_Mask = npt.NDArray[np.bool_]
_NONE: Final = np.empty(0, np.bool_)


class FrameKeeper:
    """Frames of interfaces, from their rings into files.

    Frames of one interface are in the order in which the kernel saw them; interfaces take
    turns.

    Args:
        rings: one for each interface.
        directory: descriptor of the directory for the files.
        options: how to keep.
        capture: which way and which packets.
        cells: the counters.
    """

    def __init__(
        self,
        rings: Sequence[FrameRing],
        directory: int,
        options: KeepOptions,
        capture: CaptureOptions,
        cells: Cells,
    ) -> None:
        self._rings = rings
        self._cells = cells
        self._snap_bytes = options.snap_bytes
        self._ingress = Direction.INGRESS in capture.directions
        self._egress = Direction.EGRESS in capture.directions
        self._decapsulate = capture.decapsulate
        self._filters = bool(capture.keep or capture.drop)
        self._keep_rules = rules_array(capture.keep)
        self._drop_rules = rules_array(capture.drop)
        self._passed_over = 0
        self._buffer = np.empty(_BUFFER_BYTES, np.uint8)
        self._used = 0
        self._frames = 0
        files = RotatedFiles(
            directory,
            SUFFIXES["pcapng"],
            file_head([(ring.name, ring.link_type) for ring in rings], options.snap_bytes),
            limit_bytes=options.limit_bytes,
            rotate_bytes=options.rotate_bytes,
            rotate_seconds=options.rotate_seconds,
            cells=cells,
            tail=self._tail,
        )
        self._keep = Keep(files, cells)
        self._warm()

    def run(self, control: int) -> None:
        """Keep frames until ``control``, a pipe, is closed, and then what waits."""
        poller = select.poll()
        poller.register(control, select.POLLIN)
        rings = {ring.fileno(): ring for ring in self._rings}
        for descriptor in rings:
            poller.register(descriptor, select.POLLIN)
        wait_seconds, end_at, flush_at = _FLUSH_SECONDS, math.inf, 0.0
        while (now := time.monotonic()) < end_at:
            if now >= flush_at:
                self._flush()
                flush_at = now + _FLUSH_SECONDS
            for descriptor, event in poller.poll(1000 * wait_seconds):
                if descriptor == control:
                    poller.unregister(control)
                    for ring in self._rings:
                        ring.stop()
                    wait_seconds = RETIRE_SECONDS
                    end_at = time.monotonic() + 3 * RETIRE_SECONDS
                elif event & select.POLLERR:
                    rings[descriptor].clear_error()
            for ring in self._rings:
                self._drain(ring)
        while any(self._drain(ring) for ring in self._rings):
            pass
        self._flush()
        self._keep.close()

    def _warm(self) -> None:
        """Compile the kernels while the folder for that may still be written."""
        block = np.zeros(BLOCK_BYTES, np.uint8)
        self._copy(block, block.view(np.uint32), 0, _NONE)
        if self._filters:
            self._choose(block, block.view(np.uint32), 1, 0)

    def _drain(self, ring: FrameRing) -> bool:
        """Copy blocks that a ring has ready, some at a time: others want a turn, too.

        Returns:
            Whether there may be more.
        """
        index = self._rings.index(ring)
        for _ in range(_TURN_BLOCKS):
            frames = ring.take()
            if not frames:
                return False
            if self._used + BLOCK_BYTES > _BUFFER_BYTES:
                self._flush()
            chosen = _NONE
            if self._filters:
                chosen = self._choose(ring.block, ring.words, ring.link_type, frames)
            kept = self._copy(ring.block, ring.words, index, chosen)
            ring.release()
            self._frames += kept
            self._passed_over += frames - kept
        return True

    def _copy(self, block: _Bytes, words: _Words, index: int, chosen: _Mask) -> int:
        """Append a block's frames to the buffer; returns how many were of interest."""
        self._used, kept = write_frames(
            block,
            words,
            index,
            self._ingress,
            self._egress,
            self._snap_bytes,
            chosen,
            self._buffer,
            self._buffer.view(np.uint32),
            self._used,
        )
        return int(kept)

    def _choose(self, block: _Bytes, words: _Words, link_type: int, frames: int) -> _Mask:
        """Find out which frames of a block pass the filter."""
        records = np.empty((frames, PACKET_WORDS), np.uint64)
        decode_frames(block, words, link_type, self._decapsulate, records)
        chosen = np.empty(frames, np.bool_)
        keep_matching(records, self._keep_rules, self._drop_rules, chosen)
        return chosen

    def _flush(self) -> None:
        if self._used:
            high, low = self._buffer[12:20].view(np.uint32).tolist()
            self._keep.add([self._buffer[: self._used].data], high << 32 | low, self._frames)
            self._used = self._frames = 0
        counts = [ring.counts() for ring in self._rings]
        self._cells[Cell.RING_FULL] = sum(count.dropped for count in counts)
        received = sum(count.received for count in counts)
        self._cells[Cell.OFFERED] = received - self._passed_over

    def _tail(self) -> bytes:
        return file_tail([ring.counts() for ring in self._rings], time.time_ns())


def open_rings(
    names: Sequence[str], options: KeepOptions, capture: CaptureOptions
) -> list[FrameRing]:
    """Open the rings of interfaces; takes CAP_NET_RAW.

    Raises:
        KeepError: an interface can't be captured.
    """
    snap_bytes = options.snap_bytes
    if capture.keep or capture.drop:
        snap_bytes = max(snap_bytes, _FILTER_BYTES)
    ignore_outgoing = Direction.EGRESS not in capture.directions
    return [FrameRing(name, snap_bytes, ignore_outgoing=ignore_outgoing) for name in names]
