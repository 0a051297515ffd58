"""What flows of a pane say of the connections behind them, for tasks that count only some flows.

=========== =====================================================================
class       flows
=========== =====================================================================
`ATTEMPT`   a try of a connection that did not come about in this pane
`SYN`       TCP that asks for a connection and has none: SYN without ACK
`INITIATED` from the side that began
`REFLECTED` from a port that is misused as a reflector, with large answers
=========== =====================================================================

Most flows are told by what they hold. A few need their *answer*, the flow of the reversed
five-tuple in the same pane, whatever its interface, direction or VLAN: UDP, echo requests, TCP
with both SYN and ACK (either side of a whole connection), TCP without any flag. Only these are
put into an index; all others are asked whom they answer.

- TCP without any flag is a NULL scan only if the target refuses it with a RST. Else it may be a
  header that was cut off before its flags.
- UDP and TCP from a port below 1024 to a higher one are answers, also where the question wasn't
  seen; so is what is reflected.
- What waits for its answer when the pane ends is judged by ``flows.kernels.late_answers``.
- Later fragments have ports 0 and belong to no class.
- Of which side of a UDP conversation began only the pane is known: in a later pane of a long
  one the other side may be the first.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from flows.kernels.five_tuple import AHEAD, NO_ENDS, find, group, hash_ends, question
from flows.kernels.intrinsics import prefetch
from flows.kernels.layout import (
    BYTES,
    DST,
    FIRST,
    FLAGS_SHIFT,
    KIND,
    PACKETS,
    PANE,
    PORTS,
    SRC,
    SRC_MAC,
)

ATTEMPT: Final = 1
SYN: Final = 2
INITIATED: Final = 4
REFLECTED: Final = 8

SERVICE_PORTS: Final = 1024
"""Ports below this one are services'."""

LARGE_ANSWER_BYTES: Final = 200
"""Mean frame above which an answer is worth reflecting."""

_0, _1 = np.uint64(0), np.uint64(1)
_16, _32, _48 = np.uint64(16), np.uint64(32), np.uint64(48)
_LOW8, _LOW16, _LOW32 = np.uint64(0xFF), np.uint64(0xFFFF), np.uint64(0xFFFFFFFF)
_IPV4, _IPV6 = np.uint64(0x0800), np.uint64(0x86DD)
_ICMP, _TCP, _UDP, _ICMP6 = np.uint64(1), np.uint64(6), np.uint64(17), np.uint64(58)
_F_SYN, _F_RST, _F_ACK = np.uint64(2), np.uint64(4), np.uint64(16)
_SERVICES = np.uint64(SERVICE_PORTS)
_LARGE = np.uint64(LARGE_ANSWER_BYTES)
# type * 256 of echo requests (RFC 792, RFC 4443).
_ECHO, _ECHO6 = np.uint64(8 << 8), np.uint64(128 << 8)
# The second word of ::ffff:a.b.c.d is ff ff | a b c d, little endian.
_MAPPED = np.uint64(0xFFFF0000)
_EVERYONE = np.uint64(0xFFFFFFFF)


@numba.njit(inline="always")
def _to_many(high: Any, low: Any) -> Any:
    """Whether an address is multicast (224.0.0.0/4, ff00::/8) or 255.255.255.255."""
    if high == _0 and low & _LOW32 == _MAPPED:
        return (low >> _32) & np.uint64(0xF0) == np.uint64(0xE0) or low >> _32 == _EVERYONE
    return high & _LOW8 == _LOW8


@numba.njit(inline="always")
def _is_answer(src_port: Any, dst_port: Any) -> Any:
    return src_port < _SERVICES and dst_port >= _SERVICES


@numba.njit(nogil=True, cache=True)
def _by_itself(entries: Any, reflector_ports: Any, out: Any, asking: Any) -> Any:
    """Classes that a flow's own entry tells; lists in ``asking`` those that need their answer.

    Those are given the classes that they have if there is no answer.
    """
    count = 0
    for row in range(out.shape[0]):
        out[row] = 0
        ports = entries[row, PORTS]
        eth_type = ports >> _48
        if eth_type not in (_IPV4, _IPV6):
            continue
        protocol = entries[row, KIND] & _LOW8
        src_port = ports & _LOW16
        dst_port = (ports >> _16) & _LOW16
        if protocol == _TCP:
            flags = (entries[row, SRC_MAC] >> FLAGS_SHIFT) & _LOW8
            if dst_port == _0 or (flags & _F_ACK and not flags & _F_SYN):
                continue
            if _to_many(entries[row, DST], entries[row, DST + 1]):
                continue
            if flags & _F_ACK:
                if not _is_answer(src_port, dst_port):
                    out[row] = INITIATED
                asking[count] = row
                count += 1
            elif flags & _F_SYN:
                out[row] = ATTEMPT | SYN | INITIATED
            elif flags == _0:
                asking[count] = row
                count += 1
            elif flags != _F_RST:
                out[row] = ATTEMPT
        elif protocol in (_ICMP, _ICMP6):
            asks = dst_port == (_ECHO if protocol == _ICMP else _ECHO6)
            if asks and not _to_many(entries[row, DST], entries[row, DST + 1]):
                out[row] = ATTEMPT | INITIATED
                asking[count] = row
                count += 1
        elif protocol == _UDP:
            if src_port == dst_port == _0:
                continue
            if (
                reflector_ports[src_port]
                and dst_port != src_port
                and entries[row, BYTES] > _LARGE * entries[row, PACKETS]
            ):
                # Whoever it goes to asked, or somebody in its name.
                out[row] = REFLECTED
                continue
            if _is_answer(src_port, dst_port):
                continue
            if not _to_many(entries[row, DST], entries[row, DST + 1]):
                out[row] |= ATTEMPT | INITIATED
                asking[count] = row
                count += 1
        elif not _to_many(entries[row, DST], entries[row, DST + 1]):
            out[row] = INITIATED
            asking[count] = row
            count += 1
    return count


@numba.njit(nogil=True, cache=True)
def classify(entries: Any, owners: Any, reflector_ports: Any, out: Any) -> None:
    """Write the classes of flows of closed panes, bits, to ``out``.

    Args:
        entries: flows, (n, 16) uint64; all of the panes, so that answers are among them.
        owners: number of the tenant of each stream, whose flows don't answer another's, uint64.
        reflector_ports: which UDP ports are misused as reflectors, (65536,) bool.
        out: (n,) uint8.
    """
    n = out.shape[0]
    asking = np.empty(n, np.int64)
    count = _by_itself(entries, reflector_ports, out, asking)
    if count == 0:
        return
    asking = asking[:count]
    index, group_of, row_of = group(entries, asking, owners)
    mask = np.uint64(index.shape[0] - 1)
    hashes = np.empty(n, np.uint64)
    answering = np.empty(n, np.int64)
    answers = 0
    for row in range(n):
        ends = question(entries, row)
        if ends != NO_ENDS:
            answering[answers] = row
            hashes[answers] = hash_ends(entries, row, DST, SRC, ends, entries[row, PANE], owners)
            answers += 1
    answered = np.full(count, NO_ENDS)
    refused = np.zeros(count, np.bool_)
    for i in range(answers):
        prefetch(index, hashes[min(i + AHEAD, answers - 1)] & mask)
        row = answering[i]
        ends, pane = question(entries, row), entries[row, PANE]
        slot = find(index, hashes[i], entries, row_of, entries, row, DST, SRC, ends, pane, owners)
        if index[slot] != _0:
            known = np.int64(index[slot] & _LOW32) - 1
            flags = (entries[row, SRC_MAC] >> FLAGS_SHIFT) & _LOW8
            if ends >> _32 != _TCP or flags & _F_SYN:
                answered[known] = min(answered[known], entries[row, FIRST])
            refused[known] |= flags & _F_RST != _0
    for i in range(count):
        _by_answer(entries, asking[i], answered[group_of[i]], refused[group_of[i]], out)


@numba.njit(inline="always")
def _by_answer(entries: Any, row: Any, answered: Any, refused: Any, out: Any) -> None:
    """Correct the classes of a flow by when it was answered, and whether by a RST."""
    protocol = entries[row, KIND] & _LOW8
    flags = (entries[row, SRC_MAC] >> FLAGS_SHIFT) & _LOW8
    if protocol == _TCP and flags == _0:
        if refused:
            out[row] |= ATTEMPT
        return
    if answered == NO_ENDS:
        return
    out[row] &= ~np.uint8(ATTEMPT)
    if protocol in (_ICMP, _ICMP6):
        return
    if answered > entries[row, FIRST]:
        # The side that began is known, whatever the ports.
        out[row] |= INITIATED
    else:
        out[row] &= ~np.uint8(INITIATED)
