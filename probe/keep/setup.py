"""What the writing process is told when it starts, through its standard input."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from probe.keep.options import KeepOptions
from probe.live import CaptureOptions

READY: Final = b"ready\n"
"""Its answer when all is well; any other line says what isn't."""

_LENGTH: Final = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class Setup:
    """How the writing process is to work.

    Attributes:
        options: how to keep.
        capture: what is captured.
        interfaces: names by number.
        cells: descriptor of the counters.
        slots: descriptor of the queue's memory; empty for pcapng.
    """

    options: KeepOptions
    capture: CaptureOptions
    interfaces: Mapping[int, str]
    cells: int
    slots: int

    def send(self, descriptor: int) -> None:
        """Write it to a pipe."""
        data = pickle.dumps(self)
        os.write(descriptor, _LENGTH.pack(len(data)) + data)


def receive(descriptor: int) -> Setup:
    """Read it from a pipe, and not a byte more."""
    (left,) = _LENGTH.unpack(os.read(descriptor, _LENGTH.size))
    data = b""
    while left and (piece := os.read(descriptor, left)):
        data += piece
        left -= len(piece)
    setup: Setup = pickle.loads(data)  # noqa: S301 - the process that started us wrote it
    return setup
