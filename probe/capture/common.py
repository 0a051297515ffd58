"""What the two capture formats share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

MAX_FRAME_BYTES: Final = 262_144
"""Longest captured frame that is believed, as in libpcap for these link types."""


NO_PLACES: Final[npt.NDArray[np.int64]] = np.empty(0, np.int64)
"""For a walk that needn't tell where records begin."""


class Stop(IntEnum):
    """Why a walk over records stopped."""

    FULL = 0
    END = 1
    CUT_HEADER = 2
    CUT_BODY = 3
    ABSURD = 4
    SECTION = 5
    INTERFACE = 6
    BAD_SECTION = 7
    BAD_INTERFACE = 8

    @property
    def reason(self) -> str:
        """Say in words what was wrong where the walk stopped."""
        return {
            Stop.CUT_HEADER: "the file ends inside a record's header",
            Stop.CUT_BODY: "the file ends inside a record",
            Stop.ABSURD: "a record's length is absurd, the file is damaged",
            Stop.BAD_SECTION: "a section has a damaged header or an unknown version",
            Stop.BAD_INTERFACE: "an interface description is damaged",
        }[self]


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface that a capture file describes.

    Attributes:
        if_index: index in order of appearance over all sections, from 0.
        name: what pcapng calls it; empty when unknown.
        link_type: number of its link type (tcpdump.org/linktypes).
        snap_len: most bytes captured of a frame; 0 for no limit.
    """

    if_index: int
    name: str
    link_type: int
    snap_len: int
