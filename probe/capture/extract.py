"""Cuts frames out of capture files: chosen by their records, copied whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from probe.capture.copy import PcapngWriter
from probe.capture.reader import CaptureFile
from probe.errors import CaptureError
from schemas.record import PACKET, Packets

Choose = Callable[[Packets], npt.NDArray[np.bool_]]
"""Says of each record whether its frame is wanted."""

_BATCH: Final = 1 << 16


@dataclass
class Extracted:
    """What was cut out.

    Attributes:
        frames: copied.
        looked_at: frames in the files.
        files: that were read.
        first_ns: time of the earliest frame copied, Unix ns.
        last_ns: time of the latest.
        faults: what could not be read, a line each.
    """

    frames: int = 0
    looked_at: int = 0
    files: int = 0
    first_ns: int = 0
    last_ns: int = 0
    faults: list[str] = field(default_factory=list)


def extract(
    paths: Iterable[Path], choose: Choose, out: BinaryIO, *, decapsulate: bool = False
) -> Extracted:
    """Copy the frames of some files that are chosen, as pcapng.

    Args:
        paths: pcap and pcapng files, in order of time.
        choose: which frames.
        out: where to; nothing is written when nothing is chosen.
        decapsulate: whether ``choose`` sees packets inside tunnels; frames are copied with them.
    """
    done, writer = Extracted(), PcapngWriter(out)
    for path in paths:
        try:
            with CaptureFile(path, decapsulate=decapsulate) as capture:
                _from_file(capture, choose, writer, done)
        except CaptureError as error:
            done.faults.append(str(error))
    done.frames = writer.frames
    return done


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file for packets, for its owner only; it goes when nothing was written to it, or on errors.

    Raises:
        CaptureError: something of that name is there already, or it can't be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        msg = f"{path} is there already: name another file, or remove it"
        raise CaptureError(msg) from None
    except OSError as error:
        msg = f"{path} can't be written: {error.strerror}"
        raise CaptureError(msg) from None
    whole = False
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            whole = file.tell() > 0
    except OSError as error:
        msg = f"{path} can't be written: {error.strerror}"
        raise CaptureError(msg) from None
    finally:
        if not whole:
            path.unlink(missing_ok=True)


def _from_file(capture: CaptureFile, choose: Choose, writer: PcapngWriter, done: Extracted) -> None:
    done.files += 1
    records, places = np.empty(_BATCH, PACKET), np.empty(_BATCH, np.int64)
    while len(packets := capture.read(_BATCH, records, places)):
        done.looked_at += len(packets)
        chosen = np.flatnonzero(choose(packets))
        if len(chosen):
            writer.write(capture.as_pcapng(places[chosen]))
            times = packets["ts_ns"][chosen]
            first_ns, last_ns = int(times.min()), int(times.max())
            done.first_ns = min(done.first_ns or first_ns, first_ns)
            done.last_ns = max(done.last_ns, last_ns)
    if capture.truncated is not None:
        done.faults.append(f"{capture.path} can't be read to its end: {capture.truncated.reason}")
