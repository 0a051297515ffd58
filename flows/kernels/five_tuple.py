"""Five-tuples of flow-table entries: their hashes, and whom a flow answers.

The ends of a flow are its ports and protocol in one word: source port | destination port << 16 |
protocol << 32.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from flows.kernels.intrinsics import prefetch
from flows.kernels.layout import DST, FLAGS_SHIFT, KIND, PANE, PORTS, SRC, SRC_MAC, STREAM_SHIFT
from schemas.hashing import finish, mix

_0, _1 = np.uint64(0), np.uint64(1)
_16, _32, _48 = np.uint64(16), np.uint64(32), np.uint64(48)
_LOW8, _LOW16, _LOW32 = np.uint64(0xFF), np.uint64(0xFFFF), np.uint64(0xFFFFFFFF)
_IPV4, _IPV6 = np.uint64(0x0800), np.uint64(0x86DD)
_ICMP, _TCP, _ICMP6 = np.uint64(1), np.uint64(6), np.uint64(58)
_SYN_OR_RST = np.uint64(2 | 4)
# type * 256 of echo requests and replies (RFC 792, RFC 4443).
_ECHO, _REPLY = np.uint64(8 << 8), np.uint64(0)
_ECHO6, _REPLY6 = np.uint64(128 << 8), np.uint64(129 << 8)

_HIGH32 = np.uint64(0xFFFFFFFF00000000)

AHEAD: Final = 16
"""Flows between asking for a slot and looking at it."""

NO_ENDS: Final = ~_0
"""What ``question`` gives for a flow that answers none."""


@numba.njit(inline="always")
def _owner(entries: Any, row: Any, owners: Any) -> Any:
    return np.uint64(owners[entries[row, KIND] >> STREAM_SHIFT])


@numba.njit(inline="always")
def hash_ends(entries: Any, row: Any, src: Any, dst: Any, ends: Any, pane: Any, owners: Any) -> Any:
    """Hash of a five-tuple of a pane: addresses from the words ``src`` and ``dst`` of a row."""
    h = mix(mix(_1, pane), _owner(entries, row, owners))
    h = mix(mix(h, entries[row, src]), entries[row, src + 1])
    h = mix(mix(h, entries[row, dst]), entries[row, dst + 1])
    return finish(mix(h, ends))


@numba.njit(inline="always")
def alike(
    table: Any, known: Any, entries: Any, row: Any, src: Any, dst: Any, ends: Any, pane: Any,
    owners: Any,
) -> Any:  # fmt: skip
    """Whether row ``known`` of ``table`` has the five-tuple that ``hash_ends`` makes of ``row``."""
    return (
        table[known, PANE] == pane
        and table[known, SRC] == entries[row, src]
        and table[known, SRC + 1] == entries[row, src + 1]
        and table[known, DST] == entries[row, dst]
        and table[known, DST + 1] == entries[row, dst + 1]
        and ends_of(table, known) == ends
        and _owner(table, known, owners) == _owner(entries, row, owners)
    )


@numba.njit(inline="always")
def ends_of(entries: Any, row: Any) -> Any:
    """Ports and protocol of a flow."""
    return (entries[row, PORTS] & _LOW32) | ((entries[row, KIND] & _LOW8) << _32)


@numba.njit(inline="always")
def question(entries: Any, row: Any) -> Any:
    """Ends of the flow that a flow would answer; ``NO_ENDS`` if it answers none."""
    if entries[row, PORTS] >> _48 not in (_IPV4, _IPV6):
        return NO_ENDS
    ends = ends_of(entries, row)
    protocol = ends >> _32
    if protocol in (_ICMP, _ICMP6):
        kind = (ends >> _16) & _LOW16
        if protocol == _ICMP and kind == _REPLY:
            return (_ECHO << _16) | (protocol << _32)
        if protocol == _ICMP6 and kind == _REPLY6:
            return (_ECHO6 << _16) | (protocol << _32)
        return NO_ENDS
    if protocol == _TCP and not (entries[row, SRC_MAC] >> FLAGS_SHIFT) & _SYN_OR_RST:
        return NO_ENDS
    return ((ends >> _16) & _LOW16) | ((ends & _LOW16) << _16) | (protocol << _32)


@numba.njit(inline="always")
def find(
    index: Any, h: Any, table: Any, row_of: Any, entries: Any, row: Any, src: Any, dst: Any,
    ends: Any, pane: Any, owners: Any,
) -> Any:  # fmt: skip
    """Slot of a five-tuple with the hash ``h`` in an index of ``group``, or the free one for it."""
    mask = np.uint64(index.shape[0] - 1)
    slot = h & mask
    while index[slot] != _0:
        if (index[slot] ^ h) & _HIGH32 == _0:
            known = row_of[np.int64(index[slot] & _LOW32) - 1]
            if alike(table, known, entries, row, src, dst, ends, pane, owners):
                break
        slot = (slot + _1) & mask
    return slot


@numba.njit(nogil=True, cache=True)
def group(entries: Any, rows: Any, owners: Any) -> Any:
    """Group rows by five-tuple and pane, so that what is seen at several places is one group.

    Args:
        entries: flows, (n, 16) uint64.
        rows: numbers of those to group, (k,) int64.
        owners: number of the tenant of each stream, uint64.

    Returns:
        index: of the groups, for ``find``: upper half of the hash, and the group's number plus one.
        group_of: group of each row, (k,).
        row_of: a row of each group, (k,), the rest unused.
    """
    count = rows.shape[0]
    size = 4
    while size < 2 * count:
        size *= 2
    index = np.zeros(size, np.uint64)
    hashes = np.empty(count, np.uint64)
    for i in range(count):
        row = rows[i]
        ends = ends_of(entries, row)
        hashes[i] = hash_ends(entries, row, SRC, DST, ends, entries[row, PANE], owners)
    group_of = np.empty(count, np.int64)
    row_of = np.empty(count, np.int64)
    groups = 0
    for i in range(count):
        prefetch(index, hashes[min(i + AHEAD, count - 1)] & np.uint64(size - 1))
        row, h = rows[i], hashes[i]
        ends, pane = ends_of(entries, row), entries[row, PANE]
        slot = find(index, h, entries, row_of, entries, row, SRC, DST, ends, pane, owners)
        if index[slot] == _0:
            row_of[groups] = row
            groups += 1
            index[slot] = (h & _HIGH32) | np.uint64(groups)
        group_of[i] = np.int64(index[slot] & _LOW32) - 1
    return index, group_of, row_of
