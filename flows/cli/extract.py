"""``netspectra extract``: an alert's packets, out of what was kept of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from flows.cli.text import safe, time_text

if TYPE_CHECKING:
    from flows.storage.alerts import Query, Row
    from probe.capture.extract import Extracted

MARGIN_NS: Final = 10**9
"""How much earlier and later than the alert's traffic was counted its packets may be."""

NOTHING: Final = 1
"""Exit code when no packet was found."""


@click.command("extract")
@click.argument("alert_id", metavar="ALERT_ID")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The pcapng file to write; by default the beginning of the id with .pcapng.",
)
@click.option(
    "--from",
    "places",
    multiple=True,
    metavar="DIR|FILE",
    type=click.Path(path_type=Path),
    help="Where `netspectra probe --write` keeps packets, or a capture file; may be repeated. "
    "By default the capture that the alert's traffic was loaded from.",
)
def command(alert_id: str, output: Path | None, places: tuple[Path, ...]) -> int:
    """Write the packets of an alert to a pcapng file.

    Packets are those between the alert's addresses and ports, in both directions, from a second
    before the first flow in the window in which it was first seen to a second after it was last
    seen (an open one may have gone on for `alerts.update_every` since); of a group those of its
    listed members. They are copied whole as they were kept.

    \b
    Examples:
      netspectra extract 1f2e3d4c -o scan.pcapng
      netspectra extract 1f2e3d4c --from /var/lib/netspectra/packets
    """  # noqa: D301 - click reads the backslash
    from flows import settings
    from flows.cli import extract_match, extract_sources
    from flows.settings.units import to_ns
    from flows.storage import alerts
    from flows.storage.reader import open_for_reading
    from probe.capture.extract import extract, new_file

    loaded = settings.load()
    with open_for_reading(loaded.store) as reader:
        row = alerts.one(reader.query, alert_id)
        entities = _entities(row)
        first_ns = _beginning_ns(reader.query, row, entities) - MARGIN_NS
        last_ns = row["last_seen_ns"] + MARGIN_NS
        if row["status"] in alerts.OPEN:
            # It may have gone on for so long since it was told last.
            last_ns += to_ns(loaded.alerts.update_every)
        if places:
            sources = extract_sources.named(places, first_ns, last_ns)
        else:
            sources = extract_sources.loaded(reader.query, row, first_ns, last_ns)
    path = output or Path(f"{row['alert_id'][:8]}.pcapng")
    chosen = extract_match.choose(entities, loaded.networks, first_ns, last_ns)
    with new_file(path) as file:
        done = extract(sources.paths, chosen, file, decapsulate=loaded.capture.decapsulate)
    for note in (*sources.notes, *done.faults):
        print(f"netspectra: {safe(note)}", file=sys.stderr)
    if not done.frames:
        span = f"{time_text(first_ns)} to {time_text(last_ns)} UTC"
        print(f"netspectra: none of {_looked(done)} is of this alert ({span})", file=sys.stderr)
        return NOTHING
    first, last = time_text(done.first_ns), time_text(done.last_ns)
    click.echo(f"{done.frames:,} of {_looked(done)}, {first} to {last} UTC, are in {path}")
    if row["member_count"] > len(entities):
        click.echo(f"they are of {len(entities)} members of {row['member_count']:,}, the largest")
    return 0


def _looked(done: Extracted) -> str:
    return f"{done.looked_at:,} packets in {done.files:,} file{'s' * (done.files != 1)}"


def _beginning_ns(query: Query, row: Row, entities: Sequence[Mapping[str, str]]) -> int:
    """When what was counted for the alert began, which is before it was over its threshold.

    It is the first flow of its first window; the window's start when the flows have gone.
    """
    from flows.storage import flow_rows

    first_ns: int = row["first_seen_ns"]
    start_ns = first_ns - first_ns % max(row["horizon_s"] * 10**9, 1)
    window = flow_rows.in_window(row["tenant"], start_ns, row["last_seen_ns"])
    found = query(flow_rows.beginning(entities, window)).to_pylist()
    return min(first_ns, int(found[0]["first_ns"])) if found else start_ns


def _entities(row: Row) -> list[dict[str, str]]:
    """What the alert is about, as far as packets show it.

    Raises:
        StoreError: nothing of it is seen in packets.
    """
    from flows.cli.extract_match import FIELDS
    from flows.errors import StoreError
    from flows.storage.flow_rows import entity_of

    entities = [entity_of(text) for text in row["members"]] or [row["entity"]]
    found = [entity for entity in entities if FIELDS & entity.keys()]
    if not found:
        msg = f"this alert is about {safe(row['entity_text'])}, which no packet shows"
        raise StoreError(msg)
    return found
