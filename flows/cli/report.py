"""``netspectra report``: one HTML page about a span of traffic."""

from __future__ import annotations

from pathlib import Path

import click

from flows.cli import options
from flows.cli.options import open_store

DEFAULT = Path("report.html")


@click.command("report")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DEFAULT,
    show_default=True,
    help="Where the page goes.",
)
@options.span
@click.option("--where", default="", metavar="SQL", help='Only such flows: "dst_port = 443".')
@click.option("--tenant", help="Of this tenant; by default the only one, or the settings' own.")
@click.option("--title", default="", help="What the traffic is, for the heading.")
def command(
    output: Path,
    from_ns: int | None,
    until_ns: int | None,
    ago_ns: int | None,
    where: str,
    tenant: str | None,
    title: str,
) -> None:
    """Write one HTML page about the traffic in the store: a summary in words, charts, alerts.

    The page is whole in itself: it loads nothing and runs no script, so it can be mailed or
    attached to an incident. --where is a condition on columns of the table flows; alerts,
    estimates and the ledger are of all traffic of that time.

    \b
    Examples:
      netspectra report
      netspectra report -o night.html --from "2026-01-02 22:00" --to "2026-01-03 06:00"
      netspectra report -o web.html --since 2h --where "in_net(src_addr, '10.0.0.0/8')"
    """  # noqa: D301 - click reads the backslash
    from flows import settings
    from flows.cli import report_write
    from flows.storage.embedded import ALONE

    loaded = settings.load()
    span = report_write.Span(options.since_ns(from_ns, ago_ns), until_ns)
    with open_store(ALONE) as reader:
        report_write.write(
            reader.query, output, loaded, tenant=tenant, span=span, where=where, title=title
        )
