"""Finds the sketches of a selection in the store, and merges them a few megabytes at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa

from flows.errors import SketchError, UsageError
from flows.sketches.at_rest import Sketch, check_version, merge
from flows.storage.embedded import quote
from flows.storage.resolution import Span
from flows.storage.selection import Cover, Gap, Window, cover
from flows.windows.sampling import UNSAMPLED, Sampling

if TYPE_CHECKING:
    from flows.storage.reader import Reader

KIND_OF: Final = {"distinct": "cpc", "top": "frequency", "spread": "superspread"}

_BATCH_BYTES: Final = 16 << 20
_MOST_WINDOWS: Final = 4096
_GROWTH: Final = 8


@dataclass(frozen=True)
class Selection:
    """What somebody asks about.

    Attributes:
        span: of time.
        where: a condition in SQL on ``tenant`` and ``window_start``; empty for none.
        tenant: whose traffic; empty for everybody's.
    """

    span: Span
    where: str = ""
    tenant: str = ""


@dataclass
class Gathered:
    """Merged sketches of a selection.

    Attributes:
        sketch: the merged one; None when nothing is stored.
        windows: that were merged, those of late packets not counted apart.
        gaps: what of the selection has traffic but no sketch.
        incomplete: windows that weren't seen whole.
        fields: of the key, or of the elements.
        seed_ids: marks of the hash seeds, those known.
        packets: that the sketch stands for.
        sampling: the coarsest of all.
    """

    sketch: Sketch | None = None
    windows: list[Window] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    incomplete: int = 0
    fields: tuple[str, ...] = ()
    seed_ids: set[int] = field(default_factory=set)
    packets: int = 0
    sampling: Sampling = UNSAMPLED


def gather(reader: Reader, kind: str, task: str, selection: Selection) -> Gathered:
    """Merge the sketches of one task over a selection.

    Raises:
        UsageError: no such sketches are stored at all.
        StoreError: the store refused the condition, or failed.
        SketchError: the sketches were made with other settings each, or are of another version.
    """
    chosen = _cover(reader, kind, task, selection, _horizons(reader, kind, task))
    found = Gathered(windows=chosen.windows, gaps=chosen.gaps)
    found.incomplete = sum(not window.complete for window in chosen.windows)
    if chosen.windows:
        found.sketch = merge(kind, _images(reader, kind, task, found))
    return found


class Stored(NamedTuple):
    """Of which time and tenants there are sketches of a task."""

    tenants: list[str]
    span: Span


def stored(reader: Reader, kind: str) -> dict[str, Stored]:
    """What there is of a kind, by task, in alphabetical order."""
    rows = reader.query(
        "SELECT task, arraySort(groupUniqArray(tenant)) AS tenants, "  # noqa: S608
        "min(toUnixTimestamp64Milli(window_start)) AS start_ms, "
        "max(toUnixTimestamp64Milli(window_start) + horizon * 1000) AS end_ms "
        f"FROM sketches_log WHERE kind = {quote(kind)} GROUP BY task ORDER BY task"
    ).to_pylist()
    return {
        str(row["task"]): Stored(
            [*map(str, row["tenants"])], Span(int(row["start_ms"]), int(row["end_ms"]))
        )
        for row in rows
    }


def _horizons(reader: Reader, kind: str, task: str) -> list[int]:
    """Lengths of the stored windows, s, ascending."""
    rows = reader.query(
        "SELECT task, horizon FROM sketches_log "  # noqa: S608
        f"WHERE kind = {quote(kind)} GROUP BY task, horizon ORDER BY task, horizon"
    ).to_pylist()
    horizons = [row["horizon"] for row in rows if row["task"] == task]
    if not horizons:
        tasks = sorted({str(row["task"]) for row in rows})
        there = f"there are those of {', '.join(tasks)}" if tasks else "none are stored yet"
        msg = f"--task {task}: no sketches of this task are stored that can answer; {there}"
        raise UsageError(msg)
    return horizons


def _cover(
    reader: Reader, kind: str, task: str, selection: Selection, horizons: Sequence[int]
) -> Cover:
    longest_ms = horizons[-1] * 1000
    start, end = selection.span.start_ms, selection.span.end_ms
    near = Span(
        None if start is None else max(start - longest_ms, 0),
        None if end is None else end + longest_ms,
    )
    conditions = [*near.conditions()]
    if selection.tenant:
        conditions.append(f"tenant = {quote(selection.tenant)}")
    span = " AND ".join(conditions) or "true"
    of_task = f"task = {quote(task)} AND kind = {quote(kind)} AND {span}"
    cells, cut = _cells(reader, selection, span, of_task, horizons[0] * 1000)
    stored = reader.query(
        "SELECT tenant, horizon, toUnixTimestamp64Milli(window_start) AS start_ms, "  # noqa: S608
        "max(revision) > 0 AND argMax(complete, (revision, updated_at)) AS whole "
        f"FROM sketches_log WHERE {of_task} GROUP BY tenant, horizon, window_start"
    )
    windows = [
        Window(str(row["tenant"]), row["start_ms"] // 1000, row["horizon"], bool(row["whole"]))
        for row in stored.to_pylist()
    ]
    found = cover(cells, windows, horizons[0])
    return Cover(found.windows, sorted(found.gaps + cut))


def _cells(
    reader: Reader, selection: Selection, span: str, of_task: str, cell_ms: int
) -> tuple[dict[str, dict[int, bool]], list[Gap]]:
    """Cells with traffic near the span, whether they are selected, and those cut by its ends."""
    start, end = selection.span.start_ms, selection.span.end_ms
    cell = (
        f"fromUnixTimestamp64Milli(intDiv(toUnixTimestamp64Milli(window_start), {cell_ms}) "
        f"* {cell_ms}, 'UTC')"
    )
    # A window is traffic too: the sums may have been deleted since.
    rows = reader.query(
        "SELECT tenant, toUnixTimestamp64Milli(window_start) AS start_ms, "  # noqa: S608
        f"toBool({selection.where or 'true'}) AS selected "
        f"FROM (SELECT tenant, {cell} AS window_start FROM totals WHERE {span} "
        f"UNION DISTINCT SELECT tenant, window_start FROM sketches_log "
        f"WHERE {of_task} AND horizon = {cell_ms // 1000})"
    )
    cells: dict[str, dict[int, bool]] = {}
    cut: list[Gap] = []
    for row in rows.to_pylist():
        at_ms, tenant = row["start_ms"], str(row["tenant"])
        after = start is None or at_ms >= start
        before = end is None or at_ms + cell_ms <= end
        selected = row["selected"]
        cells.setdefault(tenant, {})[at_ms // 1000] = selected and after and before
        begins = start is None or at_ms + cell_ms > start
        ends = end is None or at_ms < end
        if selected and begins and ends and not (after and before):
            cut.append(Gap(tenant, at_ms // 1000, (at_ms + cell_ms) // 1000))
    return cells, cut


def _images(reader: Reader, kind: str, task: str, found: Gathered) -> Iterator[bytes]:
    """Bytes of the windows' sketches; what else they say goes into ``found``."""
    for (tenant, horizon), group in groupby(
        sorted(found.windows, key=lambda w: (w.tenant, w.horizon_s, w.start_s)),
        key=lambda w: (w.tenant, w.horizon_s),
    ):
        starts = [window.start_s * 1000 for window in group]
        at, count = 0, 1
        while at < len(starts):
            part = starts[at : at + count]
            largest = 1
            for row in _rows(reader, kind, task, tenant, horizon, part):
                _note(found, task, kind, row)
                largest = max(largest, len(row["sketch"]))
                yield row["sketch"]
            at += len(part)
            count = min(count * _GROWTH, max(_BATCH_BYTES // largest, 1), _MOST_WINDOWS)


def _rows(
    reader: Reader, kind: str, task: str, tenant: str, horizon: int, starts_ms: Sequence[int]
) -> Iterator[dict[str, Any]]:
    span = " AND ".join(Span(starts_ms[0], starts_ms[-1] + 1).conditions())
    listed = ", ".join(map(str, starts_ms))
    table = reader.query(
        "SELECT version, sketch, fields, seed_id, packets, sampling_rate, sampling_clustered "  # noqa: S608
        f"FROM sketches WHERE tenant = {quote(tenant)} AND task = {quote(task)} "
        f"AND kind = {quote(kind)} AND horizon = {horizon} AND {span} "
        f"AND toUnixTimestamp64Milli(window_start) IN ({listed})"
    )
    at = table.schema.get_field_index("sketch")
    # The engine says text; these are bytes.
    sketches = [chunk.view(pa.binary()) for chunk in table.column(at).chunks]
    rest = table.drop_columns(["sketch"]).to_pylist()
    images = (value.as_py() for chunk in sketches for value in chunk)
    for row, image in zip(rest, images, strict=True):
        yield {**row, "sketch": image}


def _note(found: Gathered, task: str, kind: str, row: dict[str, Any]) -> None:
    check_version(kind, row["version"])
    fields = tuple(map(str, row["fields"]))
    if found.fields and fields and found.fields != fields:
        msg = (
            f"task {task} had the fields {', '.join(found.fields)} and later "
            f"{', '.join(fields)}: ask for a span in which it had one of them"
        )
        raise SketchError(msg)
    found.fields = found.fields or fields
    found.seed_ids |= {row["seed_id"]} - {0}
    check_seeds(found.seed_ids)
    found.packets += row["packets"]
    found.sampling = found.sampling.merge(Sampling(row["sampling_rate"], row["sampling_clustered"]))


def check_seeds(seed_ids: set[int]) -> None:
    """Refuse sketches that were made under several hash seeds.

    Raises:
        SketchError: there are several.
    """
    if len(seed_ids) > 1:
        msg = "the hash seed was changed within the span: ask for a span on one side of it"
        raise SketchError(msg)
