"""The summary at the end of a run: plain text that reads well without colour, at 60 columns."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.findings import Estimate, Ranked, Store, Summary, collect
from flows.progress import format_time
from flows.settings.model import DEMO
from flows.settings.problems import hide_password

PLAIN_WIDTH: Final = 100
"""Columns where there is no terminal."""


def render(
    store: Store,
    tenant: str,
    *,
    probes: Sequence[str] | None = None,
    source: str = "",
    elapsed_s: float | None = None,
    run_packets: int | None = None,
    unfinished: str = "",
    where: str | None = None,
    console: Console | None = None,
) -> Summary:
    """Print what a run found on stdout, and return it.

    Args:
        store: Where to ask.
        tenant: Whose traffic.
        probes: Only of these probes.
        source: What was read, for the heading.
        elapsed_s: Time that reading took, s.
        run_packets: Packets that this run stored, where the store may have held others before.
        unfinished: What the run read and didn't store, or didn't read at all; empty for nothing.
        where: The store's setting, for people; None if the store is temporary.
        console: Where to print, by default stdout.
    """
    found = collect(store, tenant, probes)
    show(
        found,
        heading=f"{source or 'run'}, tenant {tenant}",
        elapsed_s=elapsed_s,
        run_packets=run_packets,
        unfinished=unfinished,
        where=hide_password(where) if where else None,
        hints=hints(where),
        console=console,
    )
    return found


def show(
    found: Summary,
    *,
    heading: str,
    elapsed_s: float | None = None,
    run_packets: int | None = None,
    unfinished: str = "",
    where: str | None = None,
    hints: Sequence[str] = (),
    console: Console | None = None,
) -> None:
    """Print a summary.

    Args:
        found: What is told.
        heading: The first line.
        elapsed_s: Time that reading took, s.
        run_packets: Packets that this run stored; by default all.
        unfinished: As for ``render``.
        where: The store, or None if it is gone.
        hints: Commands to try next.
        console: Where to print, by default stdout.
    """
    console = console or make_console()
    console.print(f"\nNetSpectra: {heading}", style="bold")
    if not found.packets:
        console.print("  no packets were stored")
    else:
        _facts(console, found, elapsed_s, found.packets if run_packets is None else run_packets)
        for name, ranking in found.rankings.items():
            _ranking(console, name, ranking, found.bytes)
        _hosts(console, found)
        _alerts(console, found)
    _ledger(console, found, unfinished)
    console.print("\nWhere the data is", style="bold")
    console.print(f"  {where}" if where else "  nowhere: the temporary store is removed")
    if hints:
        console.print("\nTry next", style="bold")
        for hint in hints:
            # A command must stay on its line to be copied.
            console.print(f"  {hint}", soft_wrap=True)


def hints(where: str | None) -> list[str]:
    """Three commands to try next, for the store of this setting."""
    program = _program()
    if where is None:
        return [
            f"{program} read --keep netspectra-data FILE",
            f'NETSPECTRA_STORE=chdb:netspectra-data {program} sql "SELECT * FROM totals" -n 10',  # noqa: S608
            f"{program} sql --help",
        ]
    first = "" if where == DEMO["store"] else f"NETSPECTRA_STORE={hide_password(where)} "
    questions = (
        "SELECT ip_text(src_addr) AS source, uniqExact(dst_addr) AS destinations,"
        " sum(bytes) AS sent FROM flows GROUP BY source ORDER BY destinations DESC LIMIT 10",
        "SELECT window_start, estimate, lower, upper FROM distinct_counts"
        " WHERE task = 'distinct_src_addr' ORDER BY horizon DESC, window_start LIMIT 20",
        "SELECT toStartOfMinute(window_start) AS minute, sum(packets), sum(bytes) FROM totals"
        " GROUP BY minute ORDER BY minute",
    )
    return [f'{first}{program} sql "{question}"' for question in questions]


def _program() -> str:
    """How the user can call us: by name if that is on the path, else where it is."""
    if shutil.which("netspectra"):
        return "netspectra"
    beside = Path(sys.prefix) / "bin" / "netspectra"
    if not beside.exists():
        return "python -m flows.cli"
    here = Path.cwd()
    return str(beside.relative_to(here) if beside.is_relative_to(here) else beside)


def make_console() -> Console:
    """A console on stdout that takes no markup, for text may come off the wire."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    return Console(file=sys.stdout, width=width, markup=False, highlight=False, emoji=False)


def _facts(console: Console, found: Summary, elapsed_s: float | None, run_packets: int) -> None:
    lines = [
        ("packets", f"{found.packets:,}  ({_parts(found.ip_packets)})"),
        ("bytes", f"{found.bytes:,}  ({scaled(found.bytes, 'B')})"),
        ("flow rows", f"{found.flow_rows:,}"),
        ("first", f"{format_time(found.first_seen_ns)} UTC"),
        ("last", f"{format_time(found.last_seen_ns)} UTC"),
        ("span", f"{found.span_s:,.3f} s of event time"),
    ]
    if found.span_s > 0:
        bits = scaled(8 * found.bytes / found.span_s, "bit/s")
        lines.append(("rate", f"{found.packets / found.span_s:,.0f} packets/s, {bits} on average"))
    if elapsed_s:
        rate = run_packets / elapsed_s
        lines.append(("processed in", f"{elapsed_s:,.1f} s, {rate:,.0f} packets/s"))
    if run_packets != found.packets:
        lines.append(("of this run", f"{run_packets:,} packets; the store held the others before"))
    if found.late_packets:
        lines.append(("late", f"{found.late_packets:,} packets, counted in their own panes"))
    if found.folded_flows:
        lines.append(("folded", f"{found.folded_flows:,} flows in coarser rows, sums exact"))
    for name, value in lines:
        console.print(f"  {name:<13} {value}")


def _ranking(console: Console, name: str, ranking: list[Ranked], total_bytes: int) -> None:
    if not ranking:
        return
    folded = any(row.more_bytes for row in ranking)
    how = "between bounds, as flows were folded" if folded else "exact"
    console.print(f"\n{name} by bytes, {how}", style="bold")
    table = _table(name.lower(), "packets>", "bytes>", "share>")
    for row in ranking:
        share = f"{100 * row.bytes / total_bytes:.1f} %" if total_bytes else "-"
        table.add_row(
            row.key,
            _interval(row.packets, row.packets + row.more_packets),
            _interval(row.bytes, row.bytes + row.more_bytes),
            share,
        )
    console.print(table)


def _hosts(console: Console, found: Summary) -> None:
    console.print("\nDistinct hosts", style="bold")
    if found.hosts:
        text = ", ".join(f"{count:,} {name}" for name, count in found.hosts.items())
        console.print(f"  counted exactly: {text} (IP)")
    else:
        console.print("  not countable from flows, as some were folded")
    if not found.distinct:
        console.print("  sketches: no horizon has closed yet")
        return
    of = f", the busiest of {found.windows:,}" if found.windows > 1 else ""
    window = f"{found.horizon:g} s from {format_time(found.window_start_ns)} UTC{of}"
    console.print(f"\nSketches over {window}", style="bold")
    table = _table("task", "estimate>", "lower>", "upper>", "confidence>")
    for row in found.distinct:
        _estimate(table, row.task, row)
    console.print(table)
    if found.heavy:
        console.print("\nHeaviest keys there, bytes", style="bold")
        table = _table("key", "estimate>", "lower>", "upper>", "confidence>")
        for row in found.heavy:
            _estimate(table, row.key, row)
        console.print(table)
    if found.spread:
        console.print("\nMost different peers there", style="bold")
        table = _table("task", "key", "estimate>", "lower>", "upper>", "confidence>")
        for row in found.spread:
            numbers = (f"{value:,.0f}" for value in (row.estimate, row.lower, row.upper))
            table.add_row(row.task, row.key, *numbers, f"{100 * row.confidence:g} %")
        console.print(table)


def _estimate(table: Table, name: str, row: Estimate) -> None:
    numbers = (f"{value:,.0f}" for value in (row.estimate, row.lower, row.upper))
    table.add_row(name, *numbers, f"{100 * row.confidence:g} %")


_STYLES: Final = {"critical": "bold red", "high": "red", "medium": "yellow"}


def _alerts(console: Console, found: Summary) -> None:
    console.print("\nAlerts", style="bold")
    if not found.all_alerts:
        console.print("  none")
        return
    table = _table("severity", "rule", "about", "what")
    for alert in found.alerts:
        what = printable(alert.summary)
        about = printable(alert.entity)
        style = _STYLES.get(alert.severity)
        table.add_row(Text(alert.severity, style=style or ""), alert.rule, about, what)
    console.print(table)
    more = found.all_alerts - len(found.alerts)
    if more:
        console.print(f"  and {more:,} more: netspectra alerts list --all")


def printable(text: str) -> str:
    """Text that may come off the wire, without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _ledger(console: Console, found: Summary, unfinished: str) -> None:
    console.print("\nLedger, packets", style="bold")
    if not found.hops:
        console.print("  empty: no packets")
        return
    table = _table("hop", "seen>", "delivered>", "dropped>", "open>")
    for hop in found.hops:
        seen, delivered, still_open = (f"{n:,}" for n in (hop.seen, hop.delivered, hop.in_flight))
        table.add_row(hop.name, seen, delivered, _parts(hop.dropped) or "0", still_open)
    console.print(table)
    ledger = found.ledger
    if unfinished:
        console.print(f"  INCOMPLETE: {unfinished}", style="bold yellow")
    elif ledger.complete:
        console.print("  complete: every packet seen is stored", style="green")
    elif ledger.balanced and ledger.under_way:
        console.print(
            f"  balanced: {ledger.under_way:,} packets are under way between probes and here, or "
            "their counts are",
            style="yellow",
        )
    elif ledger.balanced:
        console.print("  balanced: every packet has its place, not all are stored", style="yellow")
    else:
        console.print("  NOT balanced: packets are unaccounted for", style="bold red")


def _table(*columns: str) -> Table:
    """A table without lines; a column that ends with > is of numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 2), header_style="dim")
    for column in columns:
        number = column.endswith(">")
        table.add_column(column.rstrip(">"), justify="right" if number else "left", overflow="fold")
    return table


def _interval(lower: int, upper: int) -> str:
    return f"{lower:,}" if lower == upper else f"{lower:,} to {upper:,}"


def _parts(parts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in parts.items() if count)


def scaled(value: float, unit: str) -> str:
    """A number with a prefix of powers of 1000: ``1.50 GB``."""
    for prefix in ("", "k", "M", "G", "T"):
        if value < 1000:
            return f"{value:.3g} {prefix}{unit}"
        value /= 1000
    return f"{value:,.0f} P{unit}"
