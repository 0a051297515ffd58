"""What a probe leaves behind for its next start, so that a crash hides no loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from probe.live import CaptureCounts

MAX_PARTITIONS: Final = 256
"""Partitions for which there is room."""


@dataclass(frozen=True, slots=True)
class SentState:
    """What this boot has sent, in memory that the kernel keeps when the probe is killed.

    The arrays are views: storing into them is all there is to do, and costs no system call.

    Attributes:
        boot_id: (16,) uint8.
        sequences: (256,) uint64, the next sequence number of each partition.
        packets: (256,) uint64, packets that were sent to each partition.
        ended: (1,) uint64, 1 when a next start has nothing to tell about this boot.
    """

    boot_id: npt.NDArray[np.uint8]
    sequences: npt.NDArray[np.uint64]
    packets: npt.NDArray[np.uint64]
    ended: npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class UncleanStop:
    """Where an earlier boot ended that never said goodbye.

    Attributes:
        boot_id: 16 bytes.
        counts: totals of its capture, up to when the last program was gone.
        sequences: (256,) uint64, the next sequence number of each partition.
        packets: (256,) uint64, packets that were sent to each partition.
        ended: (1,) uint64, a view of what is kept: to be set to 1 when all this was told.
    """

    boot_id: bytes
    counts: CaptureCounts
    sequences: npt.NDArray[np.uint64]
    packets: npt.NDArray[np.uint64]
    ended: npt.NDArray[np.uint64]
