"""``netspectra alerts``: what the rules found, and what people do with it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from flows.cli import options
from flows.cli.options import DURATION, TIME
from flows.cli.text import login_name, number, safe, time_text

if TYPE_CHECKING:
    from flows.storage.alert_writes import Action
    from flows.storage.reader import Reader

SEVERITIES: Final = ("info", "low", "medium", "high", "critical")
VERDICTS: Final = ("true_positive", "false_positive", "benign")
_ALL: Final = ("pending", "firing", "resolved", "muted")
_MS: Final = 10**6

_by = click.option("--by", metavar="NAME", help="Who does it; by default the login name.")


@click.group("alerts", cls=options.ListByDefault)
def command() -> None:
    """List alerts, look into them, and say what to do with them.

    An alert is named by its id, or by as much of its beginning as tells it from others. While a job
    runs, the job is told; so it works at any time.

    \b
    Examples:
      netspectra alerts
      netspectra alerts show 1f2e3d4c
      netspectra alerts mute 1f2e3d4c --for 2h --reason "our own scanner"
      netspectra alerts why-not 10.0.2.15
    """  # noqa: D301 - click reads the backslash


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that are over.")
@options.span
@click.option("--severity", type=click.Choice(SEVERITIES), help="This one and worse.")
@click.option("--rule", default="", help="Of this rule.")
@click.option("--tenant", default="", help="Of this tenant.")
@click.option(
    "-n", "--rows", type=click.IntRange(1), default=30, show_default=True, help="At most."
)
@options.form
def list_(
    everything: bool,
    from_ns: int | None,
    until_ns: int | None,
    ago_ns: int | None,
    severity: str | None,
    rule: str,
    tenant: str,
    rows: int,
    form: str,
) -> None:
    """List the open alerts, the worst and newest first; with --all all, the newest first.

    Times are those of the traffic, UTC. A measurement is shown with its bounds.

    \b
    Examples:
      netspectra alerts list
      netspectra alerts list --all --since 1d --severity medium
      netspectra alerts list --rule host_scan --format jsonl
    """  # noqa: D301 - click reads the backslash
    from flows.cli import alerts_list
    from flows.storage import alerts

    wanted = alerts.Wanted(
        statuses=_ALL if everything else alerts.OPEN,
        severity=severity or "",
        rule=rule,
        tenant=tenant,
        since_ns=options.since_ns(from_ns, ago_ns),
        until_ns=until_ns or 0,
    )
    with _reader() as reader:
        found, total = alerts.listed(reader.query, wanted, rows)
    nothing = "no alerts" if everything else "no open alerts; --all lists those that are over"
    alerts_list.show(found, total, form, nothing)


@command.command()
@click.argument("alert_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def show(alert_id: str, as_json: bool) -> None:
    """Show all that is known of an alert: how it went, what is behind it, the SQL.

    \b
    Examples:
      netspectra alerts show 1f2e3d4c
      netspectra alerts show 1f2e3d4c --json
    """  # noqa: D301 - click reads the backslash
    import json

    from flows.cli import alerts_show
    from flows.storage import alerts

    with _reader() as reader:
        row = alerts.one(reader.query, alert_id)
        life = alerts.life(reader.query, row["alert_id"])
        actions = alerts.actions(reader.query, row["alert_id"])
        deliveries = alerts.deliveries(reader.query, row["alert_id"])
    if as_json:
        found = alerts_show.as_object(row, life, actions, deliveries)
        click.echo(json.dumps(found, indent=2))
        return
    for line in alerts_show.lines(row, life, actions, deliveries):
        click.echo(line)


@command.command()
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

    with _reader() as reader:
        row = alerts.one(reader.query, alert_id)
    _perform(Ack, by, alert_id=row["alert_id"], comment=comment)
    click.echo(f"acknowledged: {safe(row['title'])}")


@command.command()
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

    with _reader() as reader:
        row = alerts.one(reader.query, alert_id)
    _perform(Close, by, alert_id=row["alert_id"], verdict=verdict, comment=comment)
    click.echo(f"closed as {verdict}: {safe(row['title'])}")


@command.command()
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
    with _reader() as reader:
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


@command.command()
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

    with _reader() as reader:
        fields = asdict(find(reader.query, mute_id))
    made_by = fields.pop("made_by")
    _perform(Unmute, by, **fields)
    click.echo(f"taken back: the mute of {safe(made_by)}")


@command.command()
@options.form
def mutes(form: str) -> None:
    """List the mutes that are in force or yet to come, but not those of the settings.

    \b
    Examples:
      netspectra alerts mutes
    """  # noqa: D301 - click reads the backslash
    from flows.cli import alerts_list
    from flows.storage import alerts

    with _reader() as reader:
        found = alerts.mutes(reader.query, time.time_ns() // _MS)
    if form != "table":
        alerts_list.write([alerts_list.mute_object(each) for each in found], form)
        return
    for line in alerts_list.mute_lines(found):
        click.echo(line)
    if not found:
        click.echo("no mutes but those that the settings may name")


@command.command()
@click.argument("alert_id", metavar="ID")
@click.option("--run", "run_it", is_flag=True, help="Run it, and compare with the alert's claim.")
def sql(alert_id: str, run_it: bool) -> int:
    """Print the statement that says an alert's measurement exactly.

    With --run the exit code is 1 when the store says something else than the alert claims, as it
    does when the flows have gone since.

    \b
    Examples:
      netspectra alerts sql 1f2e3d4c
      netspectra alerts sql 1f2e3d4c --run
    """  # noqa: D301 - click reads the backslash
    from flows.errors import StoreError
    from flows.storage import alerts

    with _reader() as reader:
        row = alerts.one(reader.query, alert_id)
        statement = row["evidence_sql"]
        if not statement:
            msg = f"rule {safe(row['rule'])} has no statement for its alerts"
            raise StoreError(msg)
        click.echo(safe(statement, len(statement), keep="\n"))
        if not run_it:
            return 0
        answer = reader.query(statement).to_pylist()
    value = float(answer[0]["value"] or 0) if answer else 0.0
    claim = f"{number(row['value'])} ({number(row['lower'])} to {number(row['upper'])})"
    within = row["lower"] <= value <= row["upper"]
    verdict = "within the bounds" if within else "outside the bounds"
    unit = safe(row["unit"])
    click.echo(f"\nthe store says {number(value)} {unit}; the alert claims {claim}: {verdict}")
    return 0 if within else 1


@command.command("why-not")
@click.argument("address")
@click.option("--rule", default="", help="Only this rule.")
@click.option("--at", "at_ns", type=TIME, metavar="TIME", help="In the windows of this time (UTC).")
@click.option("--tenant", help="Of this tenant; by default the only one, or the settings' own.")
@options.form
def why_not(address: str, rule: str, at_ns: int | None, tenant: str | None, form: str) -> None:
    """Tell how far an address is from every rule, and why none fires.

    Each rule's statement is run over the window of its length that holds the newest traffic, or
    the time given. A window that has only begun holds little yet. The largest entity that the
    address is part of is shown.

    \b
    Examples:
      netspectra alerts why-not 10.0.2.15
      netspectra alerts why-not 10.0.2.15 --rule host_scan --at "2026-01-02 03:04"
    """  # noqa: D301 - click reads the backslash
    from flows import settings
    from flows.cli import alerts_list, alerts_mute, why_not
    from flows.cli.alerts_mute import plain_address

    loaded = settings.load()
    text = plain_address(address)
    with _reader() as reader:
        if rule:
            alerts_mute.check_rule(rule, loaded, reader.query)
        stored = why_not.traffic(reader.query, tenant, loaded.tenant)
        if at_ns is not None and not stored.start_ns <= at_ns < stored.end_ns:
            span = f"{time_text(stored.start_ns)} to {time_text(stored.end_ns)} UTC"
            msg = f"--at: the store's traffic of tenant {stored.tenant} is of {span}"
            raise click.UsageError(msg)
        asked = why_not.WhyNot(reader.query, loaded, stored, text, at_ns)
        found = list(asked.distances(rule))
    alerts_list.show_distances(found, form)


def _reader() -> Reader:
    from flows import settings
    from flows.storage.reader import open_for_reading

    return open_for_reading(settings.load().store)


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
