"""``netspectra topics dlq``: messages that could not be used."""

from __future__ import annotations

import json
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from flows.cli.options import ListByDefault
from flows.cli.text import safe

if TYPE_CHECKING:
    from flows.kafka.dead_letters import Plan
    from schemas.dead_letter import DeadLetter


@click.group("dlq", cls=ListByDefault)
def command() -> None:
    """Show messages that could not be used, or send them again.

    The job keeps such messages in a topic of their own, with where they were and why.

    \b
    Examples:
      netspectra topics dlq
      netspectra topics dlq replay --dry-run
    """  # noqa: D301 - click reads the backslash


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a message.")
def list_(as_json: bool) -> None:
    """List the messages: time (UTC), place, size, reason; then how many by reason.

    A message that was reported several times, as after a restart, is shown once.

    \b
    Examples:
      netspectra topics dlq list
      netspectra topics dlq list --json
    """  # noqa: D301 - click reads the backslash
    from flows import settings
    from flows.kafka.dead_letters import Letters, kind

    letters = Letters(settings.load().kafka)
    reasons: Counter[str] = Counter()
    for letter in letters:
        reasons[kind(letter.reason)] += 1
        click.echo(_object(letter) if as_json else _line(letter))
    if as_json:
        return
    if not reasons and not letters.unreadable:
        what = "holds no dead letters" if letters.exists else "isn't there: no dead letters"
        click.echo(f"{letters.topic} {what}")
        return
    click.echo(f"\n{reasons.total():,} message(s) in {letters.topic}")
    for reason, count in reasons.most_common():
        click.echo(f"{count:>9,}  {safe(reason)}")
    if letters.unreadable:
        click.echo(f"{letters.unreadable:>9,}  that are no dead letters of ours, not shown")


@command.command()
@click.option("--reason", default="", metavar="TEXT", help="Only those whose reason contains it.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@click.option("--yes", is_flag=True, help="Don't ask.")
def replay(reason: str, dry_run: bool, yes: bool) -> int:
    """Send messages back to the topic of packets, each to the partition where it was.

    Only those that can be decoded now are sent, for instance after an upgrade to a version that
    knows their schema. Nothing is remembered of it. The job knows a probe's batches by their
    sequence numbers: a second replay counts as repeats, which change nothing, for as long as the
    probe is remembered (an hour after its last batch); and so does a first one if later batches
    of the same start of the probe were read already.

    \b
    Examples:
      netspectra topics dlq replay --dry-run
      netspectra topics dlq replay --reason schema --yes
    """  # noqa: D301 - click reads the backslash
    from flows import settings
    from flows.kafka.dead_letters import Letters, Replay

    loaded = settings.load()
    letters = Letters(loaded.kafka)
    replaying = Replay(loaded.kafka, letters, reason, loaded.window.max_skew_ns)
    plan = replaying.plan()
    for line in _plan_lines(plan):
        click.echo(line)
    count = plan.sendable.total()
    if not count:
        click.echo("nothing to send")
        return 0
    if dry_run:
        click.echo(f"{count:,} message(s) would be sent to {replaying.topic}")
        return 0
    print(
        "netspectra: nothing is remembered of a replay: a second one is told from the first only "
        "by the sequence numbers of the batches, as repeats",
        file=sys.stderr,
    )
    if not yes:
        click.confirm(f"send {count:,} message(s) to {replaying.topic}?", abort=True, err=True)

    def refused(letter: DeadLetter, why: str) -> None:
        print(f"netspectra: {_place(letter)} was refused: {why}", file=sys.stderr)

    sent = replaying.send(refused)
    click.echo(f"{sent:,} message(s) sent to {replaying.topic}")
    return 0 if sent == count else 1


def _plan_lines(plan: Plan) -> list[str]:
    lines = [
        f"{count:>9,}  can be sent ({safe(reason)})"
        for reason, count in plan.sendable.most_common()
    ]
    lines += [
        f"{count:>9,}  still can't be used, skipped: {safe(fault)}"
        for fault, count in plan.bad.most_common()
    ]
    if plan.elsewhere:
        lines.append(f"{plan.elsewhere:>9,}  of other topics or partitions, skipped")
    return lines


def _place(letter: DeadLetter) -> str:
    return f"{safe(letter.topic)}/{letter.partition}/{letter.offset}"


def _line(letter: DeadLetter) -> str:
    size = f"{len(letter.message):,} bytes"
    return f"{_time(letter.log_time_ms)}  {_place(letter)}  {size}  {safe(letter.reason)}"


def _object(letter: DeadLetter) -> str:
    return json.dumps(
        {
            "time_ms": letter.log_time_ms,
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": letter.offset,
            "bytes": len(letter.message),
            "reason": letter.reason,
        }
    )


def _time(time_ms: int) -> str:
    second, rest_ms = divmod(time_ms, 1000)
    try:
        return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S}.{rest_ms:03}"
    except (OverflowError, ValueError, OSError):  # a producer may write any number
        return f"{time_ms}ms"
