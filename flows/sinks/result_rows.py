"""Results of horizons as rows of the versioned tables."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flows.operators.horizons import TaskResults
from flows.sinks.columns import times_ms
from flows.sketches.distinct import Distinct
from flows.sketches.frequency import Frequency, Hitter
from flows.sketches.superspread import SuperSpread
from flows.storage.rows import RANKINGS, build
from flows.storage.tables import MAX_INSERT_ROWS
from flows.windows import sampled
from flows.windows.horizons import WindowResult
from schemas.hashing import DEFAULT_SEED

_MS: Final = 10**6
_SECOND_NS: Final = 10**9
_MINUTE_NS: Final = 60 * _SECOND_NS
_DAY_MS: Final = 86_400_000

_MAX_DAYS: Final = 50
"""Partitions of one insert; the engine refuses more than 100."""

_RANKINGS: Final = ("packets", "bytes")


def inserts(rows: pa.Table) -> Iterator[pa.Table]:
    """Cut rows so that no insert is too large or spans too many of the store's partitions."""
    if rows.num_rows <= MAX_INSERT_ROWS and rows.num_rows <= _MAX_DAYS:
        yield rows
        return
    rows = rows.sort_by("window_start")
    days = rows["window_start"].cast(pa.int64()).to_numpy() // _DAY_MS
    starts = np.flatnonzero(np.diff(days)) + 1
    cuts = [0, *starts[_MAX_DAYS - 1 :: _MAX_DAYS].tolist(), rows.num_rows]
    for start, end in pairwise(cuts):
        for at in range(start, end, MAX_INSERT_ROWS):
            yield rows.slice(at, min(MAX_INSERT_ROWS, end - at))


class Context:
    """What a row says beyond its sketch.

    Args:
        network_names: by number, for keys that are networks.
        others: minutes (Unix time / 60 s, ascending) in which other loads, whose sketches this
            run doesn't have, stored packets of the tenant. Results there are not complete.
        longest_ns: the longest horizon.
        seed: of the hash of keys and elements.
    """

    def __init__(
        self,
        network_names: Sequence[str] = (),
        others: npt.NDArray[np.int64] | None = None,
        *,
        longest_ns: int = 600 * _SECOND_NS,
        seed: int = DEFAULT_SEED,
    ) -> None:
        self.network_names = network_names
        self.longest_ns = longest_ns
        self.seed = seed
        self._others = np.empty(0, np.int64) if others is None else others

    def complete(self, start_ns: int, horizon_ns: int) -> bool:
        """Whether no other load has a part in the window."""
        first = start_ns // _MINUTE_NS
        last = (start_ns + horizon_ns - 1) // _MINUTE_NS
        found = np.searchsorted(self._others, (first, last + 1))
        return bool(found[0] == found[1])


def columns(rows: list[dict[str, Any]], name: str) -> pa.Table:
    """Rows of a table, with the time of writing."""
    values: dict[str, Any] = {key: [row[key] for row in rows] for key in rows[0]}
    values["window_start"] = times_ms(np.array(values["window_start"], np.int64))
    values["updated_at"] = times_ms(np.full(len(rows), time.time_ns() // _MS))
    return build(name, values)


def window(group: TaskResults, result: WindowResult, context: Context) -> dict[str, Any]:
    """What all results of a window say."""
    return {
        "tenant": group.tenant,
        "window_start": result.start_ns // _MS,
        "horizon": result.horizon_ns // _SECOND_NS,
        "task": group.task.name,
        "complete": result.whole and context.complete(result.start_ns, result.horizon_ns),
    }


def distinct_counts(results: Sequence[TaskResults], context: Context) -> pa.Table | None:
    """Rows of ``distinct_counts_log``, or None when there are none."""
    rows = []
    for group in results:
        for result in group.results:
            if not isinstance(result.sketch, Distinct):
                continue
            estimate = result.sketch.estimate()
            rows.append(
                {
                    **window(group, result, context),
                    "estimate": estimate.value,
                    "lower": estimate.lower,
                    "upper": sampled.most_different(
                        estimate.upper, result.sampling, result.packets
                    ),
                    "confidence": min(estimate.confidence, sampled.confidence(result.sampling)),
                    "late_packets": result.late_packets,
                    "revision": result.revision,
                }
            )
    return columns(rows, "distinct_counts_log") if rows else None


def heavy_hitters(results: Sequence[TaskResults], context: Context) -> pa.Table | None:
    """Rows of ``heavy_hitters_log``, or None when there are none."""
    rows = []
    for group in results:
        for result in group.results:
            if isinstance(result.sketch, Frequency):
                rows += _hitter_rows(group, result, result.sketch, context)
    return columns(rows, "heavy_hitters_log") if rows else None


def _hitter_rows(
    group: TaskResults, result: WindowResult, sketch: Frequency, context: Context
) -> list[dict[str, Any]]:
    head = window(group, result, context)
    common = {
        "total_packets": sketch.total_packets,
        "total_bytes": sketch.total_bytes,
        "revision": result.revision,
    }
    if result.revision == 0:
        late = Hitter((), sketch.total_packets, 0, 0, sketch.total_bytes, 0, 0)
        return [
            _hitter(head, common, ranking, 0, {}, late, 0, 1.0, late.packets, late.bytes)
            for ranking in _RANKINGS
        ]
    top = sketch.top(group.task.top, group.task.share)
    return [
        _hitter(
            head,
            common,
            name,
            rank,
            group.task.key.read(hitter.key, context.network_names),
            sampled.widened(hitter, result.sampling),
            ranking.error,
            min(top.confidence, sampled.confidence(result.sampling)),
        )
        for name, ranking in zip(_RANKINGS, (top.by_packets, top.by_bytes), strict=True)
        for rank, hitter in enumerate(ranking.rows, start=1)
    ]


def _hitter(
    window: dict[str, Any],
    common: dict[str, Any],
    ranking: str,
    rank: int,
    key: dict[str, str],
    hitter: Hitter,
    error: int,
    confidence: float,
    late_packets: int = 0,
    late_bytes: int = 0,
) -> dict[str, Any]:
    return {
        **window,
        "ranked_by": RANKINGS[ranking],
        "rank": rank,
        "key": list(key.items()),
        "key_text": _text(key),
        **{name: value for name, value in hitter._asdict().items() if name != "key"},
        "error": error,
        "confidence": confidence,
        "late_packets": late_packets,
        "late_bytes": late_bytes,
        **common,
    }


def spreaders(results: Sequence[TaskResults], context: Context) -> pa.Table | None:
    """Rows of ``spreaders_log``, or None when there are none."""
    rows = []
    for group in results:
        for result in group.results:
            if isinstance(result.sketch, SuperSpread):
                rows += _spreader_rows(group, result, result.sketch, context)
    return columns(rows, "spreaders_log") if rows else None


def _spreader_rows(
    group: TaskResults, result: WindowResult, sketch: SuperSpread, context: Context
) -> list[dict[str, Any]]:
    top = sketch.top(group.task.top)
    common = {
        **window(group, result, context),
        "confidence": min(top.confidence, sampled.confidence(result.sampling)),
        "recall_peers": top.recall_peers,
        "late_packets": result.late_packets,
        "revision": result.revision,
    }
    if result.revision == 0:
        late = {"rank": 0, "key": [], "key_text": "", "estimate": 0.0, "lower": 0.0, "upper": 0.0}
        return [{**common, **late}]
    rows = []
    for rank, spreader in enumerate(top.rows, start=1):
        key = group.task.key.read(spreader.key, context.network_names)
        rows.append(
            {
                **common,
                "rank": rank,
                "key": list(key.items()),
                "key_text": _text(key),
                "estimate": spreader.estimate,
                "lower": spreader.lower,
                "upper": sampled.most_different(spreader.upper, result.sampling, result.packets),
            }
        )
    return rows


def _text(key: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in key.items())
