"""Texts of alerts made fit to be shown: what came off the wire may have been written to deceive.

Control characters go (line breaks, terminal escapes, marks that turn the direction of reading),
lengths are limited. Each format then escapes what is special in it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from flows.detect.alert import Alert
from flows.detect.explanation import Explanation

LINE_CHARS: Final = 300
TEXT_CHARS: Final = 4000
NAME_CHARS: Final = 100
MAX_FIELDS: Final = 32
MAX_ROWS: Final = 20

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that are not shown: controls, formats, surrogates, the unassigned."""


def line(text: str, limit: int = LINE_CHARS) -> str:
    """Text as one line of ordinary characters, cut to a length."""
    shown = " ".join("".join(map(_visible, text[: 4 * limit])).split())
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def lines(text: str, limit: int = TEXT_CHARS) -> str:
    """Text of several lines, each of ordinary characters, cut to a length."""
    shown = "\n".join(line(each, limit) for each in text[: 4 * limit].splitlines())
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def _visible(character: str) -> str:
    return " " if unicodedata.category(character) in _HIDDEN else character


def cut_bytes(text: str, limit: int) -> bytes:
    """Text in UTF-8, cut before the character that would pass so many bytes."""
    return text.encode()[:limit].decode(errors="ignore").encode()


def presentable(alert: Alert) -> Alert:
    """An alert whose texts can be shown; its ids, times and numbers as they are."""
    return replace(
        alert,
        tenant=line(alert.tenant, NAME_CHARS),
        probe=line(alert.probe, NAME_CHARS),
        rule=line(alert.rule, NAME_CHARS),
        detector=line(alert.detector, NAME_CHARS),
        title=line(alert.title),
        entity=_fields(alert.entity),
        entity_text=line(alert.entity_text),
        src_addr=line(alert.src_addr, NAME_CHARS),
        dst_addr=line(alert.dst_addr, NAME_CHARS),
        attack_technique=line(alert.attack_technique, NAME_CHARS),
        metric=line(alert.metric, NAME_CHARS),
        unit=line(alert.unit, NAME_CHARS),
        expected=line(alert.expected),
        evidence=tuple(_fields(row) for row in alert.evidence[:MAX_ROWS]),
        evidence_sql=lines(alert.evidence_sql),
        summary=lines(alert.summary),
        muted_by=line(alert.muted_by, NAME_CHARS),
        members=tuple(line(member) for member in alert.members[:MAX_ROWS]),
        explanation=_explained(alert.explanation) if alert.explanation is not None else None,
    )


def _explained(found: Explanation) -> Explanation:
    return replace(
        found,
        assessment=lines(found.assessment),
        root_cause=lines(found.root_cause),
        next_checks=lines(found.next_checks),
        mitigation=lines(found.mitigation),
        model=line(found.model, NAME_CHARS),
        cited=tuple(_fields(row) for row in found.cited[:MAX_ROWS]),
    )


def _fields(fields: Mapping[str, str]) -> dict[str, str]:
    return {
        line(name, NAME_CHARS): line(value) for name, value in list(fields.items())[:MAX_FIELDS]
    }


def iso(time_ns: int) -> str:
    """A time as RFC 3339 in UTC, to the microsecond; empty for none."""
    if not time_ns:
        return ""
    when = datetime.fromtimestamp(time_ns // 10**9, UTC).replace(
        microsecond=time_ns // 1000 % 10**6
    )
    return when.isoformat(timespec="microseconds").replace("+00:00", "Z")


def number(value: float) -> str:
    """A measured value for people."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.3g}"
