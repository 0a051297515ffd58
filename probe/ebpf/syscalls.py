"""The ``bpf(2)`` calls that we make ourselves, on descriptors and numpy arrays.

Numbers and layouts are those of ``linux/bpf.h``. All functions raise ``OSError``.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_SYS_BPF: Final = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), 321)
_ATTR_BYTES: Final = 128
_libc = ctypes.CDLL(None, use_errno=True)

MMAPABLE: Final = 1 << 10
ARRAY: Final = 2
"""Type of a map."""
XDP_GENERIC: Final = 1 << 1
XDP_NATIVE: Final = 1 << 2
TCX_BEFORE: Final = 1 << 3


class Command(IntEnum):
    """Commands of ``bpf(2)``."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    OBJ_PIN = 6
    OBJ_GET = 7
    OBJ_GET_INFO_BY_FD = 15
    MAP_LOOKUP_AND_DELETE_BATCH = 25
    LINK_CREATE = 28


class AttachType(IntEnum):
    """Where a link attaches a program to a network device."""

    XDP = 37
    TCX_INGRESS = 46
    TCX_EGRESS = 47


@dataclass(frozen=True, slots=True)
class MapInfo:
    """Shape of a map; sizes in bytes."""

    map_type: int
    map_id: int
    key_bytes: int
    value_bytes: int
    max_entries: int
    flags: int


def bpf(command: int, attr: Any) -> int:
    """Call ``bpf(2)``; ``attr`` is a ctypes buffer, into which the kernel may write."""
    result = int(_libc.syscall(_SYS_BPF, int(command), attr, ctypes.sizeof(attr)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def attributes(layout: str, *values: int) -> Any:
    """Pack arguments of ``bpf(2)``, little endian, zeros after them."""
    return ctypes.create_string_buffer(struct.pack("<" + layout, *values), _ATTR_BYTES)


def create_map(info: MapInfo, name: str) -> int:
    """Create a map of that shape; returns its descriptor."""
    attr = attributes(
        "IIIIIII16s",
        info.map_type,
        info.key_bytes,
        info.value_bytes,
        info.max_entries,
        info.flags,
        0,
        0,
        name.encode()[:15],  # type: ignore[arg-type]
    )
    return bpf(Command.MAP_CREATE, attr)


def map_info(fd: int) -> MapInfo:
    """Shape of a map."""
    out = ctypes.create_string_buffer(24)
    bpf(Command.OBJ_GET_INFO_BY_FD, attributes("IIQ", fd, len(out), ctypes.addressof(out)))
    return MapInfo(*struct.unpack("<6I", out.raw))


def lookup(fd: int, index: int, out: npt.NDArray[Any]) -> None:
    """Copy an array map's element to ``out``; of a per-CPU map one value after another."""
    key = ctypes.c_uint32(index)
    attr = attributes("IIQQQ", fd, 0, ctypes.addressof(key), out.ctypes.data, 0)
    bpf(Command.MAP_LOOKUP_ELEM, attr)


def update_inner(fd: int, index: int, inner_fd: int) -> None:
    """Put a map into an array of maps.

    Returns when no program runs any more that may have looked up the one before (the kernel's
    ``maybe_wait_bpf_programs``), some milliseconds later.
    """
    key, value = ctypes.c_uint32(index), ctypes.c_uint32(inner_fd)
    attr = attributes("IIQQQ", fd, 0, ctypes.addressof(key), ctypes.addressof(value), 0)
    bpf(Command.MAP_UPDATE_ELEM, attr)


def take_batch(
    fd: int, cursor: npt.NDArray[np.uint8], first: bool, keys: Any, values: Any
) -> tuple[int, bool]:
    """Move entries of a hash map to arrays and delete them.

    Args:
        fd: of the map.
        cursor: 8 bytes in which the kernel keeps where it is.
        first: start anew.
        keys: (n, key bytes) uint8.
        values: (n, CPUs, value bytes) uint8.

    Returns:
        How many were moved, and whether that was all.
    """
    where = cursor.ctypes.data
    attr = attributes(
        "QQQQIIQQ",
        0 if first else where,
        where,
        keys.ctypes.data,
        values.ctypes.data,
        len(keys),
        fd,
        0,
        0,
    )
    try:
        bpf(Command.MAP_LOOKUP_AND_DELETE_BATCH, attr)
    except FileNotFoundError:  # the end, not a fault
        return _batch_count(attr), True
    return _batch_count(attr), False


def _batch_count(attr: Any) -> int:
    return int(struct.unpack_from("<I", attr, 32)[0])


def pin(fd: int, path: Path) -> None:
    """Give a map a name in the BPF file system, which keeps it when its makers are gone."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    bpf(Command.OBJ_PIN, attributes("QII", ctypes.addressof(name), fd, 0))


def pinned(path: Path) -> int:
    """Descriptor of a map that has a name."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return bpf(Command.OBJ_GET, attributes("QII", ctypes.addressof(name), 0, 0))


def create_link(program_fd: int, if_index: int, attach_type: AttachType, flags: int = 0) -> int:
    """Attach a program to a device; closing the descriptor that is returned detaches it."""
    attr = attributes("IIIIIIQ", program_fd, if_index, attach_type, flags, 0, 0, 0)
    return bpf(Command.LINK_CREATE, attr)


def mapped(fd: int, size_bytes: int) -> mmap.mmap:
    """The memory of a map that was made with MMAPABLE, shared with the kernel."""
    pages = -(-size_bytes // mmap.PAGESIZE)
    return mmap.mmap(fd, pages * mmap.PAGESIZE)


def possible_cpus() -> int:
    """How many values the kernel copies for an entry of a per-CPU map."""
    ranges = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return 1 + int(ranges.replace("-", ",").split(",")[-1])
