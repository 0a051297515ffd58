"""The programs' own counters: one ``struct counters`` for each processor, summed when read."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from probe.ebpf import syscalls
from probe.live import CaptureCounts

COUNTERS: Final = np.dtype(
    [
        ("seen", "<u8"),
        ("seen_bytes", "<u8"),
        ("ring_full", "<u8"),
        ("sampled_out", "<u8"),
        ("filtered", "<u8"),
        ("table_full", "<u8"),
        ("buffers", "<u8"),
        ("reserved", "<u8"),
    ]
)
"""``struct counters`` of ``bpf/``; packets, but for ``seen_bytes`` and ``buffers``."""


class Counters:
    """Reads the map ``counters``.

    Args:
        fd: of the map, kept open by the caller.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._cpus = syscalls.possible_cpus()

    def read(self) -> npt.NDArray[Any]:
        """Sums over all processors, one record of dtype ``COUNTERS``.

        Raises:
            OSError: the map can't be read (any more).
        """
        values = np.zeros((self._cpus, COUNTERS.itemsize // 8), np.uint64)
        syscalls.lookup(self._fd, 0, values)
        sums: npt.NDArray[Any] = values.sum(axis=0, dtype=np.uint64).view(COUNTERS)
        return sums


def as_counts(sums: npt.NDArray[Any]) -> CaptureCounts:
    """What the sums say about a capture's packets."""
    return CaptureCounts(
        seen=int(sums["seen"][0]),
        dropped={
            "ring_full": int(sums["ring_full"][0]),
            "sampled_out": int(sums["sampled_out"][0]),
        },
        filtered=int(sums["filtered"][0]),
    )
