"""Arrow columns out of numpy arrays, without a Python object per row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def fixed_binary(data: npt.NDArray[np.uint8]) -> pa.Array:
    """Rows of bytes (n, width) as a fixed-size binary column."""
    count, width = data.shape
    buffers = [None, pa.py_buffer(np.ascontiguousarray(data))]
    return pa.Array.from_buffers(pa.binary(width), count, buffers)


def words_binary(words: npt.NDArray[np.uint64], width: int) -> pa.Array:
    """The first ``width`` bytes of each row of little-endian words (n, k)."""
    raw = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1)
    return fixed_binary(raw[:, :width])


def names(codes: npt.NDArray[Any], values: Sequence[str]) -> pa.Array:
    """A dictionary column: ``values[code]`` for each code; values may repeat."""
    distinct = list(dict.fromkeys(values))
    if len(distinct) < len(values):
        numbers = np.array([distinct.index(value) for value in values], np.int32)
        codes, values = numbers[codes.astype(np.intp)], distinct
    return pa.DictionaryArray.from_arrays(
        pa.array(codes.astype(np.int32)), pa.array(values, pa.string())
    )


def times_ms(values_ms: npt.NDArray[Any]) -> pa.Array:
    """Unix times in ms."""
    return pa.array(values_ms.astype(np.int64), pa.int64()).cast(pa.timestamp("ms", "UTC"))


def times_ns(values_ns: npt.NDArray[Any]) -> pa.Array:
    """Unix times in ns."""
    return pa.array(values_ns.astype(np.int64), pa.int64()).cast(pa.timestamp("ns", "UTC"))
