"""Runs a saved query and shows its answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from flows import settings
from flows.cli import answer, options, query_where
from flows.cli.text import time_text
from flows.errors import StoreError, UsageError
from flows.storage import dropped, resolution
from flows.storage.embedded import ALONE
from flows.storage.resolution import Span
from flows.storage.saved import SavedQuery
from flows.storage.saved_sql import Asked, named_networks, statement

if TYPE_CHECKING:
    from flows.storage.reader import Reader

_MS = 10**6


def run(query: SavedQuery, given: Mapping[str, Any]) -> None:
    """Run it.

    Args:
        query: what to ask.
        given: options as click has read them, and the query's own parameters.

    Raises:
        UsageError: a value can't be used.
        StoreError: the store refused the statement.
    """
    span = span_of(given)
    values = {each.name: given[each.name] for each in query.parameters}
    step_s = max((given.get("step_ns") or 0) // 10**9, 0)

    with options.open_store(ALONE) as reader:
        _check_networks(reader, named_networks(query, values))
        if query.is_bounded and None in (span.start_ms, span.end_ms):
            span = _within(span, _traffic(reader))
        asked = Asked(span, given["tenant"], given["where"], step_s, given["rows"] or 0)
        sql = statement(query, values, asked)
        if given["as_sql"]:
            click.echo(f"{sql};")
            return
        try:
            found = answer.ask(reader, sql)
        except StoreError as error:
            raise query_where.explained(reader, query, asked.where, error) from error
        nothing = "" if found.rows or given["form"] != "table" else _nothing(_traffic(reader))
        missing = dropped.told(reader.query, dropped.read_by(sql), span, given["tenant"])
    answer.show(found, given["form"], nothing)
    if missing:
        click.echo(missing, err=True)


def span_of(given: Mapping[str, Any]) -> Span:
    """The span that the options of ``options.span`` say."""
    start_ns = options.since_ns(given["from_ns"], given["ago_ns"])
    start_ms = start_ns // _MS if start_ns else None
    if start_ms is not None and given["ago_ns"] is not None:
        start_ms = resolution.since(start_ms, time.time_ns() // _MS)
    until_ns = given["until_ns"]
    end_ms = until_ns // _MS if until_ns is not None else None
    if start_ms is not None and end_ms is not None and start_ms >= end_ms:
        msg = "the span ends before it begins; look at --from and --to"
        raise click.UsageError(msg)
    return Span(start_ms, end_ms)


def _check_networks(reader: Reader, names: set[str]) -> None:
    """Refuse a name that is neither in the settings nor in the store, from when it was."""
    configured = settings.load().networks
    if names <= set(configured):
        return
    stored = reader.query("SELECT DISTINCT arrayJoin([src_net, dst_net]) AS name FROM flows_1h")
    known = {*configured, *map(str, stored["name"].to_pylist())} - {""}
    for name in sorted(names - known):
        msg = f"there is no network {name}; known are {', '.join(sorted(known)) or 'none'}"
        raise UsageError(msg)


def _traffic(reader: Reader) -> Span:
    """From the first pane in the store to the end of the last."""
    (row,) = reader.query(
        "SELECT count() AS n, toUnixTimestamp64Milli(min(window_start)) AS start_ms, "
        "max(toUnixTimestamp64Milli(window_start) + pane_ms) AS end_ms FROM totals"
    ).to_pylist()
    return Span(row["start_ms"], row["end_ms"]) if row["n"] else Span()


def _within(span: Span, traffic: Span) -> Span:
    """The span with the traffic's ends where it is open."""
    return Span(
        traffic.start_ms if span.start_ms is None else span.start_ms,
        traffic.end_ms if span.end_ms is None else span.end_ms,
    )


def _nothing(traffic: Span) -> str:
    if traffic.start_ms is None or traffic.end_ms is None:
        return "no rows; no traffic is stored yet"
    start, end = (time_text(ms * _MS) for ms in (traffic.start_ms, traffic.end_ms))
    return f"no rows; the traffic in the store is from {start} to {end} UTC"
