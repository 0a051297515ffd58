"""Fills a saved query in: its parameters, the span of time, the table that can answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import accumulate
from typing import Final

from flows.errors import UsageError
from flows.storage import candidates
from flows.storage.embedded import quote
from flows.storage.resolution import Span, step_s, table_for, time_literal
from flows.storage.saved import PLACE, SavedQuery
from flows.storage.statements import Refused, tokens

_NAME: Final = re.compile(r"[\w-]+")
_SIDES: Final = {"Source": "src", "Destination": "dst"}
_ALL_ROWS: Final = 2**32 - 1


@dataclass(frozen=True)
class Asked:
    """What somebody wants of a query.

    Attributes:
        span: of time; its ends must be known for a series.
        tenant: whose traffic; empty for everybody's.
        where: a condition in SQL; empty for none.
        step_s: length of the buckets of a series, s; 0 chooses it.
        rows: at most so many, the first of the list; 0 for all.
    """

    span: Span
    tenant: str = ""
    where: str = ""
    step_s: int = 0
    rows: int = 0


def statement(query: SavedQuery, values: Mapping[str, str], asked: Asked) -> str:
    """The query as SQL.

    Args:
        query: one of ``saved``.
        values: of its parameters, by name; those with a default may be left out.
        asked: span, tenant, condition.

    Raises:
        UsageError: a value or the condition can't be used.
    """
    condition = condition_of(asked.where)
    given = {
        parameter.name: values.get(parameter.name, parameter.default or "")
        for parameter in query.parameters
    }
    named_by_us = candidates.names("{{flows}}", "{{where}}", "{{rows}}")
    template = query.template.replace("{{candidates}}", named_by_us)
    sql = PLACE.sub(lambda match: _value(match[1], given[match[1]], match[2]), template)
    step = asked.step_s or step_s(asked.span)
    grain_s = step if query.is_series else None
    named = set(tokens(condition))
    table = table_for(_words(sql) | named, asked.span, grain_s)
    parts = [*asked.span.conditions()]
    if table == "flows" and "{{flows}}" in sql:
        parts += asked.span.coarse()
    if asked.tenant:
        parts.append(f"tenant = {quote(asked.tenant)}")
    span = " AND ".join(parts) or "true"
    places = {
        "flows": table,
        "pairs": table_for(named, asked.span, grain_s),
        "span": span,
        "where": f"{span} AND ({condition})" if condition else span,
        "to": time_literal(asked.span.end_ms),
        "time": f"toDateTime64(toStartOfInterval(window_start, INTERVAL {step} SECOND), 3, 'UTC')",
        "seconds": _seconds(step, asked.span),
        "rows": str(asked.rows or _ALL_ROWS),
        "candidate": candidates.CONDITION,
    }
    sql = re.sub(r"\{\{(\w+)\}\}", lambda match: places[match[1]], sql)
    return f"{sql}\nLIMIT {asked.rows}" if asked.rows else sql


def _words(template: str) -> set[str]:
    """Words of a statement whose places aren't filled yet."""
    return set(tokens(re.sub(r"\{\{\w+\}\}", "0", template)))


def _value(name: str, text: str, kind: str) -> str:
    if kind in _SIDES:
        return _side(name, text, _SIDES[kind])
    if kind.startswith("UInt"):
        if not text.isdecimal() or int(text) >= 2 ** int(kind[4:]):
            msg = f"{name} {text!r}: wanted a whole number"
            raise UsageError(msg)
        return str(int(text))
    return quote(text)


def _side(name: str, text: str, side: str) -> str:
    """A condition that one side of a flow is an address, in a network, or of a named one."""
    try:
        network = ip_network(text.strip(), strict=False)
    except ValueError:
        if not _NAME.fullmatch(text):
            msg = f"{name} {text!r}: wanted an address, a network, or the name of a network"
            raise UsageError(msg) from None
        return f"{side}_net = {quote(text)}"
    first, last = (f"toIPv6('{network[i]}')" for i in (0, -1))
    if first == last:
        return f"{side}_addr = {first}"
    return f"{side}_addr BETWEEN {first} AND {last}"


def named_networks(query: SavedQuery, values: Mapping[str, str]) -> set[str]:
    """Names of configured networks among the values of a query's parameters."""
    defaults = {parameter.name: parameter.default or "" for parameter in query.parameters}
    places = [each for each in PLACE.findall(query.template) if each[1] in _SIDES]
    texts = {values.get(name, defaults[name]) for name, _ in places}
    return {text for text in texts if _NAME.fullmatch(text) and not _is_network(text)}


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _seconds(step: int, span: Span) -> str:
    start, end = ("toUnixTimestamp64Milli(time)", f"toUnixTimestamp64Milli(time) + {step * 1000}")
    if span.start_ms is not None:
        start = f"greatest({start}, {span.start_ms})"
    if span.end_ms is not None:
        end = f"least({end}, {span.end_ms})"
    return f"(({end}) - {start}) / 1000"


def condition_of(where: str) -> str:
    """A condition that can stand in parentheses.

    Raises:
        UsageError: it can't be read, or would end what it stands in.
    """
    try:
        found = tokens(where)
    except Refused as e:
        msg = f"--where {where!r}: a text, a name or a comment in it is not closed, or odd"
        raise UsageError(msg) from e
    depths = list(accumulate((sign == "(") - (sign == ")") for sign in found))
    if (depths and (min(depths) < 0 or depths[-1])) or ";" in found or "--" in where:
        msg = f'--where {where!r}: wanted one condition, such as "dst_port = 443"'
        raise UsageError(msg)
    return where.strip()
