"""Lists of alerts and mutes: a table for people, rows for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from flows.cli.text import amount, iso, number, safe, time_text

if TYPE_CHECKING:
    from flows.cli.why_not import Distance
    from flows.storage.alerts import Row, StoredMute

SHORT_ID: Final = 8
"""Digits of an id in a table; enough to name an alert."""

STYLES: Final = {
    "critical": "bold red",
    "high": "red",
    "medium": "yellow",
    "low": "cyan",
    "info": "dim",
}
_MS: Final = 10**6
_TIMES: Final = ("window_start", "first_seen", "last_seen", "resolved_at")


def show(rows: Sequence[Row], total: int, form: str, nothing: str) -> None:
    """Print alerts.

    Args:
        rows: as ``alerts.listed`` gives them.
        total: how many there are, listed or not.
        form: ``table``, ``json``, ``jsonl`` or ``csv``.
        nothing: what a table says when there are none.
    """
    if form == "table":
        _table(rows, total, nothing)
    else:
        write([_object(row) for row in rows], form)


def write(objects: Sequence[dict[str, Any]], form: str) -> None:
    """Print objects with equal keys for programs, as ``json``, ``jsonl`` or ``csv``."""
    if form == "json":
        print(json.dumps(objects, indent=2))
    elif form == "jsonl":
        for each in objects:
            print(json.dumps(each))
    elif objects:
        writer = csv.DictWriter(sys.stdout, objects[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(objects)


def measured(row: Row) -> str:
    """A measurement with its bounds: ``214 (206-222)``; alone where it is certain."""
    value, lower, upper = (number(row[name], 3) for name in ("value", "lower", "upper"))
    return value if lower == upper == value else f"{value} ({lower}-{upper})"


def mute_lines(mutes: Sequence[StoredMute]) -> Iterator[str]:
    """Mutes for people."""
    for mute in mutes:
        conditions = [f"{name}={','.join(values)}" for name, values in mute.conditions.items()]
        what = [f"rule {mute.rule}" if mute.rule else "all rules", *conditions]
        if mute.tenant:
            what.append(f"tenant {mute.tenant}")
        begin = f"from {time_text(mute.since_ms * _MS)} " if mute.since_ms else ""
        yield f"{mute.mute_id}  {begin}{_until(mute)}  {safe(' '.join(what))}"
        yield f"    by {safe(mute.made_by)}{f': {safe(mute.reason)}' if mute.reason else ''}"


def mute_object(mute: StoredMute) -> dict[str, Any]:
    """A mute for programs."""
    return {
        "mute_id": mute.mute_id,
        "tenant": mute.tenant,
        "rule": mute.rule,
        "conditions": {name: list(values) for name, values in mute.conditions.items()},
        "since": iso(mute.since_ms * _MS),
        "until": None if _forever(mute) else iso(mute.until_ms * _MS),
        "made_by": mute.made_by,
        "reason": mute.reason,
    }


def show_distances(found: Sequence[Distance], form: str) -> None:
    """Print how far an address is from rules; those that are nearest first."""
    found = sorted(found, key=lambda each: (-(each.percent or 0), each.value is None, each.rule))
    if form != "table":
        names = ("rule", "entity", "value", "unit", "threshold", "percent", "window", "why")
        write([{name: getattr(each, name) for name in names} for each in found], form)
        return
    for each in found:
        at = amount(each.value, safe(each.unit)) if each.value is not None else "-"
        if each.threshold is not None and each.percent is not None:
            at = f"{at}, {_percent(each.percent)} % of {number(each.threshold)}"
        print(f"{safe(each.rule):<16}{at}")
        if each.value:
            print(f"{'':<16}{safe(each.entity)}, window {each.window}")
        print(f"{'':<16}{safe(each.why)}")


def _percent(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _until(mute: StoredMute) -> str:
    return "for ever" if _forever(mute) else f"until {time_text(mute.until_ms * _MS)}"


def _forever(mute: StoredMute) -> bool:
    from flows.storage.alerts import FOREVER_MS

    return mute.until_ms >= FOREVER_MS


def _table(rows: Sequence[Row], total: int, nothing: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from flows.summary import make_console

    console = make_console()
    if not rows:
        console.print(nothing)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="underline")
    for name in ("id", "severity", "status", "rule", "entity", "value", "since", "last"):
        fits = name in ("rule", "entity")
        table.add_column(name, overflow="fold" if fits else "ellipsis", no_wrap=not fits)
    for row in rows:
        since, last = time_text(row["first_seen_ns"]), time_text(row["last_seen_ns"])
        table.add_row(
            row["alert_id"][:SHORT_ID],
            Text(row["severity"], STYLES[row["severity"]]),
            row["status"],
            Text(safe(row["rule"])),
            Text(safe(_entity(row))),
            measured(row),
            since[:16],
            last[11:] if last[:10] == since[:10] else last[:10],
        )
    console.print(table)
    if total > len(rows):
        console.print(f"… and {total - len(rows):,} more; -n {total} lists them all")


def _entity(row: Row) -> str:
    """An entity in few characters: ``10.0.2.15 → 10.0.3.16 :443``."""
    if row["member_count"]:
        return str(row["entity_text"])
    fields = dict(row["entity"])
    parts = [fields.pop("src_addr", "")]
    if "src_port" in fields:
        parts.append(f":{fields.pop('src_port')}")
    parts.append("→" if parts != [""] or fields.keys() & {"dst_addr", "dst_port"} else "")
    parts.append(fields.pop("dst_addr", ""))
    if "dst_port" in fields:
        parts.append(f":{fields.pop('dst_port')}")
    return " ".join(filter(None, (*parts, *(f"{name}={text}" for name, text in fields.items()))))


def _object(row: Row) -> dict[str, Any]:
    """A row for programs: times in ISO 8601."""
    found = {name: value for name, value in row.items() if name != "entity" and name[-3:] != "_ns"}
    return found | {name: iso(row[f"{name}_ns"]) for name in _TIMES}
