"""What people do with alerts: ``netspectra alerts ack|close|mute|unmute|mutes``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from flows.cli import options
from flows.cli.options import DURATION, TIME, open_store
from flows.cli.text import login_name, safe

if TYPE_CHECKING:
    from flows.storage.alert_writes import Action

VERDICTS: Final = ("true_positive", "false_positive", "benign")
_MS: Final = 10**6

_by = click.option("--by", metavar="NAME", help="Who does it; by default the login name.")


@click.command()
@click.argument("alert_id", metavar="ID")
@click.option("--comment", default="", help="For others.")
@_by
def ack(alert_id: str, comment: str, by: str | None) -> None:
    """Say that you have taken note of an alert.

    \b
    Examples:
      netspectra alerts ack 1f2e3d4c --comment "asking the owner"
    """  # noqa: D301 - click reads the backslash
    from flows.storage import alerts
    from flows.storage.alert_writes import Ack

    with open_store() as reader:
        row = alerts.one(reader.query, alert_id)
    _perform(Ack, by, alert_id=row["alert_id"], comment=comment)
    click.echo(f"acknowledged: {safe(row['title'])}")


@click.command()
@click.argument("alert_id", metavar="ID")
@click.option("--verdict", type=click.Choice(VERDICTS), required=True, help="What it was.")
@click.option("--comment", default="", help="For others.")
@_by
def close(alert_id: str, verdict: str, comment: str, by: str | None) -> None:
    """Close an alert, whatever the traffic does, and say what it was.

    It doesn't come back while what it is about lasts; once that is over, it may fire anew.

    \b
    Examples:
      netspectra alerts close 1f2e3d4c --verdict benign --comment "backup"
    """  # noqa: D301 - click reads the backslash
    from flows.storage import alerts
    from flows.storage.alert_writes import Close

    with open_store() as reader:
        row = alerts.one(reader.query, alert_id)
    _perform(Close, by, alert_id=row["alert_id"], verdict=verdict, comment=comment)
    click.echo(f"closed as {verdict}: {safe(row['title'])}")


@click.command()
@click.argument("alert_id", metavar="[ID]", required=False)
@click.option("--rule", default="", help="Alerts of this rule.")
@click.option("--where", multiple=True, metavar="FIELD=VALUE,…", help="Alerts with this entity.")
@click.option("--tenant", default="", help="Alerts of this tenant.")
@click.option("--for", "for_ns", type=DURATION, metavar="DURATION", help="For so long, from now.")
@click.option("--until", "until_ns", type=TIME, metavar="TIME", help="Until then (UTC).")
@click.option("--reason", default="", help="For others.")
@_by
def mute(
    alert_id: str | None,
    rule: str,
    where: tuple[str, ...],
    tenant: str,
    for_ns: int | None,
    until_ns: int | None,
    reason: str,
    by: str | None,
) -> None:
    """Keep quiet about an alert and others like it, or about all that a rule or --where means.

    Muted alerts are stored and listed, but nobody is told. With an ID it is about that rule and
    entity. --where may be repeated, and all must hold; a value is an address, a range, a name of
    `networks`, or what the field holds. Without --for and --until it lasts for ever.

    \b
    Examples:
      netspectra alerts mute 1f2e3d4c --for 2h --reason "our own scanner"
      netspectra alerts mute --rule host_scan --where src_addr=10.0.0.0/8 --until 2026-02-01
      netspectra alerts mute --where addr=10.0.2.15 --for 1d
    """  # noqa: D301 - click reads the backslash
    from flows.cli.alerts_mute import conditions_of, like, until_ms
    from flows.storage import alerts
    from flows.storage.alert_writes import Mute

    if (alert_id is None) == (not rule and not where):
        msg = "give either the ID of an alert, or --rule and --where"
        raise click.UsageError(msg)
    ends_ms = until_ms(for_ns, until_ns)
    with open_store() as reader:
        if alert_id is not None:
            row = alerts.one(reader.query, alert_id)
            rule, tenant, conditions = row["rule"], tenant or row["tenant"], like(row)
        else:
            conditions = conditions_of(where, rule, reader.query)
    made = _perform(
        Mute,
        by,
        tenant=tenant,
        rule=rule,
        conditions=conditions,
        since_ms=0,
        until_ms=ends_ms,
        reason=reason,
    )
    click.echo(f"muted; netspectra alerts unmute {made.mute_id} takes it back")


@click.command()
@click.argument("mute_id", metavar="MUTE_ID")
@_by
def unmute(mute_id: str, by: str | None) -> None:
    """Take a mute back.

    \b
    Examples:
      netspectra alerts unmute 0f1e2d3c4b5a6978
    """  # noqa: D301 - click reads the backslash
    from dataclasses import asdict

    from flows.cli.alerts_mute import find
    from flows.storage.alert_writes import Unmute

    with open_store() as reader:
        fields = asdict(find(reader.query, mute_id))
    made_by = fields.pop("made_by")
    _perform(Unmute, by, **fields)
    click.echo(f"taken back: the mute of {safe(made_by)}")


@click.command()
@options.form
def mutes(form: str) -> None:
    """List the mutes that are in force or yet to come, but not those of the settings.

    \b
    Examples:
      netspectra alerts mutes
    """  # noqa: D301 - click reads the backslash
    from flows.cli import alerts_list
    from flows.storage import alerts

    with open_store() as reader:
        found = alerts.mutes(reader.query, time.time_ns() // _MS)
    if form != "table":
        alerts_list.write([alerts_list.mute_object(each) for each in found], form)
        return
    for line in alerts_list.mute_lines(found):
        click.echo(line)
    if not found:
        click.echo("no mutes but those that the settings may name")


def _perform(kind: type[Action], by: str | None, **fields: Any) -> Any:
    """Do something, and return what was done."""
    from pydantic import ValidationError

    from flows import settings
    from flows.storage.alert_actions import perform
    from flows.storage.alert_writes import in_words

    try:
        action = kind(by=by or login_name(), **fields)
    except ValidationError as error:
        raise click.UsageError(in_words(error)) from error
    perform(settings.load().store, action)
    return action


COMMANDS: Final = (ack, close, mute, unmute, mutes)
