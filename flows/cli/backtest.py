"""``netspectra backtest``: what rules would have found in traffic that is there already."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from flows.errors import UsageError

FORMATS = ("table", "json")


@click.command("backtest")
@click.option("--rules", type=click.Path(path_type=Path), metavar="FILE", help="Rules to try.")
@click.option(
    "--against", type=click.Path(path_type=Path), metavar="FILE", help="Others to compare with."
)
@click.option("--source", metavar="SOURCE", help="pcap:FILES or kafka; by default the settings'.")
@click.option("--since", metavar="TIME", help="Of Kafka: 2026-03-01T10:00, or 2h for hours ago.")
@click.option(
    "--labels", "labels_file", type=click.Path(path_type=Path), metavar="FILE",
    help="What really happened, one JSON object a line.",
)  # fmt: skip
@click.option("--format", "form", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True)
@click.option("-w", "--workers", type=click.IntRange(1, 256), default=1, show_default=True)
def command(
    rules: Path | None,
    against: Path | None,
    source: str | None,
    since: str | None,
    labels_file: Path | None,
    form: str,
    workers: int,
) -> int:
    """Try rules on captures, or on what a Kafka topic holds now.

    Runs the real job into a temporary store that is removed at the end. No notifier is told,
    nothing is committed or written to Kafka, no store of yours is touched. FILE is YAML with any
    of the sections detectors, rules, alerts and networks, over the settings; without --rules the
    settings' own rules are tried.

    With --labels recall and precision are told as well. A label is a line such as
    {"detector": "port_scan", "entity": {"src_addr": "198.51.100.7", "dst_addr": "10.0.0.5"},
    "start": "2026-03-01T10:00:00Z", "end": "2026-03-01T10:05:00Z"}; it may have "related"
    (detectors that may fire because of it too), "crossed" (when the threshold was reached) and
    "attack" (false for what must not be found).

    \b
    Examples:
      netspectra backtest --source pcap:monday.pcap
      netspectra backtest --rules stricter.yaml --source 'pcap:week/*.pcap' --labels known.jsonl
      netspectra backtest --rules new.yaml --against old.yaml --source kafka --since 6h
    """  # noqa: D301 - click reads the backslash
    from flows import labels, logs, settings
    from flows.cli import backtest_report, backtest_run

    since_ns = None if since is None else _time_ns(since)
    overrides = {} if source is None else {"source": source}
    wanted = {_title(rules): settings.load(overrides, rules=rules)}
    if against is not None:
        if _title(against) in wanted:
            msg = f"--against {against}: wanted another file than --rules"
            raise UsageError(msg)
        wanted[_title(against)] = settings.load(overrides, rules=against)
    known = None if labels_file is None else labels.read(_lines(labels_file), labels_file.name)
    reports = {}
    for title, loaded in wanted.items():
        # Progress and the report say what matters; log lines only when something is wrong.
        level = "warning" if loaded.log.level == "info" else loaded.log.level
        logs.configure(level, loaded.log.format)
        if against is not None:
            click.echo(f"trying {title}", err=True)
        reports[title] = backtest_run.run(loaded, known, since_ns, workers)
    if form == "json":
        click.echo(backtest_report.as_json(reports))
    else:
        backtest_report.show(reports)
    return max(report.code for report in reports.values())


def _title(rules: Path | None) -> str:
    return "the settings" if rules is None else str(rules)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"can't read {file}: {getattr(error, 'strerror', None) or 'it is not text'}"
        raise UsageError(msg) from error


def _time_ns(text: str) -> int:
    """Unix time of a point in time, or of so long ago.

    Raises:
        UsageError: it is neither.
    """
    from flows.settings.units import parse_duration

    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        try:
            when = datetime.now(UTC) - parse_duration(text)
        except ValueError:
            msg = f"--since {text}: wanted a time (2026-03-01T10:00, UTC) or how long ago (2h)"
            raise UsageError(msg) from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return round(when.timestamp() * 1000) * 10**6
