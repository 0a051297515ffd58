"""The pcap format (draft-ietf-opsawg-pcap): one header, then records.

Both byte orders, times in µs and ns, and Kuznetzov's variant with longer record headers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt

from probe.capture import linktypes
from probe.capture.common import MAX_FRAME_BYTES, NO_PLACES, Interface, Stop
from probe.capture.copy import Blocks, from_pcap
from probe.capture.frame import decode_frame
from probe.capture.loads import file32
from probe.errors import CaptureError

HEADER_BYTES: Final = 24
_RECORD_BYTES: Final = 16
_LONG_RECORD_BYTES: Final = 24  # interface, protocol, packet type follow
_FCS_PRESENT: Final = 0x04000000

_VARIANTS: Final = {
    0xA1B2C3D4: (1000, _RECORD_BYTES),
    0xA1B23C4D: (1, _RECORD_BYTES),
    0xA1B2CD34: (1000, _LONG_RECORD_BYTES),
}
"""Nanoseconds in a unit of time, and size of a record's header, by magic number."""

# Stop's members as plain names: kernels see module globals as constants.
_FULL: Final = int(Stop.FULL)
_END: Final = int(Stop.END)
_CUT_HEADER: Final = int(Stop.CUT_HEADER)
_CUT_BODY: Final = int(Stop.CUT_BODY)
_ABSURD: Final = int(Stop.ABSURD)

_SECOND_NS: Final = np.uint64(1_000_000_000)


@numba.njit(nogil=True, cache=True)
def walk_pcap(
    buf: Any,
    pos: Any,
    big: Any,
    header_bytes: Any,
    unit_ns: Any,
    link_type: Any,
    fcs_bytes: Any,
    decapsulate: Any,
    out: Any,
    places: Any,
) -> Any:
    """Decode records from ``buf[pos:]`` until ``out`` is full or the records end.

    ``buf`` is (n,) uint8, ``out`` (m, 11) uint64, ``places`` (m,) int64 for where records begin,
    or empty, ``big`` and ``decapsulate`` bools, the rest int64. Returns ``(rows, pos, stop)``: rows
    written, where the next record begins, and a ``Stop``.
    """
    size = np.int64(buf.shape[0])
    rows = np.int64(out.shape[0])
    row = np.int64(0)
    while True:
        left = size - pos
        if left == 0:
            return row, pos, _END
        if row == rows:
            return row, pos, _FULL
        if left < header_bytes:
            return row, pos, _CUT_HEADER
        captured = file32(buf, pos + 8, big)
        wire_bytes = file32(buf, pos + 12, big)
        if captured > MAX_FRAME_BYTES:
            return row, pos, _ABSURD
        if captured > left - header_bytes:
            return row, pos, _CUT_BODY
        ts_ns = np.uint64(file32(buf, pos, big)) * _SECOND_NS + np.uint64(
            file32(buf, pos + 4, big) * unit_ns
        )
        if places.shape[0] > 0:
            places[row] = pos
        frame = pos + header_bytes
        pos = frame + captured
        if fcs_bytes > 0:
            wire_bytes = max(wire_bytes - fcs_bytes, 0)
            captured = min(captured, wire_bytes)
        decode_frame(
            buf,
            frame,
            frame + captured,
            link_type,
            ts_ns,
            wire_bytes,
            0,
            0,
            decapsulate,
            out,
            row,
        )
        row += 1


class PcapWalker:
    """Position in a pcap file, and what its header says.

    Args:
        buf: the file's bytes, (n,) uint8.
        decapsulate: whether records describe the packet inside a tunnel.

    Raises:
        CaptureError: the header is cut off, or the version or link type isn't supported.
    """

    def __init__(self, buf: npt.NDArray[np.uint8], decapsulate: bool) -> None:
        head = buf[:HEADER_BYTES].tobytes()
        if len(head) < HEADER_BYTES:
            msg = "is cut off inside its header: nothing can be read"
            raise CaptureError(msg)
        self._order: Any = "little" if _magic(head, "little") in _VARIANTS else "big"
        major, minor = self._int(head[4:6]), self._int(head[6:8])
        if (major, minor) != (2, 4):
            msg = f"is pcap version {major}.{minor}; only 2.4 is supported: convert it with editcap"
            raise CaptureError(msg)
        self._unit_ns, self._record_bytes = _VARIANTS[self._int(head[:4])]
        network = self._int(head[20:24])
        self._link_type = network & 0xFFFF
        if self._link_type not in linktypes.SUPPORTED:
            raise CaptureError(linktypes.refusal([self._link_type]))
        self._fcs_bytes = (network >> 28) * 2 if network & _FCS_PRESENT else 0
        self._decapsulate = decapsulate
        self.position_bytes = HEADER_BYTES
        self.interfaces = [Interface(0, "", self._link_type, self._int(head[16:20]))]

    def walk(
        self,
        buf: npt.NDArray[np.uint8],
        out: npt.NDArray[np.uint64],
        places: npt.NDArray[np.int64] = NO_PLACES,
    ) -> tuple[int, Stop]:
        """Decode the next records into ``out`` (m, 11): number decoded, why it stopped.

        ``places`` (m,), unless it is empty, gets where in ``buf`` each begins.
        """
        rows, self.position_bytes, stop = walk_pcap(
            buf,
            self.position_bytes,
            self._order == "big",
            self._record_bytes,
            self._unit_ns,
            self._link_type,
            self._fcs_bytes,
            self._decapsulate,
            out,
            places,
        )
        return rows, Stop(stop)

    def as_pcapng(
        self, buf: npt.NDArray[np.uint8], places: npt.NDArray[np.int64]
    ) -> Iterator[Blocks]:
        """The records that begin at ``places`` as blocks of pcapng."""
        return from_pcap(
            buf,
            places,
            big=self._order == "big",
            header_bytes=self._record_bytes,
            nanoseconds=self._unit_ns == 1,
            interface=self.interfaces[0],
            fcs_bytes=self._fcs_bytes,
        )

    def loses_frame(self, buf: npt.NDArray[np.uint8]) -> bool:
        """Whether what begins at the position was a frame: in pcap everything is."""
        return True

    def _int(self, field: bytes) -> int:
        return int.from_bytes(field, self._order)


def is_pcap(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is pcap."""
    return _magic(head, "little") in _VARIANTS or _magic(head, "big") in _VARIANTS


def _magic(head: bytes, order: Any) -> int:
    return int.from_bytes(head[:4], order)
