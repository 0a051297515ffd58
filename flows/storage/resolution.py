"""How fine an answer has to be: which table of flows, and buckets of which length."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

MINUTE_LACKS: Final = frozenset(("src_port", "if_name", "src_mac", "dst_mac", "sampling_rate"))
"""Columns of ``flows`` that ``flows_1m`` doesn't have."""

HOUR_LACKS: Final = MINUTE_LACKS | {"dst_port"}
"""Columns of ``flows`` that ``flows_1h`` doesn't have."""

_ROLLUPS: Final = (("flows_1h", 3600, HOUR_LACKS), ("flows_1m", 60, MINUTE_LACKS))
_LONG_S: Final = ((4 * 86_400, 3600), (6 * 3600, 60))
"""A span longer than the first may as well begin and end with windows of the second, s."""

_STEPS_S: Final = (2, 10, 30, 60, 300, 900, 3600, 4 * 3600, 86_400)
_MOST_BUCKETS: Final = 100


@dataclass(frozen=True)
class Span:
    """A span of event time, Unix ms; None where it is open."""

    start_ms: int | None = None
    end_ms: int | None = None

    def conditions(self) -> Iterator[str]:
        """Conditions on ``window_start``."""
        if self.start_ms is not None:
            yield f"window_start >= {time_literal(self.start_ms)}"
        if self.end_ms is not None:
            yield f"window_start < {time_literal(self.end_ms)}"

    def coarse(self) -> Iterator[str]:
        """The same by five minutes, wider, which is what the key of ``flows`` begins with.

        The engine looks up ``window_start`` at the end of the key, where it excludes nothing.
        """
        five = "toStartOfFiveMinutes"
        if self.start_ms is not None:
            yield f"{five}(window_start) >= {five}({time_literal(self.start_ms)})"
        if self.end_ms is not None:
            yield f"{five}(window_start) <= {five}({time_literal(self.end_ms)})"

    def fits(self, grain_s: int) -> bool:
        """Whether it begins and ends with windows of a rollup."""
        return self.whole(grain_s) == self

    def whole(self, grain_s: int) -> Span:
        """What of it are whole windows of a rollup; it may end before it begins."""
        grain_ms = grain_s * 1000
        start, end = self.start_ms, self.end_ms
        return Span(
            None if start is None else -(-start // grain_ms) * grain_ms,
            None if end is None else end // grain_ms * grain_ms,
        )


def time_literal(time_ms: int | None) -> str:
    """A Unix time in ms as SQL; the beginning of time for None."""
    text = datetime.fromtimestamp((time_ms or 0) / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return f"toDateTime64('{text[:-3]}', 3, 'UTC')"


def table_for(words: Collection[str], span: Span, grain_s: int | None) -> str:
    """The coarsest table of flows that has the columns and the grain.

    Args:
        words: words of the statement, the columns among them.
        span: what is asked for.
        grain_s: how fine time must be, s; None where only the span matters.
    """
    named = {word.lstrip('"') for word in words}
    for table, window_s, lacks in _ROLLUPS:
        fine = grain_s is None or grain_s % window_s == 0
        if fine and span.fits(window_s) and not lacks & named:
            return table
    return "flows"


def pieces(
    words: Collection[str], span: Span, grain_s: int | None = None
) -> list[tuple[str, Span]]:
    """Tables of flows that have a span together, each row once: the coarsest in its middle.

    Args:
        words: as of ``table_for``.
        span: what is asked for.
        grain_s: as of ``table_for``.
    """
    for table, window_s, _ in _ROLLUPS:
        inner = span.whole(window_s)
        start, end = inner.start_ms, inner.end_ms
        if start is not None and end is not None and start >= end:
            continue
        if table_for(words, inner, grain_s) != table:
            continue
        before, after = Span(span.start_ms, inner.start_ms), Span(inner.end_ms, span.end_ms)
        return [
            *(pieces(words, before, grain_s) if before.start_ms != before.end_ms else ()),
            (table, inner),
            *(pieces(words, after, grain_s) if after.start_ms != after.end_ms else ()),
        ]
    return [("flows", span)]


def step_s(span: Span) -> int:
    """Length of the buckets for a span, so that there are at most some hundred; s."""
    length_s = ((span.end_ms or 0) - (span.start_ms or 0)) / 1000
    return next((s for s in _STEPS_S if s * _MOST_BUCKETS >= length_s), _STEPS_S[-1])


def widened(start_ms: int, end_ms: int) -> tuple[int, int]:
    """A span whose ends may move apart a little, so that a rollup can answer when it is long.

    Args:
        start_ms: Unix time.
        end_ms: Unix time.

    Returns:
        The same for some hours, else from a whole minute to another, for days a whole hour; ms.
    """
    length_s = (end_ms - start_ms) / 1000
    grain_ms = next((1000 * grain_s for long_s, grain_s in _LONG_S if length_s > long_s), 1)
    return start_ms - start_ms % grain_ms, end_ms + -end_ms % grain_ms


def since(time_ms: int, now_ms: int) -> int:
    """Start of a span that reaches back from now, on the edge of a rollup's window.

    A span of two hours and more begins with a whole minute, of two days with a whole hour.
    """
    ago_s = (now_ms - time_ms) / 1000
    grain_ms = 3_600_000 if ago_s >= 172_800 else 60_000 if ago_s >= 7200 else 1
    return time_ms - time_ms % grain_ms
