"""Labels: what really happened in traffic, by which alerts are judged.

A file of them holds one JSON object a line:

    {"detector": "port_scan",
     "entity": {"src_addr": "198.51.100.7", "dst_addr": "10.0.0.5"},
     "start": "2026-03-01T10:00:00Z", "end": "2026-03-01T10:05:00Z",
     "related": ["super_spreader"], "crossed": "2026-03-01T10:00:12Z", "attack": true}

(on a line of its own; the last three may be missing). ``detector`` is the name of a detector, a
task or a rule. ``entity`` has fields as alerts have them. ``related`` are detectors that may
rightly fire because of it too. ``crossed`` is when the threshold was reached, from which the delay
is counted, else from the start. With ``attack`` false it is clean traffic that may be mistaken for
one: an alert about it is wrong, but one of a related detector isn't.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from flows.errors import UsageError


@dataclass(frozen=True)
class Label:
    """Something that happened. Times are Unix ns.

    Attributes:
        detector: that should find it: its name, or that of a task or rule.
        entity: whom an alert should name: fields of a flow key, as text.
        start_ns: when it began.
        end_ns: when it ended.
        related: detectors that may rightly fire because of it too.
        attack: whether it must be found; else it must not.
        crossed_ns: when the detector's threshold was reached; None where that isn't known.
    """

    detector: str
    entity: Mapping[str, str]
    start_ns: int
    end_ns: int
    related: tuple[str, ...] = ()
    attack: bool = True
    crossed_ns: int | None = None

    @property
    def due_ns(self) -> int:
        """From when on it can be found."""
        return self.start_ns if self.crossed_ns is None else self.crossed_ns


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)

    detector: str
    entity: dict[str, str | int]
    start: AwareDatetime
    end: AwareDatetime
    related: tuple[str, ...] = ()
    attack: bool = True
    crossed: AwareDatetime | None = None


def read(lines: Iterable[str], name: str) -> list[Label]:
    """Read labels; empty lines are left out.

    Args:
        lines: of the file.
        name: of the file, for messages.

    Raises:
        UsageError: a line is no label; the text says which, and what is wrong.
    """
    return [_label(text, f"{name} line {at}") for at, text in enumerate(lines, 1) if text.strip()]


def _label(text: str, where: str) -> Label:
    try:
        found = _Line.model_validate(json.loads(text))
    except ValidationError as error:
        first: Any = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        msg = f"{where}: {field or 'a label'}: {first['msg']}"
        raise UsageError(msg) from None
    except ValueError:
        msg = f"{where} is not JSON: give one label a line"
        raise UsageError(msg) from None
    if not found.entity or found.end < found.start:
        what = "names no entity" if not found.entity else "ends before it starts"
        msg = f"{where}: the label {what}"
        raise UsageError(msg)
    return Label(
        found.detector,
        {field: str(value) for field, value in found.entity.items()},
        _ns(found.start),
        _ns(found.end),
        found.related,
        found.attack,
        None if found.crossed is None else _ns(found.crossed),
    )


def _ns(when: datetime) -> int:
    since = when - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
