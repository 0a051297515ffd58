"""One alert with all that is known of it, as lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from flows.cli.text import iso, number, safe, time_text

if TYPE_CHECKING:
    from flows.storage.alerts import Row, StoredAction

_MS: Final = 10**6
_LONG: Final = 4000
_MEMBERS: Final = 20
_TOLD: Final = ("assessment", "root_cause", "next_checks", "mitigation")


def as_object(
    row: Row, life: Sequence[Row], actions: Sequence[StoredAction], deliveries: Sequence[Row]
) -> dict[str, Any]:
    """An alert for programs: times in ISO 8601."""
    from dataclasses import asdict

    told = [asdict(action) for action in actions]
    return _with_times(row) | {
        "revisions": [_with_times(each) for each in life],
        "actions": [_with_times(each) for each in told],
        "deliveries": [_with_times(each) for each in deliveries],
    }


def _with_times(row: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name.endswith("_ns"):
            found[name[:-3]] = iso(value)
        elif name.endswith("_ms"):
            found[name[:-3]] = iso(value * _MS)
        else:
            found[name] = value
    return found


def lines(
    row: Row, life: Sequence[Row], actions: Sequence[StoredAction], deliveries: Sequence[Row]
) -> Iterator[str]:
    """An alert for people; text off the wire is made harmless."""
    short = row["alert_id"][:8]
    yield safe(row["title"])
    yield _field("alert", f"{row['alert_id']} (revision {row['revision']})")
    state = f"{row['severity']}, {row['status']}"
    yield _field(
        "state", f"{state}, muted by {safe(row['muted_by'])}" if row["muted_by"] else state
    )
    detector = "" if row["detector"] == row["rule"] else f" (detector {safe(row['detector'])})"
    yield _field("rule", safe(row["rule"]) + detector)
    yield _field("entity", safe(row["entity_text"]))
    whose = row["tenant"] + (f", probe {row['probe']}" if row["probe"] else "")
    yield _field("tenant", safe(whose))
    if row["attack_technique"]:
        yield _field("technique", f"{safe(row['attack_technique'])} (MITRE ATT&CK)")
    yield from _measurement(row)
    if row["summary"]:
        yield ""
        yield safe(row["summary"], _LONG)
    yield from _life(row, life)
    if row["members"]:
        yield ""
        yield f"members, the largest of {row['member_count']:,}:"
        yield from (f"  {safe(member)}" for member in row["members"][:_MEMBERS])
    yield from _rows("measurements, the newest first:", row["evidence"])
    yield from _rows("largest flows behind it:", row["evidence_rows"])
    yield from _explained(row)
    if row["evidence_sql"]:
        yield ""
        yield "this statement says the measurement exactly:"
        yield safe(row["evidence_sql"], len(row["evidence_sql"]), keep="\n")
    yield from _people(actions, deliveries)
    yield ""
    yield "what to do next:"
    if row["evidence_sql"]:
        yield f"  netspectra alerts sql {short} --run"
    yield f"  netspectra extract {short} -o {short}.pcapng"
    yield f"  netspectra alerts ack {short}"
    yield f"  netspectra alerts mute {short} --for 2h --reason TEXT"
    yield f"  netspectra alerts close {short} --verdict true_positive|false_positive|benign"


def _field(name: str, text: str) -> str:
    return f"{name:<12}{text}"


def _measurement(row: Row) -> Iterator[str]:
    unit = safe(row["unit"])
    yield _field("metric", f"{safe(row['metric'])}, over {row['horizon_s']} s")
    value = f"{number(row['value'])} {unit}"
    if row["lower"] != row["upper"]:
        sure = f"{row['confidence']:.4g}"
        value += f", between {number(row['lower'])} and {number(row['upper'])} ({sure} sure)"
    yield _field("value", value)
    yield _field("threshold", f"{number(row['threshold'])} {unit}")
    if row["expected"]:
        yield _field("usual", safe(row["expected"]))


def _life(row: Row, life: Sequence[Row]) -> Iterator[str]:
    yield ""
    yield _field("first seen", f"{time_text(row['first_seen_ns'])} UTC")
    yield _field("last seen", f"{time_text(row['last_seen_ns'])} UTC")
    if row["resolved_at_ns"]:
        yield _field("resolved", f"{time_text(row['resolved_at_ns'])} UTC")
    updates = [each for each in life if each["event"] == "updated"]
    for each in life:
        if each["event"] == "updated" and each is not updates[-1]:
            continue
        many = f" ({len(updates)} times)" if each["event"] == "updated" and len(updates) > 1 else ""
        written = time_text(each["updated_at_ms"] * _MS)
        value = f"{number(each['value'])} at {time_text(each['last_seen_ns'])}"
        yield _field("", f"{each['event']}{many}: {value}, written {written}")


def _rows(heading: str, rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Rows of text as a table with as many columns as any row has."""
    if not rows:
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([safe(row.get(name, ""), 60) for name in names] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(names))]
    yield ""
    yield heading
    for line in cells:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield f"  {'  '.join(padded)}".rstrip()


def _explained(row: Row) -> Iterator[str]:
    told = [name for name in _TOLD if row[name]]
    if not told:
        return
    yield ""
    yield f"explained by {_author(row)}:"
    for name in told:
        yield f"  {name.replace('_', ' ')}:"
        yield from (f"    {safe(each, _LONG)}" for each in row[name].splitlines())
    yield from _rows("rows that it cites:", row["cited"])


def _author(row: Row) -> str:
    """Who explains an alert, and how far the language model is."""
    status, why = row["enrichment_status"], safe(row["enrichment_reason"])
    author = "a template" if row["model"] == "template" else f"the model {safe(row['model'])}"
    waits = {"none": "", "done": "", "pending": "; the model is being asked"}
    return author + waits.get(status, f"; the model: {status}{', ' + why if why else ''}")


def _people(actions: Sequence[StoredAction], deliveries: Sequence[Row]) -> Iterator[str]:
    if actions:
        yield ""
    for action in actions:
        what = {"ack": "acknowledged", "close": f"closed as {action.verdict}"}[action.action]
        comment = f": {safe(action.comment)}" if action.comment else ""
        yield f"{time_text(action.done_at_ms * _MS)}  {what} by {safe(action.done_by)}{comment}"
    if deliveries:
        yield ""
        yield "deliveries:"
    for each in deliveries:
        tries = f"{each['tries']} tries" if each["tries"] != 1 else "1 try"
        detail = f": {safe(each['detail'])}" if each["detail"] else ""
        what = " with its explanation" if each["explained"] else ""
        yield (
            f"  revision {each['revision']}{what} to {safe(each['notifier'])}: {each['state']} at "
            f"{time_text(each['done_at_ms'] * _MS)} after {tries}{detail}"
        )
