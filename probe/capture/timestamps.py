"""Times of pcapng, in units that each interface chooses, to nanoseconds."""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from probe.capture.loads import U32

MAX_TS_NS: Final = np.uint64(2**63 - 1)
"""Latest time that a record holds (the year 2262); beyond it the files' times are clamped."""

_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)
_U63: Final = np.uint64(63)
_LOW32: Final = np.uint64(0xFFFFFFFF)
_SECOND_NS: Final = np.uint64(1_000_000_000)
_MAX_S: Final = np.uint64(9_223_372_036)  # whole seconds in MAX_TS_NS
_POWERS: Final = 10 ** np.arange(20, dtype=np.uint64)
_LIMITS: Final = MAX_TS_NS // _POWERS[9::-1]
"""Most units of 10^-n s, n from 0 to 9, that fit into a record's time."""


@numba.njit
def to_ns(units: Any, resolution: Any, offset_s: Any) -> Any:
    """Convert a pcapng time to Unix nanoseconds, rounded down, within 0 and ``MAX_TS_NS``.

    ``units`` is uint64, ``resolution`` the byte of option if_tsresol (units of 10^-n s, or of
    2^-n s when the top bit is set), ``offset_s`` int64 seconds to add (if_tsoffset).
    """
    if offset_s == 0 and resolution <= 9 and units <= _LIMITS[resolution]:
        return units * _POWERS[9 - resolution]  # the common case, spared the divisions
    n = resolution & 0x7F
    if resolution & 0x80:
        whole_s, fraction_ns = _ZERO, _ZERO
        if n < 64:
            whole_s = units >> np.uint64(n)
            units &= (_ONE << np.uint64(n)) - _ONE
        if n < 32:
            fraction_ns = (units * _SECOND_NS) >> np.uint64(n)
        elif n < 32 + 64:
            # The product has up to 94 bits; below 2^32 they don't reach a whole nanosecond.
            high = (units >> U32) * _SECOND_NS + ((units & _LOW32) * _SECOND_NS >> U32)
            fraction_ns = high >> np.uint64(n - 32)
    elif n <= 9:
        whole_s = units // _POWERS[n]
        fraction_ns = (units % _POWERS[n]) * _POWERS[9 - n]
    elif n < 20:
        whole_s = units // _POWERS[n]
        fraction_ns = (units % _POWERS[n]) // _POWERS[n - 9]
    else:
        whole_s = _ZERO
        fraction_ns = units // _POWERS[n - 9] if n < 29 else _ZERO
    if offset_s >= 0:
        later_s = np.uint64(offset_s)
        if whole_s >= _MAX_S or later_s >= _MAX_S - whole_s:
            return MAX_TS_NS
        return (whole_s + later_s) * _SECOND_NS + fraction_ns
    earlier_s = np.uint64(-(offset_s + 1)) + _ONE
    if whole_s < earlier_s:
        return _ZERO
    if whole_s - earlier_s >= _MAX_S:
        return MAX_TS_NS
    return (whole_s - earlier_s) * _SECOND_NS + fraction_ns
