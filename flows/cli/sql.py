"""``netspectra sql``: ask the store, while the job runs and after it."""

from __future__ import annotations

import re
import sys
from typing import Final

import click

from flows.errors import UsageError

FORMATS: Final = {
    "pretty": "PrettyCompactMonoBlock",
    "table": "PrettySpaceNoEscapesMonoBlock",
    "tsv": "TSVWithNames",
    "json": "JSON",
    "jsonl": "JSONEachRow",
    "csv": "CSVWithNames",
}
"""Our names of ClickHouse's formats; any other name is ClickHouse's own."""

_SELECT: Final = re.compile(r"\s*(--[^\n]*\n\s*|/\*.*?\*/\s*)*(SELECT|WITH|\()", re.I | re.S)


@click.command("sql")
@click.argument("query", required=False)
@click.option(
    "--format",
    "form",
    metavar="FORMAT",
    help=f"{', '.join(FORMATS)}, or any of ClickHouse's. "
    "By default pretty on a terminal, tsv otherwise.",
)
@click.option("-n", "--rows", type=click.IntRange(1), help="At most so many rows.")
def command(query: str | None, form: str | None, rows: int | None) -> None:
    """Ask the store with SQL: QUERY, or standard input.

    Reading only. Tables: flows, flows_named, flows_1m, flows_1h, totals, rates; distinct_counts,
    heavy_hitters, spreaders, sketches; alerts; ledger, completeness, dropped; names_networks,
    names_as_numbers, names_countries, names_interfaces, names_services; commits, loads, positions.
    `DESCRIBE TABLE flows` tells what the columns mean; addresses are IPv6 columns
    (`ip_text(src_addr)`).

    \b
    Examples:
      netspectra sql "SELECT sum(packets), sum(bytes) FROM totals"
      netspectra sql "SELECT ip_text(src_addr) AS src, sum(bytes) AS b FROM flows
                      GROUP BY src ORDER BY b DESC" -n 10
      netspectra sql --format jsonl < question.sql
    """  # noqa: D301 - click reads the backslash
    text = query if query and query != "-" else _standard_input(query)
    form = form or ("pretty" if sys.stdout.isatty() else "tsv")
    if not re.fullmatch(r"\w+", form):
        msg = f"--format {form}: wanted {', '.join(FORMATS)}, or a name of ClickHouse's"
        raise UsageError(msg)

    text = limit(text, rows)

    from flows import settings
    from flows.storage.reader import open_for_reading

    with open_for_reading(settings.load().store) as reader:
        answer = reader.query_text(text, FORMATS.get(form, form))
    sys.stdout.buffer.write(answer)
    if answer and not answer.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def limit(query: str, rows: int | None) -> str:
    """The query without its last semicolon, cut to so many rows.

    Raises:
        UsageError: There is nothing to ask, or rows of something else than a SELECT are cut.
    """
    query = query.strip().rstrip(";").rstrip()
    if not query:
        msg = 'nothing to ask; try netspectra sql "SHOW TABLES"'
        raise UsageError(msg)
    if rows is None:
        return query
    if not _SELECT.match(query):
        msg = "-n goes with a SELECT only"
        raise UsageError(msg)
    # On a line of its own, for the query may end with a comment.
    return f"SELECT * FROM (\n{query}\n) LIMIT {rows}"  # noqa: S608 - the user's own query


def _standard_input(query: str | None) -> str:
    if query is None and sys.stdin.isatty():
        msg = 'nothing to ask; try netspectra sql "SHOW TABLES"'
        raise UsageError(msg)
    return sys.stdin.read()
