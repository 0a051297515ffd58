"""``netspectra check``: whether the store's tables agree with each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from flows.storage.audit import Audit, Difference

UNBALANCED: Final = 3
"""Exit code of a store whose tables differ."""

_SHOWN: Final = 20
_SHORT_COLUMNS: Final = "{:<10} {:>15} {:>15} {:>12} {:>12}"


@click.command("check")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="For people or for programs.",
)
def command(form: str) -> int:
    """Check that no packet is lost or counted twice between the store's tables.

    Compares packets and bytes in flows, totals, flows_1m and flows_1h per tenant, probe and hour,
    with what commits says of each unit once, and the hops of the ledger, each in itself and with
    the next. While a job runs it looks again before it tells of a difference. Exit code 0:
    balanced, 3: not.

    \b
    Examples:
      netspectra check
      NETSPECTRA_STORE=chdb:data netspectra check --format json
    """  # noqa: D301 - click reads the backslash
    import json

    from flows import settings
    from flows.storage import audit
    from flows.storage.reader import EngineReader, open_for_reading

    with open_for_reading(settings.load().store) as reader:
        # Whoever has the directory open is alone with it.
        looks = 1 if isinstance(reader, EngineReader) else audit.LOOKS
        found = audit.audit(reader.query, looks=looks)
    if form == "json":
        click.echo(json.dumps(audit.as_object(found), indent=2))
    else:
        for line in lines(found):
            click.echo(line)
    return 0 if found.balanced else UNBALANCED


def lines(found: Audit) -> Iterator[str]:
    """What was found, for people."""
    sums = f"{found.packets:,} packets, {found.bytes:,} bytes, {found.units:,} units"
    if found.balanced:
        yield f"balanced: {sums} in flows, totals, flows_1m, flows_1h, commits and the ledger"
    else:
        yield f"not balanced: {len(found.differences)} difference(s); flows holds {sums}"
    for each in found.differences[:_SHOWN]:
        yield ""
        yield _line(each)
        yield f"  {each.sql}"
    if len(found.differences) > _SHOWN:
        yield f"… and {len(found.differences) - _SHOWN} more; --format json lists them"
    if found.hops:
        yield ""
        yield _SHORT_COLUMNS.format("hop", "seen", "delivered", "dropped", "in flight")
        for hop in found.hops:
            counts = (hop.seen, hop.delivered, hop.dropped, hop.in_flight)
            yield _SHORT_COLUMNS.format(hop.name, *(f"{count:,}" for count in counts))
    if found.under_way:
        yield ""
        yield "under way:"
        for each in found.under_way[:_SHOWN]:
            yield f"  {_line(each)}"
    if found.unfinished:
        yield ""
        names = ", ".join(found.unfinished[:_SHOWN])
        yield f"unfinished loads (run them again to complete what is half written): {names}"


def _line(each: Difference) -> str:
    place = ", ".join(f"{name} {value}" for name, value in each.where.items()) or "in all"
    counts = ", ".join(
        f"{left:,} against {right:,} {unit}" for unit, (left, right) in each.figures.items()
    )
    return f"{each.left} - {each.right}: {counts} ({place})"
