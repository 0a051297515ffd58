"""``netspectra read``: a one-off look at capture files."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from flows import interrupts
from flows.errors import UsageError


@click.command("read")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--keep", metavar="DIR", type=click.Path(path_type=Path), help="Keep the store here.")
@click.option("--store", metavar="STORE", help="Load into this store (chdb:DIR, https://…).")
@click.option(
    "-o",
    "--output",
    metavar="FILE.html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a report there, one HTML page.",
)
@click.option("-w", "--workers", type=click.IntRange(1, 256), default=1, show_default=True)
def command(
    files: tuple[Path, ...],
    keep: Path | None,
    store: str | None,
    output: Path | None,
    workers: int,
) -> int:
    """Analyse capture FILES (pcap, pcapng) and print a summary.

    They are loaded into a temporary store that is removed at the end, unless --keep or --store
    says where it belongs.

    \b
    Examples:
      netspectra read capture.pcap
      netspectra read -o report.html capture.pcap
      netspectra read --keep data monday.pcap tuesday.pcapng
      NETSPECTRA_STORE=chdb:data netspectra sql "SELECT sum(bytes) FROM flows"
    """  # noqa: D301 - click reads the backslash
    if keep and store:
        msg = "--keep and --store both say where the data goes; give one"
        raise UsageError(msg)
    for file in files:
        if not file.is_file():
            reason = "is no file" if file.exists() else "isn't there"
            msg = f"{file} {reason}; give capture files (pcap or pcapng)"
            raise UsageError(msg)
    if output and not output.parent.is_dir():
        msg = f"{output}: there is no directory {output.parent}"
        raise UsageError(msg)
    with interrupts.ending_at_once(), _place(keep, store) as place:
        return _read(files, place, workers, output, kept=bool(keep or store))


def _read(
    files: tuple[Path, ...], place: str, workers: int, output: Path | None, *, kept: bool
) -> int:
    from flows import job, logs, settings, summary
    from flows.storage.store import Store

    source = "pcap:" + "\n".join(str(file.resolve()) for file in files)
    # Ports are those of the job that runs beside.
    alone = {"storage.serve_port": None, "metrics.port": None}
    loaded = settings.load({"source": source, "store": place, **alone})
    # Progress and the summary say what matters; log lines only when something is wrong.
    level = "warning" if loaded.log.level == "info" else loaded.log.level
    logs.configure(level, loaded.log.format)
    started = time.monotonic()
    code = int(job.run(loaded, workers=workers, tell=False))
    elapsed_s = time.monotonic() - started
    names = ", ".join(file.name for file in files)
    with Store.open(loaded.store, serve=False) as opened:
        found = summary.render(
            opened,
            loaded.tenant,
            elapsed_s=elapsed_s,
            source=names,
            where=loaded.store if kept else None,
        )
        if output and found.packets:
            from flows.cli import report_write

            report_write.write(opened.query, output, loaded, tenant=loaded.tenant, title=names)
    return code


@contextmanager
def _place(keep: Path | None, store: str | None) -> Iterator[str]:
    """The store to load into; a temporary one is removed afterwards."""
    if store:
        yield store
    elif keep:
        yield f"chdb:{keep}"
    else:
        with (
            tempfile.TemporaryDirectory(
                prefix="netspectra-", ignore_cleanup_errors=True
            ) as directory,
            interrupts.ending_at_once(Path(directory)),
        ):
            yield f"chdb:{directory}/store"
