"""What a spread sketch answers, and the checks that both variants share."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from flows.errors import SketchError

U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]

MAX_WORDS: Final = 4
"""Longest key, in 64-bit words: two addresses."""


class Spreader(NamedTuple):
    """A key (its 64-bit words) with the number of its different elements and bounds for it."""

    key: tuple[int, ...]
    estimate: float
    lower: float
    upper: float


class SpreadTop(NamedTuple):
    """Spreaders, largest estimate first.

    Attributes:
        rows: the spreaders.
        recall_peers: every key with at least so many different elements is among the
            candidates with 99.9 % probability; infinite where nothing is known.
        confidence: with this probability the bounds of a row hold, 1 where certain.
        memory_bytes: memory that the sketch takes.
    """

    rows: list[Spreader]
    recall_peers: float
    confidence: float
    memory_bytes: int


class SpreadOver(NamedTuple):
    """Keys that are over a threshold for certain.

    Attributes:
        rows: those listed, largest estimate first.
        total: how many there are; of those not listed only a part of the registers was read.
    """

    rows: list[Spreader]
    total: int


def check_words(words: int) -> None:
    """Refuse keys of a length that no task has.

    Raises:
        SketchError: ``words`` is not 1 to ``MAX_WORDS``.
    """
    if not 1 <= words <= MAX_WORDS:
        msg = f"keys of a spread sketch have 1 to {MAX_WORDS} words, not {words}"
        raise SketchError(msg)


def check_columns(words: int, keys: U64, *columns: U64) -> None:
    """Refuse arrays that are not columns of one table.

    Raises:
        SketchError: the keys have another number of words, or columns differ in length.
    """
    if keys.shape != (len(keys), words):
        msg = f"keys of {words} words were expected, not an array of {keys.shape}"
        raise SketchError(msg)
    if any(column.shape != (len(keys),) for column in columns):
        shapes = ", ".join(str(column.shape) for column in columns)
        msg = f"{len(keys)} keys and columns of {shapes} are not one table"
        raise SketchError(msg)


def check_rows(n: int) -> None:
    """Refuse a number of rows that can't be listed.

    Raises:
        SketchError: ``n`` is negative.
    """
    if n < 0:
        msg = f"a top lists at least 0 rows, not {n}"
        raise SketchError(msg)


def ranked(keys: U64, estimates: F64, lower: F64, upper: F64, n: int) -> list[Spreader]:
    """The ``n`` largest estimates, ties by key."""
    order = np.lexsort((*keys.T[::-1], -estimates))[:n]
    figures = np.stack((estimates, lower, upper), axis=1)[order].tolist()
    return [
        Spreader(tuple(key), *row) for key, row in zip(keys[order].tolist(), figures, strict=True)
    ]
