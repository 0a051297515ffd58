"""Flows that programs count in the kernel: taken out once a second, exactly.

There are two tables. Programs find theirs through an array of maps; putting the other one there
returns only when no program runs any more that may have found the first, so that one is quiet,
and can be read and emptied with nothing lost or counted twice.
"""

from __future__ import annotations

import os
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt

from probe.ebpf import syscalls
from schemas.record import PACKET, Packets, as_words, join

Words = npt.NDArray[np.uint64]

KEY_WORDS: Final = 8
VALUE_WORDS: Final = 6
_BATCH: Final = 4096
MAX_WIRE_BYTES: Final = 2**31 - 1
"""Of a record."""
MAX_PACKETS: Final = 2**32 - 1

_NS_PER_S = np.uint64(1_000_000_000)
_LAST_NS = np.uint64(999_999_999)
_NS_PER_US = np.uint64(1000)
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_U8, _U16, _U24, _U32, _U40 = (np.uint64(bits) for bits in (8, 16, 24, 32, 40))
_LOW_24 = np.uint64(0xFFFFFF)
_LOW_32 = np.uint64(0xFFFFFFFF)
_BYTE = np.uint64(0xFF)


@numba.njit(nogil=True, cache=True)
def build_records(keys: Any, values: Any, pieces: Any, offset_ns: Any, out: Any) -> None:
    """Make records of flows, summed over processors.

    The layouts are ``struct flow_key``, ``struct flow_value`` and ``struct packet`` of ``bpf/``,
    as 64-bit words.

    Args:
        keys: (n, 8) uint64.
        values: (n, CPUs, 6) uint64.
        pieces: (n,) uint64, into how many records each flow is split.
        offset_ns: uint64, Unix time minus monotonic time, wraps.
        out: (sum of pieces, 11) uint64.
    """
    row = 0
    for i in range(keys.shape[0]):
        packets = wire_bytes = last = tcp_flags = _ZERO
        first = ~_ZERO
        earliest = 0
        for cpu in range(values.shape[1]):
            if values[i, cpu, 0] == _ZERO:
                continue
            packets += values[i, cpu, 0]
            wire_bytes += values[i, cpu, 1]
            last = max(last, values[i, cpu, 3])
            tcp_flags |= (values[i, cpu, 5] >> _U32) & _BYTE
            if values[i, cpu, 2] < first:
                first = values[i, cpu, 2]
                earliest = cpu
        # The second is the programs' own; it holds when the wall clock was set meanwhile.
        start = keys[i, 4] * _NS_PER_S
        ts = min(max(first + offset_ns, start), start + _LAST_NS)
        duration = min(last - first, start + _LAST_NS - ts) // _NS_PER_US
        macs_ttl_tos = values[i, earliest, 5]
        ports_vlan_type = keys[i, 6]
        for piece in range(pieces[i]):
            part = np.uint64(piece)
            part_bytes = wire_bytes // pieces[i]
            part_packets = packets // pieces[i]
            if part < wire_bytes % pieces[i]:
                part_bytes += _ONE
            if part < packets % pieces[i]:
                part_packets += _ONE
            out[row, 0] = ts
            for word in range(4):
                out[row, 1 + word] = keys[i, word]
            out[row, 5] = values[i, earliest, 4]
            out[row, 6] = (macs_ttl_tos & _LOW_32) | (ports_vlan_type & _LOW_32) << _U32
            out[row, 7] = part_bytes | part_packets << _U32
            out[row, 8] = keys[i, 5]
            out[row, 9] = (
                ports_vlan_type >> _U32
                | (keys[i, 7] & _BYTE) << _U32
                | tcp_flags << _U40
                | ((macs_ttl_tos >> _U40) & np.uint64(0xFFFF)) << np.uint64(48)
            )
            out[row, 10] = (keys[i, 7] >> _U8) & _LOW_24 | duration << _U32
            row += 1


def records_of(keys: Words, values: Words, offset_ns: int) -> Packets:
    """Records of flows; a flow that is too large for one is split.

    Args:
        keys: (n, 8), ``struct flow_key``.
        values: (n, CPUs, 6), ``struct flow_value``.
        offset_ns: Unix time minus monotonic time.
    """
    sums = values[:, :, :2].sum(axis=1)
    limits = np.array([MAX_PACKETS, MAX_WIRE_BYTES], np.uint64)
    pieces = np.maximum(((sums + limits - _ONE) // limits).max(axis=1, initial=0), _ONE)
    records = np.zeros(int(pieces.sum()), PACKET)
    offset = np.uint64(offset_ns & 0xFFFFFFFFFFFFFFFF)
    build_records(keys, values, pieces, offset, as_words(records))
    return records


class FlowTables:
    """Both tables, and the array through which programs find one of them.

    Args:
        array_fd: of the map ``flow_tables``, kept open by the caller.
        first_fd: of the table that was loaded with the programs, kept open by the caller.

    Raises:
        OSError: the second table can't be made.
    """

    def __init__(self, array_fd: int, first_fd: int) -> None:
        self._array_fd = array_fd
        self._second_fd = syscalls.create_map(syscalls.map_info(first_fd), "flows_b")
        self._used_fd, self._quiet_fd = first_fd, self._second_fd
        self._cursor = np.zeros(8, np.uint8)
        cpus = syscalls.possible_cpus()
        self._keys = np.zeros((_BATCH, KEY_WORDS), np.uint64)
        self._values = np.zeros((_BATCH, cpus, VALUE_WORDS), np.uint64)
        try:
            syscalls.update_inner(array_fd, 0, first_fd)
        except BaseException:
            self.close()
            raise

    def swap(self) -> None:
        """Let programs use the other table; when this returns, none runs that began before."""
        syscalls.update_inner(self._array_fd, 0, self._quiet_fd)
        self._used_fd, self._quiet_fd = self._quiet_fd, self._used_fd

    def take(self, offset_ns: int) -> Packets:
        """Empty the table that is not used; one record a flow and second."""
        return self._take(self._quiet_fd, offset_ns)

    def take_last(self, offset_ns: int) -> Packets:
        """Empty the other table as well, when no program counts flows any more."""
        return self._take(self._used_fd, offset_ns)

    def _take(self, fd: int, offset_ns: int) -> Packets:
        taken: list[Packets] = []
        done = False
        while not done:
            count, done = syscalls.take_batch(fd, self._cursor, not taken, self._keys, self._values)
            taken.append(records_of(self._keys[:count], self._values[:count], offset_ns))
        return join(taken)

    def close(self) -> None:
        """Give the second table back. May be called twice."""
        if self._second_fd >= 0:
            os.close(self._second_fd)
            self._second_fd = -1
