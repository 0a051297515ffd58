"""The writing process's work for Avro and text: from the queue to the files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from probe.keep.cells import Cells
from probe.keep.files import Keep, RotatedFiles
from probe.keep.options import SUFFIXES, KeepOptions
from schemas.record import Packets

_PIECE_RECORDS: Final = 2048
"""Written at once: as text under half of the smallest file."""


class Encoder(Protocol):
    """Turns records into bytes of a file that begins with ``head``."""

    head: bytes

    def encode(self, records: Packets) -> list[memoryview]:
        """What stands for these records; valid until the next call."""


def keep_records(
    batches: Iterator[Packets],
    encoder: Encoder,
    directory: int,
    options: KeepOptions,
    cells: Cells,
) -> None:
    """Keep records until there are no more.

    Args:
        batches: contiguous arrays of records.
        encoder: of the format.
        directory: descriptor of the directory for the files.
        options: how to keep.
        cells: the counters.
    """
    files = RotatedFiles(
        directory,
        SUFFIXES[options.format],
        encoder.head,
        limit_bytes=options.limit_bytes,
        rotate_bytes=options.rotate_bytes,
        rotate_seconds=options.rotate_seconds,
        cells=cells,
    )
    keep = Keep(files, cells)
    for records in batches:
        for start in range(0, len(records), _PIECE_RECORDS):
            piece = records[start : start + _PIECE_RECORDS]
            keep.add(encoder.encode(piece), int(piece["ts_ns"][0]), len(piece))
    keep.close()
