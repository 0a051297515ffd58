"""Answers of the store as a table for people, or as rows for programs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.cli.alerts_list import write
from flows.cli.text import safe

if TYPE_CHECKING:
    from flows.storage.reader import Reader

_WIDEST = 10_000
_MOST_DECIMALS = 5
_IDENTIFIER = re.compile(r"(^|_)(port|interface|asn)$")
"""Numbers that name something rather than count, which have no separators."""


@dataclass(frozen=True)
class Answer:
    """Rows of a statement, with the names and ClickHouse types of their columns."""

    names: Sequence[str]
    types: Sequence[str]
    rows: Sequence[Sequence[Any]]


def ask(reader: Reader, sql: str) -> Answer:
    """Run a statement without ``FORMAT``.

    Raises:
        StoreError: the store refused it.
    """
    text = reader.query_text(sql, "JSONCompactEachRowWithNamesAndTypes").decode()
    names, types, *rows = map(json.loads, text.splitlines())
    return Answer(names, types, rows)


def show(found: Answer, form: str, nothing: str) -> None:
    """Print an answer.

    Args:
        found: what the store said.
        form: ``table``, ``json``, ``jsonl`` or ``csv``.
        nothing: what a table says when there are no rows.
    """
    if form == "table":
        _table(found, nothing)
        return
    times = [kind.startswith("DateTime") for kind in found.types]
    objects = [
        {
            name: f"{value.replace(' ', 'T')}+00:00" if is_time else value
            for name, value, is_time in zip(found.names, row, times, strict=True)
        }
        for row in found.rows
    ]
    if form == "csv" and not objects:
        print(",".join(found.names))
    write(objects, form)


def _table(found: Answer, nothing: str) -> None:
    from rich.table import Table

    from flows.summary import make_console

    if not found.rows:
        print(nothing)
        return
    console = make_console()
    console.width = _WIDEST  # a row is a line, on a narrow terminal too
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="underline")
    for name, kind in zip(found.names, found.types, strict=True):
        table.add_column(name, justify="right" if _is_number(kind) else "left", no_wrap=True)
    columns = zip(*found.rows, strict=True)
    cells = [
        _cells(name, kind, values)
        for name, kind, values in zip(found.names, found.types, columns, strict=True)
    ]
    for row in zip(*cells, strict=True):
        table.add_row(*row)
    console.print(table)


def _is_number(kind: str) -> bool:
    return kind.removeprefix("Nullable(").startswith(("UInt", "Int", "Float"))


def _cells(name: str, kind: str, values: Sequence[Any]) -> list[str]:
    """A column as text, its numbers with as many decimals each."""
    if kind.startswith("DateTime"):
        return ["-" if value is None else str(value).partition(".")[0] for value in values]
    if not _is_number(kind):
        return ["-" if value is None else safe(str(value)) for value in values]
    comma = "" if _IDENTIFIER.search(name) else ","
    decimals = _decimals([value for value in values if value is not None])
    return ["-" if value is None else f"{value:{comma}.{decimals}f}" for value in values]


def _decimals(values: Sequence[float]) -> int:
    """How many decimals show what was rounded as it is, and else the largest in four digits."""
    largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    enough = max(3 - math.floor(math.log10(largest)), 0) if largest else 0
    exact = (n for n in range(_MOST_DECIMALS) if all(round(v, n) == v for v in values))
    return next(exact, min(enough, _MOST_DECIMALS))
