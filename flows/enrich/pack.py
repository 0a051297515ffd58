"""What the model is given: rows with names, typed, short, and made harmless.

A row is what a claim can cite. Texts in it may have been written by an attacker (a name, a
title), so control characters go, lengths are limited, and JSON quotes the rest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flows.detect.alert import Alert
from flows.enrich.pseudonyms import Pseudonyms
from flows.enrich.situation import Situation
from flows.notify.text import line

MAX_LISTED: Final = 8
"""Alerts of a situation that have rows of their own; the others are counted."""

MAX_ROWS: Final = 60
MAX_CELL_CHARS: Final = 160
MAX_FIELDS: Final = 24

_MEASUREMENTS: Final = 2
_MEMBERS: Final = 5
_SPAN_NS: Final = 10**9

Facts = Mapping[str, Any]
"""Fields of a row that has no name yet; ``kind`` says what it is."""


@dataclass(frozen=True)
class Row:
    """One row of evidence: its name and its fields, as text."""

    name: str
    fields: Mapping[str, str]

    def as_fields(self) -> dict[str, str]:
        """Its name among its fields."""
        return {"row": self.name, **self.fields}


@dataclass(frozen=True)
class Pack:
    """All rows of one question.

    Attributes:
        rows: as they are here.
        listed: alerts that have a row of their own, as ``A1``, ``A2`` …
        sent: the same rows as they leave, with pseudonyms.
        legend: what may be known of replaced hosts.
    """

    rows: tuple[Row, ...]
    listed: Mapping[str, Alert]
    sent: tuple[Row, ...]
    legend: tuple[Mapping[str, str], ...]


def pack(situation: Situation, context: Iterable[Facts], pseudonyms: Pseudonyms) -> Pack:
    """Put rows together.

    Args:
        situation: what is asked about.
        context: more rows, out of the store.
        pseudonyms: of this request.
    """
    listed = {f"A{n}": alert for n, alert in enumerate(situation.alerts[:MAX_LISTED], start=1)}
    begin_ns = min(alert.first_seen_ns for alert in situation.alerts)
    facts: list[Facts] = []
    for name, alert in listed.items():
        facts += _of_alert(name, alert, begin_ns)
    if len(situation.alerts) > len(listed):
        facts += _of_all(situation.alerts)
    facts += context
    rows = tuple(Row(f"R{n}", clean(fields)) for n, fields in enumerate(facts[:MAX_ROWS], start=1))
    sent = tuple(
        Row(row.name, {name: pseudonyms.hide(text) for name, text in row.fields.items()})
        for row in rows
    )
    return Pack(rows, listed, sent, tuple(pseudonyms.legend()))


def as_lines(rows: Iterable[Mapping[str, str]]) -> str:
    """One JSON object a line, in which no character could end the fence around it."""
    text = "\n".join(
        json.dumps(dict(row), ensure_ascii=False, separators=(",", ":")) for row in rows
    )
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def _of_alert(name: str, alert: Alert, begin_ns: int) -> list[Facts]:
    found: list[Facts] = [
        {
            "kind": "alert",
            "alert": name,
            "rule": alert.rule,
            "detector": alert.detector,
            "title": alert.title,
            "severity": alert.severity.name,
            "technique": alert.attack_technique,
            **alert.entity,
            "metric": alert.metric,
            "unit": alert.unit,
            "value": alert.value,
            "lower": alert.lower,
            "upper": alert.upper,
            "confidence": alert.confidence,
            "threshold": alert.threshold,
            "expected": alert.expected,
            "window_s": alert.horizon_s,
            "began_after_s": (alert.first_seen_ns - begin_ns) // _SPAN_NS,
            "lasted_s": (alert.last_seen_ns - alert.first_seen_ns) // _SPAN_NS,
            "members": alert.member_count or "",
            "probe": alert.probe,
        }
    ]
    # Times of day would make equal situations differ, and say nothing here.
    for row in alert.evidence[:_MEASUREMENTS]:
        kept = {k: v for k, v in row.items() if k not in ("window_start", "window_end")}
        found.append({"kind": "measurement", "alert": name, **kept})
    found += [
        {"kind": "member", "alert": name, "entity": member} for member in alert.members[:_MEMBERS]
    ]
    return found


def _of_all(alerts: Sequence[Alert]) -> list[Facts]:
    """What so many alerts have in common, counted."""
    found: list[Facts] = [{"kind": "all alerts", "alerts": len(alerts)}]
    severities = Counter(alert.severity.name for alert in alerts)
    for rule, count in Counter(alert.rule for alert in alerts).most_common(10):
        of_rule = [alert for alert in alerts if alert.rule == rule]
        found.append(
            {
                "kind": "alerts of a rule",
                "rule": rule,
                "alerts": count,
                "sources": len({a.src_addr for a in of_rule} - {""}),
                "targets": len({a.dst_addr for a in of_rule} - {""}),
                "ports": len({a.dst_port for a in of_rule} - {0}),
                "largest_value": max(a.value for a in of_rule),
                "smallest_value": min(a.value for a in of_rule),
                "unit": of_rule[0].unit,
            }
        )
    found.append({"kind": "alerts by severity", **severities})
    for field in ("src_addr", "dst_addr", "dst_port"):
        common = Counter(str(getattr(alert, field)) for alert in alerts)
        found += [
            {"kind": "shared by alerts", field: value, "alerts": count}
            for value, count in common.most_common(3)
            if value not in ("", "0") and count > 1
        ]
    return found


def clean(fields: Facts) -> dict[str, str]:
    """Fields as text: one line each, of ordinary characters, cut to a length."""
    shown = {}
    for name, value in list(fields.items())[:MAX_FIELDS]:
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        text = line(text, MAX_CELL_CHARS)
        if text:
            shown[line(str(name), 40)] = text
    return shown
