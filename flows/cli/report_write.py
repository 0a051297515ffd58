"""Makes a report out of a store and writes it to a file."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.cli.text import time_text
from flows.cli.why_not import traffic
from flows.errors import StoreError, UsageError
from flows.report import scope
from flows.settings import Settings
from flows.storage.saved_sql import condition_of

if TYPE_CHECKING:
    from flows.storage.alerts import Query


_NAMED_PROBES = 3


@dataclass(frozen=True)
class Span:
    """What time was asked for, Unix ns: 0 and None leave it open."""

    start_ns: int = 0
    end_ns: int | None = None


def write(
    query: Query,
    output: Path,
    loaded: Settings,
    *,
    tenant: str | None = None,
    span: Span | None = None,
    where: str = "",
    title: str = "",
) -> None:
    """Write a report and print where it is.

    Args:
        query: of the store.
        output: the file, which is replaced.
        loaded: settings, for the usual tenant.
        tenant: whose traffic; None for the usual one or the only one.
        span: what time; by default all.
        where: condition on flows, in SQL.
        title: heading of the page; by default names the probes or the tenant.

    Raises:
        StoreError: there is no such traffic, or the store refused a question.
        UsageError: a condition can't be read, or the file can't be written.
    """
    where = condition_of(where)
    # A file that can't be written is known before the store is asked.
    if not output.parent.is_dir():
        msg = f"{output}: there is no directory {output.parent}"
        raise UsageError(msg)
    stored = traffic(query, tenant, loaded.tenant)
    span = span or Span()
    start_ns = max(span.start_ns, stored.start_ns)
    end_ns = min(span.end_ns or stored.end_ns, stored.end_ns)
    wanted = scope.Scope(stored.tenant, start_ns, end_ns, where)

    # Drawing takes a second to load.
    from flows.report import page
    from flows.report.questions import Questions

    questions = Questions(query, wanted)
    found = questions.answers() if start_ns < end_ns else None
    if found is None:
        missing = f" ({line})" if (line := questions.dropped()) else ""
        has = f"{time_text(stored.start_ns)} to {time_text(stored.end_ns)} UTC"
        such = f" where {where}" if where else ""
        msg = f"no traffic{such} in that time{missing}; tenant {stored.tenant} has some from {has}"
        raise StoreError(msg)
    few = ", ".join(found.probes) if len(found.probes) <= _NAMED_PROBES else ""
    heading = title or (f"Traffic seen by {few}" if few else f"Traffic of tenant {stored.tenant}")
    text = page.render(found, heading, time.time_ns())
    _replace(output, text)
    alerts = f"{found.alert_count:,} alert{'' if found.alert_count == 1 else 's'}"
    size = f"{len(text.encode()) / 1000:,.0f} kB"
    click.echo(f"{output}: {found.sums.packets:,} packets, {alerts}, {size}")
    if found.dropped:
        click.echo(found.dropped, err=True)


def _replace(output: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        msg = f"{output} can't be written: {error.strerror}"
        raise UsageError(msg) from error
