"""Layout of a flow-table entry: 16 words of 64 bits, the first eight of them the key.

===== ==========================================================================
word  meaning
===== ==========================================================================
0     pane (event time // pane length)
1, 2  source address, as two little-endian words
3, 4  destination address
5     source port | destination port << 16 | VLAN << 32 | EtherType << 48
6     protocol | direction << 8 | capture point << 16 | fold level << 24 | stream << 32
7     interface | tunnel << 32
8     packets
9     bytes
10    first seen, ns
11    last seen, ns
12    source MAC | TCP flags << 48
13    destination MAC
14    flows folded into this one
15    hash of the key
===== ==========================================================================

A *stream* is the index of (tenant, probe, sampling rate) in the partition's list. The fold
level is 0 for a flow; see ``flows.kernels.fold`` for the others.
"""

from __future__ import annotations

from typing import Final

import numpy as np

ENTRY_WORDS: Final = 16
KEY_WORDS: Final = 8

PANE, SRC, DST, PORTS, KIND, PLACE = 0, 1, 3, 5, 6, 7
PACKETS, BYTES, FIRST, LAST, SRC_MAC, DST_MAC, FOLDED, HASH = 8, 9, 10, 11, 12, 13, 14, 15

LEVEL_SHIFT: Final = np.uint64(24)
STREAM_SHIFT: Final = np.uint64(32)
FLAGS_SHIFT: Final = np.uint64(48)

# Words of a row of pane totals: a key of three, then counters.
TOTAL_WORDS: Final = 16
T_PANE, T_PLACE, T_KIND = 0, 1, 2
T_PACKETS, T_BYTES, T_RECORDS, T_LATE = 3, 4, 5, 6
T_IPV4, T_IPV6, T_OTHER, T_TCP, T_UDP, T_ICMP, T_OTHER_PROTO = 7, 8, 9, 10, 11, 12, 13

# Slots of a table's state array (uint64).
STATE_SLOTS: Final = 8
S_COUNT, S_TOTALS, S_WATERMARK, S_FIRST_PANE, S_REASON, S_PANE, S_LAST_TOTAL = 0, 1, 2, 3, 4, 5, 6

# Why ``absorb`` stopped before the end of its packets.
DONE, TABLE_FULL, PANE_FULL, TOTALS_FULL = 0, 1, 2, 3

PANE_SLOTS: Final = 4096
"""Flows are counted per pane in this many slots (pane modulo slots)."""
