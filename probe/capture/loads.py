"""Unaligned loads of integers from bytes, composed of single bytes.

LLVM merges each into one load (and a byte swap), so nothing is gained by pointer tricks, and
with the JIT off every byte that is touched goes through ``buf[k]``, where a test can watch.
Indices are unsigned, which spares the kernels numpy's rule that -1 is the last element. The
callers check bounds: no load here does.

``le`` is little endian, ``be`` big endian (network order). Values of up to 32 bits come back
as int64, in which the kernels calculate; 64-bit ones as uint64.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

U1, U2, U3, U4 = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
U5, U6, U7 = np.uint64(5), np.uint64(6), np.uint64(7)
U8, U16, U24, U32 = np.uint64(8), np.uint64(16), np.uint64(24), np.uint64(32)
U40, U48, U56 = np.uint64(40), np.uint64(48), np.uint64(56)


@numba.njit(inline="always")
def u8(buf: Any, at: Any) -> Any:
    """Load one byte."""
    return np.int64(buf[np.uint64(at)])


@numba.njit(inline="always")
def be16(buf: Any, at: Any) -> Any:
    """Load 16 bits, big endian."""
    k = np.uint64(at)
    return np.int64(buf[k]) << 8 | np.int64(buf[k + U1])


@numba.njit(inline="always")
def be32(buf: Any, at: Any) -> Any:
    """Load 32 bits, big endian."""
    k = np.uint64(at)
    return (
        np.int64(buf[k]) << 24
        | np.int64(buf[k + U1]) << 16
        | np.int64(buf[k + U2]) << 8
        | np.int64(buf[k + U3])
    )


@numba.njit(inline="always")
def le16(buf: Any, at: Any) -> Any:
    """Load 16 bits, little endian."""
    k = np.uint64(at)
    return np.int64(buf[k]) | np.int64(buf[k + U1]) << 8


@numba.njit(inline="always")
def le32(buf: Any, at: Any) -> Any:
    """Load 32 bits, little endian."""
    k = np.uint64(at)
    return (
        np.int64(buf[k])
        | np.int64(buf[k + U1]) << 8
        | np.int64(buf[k + U2]) << 16
        | np.int64(buf[k + U3]) << 24
    )


@numba.njit(inline="always")
def le48(buf: Any, at: Any) -> Any:
    """Load 48 bits, little endian: a MAC address as the record holds it."""
    k = np.uint64(at)
    return (
        np.uint64(buf[k])
        | np.uint64(buf[k + U1]) << U8
        | np.uint64(buf[k + U2]) << U16
        | np.uint64(buf[k + U3]) << U24
        | np.uint64(buf[k + U4]) << U32
        | np.uint64(buf[k + U5]) << U40
    )


@numba.njit(inline="always")
def le64(buf: Any, at: Any) -> Any:
    """Load 64 bits, little endian: half an IPv6 address as the record holds it."""
    k = np.uint64(at)
    return (
        np.uint64(buf[k])
        | np.uint64(buf[k + U1]) << U8
        | np.uint64(buf[k + U2]) << U16
        | np.uint64(buf[k + U3]) << U24
        | np.uint64(buf[k + U4]) << U32
        | np.uint64(buf[k + U5]) << U40
        | np.uint64(buf[k + U6]) << U48
        | np.uint64(buf[k + U7]) << U56
    )


@numba.njit(inline="always")
def file16(buf: Any, at: Any, big: Any) -> Any:
    """Load 16 bits in a file's byte order."""
    return be16(buf, at) if big else le16(buf, at)


@numba.njit(inline="always")
def file32(buf: Any, at: Any, big: Any) -> Any:
    """Load 32 bits in a file's byte order."""
    return be32(buf, at) if big else le32(buf, at)
