"""Answers out of stored sketches: figures with bounds, and what is missing from them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import click

from flows import settings
from flows.cli import answer, options, query_run
from flows.cli.answer import Answer
from flows.cli.text import iso, number, safe, time_text
from flows.errors import UsageError
from flows.sketches import Estimate
from flows.sketches.at_rest import only, shared
from flows.sketches.distinct import Distinct
from flows.sketches.frequency import Frequency
from flows.sketches.superspread import SuperSpread
from flows.storage.reader import Reader
from flows.storage.saved_sql import condition_of
from flows.storage.selection import Gap
from flows.storage.stored_sketches import KIND_OF, Gathered, Selection, check_seeds, gather, stored
from flows.windows import sampled
from flows.windows.fields import FieldList
from flows.windows.networks import Networks

_MINUTE_MS: Final = 60_000
_S_NS: Final = 10**9
_FEW: Final = 5


def distinct(given: Mapping[str, Any]) -> None:
    """How many different elements, perhaps shared with or lacking in a second selection."""
    if given["both"] is not None and given["without"] is not None:
        msg = "--and and --not both name a second selection; give one"
        raise click.UsageError(msg)
    first = _selection(given)
    second = given["both"] if given["both"] is not None else given["without"]
    with options.open_store() as reader:
        parts = [_counted(reader, given["tasks"], first)]
        if second is not None:
            other = replace(first, where=condition_of(second))
            parts.append(_counted(reader, given["tasks"], other))
        nothing = _nothing(reader, "distinct", given["tasks"], parts)
    counts = [part.sketch or Distinct() for part in parts]
    check_seeds(set().union(*(part.seed_ids for part in parts)))
    a, b = counts[0], counts[-1]
    assert isinstance(a, Distinct)
    assert isinstance(b, Distinct)
    if second is None:
        found = a.estimate()
    else:
        found = shared(a, b) if given["both"] is not None else only(a, b)
    names = ("counted", "estimate", "lower", "upper", "confidence")
    fields = dict.fromkeys(name for part in parts for name in part.fields)
    values = (" ".join(fields or given["tasks"]), *_sampled_too(found, parts))
    rows = [] if nothing else [values]
    _show(given, names, ("String", *("Float64",) * 4), rows, parts, nothing)


def top(given: Mapping[str, Any]) -> None:
    """The heaviest keys."""
    with options.open_store() as reader:
        found = gather(reader, KIND_OF["top"], given["task"], _selection(given))
        nothing = _nothing(reader, "top", [given["task"]], [found])
    rows: list[Sequence[Any]] = []
    notes = []
    if isinstance(found.sketch, Frequency):
        listed = found.sketch.top(given["rows"], share=1.0)
        ranking = listed.by_bytes if given["by"] == "bytes" else listed.by_packets
        confidence = min(listed.confidence, sampled.confidence(found.sampling))
        for rank, hitter in enumerate(ranking.rows[: given["rows"]], start=1):
            wide = sampled.widened(hitter, found.sampling)
            rows.append((rank, _key(found, hitter.key), *wide[1:], confidence))
        if ranking.error:
            notes.append(f"no other key has more than {ranking.error:,} {given['by']}")
    metrics = [f"{metric}{end}" for metric in ("packets", "bytes") for end in _ENDS]
    names = ("rank", "key", *metrics, "confidence")
    _show(
        given,
        names,
        ("UInt16", "String", *("UInt64",) * 6, "Float64"),
        rows,
        [found],
        nothing,
        notes,
    )


def spread(given: Mapping[str, Any]) -> None:
    """Keys with the most different elements."""
    with options.open_store() as reader:
        found = gather(reader, KIND_OF["spread"], given["task"], _selection(given))
        nothing = _nothing(reader, "spread", [given["task"]], [found])
    rows: list[Sequence[Any]] = []
    notes = []
    if isinstance(found.sketch, SuperSpread):
        listed = found.sketch.top(given["rows"])
        confidence = min(listed.confidence, sampled.confidence(found.sampling))
        for rank, row in enumerate(listed.rows, start=1):
            upper = sampled.most_different(row.upper, found.sampling, found.packets)
            rows.append((rank, _key(found, row.key), row.estimate, row.lower, upper, confidence))
        if listed.recall_peers > 1:
            peers = number(listed.recall_peers)
            notes.append(f"keys with fewer than {peers} different ones may not have been found")
    names = ("rank", "key", "estimate", "lower", "upper", "confidence")
    _show(given, names, ("UInt16", "String", *("Float64",) * 4), rows, [found], nothing, notes)


_ENDS: Final = ("", "_lower", "_upper")


def _selection(given: Mapping[str, Any]) -> Selection:
    span = query_run.span_of(given)
    if given["ago_ns"] is not None and span.start_ms is not None:
        span = replace(span, start_ms=span.start_ms - span.start_ms % _MINUTE_MS)
    return Selection(span, condition_of(given["where"]), given["tenant"])


def _nothing(reader: Reader, kind: str, tasks: Sequence[str], parts: Sequence[Gathered]) -> str:
    """What there is, where nothing of it was asked for; empty where something was."""
    if any(part.windows for part in parts):
        return ""
    there = stored(reader, KIND_OF[kind])
    lines = ["no rows"]
    for task in tasks:
        tenants, span = there[task]
        start, end = (time_text((ms or 0) * 10**6) for ms in (span.start_ms, span.end_ms))
        named = f"tenant{'s' * (len(tenants) != 1)} {', '.join(map(safe, tenants))}"
        lines.append(f"sketches of {task} are from {start} to {end} UTC, of the {named}")
    others = [task for task in there if task not in tasks]
    if others:
        lines.append(f"other tasks are {', '.join(others)}")
    return "; ".join(lines)


def _counted(reader: Reader, tasks: Sequence[str], selection: Selection) -> Gathered:
    """The union of several tasks over one selection."""
    parts = [gather(reader, KIND_OF["distinct"], task, selection) for task in tasks]
    kinds = {tuple(name.partition("_")[2] for name in part.fields) for part in parts if part.fields}
    if len(kinds) > 1:
        msg = f"--task {' --task '.join(tasks)}: they count different things"
        raise UsageError(msg)
    check_seeds(set().union(*(part.seed_ids for part in parts)))
    images = [part.sketch.to_bytes() for part in parts if part.sketch]
    whole = max(parts, key=lambda part: len(part.windows))
    for part in parts:
        if part is not whole:
            whole.gaps = sorted({*whole.gaps, *part.gaps})
            whole.incomplete = max(whole.incomplete, part.incomplete)
            whole.sampling = whole.sampling.merge(part.sampling)
            whole.packets += part.packets
            whole.seed_ids |= part.seed_ids
    whole.fields = tuple(dict.fromkeys(name for part in parts for name in part.fields))
    whole.sketch = Distinct.union(images) if images else None
    return whole


def _sampled_too(found: Estimate, parts: Sequence[Gathered]) -> tuple[float, ...]:
    """Estimate, bounds and confidence; what sampling has hidden may be as many as packets.

    It may also be in the second selection, so then nothing is known to lack there.
    """
    first = parts[0]
    lower, upper, confidence = found.lower, found.upper, found.confidence
    for part in parts:
        if part.sampling.rate > 1:
            upper = sampled.most_different(upper, part.sampling, max(first.packets, 1))
            lower = lower if len(parts) == 1 else 0.0
            confidence = min(confidence, sampled.confidence(part.sampling))
    return found.value, lower, upper, confidence


def _key(found: Gathered, words: Sequence[int]) -> str:
    if not found.fields:
        return " ".join(f"{word:x}" for word in words)
    names = Networks(settings.load().networks).names
    named = [*names, *map(str, range(len(names), 1 << 16))]
    return " ".join(f"{k}={v}" for k, v in FieldList(found.fields).read(words, named).items())


def _show(
    given: Mapping[str, Any],
    names: Sequence[str],
    types: Sequence[str],
    rows: Sequence[Sequence[Any]],
    parts: Sequence[Gathered],
    nothing: str,
    notes: Sequence[str] = (),
) -> None:
    """Print the rows, each with what it is made of; what is missing goes to stderr."""
    windows = [window for part in parts for window in part.windows]
    gaps = sorted({gap for part in parts for gap in part.gaps})
    incomplete = sum(part.incomplete for part in parts)
    starts = [window.start_s for window in windows]
    ends = [window.start_s + window.horizon_s for window in windows]
    made_of = (
        iso(min(starts, default=0) * _S_NS),
        iso(max(ends, default=0) * _S_NS),
        len(windows),
        incomplete,
        " ".join(map(_interval, gaps)),
    )
    if given["form"] == "table":
        answer.show(Answer(names, types, rows), "table", nothing)
        if windows:
            few = f"{len(windows):,} window{'s' * (len(windows) != 1)}"
            notes = [f"{few} from {made_of[0]} to {made_of[1]}", *notes]
    else:
        more = ("start", "end", "windows", "incomplete_windows", "missing")
        kinds = ("String", "String", "UInt32", "UInt32", "String")
        full = [(*row, *made_of) for row in rows]
        answer.show(Answer((*names, *more), (*types, *kinds), full), given["form"], "")
    for line in [*notes, *_what_is_missing(gaps, incomplete)]:
        print(line, file=sys.stderr)


def _what_is_missing(gaps: Sequence[Gap], incomplete: int) -> list[str]:
    lines = []
    if incomplete:
        lines.append(f"incomplete: {incomplete:,} of the windows were not seen whole")
    if gaps:
        total_s = sum(gap.end_s - gap.start_s for gap in gaps)
        shown = ", ".join(map(_interval, gaps[:_FEW]))
        rest = f" and {len(gaps) - _FEW:,} more" if len(gaps) > _FEW else ""
        lines.append(
            f"missing: {total_s / 60:,.0f} minutes with traffic but no sketch, or only partly in "
            f"the span: {shown}{rest}"
        )
    return lines


def _interval(gap: Gap) -> str:
    """Tenant and ISO 8601 interval."""
    start, end = ((iso(at * _S_NS) or "").replace(".000+00:00", "Z") for at in gap[1:])
    return f"{gap.tenant}:{start}/{end}"
