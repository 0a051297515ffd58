"""What Grafana and its ClickHouse plug-in do to a panel's SQL before they send it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Macro = Callable[["Moment", str], str]


@dataclass(frozen=True)
class Moment:
    """The span that is looked at, Unix s, and the step of a chart, s."""

    start_s: int
    end_s: int
    step_s: int


def _filter(form: str, scale: int) -> Macro:
    def between(moment: Moment, column: str) -> str:
        assert column
        ends = (form.format(scale * end) for end in (moment.start_s, moment.end_s))
        return "{0} >= {1} AND {0} <= {2}".format(column, *ends)

    return between


_S, _MS = "toDateTime({})", "fromUnixTimestamp64Milli({})"

# As grafana/clickhouse-datasource documents them: those that take a column, and those that don't.
MACROS: Mapping[str, Macro] = {
    "timeFilter": _filter(_S, 1),
    "timeFilter_ms": _filter(_MS, 1000),
    "timeInterval": lambda moment, column: (
        f"toStartOfInterval(toDateTime({column}), INTERVAL {moment.step_s} second)"
    ),
    "timeInterval_ms": lambda moment, column: (
        f"toStartOfInterval(toDateTime64({column}, 3), INTERVAL {1000 * moment.step_s} millisecond)"
    ),
    "fromTime": lambda moment, _: _S.format(moment.start_s),
    "toTime": lambda moment, _: _S.format(moment.end_s),
    "fromTime_ms": lambda moment, _: _MS.format(1000 * moment.start_s),
    "toTime_ms": lambda moment, _: _MS.format(1000 * moment.end_s),
    "interval_s": lambda moment, _: str(moment.step_s),
}


def expand(sql: str, moment: Moment, variables: Mapping[str, str | Sequence[str]]) -> str:
    """The statement that the data source is sent.

    Raises:
        ValueError: a macro, a variable or a format of one isn't known.
    """

    def macro(match: re.Match[str]) -> str:
        name, argument = match[1], match[2] or ""
        if name not in MACROS:
            msg = f"no such macro: $__{name}"
            raise ValueError(msg)
        return MACROS[name](moment, argument.strip("()"))

    def variable(match: re.Match[str]) -> str:
        name, form = match[1], match[2]
        if name not in variables or form != "singlequote":
            msg = f"no such variable or format: {match[0]}"
            raise ValueError(msg)
        value = variables[name]
        values = [value] if isinstance(value, str) else value
        return ",".join("'" + each.replace("'", "\\'") + "'" for each in values)

    found = re.sub(r"\$__(\w+)(\([^()]*\))?", macro, sql)
    return re.sub(r"\$\{(\w+)(?::(\w+))?\}", variable, found)


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Panels that ask something."""
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")
