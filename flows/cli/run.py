"""``netspectra run``: the main job."""

from __future__ import annotations

from pathlib import Path

import click

from flows import interrupts
from flows.errors import UsageError


@click.command("run")
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Worker threads in this process.",
)
@click.option(
    "-r",
    "--recovery",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to keep what a Kafka source is gone on with.  [beside the store]",
)
@click.argument("extra", nargs=-1, metavar="")
def command(workers: int, recovery: Path | None, extra: tuple[str, ...]) -> int:
    """Run the main job: read the source, count, store.

    It reads what NETSPECTRA_SOURCE names (the built-in demo traffic by default) into what
    NETSPECTRA_STORE names. Ctrl-C stops it cleanly: what was read is stored, and a Kafka source
    goes on there next time.

    \b
    Examples:
      netspectra run
      NETSPECTRA_SOURCE=pcap:capture.pcap NETSPECTRA_STORE=chdb:data netspectra run
      NETSPECTRA_SOURCE='pcap:captures/*.pcap' netspectra run -w 2
      NETSPECTRA_SOURCE=kafka netspectra run
      sudo NETSPECTRA_SOURCE=interface:eth0 netspectra run
    """  # noqa: D301 - click reads the backslash
    if extra:
        msg = (
            f"unexpected argument {extra[0]}; netspectra read FILE looks into a capture, and what "
            "the job reads is said in the settings (NETSPECTRA_SOURCE=pcap:FILE)"
        )
        raise UsageError(msg)
    with interrupts.ending_at_once():
        from flows import job, logs, settings

        loaded = settings.load()
        logs.configure(loaded.log.level, loaded.log.format)
        return int(job.run(loaded, workers=workers, recovery_directory=recovery, show_summary=True))
