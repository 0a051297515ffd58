"""Tries at the end of a pane that came about at the beginning of the next.

With a round trip of 100 ms and panes of 2 s one connection in twenty is cut by a pane's end: the
first pane has its SYN alone. When a pane closes, the watermark's lateness has brought packets of
the next one already; what these acknowledge or answer was no failed try.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from flows.kernels.classes import ATTEMPT, SYN
from flows.kernels.five_tuple import NO_ENDS, ends_of, find, group, hash_ends, question
from flows.kernels.layout import DST, FIRST, FLAGS_SHIFT, KIND, LAST, PANE, SRC, SRC_MAC

ANSWER_NS: Final = 500_000_000
"""How long after a try's last packet an answer is waited for: longer than a round trip takes."""

_0, _1 = np.uint64(0), np.uint64(1)
_LOW8, _LOW32 = np.uint64(0xFF), np.uint64(0xFFFFFFFF)
_NEVER = ~_0
_TCP = np.uint64(6)
_F_SYN, _F_ACK = np.uint64(2), np.uint64(16)
_WAIT = np.uint64(ANSWER_NS)


@numba.njit(inline="always")
def _is_tcp(entries: Any, row: Any) -> Any:
    return entries[row, KIND] & _LOW8 == _TCP


@numba.njit(inline="always")
def _flags(entries: Any, row: Any) -> Any:
    return (entries[row, SRC_MAC] >> FLAGS_SHIFT) & _LOW8


@numba.njit(nogil=True, cache=True)
def _waiting(entries: Any, classes: Any, pane_ns: Any, rows: Any) -> Any:
    """List tries so near to the end of their pane that an answer may come after it."""
    count = 0
    for row in range(classes.shape[0]):
        if not classes[row] & ATTEMPT:
            continue
        if entries[row, LAST] + _WAIT < (entries[row, PANE] + _1) * pane_ns:
            continue
        if _is_tcp(entries, row) and not _flags(entries, row) & _F_SYN:
            continue
        rows[count] = row
        count += 1
    return count


@numba.njit(inline="always")
def _answered(ahead: Any, row: Any) -> Any:
    """Ends of the try that a flow of the next pane shows to have come about."""
    if _is_tcp(ahead, row):
        acknowledges = _flags(ahead, row) & (_F_SYN | _F_ACK) == _F_ACK
        return ends_of(ahead, row) if acknowledges else NO_ENDS
    return question(ahead, row)


@numba.njit(nogil=True, cache=True)
def take_back(entries: Any, ahead: Any, owners: Any, pane_ns: Any, classes: Any) -> None:
    """Take ``ATTEMPT`` and ``SYN`` from flows that the next pane shows to have come about.

    TCP did if the side that asked acknowledges, without asking again; all else, if it is
    answered; both at most ``ANSWER_NS`` after the try.

    Args:
        entries: flows of closed panes, (n, 16) uint64.
        ahead: flows among which those of their next panes are, (m, 16) uint64.
        owners: number of the tenant of each stream, uint64.
        pane_ns: length of a pane, uint64.
        classes: of the entries by ``flows.kernels.classes``, (n,) uint8; corrected.
    """
    rows = np.empty(classes.shape[0], np.int64)
    rows = rows[: _waiting(entries, classes, pane_ns, rows)]
    if rows.shape[0] == 0:
        return
    index, group_of, row_of = group(entries, rows, owners)
    answered = np.full(rows.shape[0], _NEVER)
    for row in range(ahead.shape[0]):
        ends = _answered(ahead, row)
        if ends == NO_ENDS:
            continue
        src, dst = (SRC, DST) if _is_tcp(ahead, row) else (DST, SRC)
        pane = ahead[row, PANE] - _1
        h = hash_ends(ahead, row, src, dst, ends, pane, owners)
        slot = find(index, h, entries, row_of, ahead, row, src, dst, ends, pane, owners)
        if index[slot] != _0:
            known = np.int64(index[slot] & _LOW32) - 1
            answered[known] = min(answered[known], ahead[row, FIRST])
    for i in range(rows.shape[0]):
        first_ns = answered[group_of[i]]
        if first_ns != _NEVER and first_ns <= entries[rows[i], LAST] + _WAIT:
            classes[rows[i]] &= ~np.uint8(ATTEMPT | SYN)
