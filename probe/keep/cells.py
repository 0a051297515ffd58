"""Counters that the writing process shares with the probe: a page of 64-bit numbers.

Only the writer writes, so the probe reads them at any time without asking, also when the
writer has been killed.
"""

from __future__ import annotations

import mmap
import os
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

CELLS_BYTES: Final = 4096

Cells = npt.NDArray[np.int64]
"""The counters, indexed by ``Cell``."""


class Cell(IntEnum):
    """What each counter counts."""

    OFFERED = 0
    KEPT = 1
    RING_FULL = 2
    DISK_FULL = 3
    WRITE_FAILED = 4
    KEPT_BYTES = 5
    FILES = 6
    DELETED_FILES = 7
    ERRNO = 8
    """Why nothing is kept at the moment; 0 while all is well."""


def shared_memory(name: str, size_bytes: int) -> int:
    """Make memory that another process can map by its descriptor; zeroed."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size_bytes)
    return descriptor


def map_bytes(descriptor: int, size_bytes: int) -> npt.NDArray[np.uint8]:
    """Map shared memory for reading and writing; it is unmapped with the array."""
    return np.frombuffer(mmap.mmap(descriptor, size_bytes), np.uint8)


def map_cells(descriptor: int) -> Cells:
    """Map the counters."""
    return map_bytes(descriptor, CELLS_BYTES).view(np.int64)
