"""The engine's benchmark: its parts, in the order in which packets meet them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Final

from flows.benchmarks.measure import Figure
from flows.benchmarks.sizes import Sizes
from flows.errors import UsageError

PARTS: Final = {
    "decode": "flows.benchmarks.decode",
    "kernel": "flows.benchmarks.kernel",
    "pane": "flows.benchmarks.panes",
    "store": "flows.benchmarks.storing",
    "whole": "flows.benchmarks.whole",
}
"""Module of each part; its ``measure(sizes)`` gives the figures."""


def parts_of(text: str) -> list[str]:
    """The parts that ``decode,kernel`` names, in their own order.

    Raises:
        UsageError: there is no such part.
    """
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in PARTS]
    if unknown or not wanted:
        msg = f"no part {unknown[0] if unknown else text!r}; there are {', '.join(PARTS)}"
        raise UsageError(msg)
    return [name for name in PARTS if name in wanted]


def run(part: str, sizes: Sizes) -> Iterator[Figure]:
    """Measure one part."""
    figures: Iterator[Figure] = importlib.import_module(PARTS[part]).measure(sizes)
    yield from figures
