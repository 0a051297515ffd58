"""Read capture files: opened, memory-mapped, decoded a batch at a time."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from probe.capture.common import NO_PLACES, Interface, Stop
from probe.capture.copy import Blocks
from probe.capture.pcap import PcapWalker, is_pcap
from probe.capture.pcapng import PcapngWalker, is_pcapng
from probe.errors import CaptureError
from schemas.record import PACKET, Packets, as_words

_CHUNK_RECORDS: Final = 16_384
"""Records decoded before pages that have been passed may be given back."""

_RELEASE_BYTES: Final = 1 << 25

_MAGICS: Final = {
    b"\x1f\x8b": "gzip: unpack it with gunzip",
    b"\x28\xb5\x2f\xfd": "zstd: unpack it with unzstd",
    b"\xfd7zXZ\x00": "xz: unpack it with unxz",
    b"BZh": "bzip2: unpack it with bunzip2",
    b"\x04\x22\x4d\x18": "lz4: unpack it with unlz4",
    b"PK\x03\x04": "zip: unpack it with unzip",
    b"snoop\x00": "snoop: convert it with editcap",
    b"GMBU": "Microsoft Network Monitor: convert it with editcap",
    b"RTSS": "Microsoft Network Monitor: convert it with editcap",
    b"\x7fELF": "an ELF program",
    b"SQLite": "an SQLite database",
    b"PAR1": "Parquet",
    b"Obj\x01": "Avro",
    b"%PDF": "PDF",
}
"""What a file looks like that begins so."""


@dataclass(frozen=True, slots=True)
class CutOff:
    """Where and why a capture file could not be read on.

    Attributes:
        offset_bytes: where the record begins that could not be read.
        reason: what was wrong, a clause without a full stop.
        lost_frames: 1 when a frame was lost for certain or by all appearance, 0 when another
            kind of block was cut. What would have followed is unknown.
        lost_bytes: bytes of the file from the offset on.
    """

    offset_bytes: int
    reason: str
    lost_frames: int
    lost_bytes: int


class CaptureFile:
    """A pcap or pcapng file as a stream of packet records.

    The file is memory-mapped and passed pages are given back, so a file may be far larger than
    memory. Every frame becomes a record, whatever is inside; ``decode_frame`` says how. What a
    record can't tell otherwise: times are clamped to 0 and 2^63 - 1 ns; simple packet blocks
    (pcapng) have no time, theirs is 0; a frame check sequence is taken off ``wire_bytes`` when
    the file states that frames have one; frames of a pcapng interface that isn't described, or
    whose link type can't be decoded, keep time, length and interface and have the flag for an
    unreadable layer 4.

    Args:
        path: a regular file.
        decapsulate: whether records describe the packet inside a tunnel (VXLAN, Geneve, GRE,
            NVGRE, IP in IP) when it can be read, instead of the outer one.

    Attributes:
        path: the file.
        size_bytes: its size when it was opened.
        first_ts_ns: Unix time of the first packet, None when there is no packet.
        frames_seen: frames met so far, including one that was cut.
        truncated: set once reading met a cut or damage; what came before is kept.

    Raises:
        CaptureError: the file can't be opened, is no capture, or isn't supported.
    """

    def __init__(self, path: str | Path, *, decapsulate: bool = False) -> None:
        self.path = Path(path)
        self.frames_seen = 0
        self.truncated: CutOff | None = None
        self._released = 0
        self._map = _open(self.path)
        self._bytes: npt.NDArray[np.uint8] | None = np.frombuffer(self._map, np.uint8)
        self.size_bytes = len(self._map)
        try:
            self._walker = _walker(self._bytes, decapsulate)
        except CaptureError as error:
            self.close()
            msg = f"{self.path} {error}"
            raise CaptureError(msg) from None
        self.first_ts_ns = self._peek_ts_ns()

    @property
    def position_bytes(self) -> int:
        """How far the file has been read."""
        return self._walker.position_bytes

    @property
    def interfaces(self) -> list[Interface]:
        """Interfaces described up to here; pcap has one, without a name."""
        return list(self._walker.interfaces)

    def read(
        self,
        max_records: int,
        out: Packets | None = None,
        places: npt.NDArray[np.int64] = NO_PLACES,
    ) -> Packets:
        """Decode the next frames in file order.

        Args:
            max_records: most records to return.
            out: buffer to decode into; the result is a slice of it, valid until it is reused.
            places: gets where in the file the record or block of each frame begins, for
                ``as_pcapng``; as long as ``out``, or empty.

        Returns:
            The records; fewer than ``max_records`` (and than ``out`` holds) only at the end of
            the file or at a cut, none from then on.

        Raises:
            ValueError: the file is closed, ``max_records`` is negative, or ``out`` isn't a
                contiguous array of ``PACKET``.
        """
        if self._bytes is None:
            msg = f"{self.path} is closed"
            raise ValueError(msg)
        if max_records < 0:
            msg = f"max_records must not be negative, got {max_records}"
            raise ValueError(msg)
        if out is None:
            # No record takes less than 16 bytes of a file; the 1 is for one that is cut.
            most = (self.size_bytes - self.position_bytes) // 16 + 1
            out = np.empty(min(max_records, most), PACKET)
        out = out[:max_records]
        words = as_words(out)
        rows = 0
        while rows < len(out) and self.truncated is None:
            readable = self._bytes[: self._map.size()]  # less when someone cut the file
            done, stop = 0, Stop.CUT_BODY
            if self.position_bytes <= len(readable):
                chunk = slice(rows, min(rows + _CHUNK_RECORDS, len(out)))
                done, stop = self._walker.walk(readable, words[chunk], places[chunk])
            rows += done
            self.frames_seen += done
            self._release()
            if stop is Stop.END and len(readable) == self.size_bytes:
                break
            if stop is not Stop.FULL:
                self._cut(stop)
        return out[:rows]

    def as_pcapng(self, places: npt.NDArray[np.int64]) -> Iterator[Blocks]:
        """Frames of the file, whole, as blocks of pcapng; for a ``copy.PcapngWriter``.

        Args:
            places: where they begin, ascending, as ``read`` told.
        """
        assert self._bytes is not None
        return self._walker.as_pcapng(self._bytes[: self._map.size()], places)

    def close(self) -> None:
        """Unmap the file; records that were read stay valid."""
        self._bytes = None
        # While a traceback still refers to the bytes, the map closes with its last reference.
        with contextlib.suppress(BufferError):
            self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _peek_ts_ns(self) -> int | None:
        assert self._bytes is not None
        position_bytes = self._walker.position_bytes
        first = np.empty(1, PACKET)
        rows, _ = self._walker.walk(self._bytes, as_words(first))
        self._walker.position_bytes = position_bytes
        return int(first["ts_ns"][0]) if rows else None

    def _cut(self, stop: Stop) -> None:
        assert self._bytes is not None
        offset_bytes = self.position_bytes
        shrunk = self._map.size() < self.size_bytes
        reason = "the file was shortened while it was read" if shrunk else stop.reason
        lost_frames = 1 if shrunk else int(self._walker.loses_frame(self._bytes))
        self.frames_seen += lost_frames
        self.truncated = CutOff(offset_bytes, reason, lost_frames, self.size_bytes - offset_bytes)

    def _release(self) -> None:
        passed = self.position_bytes - self.position_bytes % mmap.PAGESIZE
        if passed - self._released >= _RELEASE_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, self._released, passed - self._released)
            self._released = passed


def _open(path: Path) -> mmap.mmap:
    """Map a regular file that isn't empty, or say why not."""
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        msg = f"{path} does not exist: check the name"
        raise CaptureError(msg) from None
    except PermissionError:
        msg = f"{path} may not be read by this user: change its permissions"
        raise CaptureError(msg) from None
    except (OSError, ValueError) as error:
        msg = f"{path} can't be opened: {getattr(error, 'strerror', None) or error}"
        raise CaptureError(msg) from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            msg = f"{path} is a directory: name the files in it, as in {path}/*.pcap"
            raise CaptureError(msg)
        if not stat.S_ISREG(status.st_mode):
            msg = f"{path} is no regular file: save the capture to a file first"
            raise CaptureError(msg)
        if status.st_size == 0:
            msg = f"{path} is empty: it holds no capture"
            raise CaptureError(msg)
        mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except OSError as error:
        msg = f"{path} can't be mapped into memory: {error.strerror}"
        raise CaptureError(msg) from None
    finally:
        os.close(descriptor)
    if hasattr(mmap, "MADV_SEQUENTIAL"):
        mapped.madvise(mmap.MADV_SEQUENTIAL)
    return mapped


def _walker(data: npt.NDArray[np.uint8], decapsulate: bool) -> PcapWalker | PcapngWalker:
    head = data[:64].tobytes()
    if is_pcap(head):
        return PcapWalker(data, decapsulate)
    if is_pcapng(head):
        return PcapngWalker(data, decapsulate)
    msg = f"is no pcap or pcapng capture, it looks like {_looks_like(head)}"
    raise CaptureError(msg)


def _looks_like(head: bytes) -> str:
    for magic, name in _MAGICS.items():
        if head.startswith(magic):
            return name
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "text"
    return f"unknown data (first bytes {head[:8].hex(' ')})"
