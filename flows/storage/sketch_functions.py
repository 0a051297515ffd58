"""SQL functions over arrays of stored sketches: what they compute.

A ClickHouse server and the embedded engine run the same program for each of them
(``serve_functions``), so that a sketch that the library can't stand ends that program and a query,
never the engine or the job. Bytes that aren't a sketch are no failure of the query: the answer's
``error`` says what is wrong, and its figures are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, BinaryIO, Final

from flows.errors import SketchError
from flows.sketches import Estimate
from flows.sketches.at_rest import merge, only, shared
from flows.sketches.distinct import Distinct
from flows.storage.row_binary import (
    Write,
    array_of,
    read_texts,
    read_u32,
    tuple_of,
    write_f64,
    write_text,
    write_u64,
)
from flows.storage.sketch_signatures import SIGNATURES, Columns
from flows.windows.fields import FIELDS, FieldList

_READERS: Final[Mapping[str, Callable[[BinaryIO], Any]]] = MappingProxyType(
    {"Array(String)": read_texts, "UInt32": read_u32}
)
_WRITERS: Final[Mapping[str, Write]] = MappingProxyType(
    {"Float64": write_f64, "UInt64": write_u64, "String": write_text}
)
_NONE: Final = MappingProxyType({"Float64": 0.0, "UInt64": 0, "String": ""})
_NUMBERS: Final = tuple(map(str, range(1 << 16)))  # networks, whose names only the settings know


class Function:
    """A SQL function.

    Args:
        name: one of ``SIGNATURES``.
    """

    def __init__(self, name: str) -> None:
        signature = SIGNATURES[name]
        self._readers = [_READERS[kind] for kind in signature.arguments.values()]
        self._nothing = _nothing(signature.columns)
        self._write = _writer(signature.columns)
        self._compute = _COMPUTE[name]

    def read(self, source: BinaryIO) -> list[Any]:
        """Arguments of one row, as RowBinary."""
        return [read(source) for read in self._readers]

    def answer(self, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """What it gives for one row, the error last."""
        try:
            return (*self._compute(*arguments), "")
        except SketchError as e:
            error = str(e)
        except Exception as e:  # a forged body may upset any reader; the query goes on
            error = f"the sketches can't be read: {e}"
        return (*self._nothing[:-1], error)

    def write(self, out: bytearray, answer: Sequence[Any]) -> None:
        """An answer as RowBinary."""
        self._write(out, answer)


def _merge_distinct(images: Sequence[bytes]) -> Estimate:
    return _distinct(images).estimate()


def _shared(first: Sequence[bytes], second: Sequence[bytes]) -> Estimate:
    return shared(_distinct(first), _distinct(second))


def _only(first: Sequence[bytes], second: Sequence[bytes]) -> Estimate:
    return only(_distinct(first), _distinct(second))


def _distinct(images: Sequence[bytes]) -> Distinct:
    return merge("cpc", images) if images else Distinct()


def _top(images: Sequence[bytes], fields: Sequence[bytes], n: int) -> Sequence[Any]:
    if not images:
        return [], 0
    listed = merge("frequency", images).top(n, share=1.0).by_bytes
    rows = [(_key(fields, hitter.key), *hitter[1:]) for hitter in listed.rows[:n]]
    return rows, listed.error


def _spread(images: Sequence[bytes], fields: Sequence[bytes], n: int) -> Sequence[Any]:
    if not images:
        return [], 0.0, 1.0
    listed = merge("superspread", images).top(n)
    rows = [(_key(fields, row.key), *row[1:]) for row in listed.rows]
    return rows, listed.recall_peers, listed.confidence


def _key(fields: Sequence[bytes], words: Sequence[int]) -> str:
    """A key as text; its words in hexadecimal where the fields don't say how to read it."""
    names = tuple(field.decode("utf-8", "replace") for field in fields)
    if sum(len(FIELDS.get(name, ())) for name in names) != len(words):
        return " ".join(f"{word:x}" for word in words)
    return " ".join(f"{k}={v}" for k, v in FieldList(names).read(words, _NUMBERS).items())


def _nothing(columns: Columns) -> tuple[Any, ...]:
    return tuple([] if isinstance(kind, Mapping) else _NONE[kind] for kind in columns.values())


def _writer(columns: Columns) -> Write:
    return tuple_of(
        *(
            array_of(_writer(kind)) if isinstance(kind, Mapping) else _WRITERS[kind]
            for kind in columns.values()
        )
    )


_COMPUTE: Final[Mapping[str, Callable[..., Sequence[Any]]]] = MappingProxyType(
    {
        "ns_distinct_merge": _merge_distinct,
        "ns_distinct_shared": _shared,
        "ns_distinct_only": _only,
        "ns_top_merge": _top,
        "ns_spread_merge": _spread,
    }
)
