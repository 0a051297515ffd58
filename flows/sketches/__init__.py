"""Mergeable summaries of traffic: distinct counts, heavy hitters, spreads.

Every summary has ``update`` (arrays), ``merge`` and a form as bytes. Bytes that lie in recovery
files and tables are sealed: the libraries beneath trust what they read and end the process on
damaged input, so a checksum comes first. Pickles, by which the processes of a job hand summaries
to each other, are not: there only speed counts.
"""

from __future__ import annotations

import zlib
from typing import Final, NamedTuple

from flows.errors import SketchError

_SEAL_BYTES: Final = 8


class Estimate(NamedTuple):
    """A number with its two-sided bounds at ``confidence`` (1 where certain)."""

    value: float
    lower: float
    upper: float
    confidence: float


def seal(kind: bytes, payload: bytes) -> bytes:
    """Put four bytes of ``kind`` (with the format's version) and a CRC-32 before ``payload``."""
    return kind + zlib.crc32(payload, zlib.crc32(kind)).to_bytes(4, "little") + payload


def unseal(kind: bytes, data: bytes) -> bytes:
    """The payload of what ``seal`` made.

    Raises:
        SketchError: another kind or version, cut off, or damaged.
    """
    if data[:4] != kind or len(data) < _SEAL_BYTES:
        msg = f"not a sketch of kind {kind!r}: the bytes begin with {bytes(data[:4])!r}"
        raise SketchError(msg)
    payload = data[_SEAL_BYTES:]
    if zlib.crc32(payload, zlib.crc32(kind)) != int.from_bytes(data[4:_SEAL_BYTES], "little"):
        msg = f"sketch of kind {kind!r} is damaged: its checksum does not match"
        raise SketchError(msg)
    return payload


def selfcheck() -> list[str]:
    """Compare the fast paths with the library.

    Returns:
        One line for each part where this platform differs and which therefore feeds the
        library item by item; none when all is well.
    """
    # Imported here because the modules themselves import this package.
    from flows.sketches import count_min, distinct

    lines = []
    if not distinct.fast_path():
        lines.append("distinct: CPC coupons differ from the library's; items are fed one by one")
    if not count_min.fast_path():
        lines.append("count_min: buckets differ from the library's; items are fed one by one")
    return lines
