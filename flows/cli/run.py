"""``netspectra run``: the main job."""

from __future__ import annotations

import click


@click.command("run")
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Worker threads in this process.",
)
def command(workers: int) -> int:
    """Run the main job: read the source, count, store.

    It reads what NETSPECTRA_SOURCE names (the built-in demo traffic by default) into what
    NETSPECTRA_STORE names. Ctrl-C stops it cleanly: what was read is stored.

    \b
    Examples:
      netspectra run
      NETSPECTRA_SOURCE=pcap:capture.pcap NETSPECTRA_STORE=chdb:data netspectra run
      NETSPECTRA_SOURCE='pcap:captures/*.pcap' netspectra run -w 2
    """  # noqa: D301 - click reads the backslash
    from flows import job, logs, settings

    loaded = settings.load()
    logs.configure(loaded.log.level, loaded.log.format)
    return int(job.run(loaded, workers=workers, show_summary=True))
