"""Kinds of sketches in the store, and the versions of their bytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from flows.errors import SketchError
from flows.sketches.distinct import Distinct
from flows.sketches.frequency import Frequency
from flows.sketches.superspread import SuperSpread

Sketch = Distinct | Frequency | SuperSpread

KINDS: Final[Mapping[str, int]] = MappingProxyType({"cpc": 1, "frequency": 1, "superspread": 1})
"""The version of each kind's bytes that is written, the only one so far."""

# Of a CPC image: preamble words, serial version, family, log2 of rows, first column, flags.
_CPC_HEAD: Final = struct.Struct("<BBBBBBH")
_CPC_FIXED: Final = (1, 16)
_COMPRESSED, _HIP, _TABLE, _WINDOW = 2, 4, 8, 16
_WORD_BYTES: Final = 4
_MIN_LG_K, _MAX_LG_K = 4, 16


def encode(sketch: Sketch) -> tuple[str, int, bytes]:
    """Kind, version and bytes of a sketch, as the store keeps them."""
    if isinstance(sketch, Distinct):
        kind = "cpc"
    else:
        kind = "frequency" if isinstance(sketch, Frequency) else "superspread"
    return kind, KINDS[kind], sketch.to_bytes()


def check_version(kind: str, version: int) -> None:
    """Refuse bytes that another version of the program wrote.

    Raises:
        SketchError: the kind or its version isn't known.
    """
    if kind not in KINDS:
        msg = f"sketches of kind {kind!r} can't be read, only {', '.join(KINDS)}"
        raise SketchError(msg)
    if version != KINDS[kind]:
        msg = (
            f"sketches of kind {kind} in version {version} can't be read, only version"
            f" {KINDS[kind]}; a newer NetSpectra may have written them"
        )
        raise SketchError(msg)


def seed_id(seed: int) -> int:
    """A number by which the store tells seeds apart, never 0."""
    return zlib.crc32(seed.to_bytes(8, "little")) or 1


def check_cpc(image: bytes) -> None:
    """Refuse bytes that don't have the structure of a CPC image.

    The library takes lengths as they come: cut off or foreign bytes could keep it busy for ever.
    After the head there are, as the flags say: the number of coupons, the number of table
    entries (if there is a window too), the estimator of arrival order (16 bytes), the words
    of the table, the words of the window; then table and window.

    Raises:
        SketchError: the structure is another.
    """
    if len(image) < _CPC_HEAD.size:
        msg = f"not a CPC image: {len(image)} bytes are too few"
        raise SketchError(msg)
    words, version, family, lg_k, column, flags, _ = _CPC_HEAD.unpack_from(image)
    if (version, family) != _CPC_FIXED or not flags & _COMPRESSED:
        msg = f"not a CPC image: it begins with {image[:8].hex()}"
        raise SketchError(msg)
    table, window = bool(flags & _TABLE), bool(flags & _WINDOW)
    hip = bool(flags & _HIP) and (table or window)
    expected = 2 + (table or window) + (table and window) + table + window + 4 * hip
    if words != expected or len(image) < words * _WORD_BYTES or column > 63:
        msg = f"the CPC image is cut off or damaged: its head is {image[:8].hex()}"
        raise SketchError(msg)
    numbers = struct.unpack_from(f"<{words - 2}I", image, _CPC_HEAD.size)
    lengths = _lengths(numbers, table=table, window=window, hip=hip)
    if len(image) != _WORD_BYTES * (words + sum(lengths)):
        msg = f"the CPC image is cut off or damaged: {len(image)} bytes don't fit its head"
        raise SketchError(msg)
    if not _MIN_LG_K <= lg_k <= _MAX_LG_K or (numbers and not 0 < numbers[0] <= 64 << lg_k):
        msg = f"the CPC image is damaged: {numbers[:1]} coupons of 2^{lg_k} rows"
        raise SketchError(msg)


def _lengths(numbers: tuple[int, ...], *, table: bool, window: bool, hip: bool) -> list[int]:
    """Words of the table and of the window, by the numbers after the head."""
    if table and window:
        numbers = numbers[2 + 4 * hip :]
        return list(numbers[:2])
    return [numbers[1]] if table or window else []
