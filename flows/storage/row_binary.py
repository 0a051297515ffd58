"""ClickHouse's RowBinary, as far as functions need it: numbers, texts, arrays, tuples."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Final

_LONGEST_VARINT: Final = 10
Write = Callable[[bytearray, Any], None]


def read_exactly(source: BinaryIO, size: int) -> bytes:
    """So many bytes.

    Raises:
        EOFError: the source ended before.
    """
    data = source.read(size)
    if len(data) != size:
        msg = f"the input ended {size - len(data)} bytes too early"
        raise EOFError(msg)
    return data


def read_length(source: BinaryIO) -> int:
    """A number in LEB128, as lengths of texts and arrays are written."""
    value = 0
    for at in range(_LONGEST_VARINT):
        (byte,) = read_exactly(source, 1)
        value |= (byte & 0x7F) << (7 * at)
        if byte < 0x80:
            return value
    msg = "a length of more than 64 bits"
    raise EOFError(msg)


def read_text(source: BinaryIO) -> bytes:
    """A String, which may be any bytes."""
    return read_exactly(source, read_length(source))


def read_texts(source: BinaryIO) -> list[bytes]:
    """An Array(String)."""
    return [read_text(source) for _ in range(read_length(source))]


def read_u32(source: BinaryIO) -> int:
    """A UInt32."""
    return int.from_bytes(read_exactly(source, 4), "little")


def write_length(out: bytearray, value: int) -> None:
    """A number in LEB128."""
    while value >= 0x80:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)


def write_text(out: bytearray, text: str) -> None:
    """A String."""
    data = text.encode()
    write_length(out, len(data))
    out += data


def write_u64(out: bytearray, value: int) -> None:
    """A UInt64; what is larger becomes the largest."""
    out += min(value, 2**64 - 1).to_bytes(8, "little")


def write_f64(out: bytearray, value: float) -> None:
    """A Float64."""
    out += struct.pack("<d", value)


def tuple_of(*parts: Write) -> Write:
    """Writes a Tuple."""

    def write(out: bytearray, values: Sequence[Any]) -> None:
        for part, value in zip(parts, values, strict=True):
            part(out, value)

    return write


def array_of(part: Write) -> Write:
    """Writes an Array."""

    def write(out: bytearray, values: Sequence[Any]) -> None:
        write_length(out, len(values))
        for value in values:
            part(out, value)

    return write
