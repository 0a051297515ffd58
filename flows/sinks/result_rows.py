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
from flows.windows.horizons import WindowResult

_MS: Final = 10**6
_SECOND_NS: Final = 10**9
_MINUTE_NS: Final = 60 * _SECOND_NS
_DAY_MS: Final = 86_400_000
_MIN_STORED_NS: Final = 60 * _SECOND_NS
"""Sketches of shorter horizons can be had by none and are not kept."""

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
    """

    def __init__(
        self, network_names: Sequence[str] = (), others: npt.NDArray[np.int64] | None = None
    ) -> None:
        self.network_names = network_names
        self._others = np.empty(0, np.int64) if others is None else others

    def complete(self, start_ns: int, horizon_ns: int) -> bool:
        """Whether no other load has a part in the window."""
        first = start_ns // _MINUTE_NS
        last = (start_ns + horizon_ns - 1) // _MINUTE_NS
        found = np.searchsorted(self._others, (first, last + 1))
        return bool(found[0] == found[1])


def _columns(rows: list[dict[str, Any]], name: str) -> pa.Table:
    values: dict[str, Any] = {key: [row[key] for row in rows] for key in rows[0]}
    values["window_start"] = times_ms(np.array(values["window_start"], np.int64))
    values["updated_at"] = times_ms(np.full(len(rows), time.time_ns() // _MS))
    return build(name, values)


def _window(group: TaskResults, result: WindowResult, context: Context) -> dict[str, Any]:
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
                    **_window(group, result, context),
                    "estimate": estimate.value,
                    "lower": estimate.lower,
                    "upper": _most_different(result, estimate.upper),
                    "confidence": min(estimate.confidence, _confidence(result)),
                    "late_packets": result.late_packets,
                    "revision": result.revision,
                }
            )
    return _columns(rows, "distinct_counts_log") if rows else None


def _confidence(result: WindowResult) -> float:
    """Probability with which sampling lets bounds hold."""
    return 1.0 if result.sampling.rate == 1 else 0.95


def _most_different(result: WindowResult, upper: float) -> float:
    """Upper bound of a number of different things, of which sampling has hidden some.

    They are no more than there were packets.
    """
    if result.sampling.rate == 1:
        return upper
    return max(upper, float(round(result.sampling.packets(result.packets)[1])))


def _widened(result: WindowResult, hitter: Hitter) -> Hitter:
    """A hitter with the sampling's error in its bounds."""
    if result.sampling.rate == 1:
        return hitter
    packets, octets = result.sampling.packets, result.sampling.bytes
    return hitter._replace(
        packets_lower=int(packets(hitter.packets_lower)[0]),
        packets_upper=round(packets(hitter.packets_upper)[1]),
        bytes_lower=int(octets(hitter.bytes_lower)[0]),
        bytes_upper=round(octets(hitter.bytes_upper)[1]),
    )


def heavy_hitters(results: Sequence[TaskResults], context: Context) -> pa.Table | None:
    """Rows of ``heavy_hitters_log``, or None when there are none."""
    rows = []
    for group in results:
        for result in group.results:
            if isinstance(result.sketch, Frequency):
                rows += _hitter_rows(group, result, result.sketch, context)
    return _columns(rows, "heavy_hitters_log") if rows else None


def _hitter_rows(
    group: TaskResults, result: WindowResult, sketch: Frequency, context: Context
) -> list[dict[str, Any]]:
    window = _window(group, result, context)
    common = {
        "total_packets": sketch.total_packets,
        "total_bytes": sketch.total_bytes,
        "revision": result.revision,
    }
    if result.revision == 0:
        late = Hitter((), sketch.total_packets, 0, 0, sketch.total_bytes, 0, 0)
        return [
            _hitter(window, common, ranking, 0, {}, late, 0, 1.0, late.packets, late.bytes)
            for ranking in _RANKINGS
        ]
    top = sketch.top(group.task.top, group.task.share)
    return [
        _hitter(
            window,
            common,
            name,
            rank,
            group.task.key.read(hitter.key, context.network_names),
            _widened(result, hitter),
            ranking.error,
            min(top.confidence, _confidence(result)),
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
    return _columns(rows, "spreaders_log") if rows else None


def _spreader_rows(
    group: TaskResults, result: WindowResult, sketch: SuperSpread, context: Context
) -> list[dict[str, Any]]:
    top = sketch.top(group.task.top)
    common = {
        **_window(group, result, context),
        "confidence": min(top.confidence, _confidence(result)),
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
                "upper": _most_different(result, spreader.upper),
            }
        )
    return rows


def _text(key: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in key.items())


def sketches(results: Sequence[TaskResults], context: Context) -> pa.Table | None:
    """Rows of ``sketches_log``: CPC images of horizons of a minute and more."""
    rows = [
        {
            **_window(group, result, context),
            "kind": "cpc",
            "version": 1,
            "sketch": result.sketch.to_bytes(),
            "revision": result.revision,
        }
        for group in results
        for result in group.results
        if isinstance(result.sketch, Distinct)
        and result.horizon_ns >= _MIN_STORED_NS
        and result.revision
    ]
    return _columns(rows, "sketches_log") if rows else None
