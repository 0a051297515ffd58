"""Tumbling windows of a spread sketch over batches of pairs, for dataflows of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from flows.sketches.superspread import SpreadTop, SuperSpread
from schemas.hashing import hash_words

Words = npt.NDArray[np.uint64]

STATE_VERSION: Final = 1


@dataclass(frozen=True)
class Pairs:
    """A batch of observations: at some time a key touched an element.

    Attributes:
        ts_ns: event times, Unix ns, (n,) uint64, in any order.
        keys: (n, w) uint64 words, w from 1 to 4.
        elements: (n, k) uint64 words.
    """

    ts_ns: Words
    keys: Words
    elements: Words


@dataclass(frozen=True)
class SpreadWindow:
    """What a closed window found.

    Attributes:
        start_ns: event time at which it starts.
        top: the keys with most different elements, with bounds.
    """

    start_ns: int
    top: SpreadTop


def address_words(addresses: Sequence[str]) -> Words:
    """IP addresses as two words each, (n, 2); IPv4 as ::ffff:a.b.c.d."""
    octets = b"".join(
        address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed
        for address in map(ip_address, addresses)
    )
    return np.frombuffer(octets, "<u8").reshape(-1, 2).astype(np.uint64)


class SpreadWindows:
    """One stream's tumbling windows.

    A window closes when the newest time, less the lateness, has passed its end. Pairs of a
    window that is closed are late; they are counted and not looked at.

    Args:
        length_ns: length of a window; windows are aligned to Unix time 0.
        lateness_ns: how far pairs may lie behind the newest one.
        memory_bytes: of each window's sketch.
        top: keys to list.
        seed: of all hashes.
        state: an earlier ``snapshot``.
    """

    def __init__(
        self,
        length_ns: int,
        *,
        lateness_ns: int,
        memory_bytes: int,
        top: int,
        seed: int,
        state: tuple[Any, ...] | None = None,
    ) -> None:
        self._length_ns = length_ns
        self._lateness_ns = lateness_ns
        self._memory_bytes = memory_bytes
        self._top = top
        self._seed = seed
        self._watermark_ns = 0
        self._open: dict[int, SuperSpread] = {}
        if state is not None:
            version, self._watermark_ns, windows = state
            if version != STATE_VERSION:
                msg = f"recovery state has version {version}, this program reads {STATE_VERSION}"
                raise ValueError(msg)
            self._open = {start: SuperSpread.from_bytes(image) for start, image in windows}

    def update(self, pairs: Pairs) -> tuple[list[SpreadWindow], int]:
        """Take a batch; returns the windows that it closed and how many pairs were late."""
        numbers = pairs.ts_ns // np.uint64(self._length_ns)
        late = 0
        for number in np.unique(numbers).tolist():
            rows = numbers == np.uint64(number)
            start_ns = number * self._length_ns
            if start_ns + self._length_ns <= self._watermark_ns:
                late += int(rows.sum())
                continue
            keys = np.ascontiguousarray(pairs.keys[rows])
            elements = hash_words(pairs.elements[rows], self._seed)
            sketch = self._open.get(start_ns)
            if sketch is None:
                sketch = SuperSpread(keys.shape[1], self._memory_bytes, self._seed)
                self._open[start_ns] = sketch
            sketch.update(keys, hash_words(keys, self._seed), elements)
        if len(pairs.ts_ns):
            newest_ns = int(pairs.ts_ns.max())
            self._watermark_ns = max(self._watermark_ns, newest_ns - self._lateness_ns)
        return self._close(self._watermark_ns), late

    def end(self) -> list[SpreadWindow]:
        """There is no more: all open windows."""
        return self._close(None)

    def snapshot(self) -> tuple[Any, ...]:
        """Immutable, picklable state."""
        windows = tuple((start, sketch.to_bytes()) for start, sketch in self._open.items())
        return (STATE_VERSION, self._watermark_ns, windows)

    def _close(self, watermark_ns: int | None) -> list[SpreadWindow]:
        closed = sorted(
            start
            for start in self._open
            if watermark_ns is None or start + self._length_ns <= watermark_ns
        )
        return [SpreadWindow(start, self._open.pop(start).top(self._top)) for start in closed]
