"""Five-tuples of flow-table entries: their hashes, and whom a flow answers.

The ends of a flow are its ports and protocol in one word: source port | destination port << 16 |
protocol << 32.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

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
