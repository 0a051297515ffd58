"""Any number of stored sketches as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, overload

from flows.errors import SketchError
from flows.sketches.at_rest.formats import KINDS, Sketch, check_cpc, check_version
from flows.sketches.distinct import Distinct
from flows.sketches.frequency import Frequency
from flows.sketches.superspread import SuperSpread

_READERS: Final[Mapping[str, Callable[[bytes], Any]]] = MappingProxyType(
    {"frequency": Frequency.from_bytes, "superspread": SuperSpread.from_bytes}
)


@overload
def merge(kind: Literal["cpc"], images: Iterable[bytes]) -> Distinct: ...
@overload
def merge(kind: Literal["frequency"], images: Iterable[bytes]) -> Frequency: ...
@overload
def merge(kind: Literal["superspread"], images: Iterable[bytes]) -> SuperSpread: ...
@overload
def merge(kind: str, images: Iterable[bytes]) -> Sketch: ...


def merge(kind: str, images: Iterable[bytes]) -> Sketch:
    """What one sketch would be that had seen all that some have.

    Distinct counts and spreads of overlapping parts count what is in both once; frequencies of
    parts that overlap count it twice. Distinct counts of several sizes give one of the smallest.

    Args:
        kind: ``cpc``, ``frequency`` or ``superspread``.
        images: bytes of sketches under one hash seed, read one at a time.

    Raises:
        SketchError: foreign or damaged bytes, sketches that don't fit together, or none at all.
    """
    if kind == "cpc":
        return Distinct.union(_checked(images))
    check_version(kind, KINDS.get(kind, 0))
    merged: Any = None
    for image in images:
        part = _READERS[kind](image)
        if merged is None:
            merged = part
        else:
            merged.merge(part)
    if merged is None:
        msg = "there is no sketch to merge"
        raise SketchError(msg)
    sketch: Sketch = merged
    return sketch


def _checked(images: Iterable[bytes]) -> Iterator[bytes]:
    for image in images:
        check_cpc(image)
        yield image
